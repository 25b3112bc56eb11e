"""Requests on bare sockets: nothing is read ahead, so that a reader may be as slow as it likes, and leave at once."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Self

import httptools

__all__ = ["Answer", "BrokenError", "ask", "call", "request"]

_HERE = "127.0.0.1"
_READ = 16 * 1024
_NARROW = 4096  # bytes that the system keeps for a slow reader, about


class BrokenError(Exception):
    """The connection ended before the answer did."""


class Answer:
    """An answer as it comes; a context manager, which leaves.

    Attributes:
        status: of the answer.
        headers: by their names in lower case.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []
        self._headed = self._over = False
        self.status = 0
        self.headers: dict[str, str] = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self._headed = self.status >= 200

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._over = self._headed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.leave()

    async def head(self) -> Self:
        """Waits for the status and the headers."""
        while not self._headed:
            await self._receive()
        return self

    async def more(self) -> bytes:
        """Waits for more of the body; empty at its end."""
        while not self._body and not self._over:
            await self._receive()
        data = b"".join(self._body)
        self._body.clear()
        return data

    async def body(self) -> bytes:
        """Reads to the end."""
        parts = []
        while data := await self.more():
            parts.append(data)
        return b"".join(parts)

    async def _receive(self) -> None:
        try:
            data = await asyncio.get_running_loop().sock_recv(self._sock, _READ)
        except ConnectionError as error:
            raise BrokenError(str(error)) from error
        if not data:
            raise BrokenError("the connection was closed before the answer was over")
        self._parser.feed_data(data)

    def leave(self, how: str = "fin") -> None:
        """Goes away, as a closed tab does (`fin`) or a crashed one (`rst`)."""
        if how == "rst":
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()


async def ask(port: int, data: bytes, *, narrow: bool = False) -> Answer:
    """Sends bytes on a connection of their own."""
    sock = socket.socket()
    try:
        sock.setblocking(False)
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _NARROW)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (_HERE, port))
        try:
            await loop.sock_sendall(sock, data)
        except ConnectionError:
            pass  # refused before all was sent: the answer says why
    except BaseException:
        sock.close()
        raise
    return Answer(sock)


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """Returns a request; the body is sent as JSON, bytes as they are."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode() + data


async def call(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Asks, and returns the status and what the body holds."""
    async with await ask(port, request(method, path, body, Connection="close", **headers)) as answer:
        await answer.head()
        data = b"" if answer.status == 204 else await answer.body()
    kind = answer.headers.get("content-type", "")
    return answer.status, json.loads(data) if data and "json" in kind else data
