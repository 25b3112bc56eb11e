"""Errors as problem details in JSON (RFC 9457), with a status for each class of `tailrace.errors`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tailrace import errors
from tailrace.protocols.event_ids import BadCursorError

__all__ = ["MEDIA_TYPE", "Problem", "ProblemError", "problem_of"]

MEDIA_TYPE = "application/problem+json"

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    408: "Request timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length required",
    413: "Too large",
    415: "Unsupported media type",
    422: "Unprocessable",
    429: "Too many requests",
    431: "Header too large",
    500: "Internal error",
    501: "Not supported",
    502: "Bad gateway",
    503: "Unavailable",
    504: "Gateway timeout",
}


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A problem as JSON.

    Attributes:
        status: the HTTP status.
        title: the status in words.
        detail: what happened.
        hint: what to do next.
        type: always ``about:blank``: the status says what kind it is.
    """

    status: int
    title: str
    detail: str
    hint: str = ""
    type: str = msgspec.field(default="about:blank")

    def json(self, **more: Any) -> bytes:
        """Returns it as JSON, with further members."""
        return msgspec.json.encode({**msgspec.to_builtins(self), "type": self.type, **more})


class ProblemError(Exception):
    """What an endpoint raises to answer with a problem.

    Args:
        status: the HTTP status.
        detail: what happened.
        hint: what to do next.
        headers: further response headers.
        more: further members of the problem.
    """

    def __init__(
        self, status: int, detail: str, *, hint: str = "", headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.problem = Problem(status=status, title=_TITLES.get(status, "Error"), detail=detail, hint=hint)
        self.headers = dict(headers or {})
        self.more = more

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def body(self) -> bytes:
        """The problem as JSON."""
        return self.problem.json(**self.more)


def problem_of(error: Exception) -> ProblemError:
    """Returns what an error of ours is to an HTTP client that asked for something.

    An upstream's own refusal keeps its status where that is about the request; an upstream that fails is a bad gateway.
    """
    if isinstance(error, ProblemError):
        return error
    hint = error.hint if isinstance(error, errors.TailraceError) else ""
    text = error.error if isinstance(error, errors.ResponseError) else str(error)
    if isinstance(error, errors.RequestError):
        return ProblemError(error.http_status, text, hint=hint)
    if isinstance(error, BadCursorError):
        return ProblemError(400, text, hint=hint)
    if isinstance(error, errors.ModelNotFoundError):
        return ProblemError(404, text, hint=hint)
    if isinstance(error, errors.UnsupportedError):
        return ProblemError(501, text, hint=hint)
    if isinstance(error, errors.BusyError):
        after = str(max(1, round(error.retry_after or 1)))
        return ProblemError(429 if error.status_code == 429 else 503, text, hint=hint, headers={"Retry-After": after})
    if isinstance(error, errors.ResponseError) and error.status_code in (400, 413, 422):
        return ProblemError(error.status_code, text, hint=hint)
    if isinstance(error, errors.StoreError):
        return ProblemError(503, text, hint=hint, headers={"Retry-After": "5"})
    if isinstance(error, errors.TimedOutError):
        return ProblemError(504, text, hint=hint)
    if isinstance(error, errors.TailraceError):
        return ProblemError(502, text, hint=hint)
    return ProblemError(500, f"{type(error).__name__}: {error}")
