"""``POST /render``: Markdown that is finished as safe HTML, for messages that were kept."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import context_of
from tailrace.gateway.endpoint import Endpoint, EndpointTable
from tailrace.gateway.endpoints.answering import unless_left
from tailrace.gateway.endpoints.body import read_json
from tailrace.gateway.responses import json
from tailrace.gateway.scheduling.turns import Turns, finished
from tailrace.protocols.problems import ProblemError

if TYPE_CHECKING:
    from tailrace.render.html import HtmlStream

__all__ = ["ENDPOINTS", "Rendered", "Texts"]

_TEXTS = 1000  # of one request
_LONGEST = 500_000  # characters of all of them: more than an answer of a hundred thousand tokens
_TURN = 0.05  # seconds of work, then others have a turn
_SLICE = 1000  # characters between two looks at the time


class Texts(msgspec.Struct, kw_only=True):
    """Texts in Markdown."""

    texts: list[str] = []


class Rendered(msgspec.Struct, kw_only=True):
    """Their HTML, one for each."""

    html: list[str]


async def render(request: Request) -> Response:
    """Renders texts, on a thread and in slices: others have their turns, and nothing is done for who has left."""
    asked = await read_json(request, Texts)
    size = sum(map(len, asked.texts))
    if len(asked.texts) > _TEXTS:
        raise ProblemError(413, f"{len(asked.texts):,} texts are more than {_TEXTS:,}")
    if size > _LONGEST:
        raise ProblemError(413, f"the texts have {size:,} characters, and {_LONGEST:,} are rendered at once")
    client = caller_of(request.scope).key
    with context_of(request).rendering.place(client):
        return json(Rendered(html=await unless_left(request, _rendered(context_of(request).rendering, client, asked))))


async def _rendered(turns: Turns, client: str, asked: Texts) -> list[str]:
    work = _Work(asked.texts)
    done = False
    while not done:
        async with turns.turn(client):
            # Not to be cancelled: a thread cannot be, and the turn is over when it is.
            done = await finished(asyncio.to_thread(work.advance))
    return work.html


class _Work:
    """Texts that are rendered little by little.

    Attributes:
        html: of those that are finished.
    """

    def __init__(self, texts: list[str]) -> None:
        self.html: list[str] = []
        self._texts = texts
        self._at = 0  # characters of the text under way
        self._pieces: list[str] = []
        self._stream: HtmlStream | None = None

    def advance(self) -> bool:
        """Goes on for a moment; returns whether all is done."""
        from tailrace.render.html import HtmlStream  # a start does not wait for the Markdown parser

        end = time.perf_counter() + _TURN
        while len(self.html) < len(self._texts):
            text = self._texts[len(self.html)]
            if self._stream is None:
                self._stream = HtmlStream()
            self._pieces += self._stream.feed(text[self._at : self._at + _SLICE])
            self._at += _SLICE
            if self._at >= len(text):
                self.html.append("".join([*self._pieces, *self._stream.finish()]))
                self._stream, self._at, self._pieces = None, 0, []
            if time.perf_counter() > end:
                break
        return len(self.html) == len(self._texts)


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
            errors=(400, 413, 429, 503),
        ),
    )
)
