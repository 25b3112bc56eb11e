"""HTTP on a connection, within bounds: uvicorn's protocol, with what a server needs that stands behind no proxy.

A connection that sends no whole head in time is closed, and so is one whose head is too large; what is no HTTP is
answered with a problem. A connection that is open and silent costs a few kilobytes, and there are no more than so many.
HTTP/1.0 gets what it understands: a stream that ends where its connection does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from tailrace.gateway.server.uvicorn_state import Flag, Flow, Pipeline
from tailrace.protocols.problems import MEDIA_TYPE, ProblemError
from tailrace.transport.io_batch import IOBatch, batch_of
from tailrace.web.direct_writer import DIRECT_WRITE

__all__ = ["BoundedProtocol", "bounded"]

_HEAD_BYTES = 64 * 1024
_HEADERS = 200
_FRAMING = (b"content-length", b"transfer-encoding")
_LAST_WORDS = 2.0  # seconds that a peer gets to read why it was refused, while what it still sends is dropped
_DROPPED = 64 * 1024 * 1024  # bytes of that


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        head_time: seconds that a request's head may take, from its first byte or from the connection's beginning.
        most: connections at once; more are closed at once.
    """

    __slots__ = ("_begun", "_deaf", "_head", "_pusher", "_timer")  # with uvicorn's they are too many for a shared dict
    head_time: ClassVar[float] = 10.0
    most: ClassVar[int] = 20_000

    def __init__(self, *args: Any, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self.pipeline = Pipeline()  # type: ignore[assignment]
        self._timer: asyncio.TimerHandle | None = None  # runs while a head is waited for
        self._begun = False  # something of it has come
        self._head = 0  # bytes of it
        self._deaf = False  # nothing that comes is of interest any more
        self._pusher: ConnectionWriter | None = None  # of the last request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(transport)
        self.flow = Flow(transport)  # type: ignore[assignment]
        if len(self.connections) > self.most:
            self._refuse(503, "too many connections")
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._calm()
        super().connection_lost(exc)
        if self._pusher is not None:
            self._pusher.lost()

    def pause_writing(self) -> None:
        """The client does not take what is written."""
        super().pause_writing()
        if self._pusher is not None:
            self._pusher.open = False  # what is to be sent goes uvicorn's own way

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        if self._pusher is not None:
            self._pusher.open = True

    def data_received(self, data: bytes) -> None:
        """Takes bytes; a head that is not complete may not grow for ever."""
        if self._deaf:
            self._head += len(data)
            if self._head > _DROPPED:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        before = self._timer
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError:
            self._refuse(400, "this is no HTTP request")
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is no HTTP request: {error}")
        else:
            if before is not None and before is self._timer:
                self._head += len(data)
                self._check_head(self._head)
            elif self._timer is None and not self._answering:
                self._await_head()  # what came was empty lines; uvicorn waits no more for anything

    def _stay(self, rest: bytes) -> None:
        """Goes on with a request that offers to go over to HTTP/2, as Java's clients do: that is not spoken here.

        The parser takes what comes after the head for the other protocol's; but it is the body.
        """
        cycle = self.cycle
        cycle.keep_alive = False
        framing = [(name, value) for name, value in self.headers if name in _FRAMING]
        if not framing:
            self._deaf = True
            return
        self.parser = httptools.HttpRequestParser(_Body(self))
        self.parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % field for field in framing))
        cycle.more_body = True
        cycle.message_event.clear()
        self.data_received(rest)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._begun = True
        if self._timer is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._calm()
        self._begun = False
        self._check_head(len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers))
        if len(self.headers) > _HEADERS:
            self._refuse(431, f"the request has more than {_HEADERS} headers")
        if not self.url.startswith((b"/", b"*")) and not self._is_for_host():
            self._refuse(400, "the request's target is another host than its Host header")
        if self._deaf:
            raise ValueError("refused")  # the parser stops there
        super().on_headers_complete()
        self.cycle.message_event = Flag()  # type: ignore[assignment] # nobody has waited for it yet

    def _is_for_host(self) -> bool:
        """A target may name the host as well, as to a proxy; what is checked later is the header."""
        host = self.url.partition(b"://")[2].partition(b"/")[0]
        return [host.lower()] == [value.lower() for name, value in self.headers if name == b"host"]

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if cycle.scope["http_version"] == "1.0":
            app = _undivided(app, cycle)
        else:
            self._pusher = cycle.scope[DIRECT_WRITE] = ConnectionWriter(cycle, batch_of(self.loop))  # type: ignore[literal-required]
        super()._start_asgi_task(cycle, app)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head = 0
        self._timer = self.loop.call_later(self.head_time, self._too_slow)

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_head(self, size: int) -> None:
        if size > _HEAD_BYTES:
            self._refuse(431, f"the head of the request is larger than {_HEAD_BYTES:,} bytes")

    def _too_slow(self) -> None:
        self._timer = None
        if self._answering:  # the beginning of another request, behind one that is being answered
            self._deaf = True
            self.cycle.keep_alive = False
        elif self._begun:
            self._refuse(408, f"no whole request came within {self.head_time:g} s")
        else:
            self.transport.close()  # it never asked for anything

    def _refuse(self, status: int, why: str) -> None:
        if self._deaf or self.transport.is_closing():
            return
        self._deaf = True
        self._calm()
        if self._answering:
            if self.cycle.response_started or self.pipeline:  # in the middle of one answer is no place for another
                self.transport.abort()
                return
            self.cycle.disconnected = True  # whatever the application makes of the half of a request
            self.cycle.message_event.set()
        body = ProblemError(status, why).body
        fields = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + fields.encode() + body)
        # Not closed yet: the system would answer what still comes with a reset, which overtakes what was written.
        self.transport.write_eof()
        self._timer = self.loop.call_later(_LAST_WORDS, self.transport.abort)


