"""The server's side of HTTP/1.1: bytes in, requests out; no input or output of its own.

The grammar is llhttp's, through httptools. Here is what it leaves to its user: where one request ends and the next
begins, how large a head and a body may be, and what cannot be answered at all (RFC 9112). It is for the servers of our
own that no browser meets: the fake servers of `tailrace.testing`, and the worker of the embedded engine.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final, Literal

import httptools

__all__ = ["MAX_BODY", "MAX_HEAD", "NEED_DATA", "BadRequestError", "Head", "NeedData", "Request", "RequestParser"]

MAX_HEAD = 64 * 1024
MAX_BODY = 256 * 1024 * 1024  # images travel as base64
_A_BYTE = 16  # bytes of framing that each byte of a body may have: one in a chunk of its own has five


class BadRequestError(Exception):
    """What came cannot be answered, and nothing can that follows it on the connection.

    Attributes:
        status: what to answer.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class NeedData(enum.Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = enum.auto()


NEED_DATA: Final = NeedData.NEED_DATA
"""No event is complete: feed more bytes, or give up where the connection has ended."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request; its body has yet to come.

    Attributes:
        target: as it stands in the request line.
        version: ``1.1`` or ``1.0``.
        headers: names and values as they were sent, in their order.
    """

    method: str
    target: str
    version: str
    headers: list[tuple[str, str]]

    def header(self, name: str) -> str | None:
        """Returns a header's value, the last if there are several; None if there is none. `name` is in lower case."""
        return next((value for key, value in reversed(self.headers) if key.lower() == name), None)

    @property
    def expects_continue(self) -> bool:
        """True if the client waits for ``100 Continue`` before it sends the body (RFC 9110, section 10.1.1)."""
        return (self.header("expect") or "").lower() == "100-continue"


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request."""

    head: Head
    body: bytes


_Expects = Literal["head", "body", "size", "chunk", "trailers"]


class RequestParser:
    """Parses the requests of one connection.

    Args:
        max_head: bytes that a request's head may have, or what frames its body: chunk sizes, their extensions and the
            trailers, beyond what small chunks need. Trailers are dropped.
        max_body: bytes that a body may have.
    """

    def __init__(self, *, max_head: int = MAX_HEAD, max_body: int = MAX_BODY) -> None:
        self._max_head = max_head
        self._max_body = max_body
        self._buffer = bytearray()  # what has come, and is parsed when it is asked for
        self._error: BadRequestError | None = None
        self._begin()

    def _begin(self) -> None:
        self._parser: Any = httptools.HttpRequestParser(self)
        self._expects: _Expects = "head"
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._head: Head | None = None
        self._refused: BadRequestError | None = None  # what llhttp found wrong with a head once it was whole
        self._told = False  # the head was given out
        self._complete = False
        self._body = bytearray()
        self._size = 0  # bytes of the head, or of what frames the body, so far
        self._received = 0  # bytes of the body so far, those of a chunk as soon as its size is known
        self._remaining = 0  # bytes that the body, or the chunk with its line end, still lacks

    def receive_data(self, data: bytes | bytearray) -> None:
        """Takes bytes as they came."""
        self._buffer += data

    def next_event(self) -> Head | Request | NeedData:
        """Returns the next event: of each request its head first, then the whole of it.

        What follows a request stays unparsed until the next call.

        Raises:
            BadRequestError: it is no request that can be answered. So does every later call.
        """
        if self._error is not None:
            raise self._error
        try:
            return self._next_event()
        except BadRequestError as error:
            self._error = error
            raise

    def _next_event(self) -> Head | Request | NeedData:
        while self._head is None:
            if not self._read_line():
                return NEED_DATA
        if not self._told:
            if self._head.version not in ("1.1", "1.0"):
                raise BadRequestError(400, f"malformed request: HTTP/{self._head.version} is not spoken here")
            self._told = True
            return self._head
        if self._expects == "head":
            self._expect_body(self._head)
        while not self._complete:
            if not self._read_body():
                return NEED_DATA
        request = Request(self._head, bytes(self._body))
        self._begin()
        return request

    def _expect_body(self, head: Head) -> None:
        """Finds out from the head how the body is framed."""
        coding = ", ".join(value for name, value in head.headers if name.lower() == "transfer-encoding")
        if coding and head.version == "1.0":  # whose framing is not to be trusted (RFC 9112, section 6.1)
            raise BadRequestError(400, "malformed request: HTTP/1.0 has no Transfer-Encoding")
        if coding and coding.lower() != "chunked":
            raise BadRequestError(400, f"transfer encoding {coding[:40]!r} is not supported")
        if self._refused is not None:
            raise self._refused
        self._size = 0
        if coding:
            self._expects = "size"
        else:
            self._expects, self._remaining = "body", int(head.header("content-length") or 0)
            self._grow(self._remaining)

    def _read_body(self) -> bool:
        """Parses the next part of the body; False if it has not come."""
        if self._expects in ("size", "trailers"):
            return self._read_line()
        count = min(self._remaining, len(self._buffer))
        if not count:
            return False
        self._remaining -= count
        self._parse(count)
        if not self._remaining and self._expects == "chunk":
            self._expects = "size"
        return True

    def _read_line(self) -> bool:
        """Parses the next line of a head, a chunk's size or trailers; False if it is not whole."""
        end = self._buffer.find(b"\n") + 1
        if self._size + (end or len(self._buffer)) > self._max_head:
            what = "headers are" if self._expects == "head" else "trailers and chunk extensions are"
            raise BadRequestError(431, f"request {what} larger than {self._max_head} bytes")
        if not end:
            return False
        line = self._parse(end)
        self._size += end
        if self._expects == "size":
            self._expect_chunk(int(line.partition(b";")[0], 16))  # which llhttp found to be hexadecimal digits
        return True

    def _expect_chunk(self, size: int) -> None:
        self._grow(size)
        self._size = max(0, self._size - _A_BYTE * size)
        self._expects, self._remaining = ("chunk", size + 2) if size else ("trailers", 0)

    def _grow(self, size: int) -> None:
        self._received += size
        if self._received > self._max_body:
            raise BadRequestError(413, f"request bodies may have {self._max_body} bytes")

    def _parse(self, count: int) -> bytes:
        """Has llhttp parse the first bytes that are waiting, and returns them."""
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._feed(data)
        return data

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._decline_upgrade()
        except httptools.HttpParserError as error:
            if self._head is None or self._told:
                raise _refusal(error) from None
            self._refused = _refusal(error)

    def _decline_upgrade(self) -> None:
        """Goes on with HTTP/1.1, as a server may (RFC 9110, section 7.8): llhttp would pass over the body."""
        self._complete = False
        framing = [f"{name}: {value}\r\n" for name, value in self._headers if name.lower() in _FRAMING]
        self._parser = httptools.HttpRequestParser(self)
        self._feed(f"POST / HTTP/1.1\r\n{''.join(framing)}\r\n".encode("latin-1"))

    # ---- what llhttp tells ----

    def on_url(self, part: bytes) -> None:
        """The target, or a part of it."""
        if self._head is None:
            self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are passed over."""
        if self._head is None:
            self._headers.append((name.decode("latin-1"), value.decode("latin-1").strip(" \t")))

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._head is None:
            method, version = self._parser.get_method().decode(), self._parser.get_http_version()
            self._head = Head(method, self._target.decode("latin-1"), version, self._headers)

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self._body += data

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._complete = True


_FRAMING = ("content-length", "transfer-encoding")


def _refusal(error: httptools.HttpParserError) -> BadRequestError:
    reason = str(error) or type(error).__name__
    return BadRequestError(413 if "overflow" in reason else 400, f"malformed request: {reason}")
