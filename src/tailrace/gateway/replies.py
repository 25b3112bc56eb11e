"""Replies: JSON, and problems."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import msgspec
from starlette.responses import Response

from tailrace.web.problems import MEDIA_TYPE, ProblemError

__all__ = ["Answer", "json", "problem"]

Answer = Callable[
    [
        MutableMapping[str, Any],
        Callable[[], Awaitable[MutableMapping[str, Any]]],
        Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ],
    Awaitable[None],
]
"""What an endpoint returns: any ASGI application."""


def json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a value as a JSON response, which nobody is to keep."""
    more = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(value), status, more, "application/json")


def problem(error: ProblemError) -> Response:
    """Returns a problem as a response."""
    return Response(error.body, error.status, {"Cache-Control": "no-store", **error.headers}, MEDIA_TYPE)
