"""A connection for one request and its response. The only file of transport that uses the HTTP parser (httptools).

Data is passed on from within `asyncio.Protocol.data_received`: between the socket and the run's log no task is woken,
nothing is queued and no timer is set. That keeps a token cheap; a reader object between the two needs all three.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterable, Callable, Iterator, Mapping
from typing import Any, cast

import httptools

from tailrace import errors
from tailrace.transport.io_batch import batch_of
from tailrace.transport.tls import tls_error

__all__ = ["Connection", "Headers"]

_HEAD = 64 * 1024  # bytes of an answer's head, of the interim ones before it, and of what follows its body
_LITTLE = 16 * 1024  # bytes that may wait for the end of a turn
_HELD = 256 * 1024  # bytes of a body that wait to be read, before the server has to wait as well
_NOT_HTTP = "{} does not speak HTTP as it should: {}"


class Headers(Mapping[str, str]):
    """Headers by name, in whatever case; of several with one name the values are joined."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def add(self, name: bytes, value: bytes) -> None:
        """Adds one as it came."""
        key, text = name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape").strip()
        self._values[key] = f"{self._values[key]}, {text}" if key in self._values else text

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Connection(asyncio.Protocol):
    """A connection on which one request is sent and one answer is read.

    Args:
        name: the server, as an error names it.

    Attributes:
        status: of the answer; 0 before its head is there.
        headers: of the answer.
        over: True once no more of the body will come.
    """

    # A token touches all that a run has of these, when the processor's caches have forgotten them: so no dictionaries
    # are in between, here and in what else each run has of its own.
    __slots__ = (
        *(
            "_batch",
            "_drained",
            "_error",
            "_framed",
            "_loop",
            "_name",
            "_on_data",
            "_parser",
            "_parts",
            "_paused",
            "_size",
            "_tls",
        ),
        *("_transport", "_waiter", "_whole", "headers", "on_body", "over", "status"),
    )

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._batch = batch_of(self._loop)
        self._transport: asyncio.Transport | None = None
        self.status = 0
        self.headers = Headers()
        self.over = False
        self._size = 0  # bytes before the body
        self._tls = False
        self._framed = False
        self._error: errors.TailraceError | None = None
        self._parts: list[bytes] = []  # of the body, not handed on yet
        self._whole = -1  # how many parts there were at the body's end
        self._paused = False
        self._on_data: Callable[[bytes], bool] | None = None
        self._waiter: asyncio.Future[None] | None = None  # of who waits for the head or the body
        self._drained: asyncio.Future[None] | None = None  # of who sends, while the server takes nothing
        self.on_body = self._parts.append  # called by the parser for each frame: thousands of a burst
        self._parser: Any = httptools.HttpResponseParser(self)

    # -- callbacks of the loop -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast(asyncio.Transport, transport)
        self._tls = transport.get_extra_info("sslcontext") is not None

    def data_received(self, data: bytes) -> None:
        """Data has arrived."""
        if self._batch is not None:
            if self._on_data is not None and len(data) <= _LITTLE:
                self._batch.later(self._received, data)
                return
            self._batch.deal()  # earlier data of this connection may be in it
        self._received(data)

    def _received(self, data: bytes) -> None:
        if self.over:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._error = self._wrong("it switches to another protocol")
        except httptools.HttpParserError as error:
            if not self.over:  # data after the response is ignored
                self._error = self._wrong(str(error) or type(error).__name__)
        on_data, parts = self._on_data, self._parts
        if on_data is not None and parts and not self.over and self._error is None:  # as nearly always
            self._hand_on(on_data, parts.pop() if len(parts) == 1 else self._pieces())
            return
        if not self.status:
            self._size += len(data)
        if self._size > _HEAD:
            self._error = self._wrong("there is no end of its headers")
        if self._error is not None:
            self.over = True
        if self._whole >= 0 or not self.status:
            del parts[max(0, self._whole) :]  # not part of the response
        if parts and on_data is not None:
            self._hand_on(on_data, self._pieces())
        elif not self._paused and self._transport is not None and sum(map(len, self._parts)) > _HELD:
            self._paused = True
            self._transport.pause_reading()
        if self.over:
            self._end()
        elif self._on_data is None:
            self._wake()

    def eof_received(self) -> None:
        """The server has ended its side."""
        if self._batch is not None:
            self._batch.deal()
        self._closed()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        if self._batch is not None:
            self._batch.deal()
        self._transport = None
        self._closed(exc)
        self._parser = None  # it refers to this object: no reference cycle is left for the collector
        self.resume_writing()

    def pause_writing(self) -> None:
        """The send buffer is full: the server does not read."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """The buffer has room again, or the connection is gone."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # -- callbacks of the parser ---------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        self._size += len(name) + len(value)
        if not self.status:
            self.headers.add(name, value)

    def on_headers_complete(self) -> None:
        """A response's head is complete; those of interim responses (1xx, RFC 9110 section 15.2) are skipped."""
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self.headers = Headers()
            return
        if not self.status and self._size <= _HEAD:
            self.status = status
            self._framed = "content-length" in self.headers or "transfer-encoding" in self.headers

    def on_message_complete(self) -> None:
        """The response is complete."""
        if self.status and not self.over:
            self.over = True
            self._whole = len(self._parts)

    # -- for the exchange ----------------------------------------------------------------------------------------

    async def send(self, head: bytes, body: bytes | AsyncIterable[bytes] | None) -> None:
        """Sends the request, and waits for the answer's head.

        Args:
            head: the request's head.
            body: its body; pieces are sent as chunks.

        Raises:
            TruncatedError: the server closed the connection without answering.
            ProtocolError: what it answered is not HTTP.
        """
        if body is None or isinstance(body, bytes):
            self._write(head + (body or b""))
            await self._until_answered()
            return
        self._write(head)
        sending = asyncio.ensure_future(self._send_pieces(body))
        answered = asyncio.ensure_future(self._until_answered())
        try:
            # A server that responds before it has the whole body does not want the rest.
            await asyncio.wait({sending, answered}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not answered.done():
                sending.result()
            await answered
        finally:
            for task in (sending, answered):
                task.cancel()
            await asyncio.gather(sending, answered, return_exceptions=True)

    async def _send_pieces(self, pieces: AsyncIterable[bytes]) -> None:
        async for piece in pieces:
            if piece:
                self._write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if self._drained is not None:
                await self._drained
        self._write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def _until_answered(self) -> None:
        while not self.status and not self.over:
            await self._wait()
        if self._error is not None and not self._parts:
            raise self._error

    async def read(self) -> bytes:
        """Returns the bytes that have come, waiting for some; empty at the end of the body.

        Raises:
            TruncatedError: the connection broke before the body's end.
            ProtocolError: the body is not framed as its head says.
        """
        while not self._parts:
            if self.over:
                if self._error is not None:
                    raise self._error
                return b""
            await self._wait()
        return self._pieces()

    async def deliver(self, on_data: Callable[[bytes], bool]) -> None:
        """Calls `on_data` with the bytes as they come, from within the protocol, until it returns True.

        At the end of the body it is called with no bytes.

        Raises:
            TruncatedError: the connection broke before the body's end.
            ProtocolError: the body is not framed as its head says.
            Exception: what `on_data` raised.
        """
        if self._parts and on_data(self._pieces()):
            return
        if not self.over:
            self._on_data = on_data
            waiter = self._waiter = self._loop.create_future()
            try:
                await waiter
            finally:
                self._on_data = None
            return
        if self._error is not None:
            raise self._error
        on_data(b"")

    @property
    def read_out(self) -> bool:
        """True once all of the body was read, and was whole."""
        return self.over and not self._parts and self._error is None

    def half_close(self) -> bool:
        """Ends our side only; False where that is impossible (TLS) or the connection is gone."""
        transport = self._transport
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return False
        try:
            transport.write_eof()
        except (OSError, RuntimeError):
            return False
        return True

    def abort(self) -> None:
        """Closes the connection at once."""
        transport, self._transport = self._transport, None
        if transport is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and with it the connection
                transport.abort()

    # -- within --------------------------------------------------------------------------------------------------

    def _pieces(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def _hand_on(self, on_data: Callable[[bytes], bool], data: bytes) -> None:
        try:
            done = on_data(data)
        except Exception as error:
            self._on_data = None
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)
        else:
            if done:
                self._on_data = None
                self._wake()

    def _closed(self, error: Exception | None = None) -> None:
        if self.over:
            return
        self.over = True
        if not self.status and isinstance(error, ssl.SSLError):  # TLS 1.3: what it thinks of us it says afterwards
            self._error = tls_error(error, self._name)
        elif not self.status:
            text = f"{self._name} closed the connection before it answered"
            # A server that misses our certificate may reset the connection, and its reason is lost on the way.
            hint = "if it wants to see a certificate of yours: cert=(CERTIFICATE, KEY)" if self._tls else ""
            self._error = errors.TruncatedError(text, hint=hint)
        elif self._framed:
            self._error = errors.TruncatedError(f"{self._name} closed the connection in the middle of the answer")
        self._end()

    def _end(self) -> None:
        """Tells who waits that no more will come."""
        on_data, waiter = self._on_data, self._waiter
        if on_data is None or waiter is None or waiter.done():
            self._wake()
            return
        self._on_data = None
        try:
            if self._error is not None:
                raise self._error
            on_data(b"")
        except Exception as error:
            waiter.set_exception(error)
        else:
            waiter.set_result(None)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wrong(self, detail: str) -> errors.ProtocolError:
        return errors.ProtocolError(_NOT_HTTP.format(self._name, detail), hint="check the host and the port")
