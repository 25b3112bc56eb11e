"""Responses: JSON, and problems."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec
from starlette.responses import Response

from tailrace.gateway.errors import ConflictError, MissingError
from tailrace.gateway.refusals import refusal
from tailrace.protocols import problems
from tailrace.protocols.problems import ProblemError

__all__ = ["Answer", "json", "problem", "problem_of"]

_PATIENCE = 2.0  # seconds that a client gets to read why it was refused
_MOST = 64 * 1024 * 1024  # bytes of what it sends meanwhile

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Answer = Callable[[Scope, Receive, Send], Awaitable[None]]
"""What an endpoint returns: any ASGI application."""


def json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a value as a JSON response, which nobody is to keep."""
    more = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(value), status, more, "application/json")


def problem(error: Exception, path: str = "") -> Response:
    """Returns what went wrong as a response, in the shape of the protocol that the path belongs to."""
    told = problem_of(error)
    status, body, media = refusal(path, told)
    kind = _LastWords if told.headers.get("Connection") == "close" else Response
    return kind(body, status, {"Cache-Control": "no-store", **told.headers}, media)


def problem_of(error: Exception) -> ProblemError:
    """Returns what an error is to a client. The `problem_of` of `protocols.problems` does not know the store."""
    if isinstance(error, MissingError):
        return ProblemError(404, error.error, hint=error.hint)
    if isinstance(error, ConflictError):
        return ProblemError(409, error.error, hint=error.hint)
    return problems.problem_of(error)


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
