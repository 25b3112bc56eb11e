"""``POST /render``: Markdown that is finished as safe HTML, for messages that were kept."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.gateway.context import context_of
from tailrace.gateway.endpoint import Endpoint, EndpointTable
from tailrace.gateway.endpoints.body import read_json
from tailrace.gateway.responses import json

__all__ = ["ENDPOINTS", "Rendered", "Texts"]


class Texts(msgspec.Struct, kw_only=True):
    """Texts in Markdown."""

    texts: list[str] = []


class Rendered(msgspec.Struct, kw_only=True):
    """Their HTML, one for each."""

    html: list[str]


async def render(request: Request) -> Response:
    """Renders texts; on a thread, since a long one takes a while, and one at a time, since others want to be served."""
    context = context_of(request)
    asked = await read_json(request, Texts)
    html = []
    for text in asked.texts:
        async with context.rendering:
            html.append(await asyncio.to_thread(_html, text))
    return json(Rendered(html=html))


def _html(text: str) -> str:
    from tailrace.render.html import HtmlStream  # a start does not wait for the Markdown parser

    stream = HtmlStream()
    return "".join([*stream.feed(text), *stream.finish()])


ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "POST",
            "/render",
            render,
            "Make safe HTML of Markdown.",
            takes=Texts,
            optional=True,
            gives=Rendered,
            errors=(400, 413),
        ),
    )
)
