"""Bodies of requests, within a limit of size, and only when they are JSON: for every web server's way to read them."""

from __future__ import annotations

from tailrace.protocols.problems import ProblemError

__all__ = ["MAX_BODY", "Body", "check_media_type"]

MAX_BODY = 4 * 1024 * 1024
"""Bytes that a body may have, unless a limit is given."""


class Body:
    """A body as it comes.

    Args:
        limit: bytes that it may have.
        length: what ``Content-Length`` says; empty: nothing.
        close: have the connection closed when it is too large, so that the rest of it is not read either; a WSGI
            application may not say so (PEP 3333).

    Attributes:
        size: bytes that have come.

    Raises:
        ProblemError: 413: it is too large by its own word.
    """

    def __init__(self, limit: int, length: str = "", *, close: bool = True) -> None:
        self.size = 0
        self._limit = limit
        self._headers = {"Connection": "close"} if close else {}
        self._data = bytearray()  # however small the parts are, it is no larger than they are together
        if length.isascii() and length.isdigit() and int(length[:19]) > limit:
            raise self._too_large()

    def _too_large(self) -> ProblemError:
        return ProblemError(413, f"the body is larger than {self._limit:,} bytes", headers=self._headers)

    def add(self, part: bytes) -> None:
        """Takes a part of it.

        Raises:
            ProblemError: 413: it is too large.
        """
        self.size += len(part)
        if self.size > self._limit:
            raise self._too_large()
        self._data += part

    def take(self) -> bytes:
        """Returns what has come, and forgets it."""
        data = bytes(self._data)
        self.drop()
        return data

    def drop(self) -> None:
        """Forgets what has come."""
        self._data.clear()


def check_media_type(content_type: str) -> None:
    """Makes sure that a body is JSON by its own word.

    Args:
        content_type: the header; empty: JSON is meant.

    Raises:
        ProblemError: 415.
    """
    kind = content_type.partition(";")[0].strip().lower() or "application/json"
    if kind != "application/json" and not kind.endswith("+json"):
        raise ProblemError(415, f"the body is {kind}", hint="send JSON, with Content-Type: application/json")
