"""Errors that only the gateway has."""

from __future__ import annotations

from typing import ClassVar

from tailrace.errors import RequestError

__all__ = ["ConflictError", "MissingError"]


class MissingError(RequestError):
    """There is no conversation, or no message in it, of that id."""

    http_status: ClassVar[int] = 404


class ConflictError(RequestError):
    """The message is there, but in no state for that: its answer is still being written, or has nothing to continue."""

    http_status: ClassVar[int] = 409
