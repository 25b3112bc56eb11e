"""One request and its answer: what an ASGI application is called with, and how what it sends goes on the connection."""

from __future__ import annotations

import asyncio
import http
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from tailrace.transport.io_batch import IOBatch

__all__ = ["STATUS_LINES", "App", "Line", "RequestCycle", "Scope"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

_log = logging.getLogger(__name__)
_BAD_NAME = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9A-Za-z]")  # RFC 9110, 5.6.2
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BODILESS = {204, 304}
_BUG = b"Internal Server Error"
_LITTLE = 64 * 1024  # bytes of a request's body that wait for the application


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}


class Line(Protocol):
    """What a request needs of the connection that it came on.

    Attributes:
        transport: to write to.
        batch: collects the writes of one iteration of the loop, if it does so.
        writable: set once the client takes what is written; None while it does.
    """

    transport: asyncio.Transport
    batch: IOBatch | None
    writable: asyncio.Event | None

    @property
    def default_headers(self) -> RawHeaders:
        """What is told in every answer."""

    def resume_reading(self) -> None:
        """Takes what the client sends; without that, nobody sees it leave."""

    def answered(self, cycle: RequestCycle) -> None:
        """The answer is complete."""


class RequestCycle:
    """One request and its answer.

    It is the application's way to write without waiting, too: `tailrace.web.direct_writer.DirectWrite`.

    Args:
        line: the connection.
        method: of the request.
        version: of its HTTP.
        keep_alive: the connection may stay open after the answer.
        expects: the client waits to be told that it may send the body.

    Attributes:
        complete: the answer is.
        gone: the client has left, or was refused.
        held: bytes of it that are kept while it waits for others to be answered.
        keep_alive: the connection stays open after the answer.
        more_body: not all of the request's body has come.
        started: the answer's head was sent.
    """

    __slots__ = (
        *("_body", "_bodiless", "_chunked", "_event", "_expects", "_left", "_line", "_news", "_old", "_rest"),
        *("_batch", "_write", "complete", "gone", "held", "keep_alive", "more_body", "started"),
    )

    def __init__(self, line: Line, method: str, version: str, *, keep_alive: bool, expects: bool) -> None:
        self._line = line
        self._batch = line.batch
        self._old = version == "1.0"
        self.keep_alive = keep_alive and not self._old
        self._expects = expects and not self._old
        self.gone = False
        self.held = 0
        # The request's body, as `receive` gives it.
        self._body: bytearray | None = None
        self.more_body = True
        self._news = False
        self._event: asyncio.Event | None = None  # while somebody waits for news
        # The answer.
        self.started = False
        self.complete = False
        self._bodiless = method == "HEAD"
        self._chunked = False
        self._rest: int | None = None  # bytes to come, where the head has told how many
        # Writing without waiting.
        self._write: Callable[[bytes], None] | None = None  # while that is possible
        self._left: Callable[[], object] | None = None

    async def run(self, app: App, scope: Scope) -> None:
        """Has the application answer."""
        transport = self._line.transport
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            _log.exception("an answer failed")
            await self._fail()
        except BaseException:
            transport.close()
            raise
        else:
            if not self.started and not self.gone:
                _log.error("a request was not answered")
                await self._fail()
            elif not self.complete:
                transport.close()  # its reader shall know that it is not whole

    async def _fail(self) -> None:
        if self.started:
            self._line.transport.close()
            return
        fields = {b"content-type": b"text/plain", b"content-length": b"%d" % len(_BUG), b"connection": b"close"}
        await self.send({"type": "http.response.start", "status": 500, "headers": list(fields.items())})
        await self.send({"type": "http.response.body", "body": _BUG})

    # -- what the connection tells -------------------------------------------------------------------------------

    def take_body(self, data: bytes) -> bool:
        """Keeps a piece of the body for the application; returns False if that is much by now."""
        if self.complete:  # nobody wants it any more
            return True
        if self._body is None:
            self._body = bytearray()
        self._body += data
        self._tell()
        return len(self._body) <= _LITTLE

    def end_body(self) -> None:
        """All of the body has come."""
        self.more_body = False
        if not self.complete:
            self._tell()

    def leave(self) -> None:
        """The client has left."""
        if self.complete:
            return
        self.gone = True
        self._write = None
        self._tell()
        left, self._left = self._left, None
        if left is not None:
            left()

    def pause(self) -> None:
        """The client does not take what is written."""
        self._write = None

    def resume(self) -> None:
        """It does again."""
        if self._chunked and not (self.complete or self.gone):
            self._write = self._line.transport.write

    # -- the application's ---------------------------------------------------------------------------------------

    async def receive(self) -> Message:
        """Returns what came of the body, waiting for some; at last, that the client has left or has its answer."""
        if self._expects and not self._line.transport.is_closing():
            self._line.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._expects = False
        if not (self.gone or self.complete):
            self._line.resume_reading()
            while not self._news:
                if self._event is None:
                    self._event = asyncio.Event()
                await self._event.wait()
            self._news = False
            self._event = None
        if self.gone or self.complete:
            return {"type": "http.disconnect"}
        body, self._body = self._body, None
        return {"type": "http.request", "body": bytes(body or b""), "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Sends the head of the answer, or a piece of its body; once the client has gone, nothing.

        Raises:
            RuntimeError: that cannot be sent, or not now.
        """
        while self._line.writable is not None and not self.gone:
            await self._line.writable.wait()
        if self.gone:
            return
        kind = message["type"]
        if kind != ("http.response.body" if self.started else "http.response.start") or self.complete:
            raise RuntimeError(f"{kind} cannot be sent now")
        if not self.started:
            self._send_head(message["status"], message.get("headers", ()))
        else:
            self._send_body(message.get("body", b""), more=message.get("more_body", False))

    def write(self, data: bytes) -> bool:
        """Writes a piece of the body in this iteration of the loop; returns False if that would have to wait."""
        write = self._write
        if write is None:
            return False
        if self._batch is None:
            write(_chunk(data))
        else:
            self._batch.write(write, _chunk(data))
        return True

    def watch(self, left: Callable[[], object] | None) -> bool:
        """Has `left` called when the client goes, or nothing with None; False if only `receive` will tell.

        That is so while the body of the request has not come: it may have to be asked for.
        """
        self._left = None
        if left is None:
            return True
        if self.more_body or self.gone:
            return False
        self._line.resume_reading()
        self._left = left
        return True

    # -- within --------------------------------------------------------------------------------------------------

    def _send_head(self, status: int, headers: RawHeaders) -> None:
        head = [STATUS_LINES[status]]
        for name, value in (*self._line.default_headers, *headers):
            if _BAD_NAME.search(name) or _BAD_VALUE.search(value):
                raise RuntimeError("a header that is none")
            field = name.lower()
            if field == b"content-length":
                self._rest = int(value)
            elif field == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                continue
            elif field == b"transfer-encoding":  # the server's own, ASGI says
                continue
            head += [field, b": ", value, b"\r\n"]
        self._bodiless = self._bodiless or status in _BODILESS
        if self._rest is None and not self._bodiless:
            self._chunked = not self._old
            if self._chunked:
                head.append(b"transfer-encoding: chunked\r\n")
                self._write = self._line.transport.write
            else:
                self.keep_alive = False  # the body ends where the connection does
        head.append(b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n")
        self.started = True
        self._expects = False
        self._line.transport.write(b"".join(head))

    def _send_body(self, body: bytes, *, more: bool) -> None:
        write = self._line.transport.write
        if self._chunked:
            data = _chunk(body) if body else b""
            write(data if more else data + b"0\r\n\r\n")
        elif not self._bodiless:
            if self._rest is not None:
                self._rest -= len(body)
                if self._rest < 0 or (self._rest and not more):
                    raise RuntimeError("the body is not as long as its head says")
            write(body)
        if not more:
            self.complete = True
            self._write = None
            self._tell()
            self._line.answered(self)

    def _tell(self) -> None:
        self._news = True
        if self._event is not None:
            self._event.set()


_framed = (b"", b"")  # the last piece, and it as a chunk: a thousand readers of one answer get the same


def _chunk(data: bytes) -> bytes:
    global _framed
    piece, chunk = _framed
    if data is not piece:
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        _framed = data, chunk
    return chunk
