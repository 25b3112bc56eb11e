"""As much of HTTP/1.1 as a fake server needs, on a plain socket that it can also abuse.

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

__all__ = ["BadRequest", "ClientLeft", "Connection", "frame", "head", "read_request"]

_LIMIT = 256 * 1024 * 1024


class ClientLeft(Exception):  # noqa: N818 - a fact, not an error
    """The client went away while we were sending."""

    def __init__(self, how: Literal["fin", "rst"]) -> None:
        super().__init__(how)
        self.how: Literal["fin", "rst"] = how


class BadRequest(Exception):  # noqa: N818 - named after the status it becomes
    """What came is no HTTP request."""


class Connection:
    """An accepted socket that is read all the time."""

    def __init__(self, sock: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._arrived = asyncio.Event()
        self.buffer = bytearray()
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
        BadRequest: It is no HTTP request, or far too large.
    """
    buffer = connection.buffer
    while (end := buffer.find(b"\r\n\r\n")) < 0:
        if len(buffer) > _LIMIT:
            raise BadRequest("no end of the request's head")
        if not await connection.more():
            return None
    lines = bytes(buffer[:end]).decode("latin-1").split("\r\n")
    del buffer[: end + 4]
    try:
        method, target, version = lines[0].split(" ")
        headers = [(name, value.strip()) for name, value in (line.split(":", 1) for line in lines[1:])]
        lowered = {name.lower(): value for name, value in headers}
        length = int(lowered.get("content-length", "0"))
    except ValueError as exc:
        raise BadRequest(f"cannot read the request: {lines[0]!r}") from exc
    if lowered.get("expect", "").lower() == "100-continue":
        await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in lowered.get("transfer-encoding", "").lower():
        body = await _chunked(connection)
    else:
        body = await _exactly(connection, length)
    if body is None:
        return None
    path, _, query = target.partition("?")
    return Record(method, path, query, headers, body, version.removeprefix("HTTP/"))


async def _exactly(connection: Connection, length: int) -> bytes | None:
    if length > _LIMIT:
        raise BadRequest("the request's body is too large")
    while len(connection.buffer) < length:
        if not await connection.more():
            return None
    data = bytes(connection.buffer[:length])
    del connection.buffer[:length]
    return data


async def _chunked(connection: Connection) -> bytes | None:
    body = bytearray()
    while True:
        while (end := connection.buffer.find(b"\r\n")) < 0:
            if not await connection.more():
                return None
        try:
            size = int(bytes(connection.buffer[:end]).split(b";")[0], 16)
        except ValueError as exc:
            raise BadRequest("bad chunk size") from exc
        del connection.buffer[: end + 2]
        data = await _exactly(connection, size + 2)
        if data is None:
            return None
        if size == 0:
            return bytes(body)
        body += data[:-2]


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
