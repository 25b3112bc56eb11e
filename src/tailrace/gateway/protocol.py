"""HTTP on a connection, within bounds: uvicorn's protocol, with limits that a server behind no proxy needs.

A connection that sends no whole head in time is closed, and so is one whose head is too large; what is no HTTP is
answered with a problem. A connection that is open and silent costs a few kilobytes, and there are no more than so many.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tailrace.web.problems import MEDIA_TYPE, ProblemError

__all__ = ["BoundedProtocol"]

_HEAD_TIME = 10.0  # seconds for a request's head, from its first byte, or from the connection's beginning
_HEAD_BYTES = 64 * 1024
_HEADERS = 200
_CONNECTIONS = 20_000


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    Attributes:
        head_time: seconds that a request's head may take.
        most: connections at once; more are closed at once.
    """

    head_time: ClassVar[float] = _HEAD_TIME
    most: ClassVar[int] = _CONNECTIONS

    def __init__(self, *args: Any, **rest: Any) -> None:
        super().__init__(*args, **rest)
        self._head: int | None = 0  # bytes of the head under way; None while there is none
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(503, "too many connections")
            return
        self._timer = self.loop.call_later(self.head_time, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._calm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes bytes; a head that is not complete may not grow for ever."""
        if self.transport.is_closing():
            return
        before = self._head
        super().data_received(data)
        if self._head is not None and before is not None:
            self._head = before + len(data)
            if self._head > _HEAD_BYTES:
                self._refuse(431, f"the head of the request is larger than {_HEAD_BYTES:,} bytes")

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._head = 0
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_time, self._too_slow)

    def on_headers_complete(self) -> None:
        """A head is complete."""
        self._head = None
        self._calm()
        lengths = [value for name, value in self.headers if name == b"content-length"]
        if len(self.headers) > _HEADERS:
            self._refuse(431, f"the request has more than {_HEADERS} headers")
        elif len(lengths) > 1 or (lengths and any(name == b"transfer-encoding" for name, _ in self.headers)):
            self._refuse(400, "the request tells its length twice")
        else:
            super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers what is no HTTP."""
        self._refuse(400, msg.rstrip(".").lower().replace("http", "HTTP"))

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        self._refuse(408, f"no whole request came within {self.head_time:g} s")

    def _refuse(self, status: int, why: str) -> None:
        if self.transport.is_closing():
            return
        body = ProblemError(status, why).body
        fields = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + fields.encode() + body)
        self.transport.close()
