"""Responses: JSON, and problems."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from starlette.responses import Response

from tailrace.gateway.endpoint import endpoint_of
from tailrace.gateway.error_form import PROBLEM, ErrorForm
from tailrace.protocols.problems import ProblemError, problem_of
from tailrace.web.asgi_types import App, Receive, Scope, Send

__all__ = ["Answer", "json", "problem", "response"]

_PATIENCE = 2.0  # seconds that a client gets to read why it was refused
_MOST = 64 * 1024 * 1024  # bytes of what it sends meanwhile
_LARGE = 1024 * 1024  # bytes of an answer that is sent in slices
_SLICE = 64 * 1024
_LARGE_AT_ONCE = 256 * 1024 * 1024  # bytes of all large answers that are being sent, whoever takes how long for them

Answer = App
"""What an endpoint returns: any ASGI application."""


def json(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str = "application/json"
) -> Response:
    """Returns a value, or JSON as it is, as a response that no cache is to keep."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return response(body, status, {"Cache-Control": "no-store", **(headers or {})}, media_type)


def response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None, media_type: str | None = None
) -> Response:
    """Returns a response, however large: the memory of all those that are being sent is bounded."""
    kind = _LargeResponse if len(body) > _LARGE else Response
    return kind(body, status, headers, media_type)


def problem(error: Exception, form: ErrorForm = PROBLEM) -> Response:
    """Returns what went wrong as a response, in a protocol's form."""
    told = problem_of(error)
    kind = _LastWords if told.headers.get("Connection") == "close" else Response
    return kind(form.encode(told), told.status, {"Cache-Control": "no-store", **told.headers}, form.media_type)


class _LargeResponse(Response):
    """A large answer, sent in slices: a slow client's is not in the connection's buffer a second time.

    Attributes:
        sending: bytes of all of them.
    """

    sending: ClassVar[int] = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it, if there is room for one more."""
        size = len(self.body)
        if _LargeResponse.sending + size > _LARGE_AT_ONCE:
            error = ProblemError(503, "too many large answers at once", headers={"Retry-After": "5"})
            await problem(error, endpoint_of(scope).error_form)(scope, receive, send)
            return
        _LargeResponse.sending += size
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, size, _SLICE):
                body = bytes(self.body[start : start + _SLICE])
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            _LargeResponse.sending -= size


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