class _Body:
    """What a parser tells a connection that waits for a body and nothing else."""

    def __init__(self, connection: BoundedProtocol) -> None:
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete


def bounded(*, head_time: float, most: int) -> type[BoundedProtocol]:
    """Returns the protocol with these limits."""
    return type("BoundedProtocol", (BoundedProtocol,), {"head_time": head_time, "most": most})


class ConnectionWriter:
    """Writes pieces of a body that goes in chunks.

    Args:
        cycle: uvicorn's, of the request.
        batch: gathers what its loop writes, if it does so in batches.

    Attributes:
        open: False while uvicorn's own way would wait, or do nothing. The connection sets it: to ask would touch four
            more objects for each token.
    """

    __slots__ = ("_batch", "_cycle", "_left", "_write", "open")

    def __init__(self, cycle: RequestResponseCycle, batch: IOBatch | None = None) -> None:
        self._cycle = cycle
        self._left: Callable[[], object] | None = None
        self._batch = batch
        self._write: Callable[[bytes], None] | None = None
        self.open = True

    def __call__(self, data: bytes) -> bool:
        """Writes a piece now, or in this turn; returns False, without writing, if that has to go uvicorn's way."""
        if not self.open:
            return False
        write = self._write
        if write is None:
            if not self._cycle.chunked_encoding:
                self.open = False
                return False
            write = self._write = self._cycle.transport.write
        if self._batch is None:
            write(_chunk(data))
        else:
            self._batch.write(write, _chunk(data))
        return True

    def watch(self, left: Callable[[], object] | None) -> bool:
        """Has `left` called when the client goes, or nothing with None; False if only ``receive`` will tell.

        That is so while the body of the request has not come: it may have to be asked for.
        """
        self._left = None
        cycle = self._cycle
        if left is None:
            return True
        if cycle.more_body or cycle.disconnected:
            return False
        cycle.flow.resume_reading()  # else nobody would see it
        self._left = left
        return True

    def lost(self) -> None:
        """The client has gone."""
        self.open = False
        cycle = self._cycle
        if not cycle.response_complete:  # uvicorn tells the last request that came, which may wait behind this one
            cycle.disconnected = True
            cycle.message_event.set()
        left, self._left = self._left, None
        if left is not None:
            left()


_framed = (b"", b"")  # the last piece, and it as a chunk: a thousand readers of one answer get the same


def _chunk(data: bytes) -> bytes:
    global _framed
    piece, chunk = _framed
    if data is not piece:
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        _framed = data, chunk
    return chunk


def _undivided(app: Any, cycle: RequestResponseCycle) -> Any:
    """Returns an application whose answers are not sent in chunks, which HTTP/1.0 does not know."""

    async def answer(
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        measured = False

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal measured
            if message["type"] == "http.response.start":
                measured = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
                cycle.chunked_encoding = None if measured else False
            elif not measured:
                cycle.expected_content_length = len(message.get("body", b""))  # of this piece: uvicorn counts down
            await send(message)

        await app(scope, receive, sending)

    return answer
