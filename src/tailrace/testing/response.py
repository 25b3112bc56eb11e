"""One HTTP response: its head, its framing, and the faults of a script."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any

from tailrace.testing import http1, steps
from tailrace.testing.http1 import Connection
from tailrace.testing.records import Record

__all__ = ["Response"]


class Response:
    """One response: its head, its framing, and the mischief asked for."""

    def __init__(self, connection: Connection, record: Record, started: Callable[[], None]) -> None:
        self._connection = connection
        self._record = record
        self._on_start = started
        self.status = 200
        self.content_type = ""
        self.headers: list[tuple[str, str]] = []
        self.http = "1.1"
        self.framing: steps.Framing = "close" if record.version == "1.0" else "chunked"
        self.started = False
        self.closes = record.version == "1.0" or (record.header("connection") or "").lower() == "close"
        self.wrote = False
        self._whole = bytearray()
        self._gathered: bytearray | None = None
        self._sizes: deque[int] = deque()
        self._every: int | None = None
        self._gzip: Any = None
        self._truncated = False

    # The head

    def set_head(self, step: steps.Head) -> None:
        """Take over what a step says of the head."""
        self.status = step.status
        self.content_type = step.content_type or self.content_type
        self.headers += step.headers
        self.http = step.http
        if step.framing is not None:
            self.framing = step.framing
        elif step.now and self.framing == "length":
            self.framing = "chunked"  # the length is not known yet

    def _head(self, length: int | None = None) -> bytes:
        self.started = True
        self._on_start()
        self.closes = self.closes or self.framing in {"close", "none"}
        headers = [("Content-Type", self.content_type)] if self.content_type else []
        headers += [("Date", formatdate(usegmt=True)), *self.headers]
        if self._gzip is not None:
            headers.append(("Content-Encoding", "gzip"))
        if length is not None:
            headers.append(("Content-Length", str(length)))
        elif self.framing == "chunked":
            headers.append(("Transfer-Encoding", "chunked"))
        if self.closes and self.framing != "none":
            headers.append(("Connection", "close"))
        return http1.head(self.status, headers, self.http)

    async def send_head(self) -> None:
        """Send the head now, if it has not gone."""
        if not self.started:
            await self._emit(self._head())

    # The body

    async def body(self, data: bytes) -> None:
        """Send bytes of the body."""
        self.wrote = True
        if self._gathered is not None:
            self._gathered += data
            return
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        if not data:
            return
        if self.framing == "length":
            self._whole += data
            return
        if not self._sizes and self._every is None:
            # One send for the head and the first bytes: so does a server that flushes after its first line.
            await self._emit((b"" if self.started else self._head()) + self._framed(data))
            return
        await self.send_head()
        await self._pieces(data)

    async def _pieces(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            size = self._sizes.popleft() if self._sizes else self._every or len(view)
            if size > len(view) and self._every is None:
                self._sizes.appendleft(size - len(view))
            await self._emit(self._framed(view[:size]))
            view = view[size:]
            await asyncio.sleep(0)  # let the reader on the other thread see this piece by itself

    def _framed(self, data: bytes | memoryview) -> bytes:
        return http1.frame(data) if self.framing == "chunked" else bytes(data)

    async def _emit(self, data: bytes | memoryview) -> None:
        await self._connection.send(data)
        self._record._sent_bytes(len(data))

    def split(self, step: steps.Split) -> None:
        """Cut the body from here on."""
        self._sizes = deque(step.sizes)
        self._every = step.every

    def compress(self, step: steps.Gzip) -> None:
        """Compress the body from here on."""
        self._gzip = zlib.compressobj(wbits=31)
        self._truncated = step.truncated

    def gather(self) -> None:
        """Keep the body back until `scatter`."""
        self._gathered = bytearray()

    async def scatter(self) -> None:
        """Send what was kept back, at once."""
        data, self._gathered = bytes(self._gathered or b""), None
        await self.body(data)

    async def unframed(self, step: steps.Raw) -> None:
        """Send bytes outside HTTP's framing."""
        if step.place == "after head":
            await self.send_head()
        elif step.place == "here" and not self.started:
            self.started = self.wrote = self.closes = True
            self.framing = "none"
            self._on_start()
        await self._emit(step.data)

    async def replay(self, pieces: Sequence[bytes]) -> None:
        """Send prebuilt bytes, head and all, as fast as the socket takes them."""
        self.started = self.wrote = True
        self._on_start()
        send = self._connection.send
        for count, piece in enumerate(pieces):
            await send(piece)
            if count % 64 == 63:
                await asyncio.sleep(0)  # a send that never blocks would starve the other connections
        self._record._sent_bytes(sum(map(len, pieces)))

    # The ending

    async def simple(self, step: steps.Status) -> None:
        """Send a response that is no stream."""
        self.status, self.content_type = step.code, step.content_type or ""
        self.headers += step.headers
        length = None if step.code in {204, 304} or step.code < 200 else len(step.body)
        self.framing = "length"
        body = b"" if self._record.method == "HEAD" else step.body
        await self._emit(self._head(length) + body)

    async def finish(self) -> None:
        """End the body as HTTP wants it."""
        if self._gzip is not None and not self._truncated:
            rest = self._gzip.flush()
            self._gzip = None if self.started else self._gzip
            if self.framing == "length":
                self._whole += rest
            else:
                await self._emit((b"" if self.started else self._head()) + self._framed(rest))
        if self.framing == "length":
            if not self.started:
                await self._emit(self._head(len(self._whole)) + self._whole)
            return
        await self.send_head()
        if self.framing == "chunked":
            await self._emit(b"0\r\n\r\n")

    async def end(self, step: steps.End) -> None:
        """End the connection."""
        if step.how == "fin":
            await self.finish()
            return
        self.closes = True
        if step.how == "rst":
            self._connection.close(reset=True)
        elif step.how == "cut":
            await self._promise_more()
        else:
            await self.send_head()
            self._record._enter("half_closed")
            self._connection.shut_down()
            await self._for_ever()

    async def _promise_more(self) -> None:
        """Announce more bytes than come."""
        if self.framing == "length" and not self.started:
            await self._emit(self._head(len(self._whole) + 64) + self._whole)
        else:
            await self.send_head()
            if self.framing == "chunked":
                await self._emit(b'40\r\n{"')

    async def _for_ever(self) -> None:
        # Whoever waits here is cancelled when the client leaves or the server stops.
        await asyncio.get_running_loop().create_future()

    async def stall(self) -> None:
        """Say nothing more."""
        self._record._enter("stalling")
        await self._for_ever()
