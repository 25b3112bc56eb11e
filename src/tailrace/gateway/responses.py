"""Responses: JSON, and problems."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from tailrace.gateway.error_form import PROBLEM, ErrorForm
from tailrace.protocols.problems import problem_of
from tailrace.web.asgi_types import App, Receive, Scope, Send

__all__ = ["Answer", "json", "problem"]

_PATIENCE = 2.0  # seconds that a client gets to read why it was refused
_MOST = 64 * 1024 * 1024  # bytes of what it sends meanwhile

Answer = App
"""What an endpoint returns: any ASGI application."""


def json(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    """Returns a value, or JSON as it is, as a response that no cache is to keep."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, status, {"Cache-Control": "no-store", **(headers or {})}, media_type)


def problem(error: Exception, form: ErrorForm = PROBLEM) -> Response:
    """Returns what went wrong as a response, in a protocol's form."""
    told = problem_of(error)
    kind = _LastWords if told.headers.get("Connection") == "close" else Response
    return kind(form.encode(told), told.status, {"Cache-Control": "no-store", **told.headers}, form.media_type)


class _LastWords(Response):
    """The answer to a request that is not read to its end, so that the connection cannot be used any more.

    What still comes is dropped for a moment before the connection is closed: the system would answer it with a reset,
    which overtakes what was sent.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        dropped = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while dropped < _MOST and (message := await receive()).get("more_body"):
                    dropped += len(message["body"])
        await send({"type": "http.response.body", "body": b"", "more_body": False})
