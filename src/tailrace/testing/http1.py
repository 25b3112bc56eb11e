"""A fake server's connection: HTTP/1.1 on a plain socket that it can also abuse.

Standard servers hide what these fakes are for: single sends, resets, a FIN inside a chunk, and the moment at which the
client leaves. A `Connection` therefore reads all the time, also while its server is silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from http import HTTPStatus
from typing import Literal

from tailrace.testing.records import Record
from tailrace.transport.http_server import MAX_BODY, Head, Request, RequestParser

__all__ = ["ClientLeft", "Connection", "frame", "head", "read_request"]


class ClientLeft(Exception):  # noqa: N818 - a fact, not an error
    """The client went away while we were sending."""

    def __init__(self, how: Literal["fin", "rst"]) -> None:
        super().__init__(how)
        self.how: Literal["fin", "rst"] = how


class Connection:
    """An accepted socket that is read all the time."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._arrived = asyncio.Event()
        self.buffer = bytearray()  # what has come since the parser was last given anything
        self.parser = RequestParser(max_head=MAX_BODY)
        self.left: asyncio.Future[Literal["fin", "rst"]] = self._loop.create_future()
        sock.setblocking(False)
        if sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add_reader(sock, self._read)

    def _read(self) -> None:
        how: Literal["fin", "rst"] = "fin"
        try:
            data = self._sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, how = b"", "rst"
        self.buffer += data
        self._arrived.set()
        if not data:
            self._loop.remove_reader(self._sock)
            if not self.left.done():
                self.left.set_result(how)

    async def more(self) -> bool:
        """Wait for further bytes in the buffer; False if the client left."""
        self._arrived.clear()
        if not self.left.done():
            await self._arrived.wait()
        return not self.left.done()

    async def send(self, data: bytes | memoryview) -> None:
        """Send bytes, in one system call if the socket takes them all.

        Raises:
            ClientLeft: There is nobody to send to.
        """
        try:
            try:
                count = self._sock.send(data)
            except BlockingIOError:
                count = 0
            if count < len(data):
                await self._loop.sock_sendall(self._sock, memoryview(data)[count:])
        except ConnectionResetError as exc:
            raise ClientLeft("rst") from exc
        except OSError as exc:
            # A broken pipe means that the FIN had come before the reset that our own sending provoked.
            raise ClientLeft("fin") from exc

    def shut_down(self) -> None:
        """Send a FIN, and go on reading."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close with a FIN, or with a RST. Closing twice does nothing."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock)  # before the close, or the selector keeps a dead descriptor
        if reset:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif not self.left.done():
            self.shut_down()
        self._sock.close()


async def read_request(connection: Connection) -> Record | None:
    """Read the next request; None if the client left.

    Raises:
        BadRequestError: It is no HTTP request, or far too large.
    """
    parser, buffer = connection.parser, connection.buffer
    while True:
        parser.receive_data(buffer)
        buffer.clear()
        event = parser.next_event()
        if isinstance(event, Request):
            return _record(event)
        if isinstance(event, Head):
            if event.expects_continue:
                await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif not await connection.more():
            return None


def _record(request: Request) -> Record:
    sent = request.head
    path, _, query = sent.target.partition("?")
    return Record(sent.method, path, query, sent.headers, request.body, sent.version)


def head(status: int, headers: list[tuple[str, str]], http: str = "1.1") -> bytes:
    """Build a response head."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [f"HTTP/{http} {status} {reason}", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("utf-8")


def frame(data: bytes | memoryview) -> bytes:
    """Frame bytes as one HTTP chunk."""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
