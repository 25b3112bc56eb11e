"""HTTP/1.1 for one trusted client on a private socket: read one request, answer it, close.

Not a general server. It exists because the worker must see its client leave at every moment, by a half-close too, and
must be able to keep its own side open until the engine has let go; no server library offers both.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from tailrace.protocols.ollama.requests import OllamaAPIError

__all__ = ["ClientGoneError", "Exchange", "read_request"]

MAX_HEAD = 65_536
MAX_BODY = 256 << 20  # images travel as base64
_HIGH_WATER = 65_536

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client left while something was done for it."""


class Exchange:
    """One request and its answer.

    Attributes:
        gone: set once the client has closed, or half-closed, its side.
        started: the status line is out, so an error can no longer change it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.gone = asyncio.Event()
        self.started = False
        self._chunked = False
        self._reader = reader
        self._writer = writer
        self._on_gone: list[Callable[[], None]] = []
        self._watcher: asyncio.Task[None] | None = None

    # ---- the client's leaving ----

    def watch(self) -> None:
        """Starts to look for the client's leaving; the request must have been read."""
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    def on_gone(self, callback: Callable[[], None]) -> None:
        """Calls `callback` when the client leaves, or now if it has left."""
        if self.gone.is_set():
            callback()
        else:
            self._on_gone.append(callback)

    async def unless_gone(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits `work`, and cancels it if the client leaves first.

        Raises:
            ClientGoneError: it left.
        """
        task = asyncio.get_running_loop().create_task(work)
        self.on_gone(lambda: _cancel(task))
        try:
            return await task
        except asyncio.CancelledError:
            if self.gone.is_set():
                raise ClientGoneError from None
            task.cancel()
            raise

    async def _watch(self) -> None:
        try:
            while await self._reader.read(_HIGH_WATER):
                pass  # one request a connection: anything more is not for us
        except (ConnectionError, OSError):
            pass
        self.gone.set()
        for callback in self._on_gone:
            callback()

    # ---- the answer ----

    def start(self, status: int, content_type: str, length: int | None = None) -> None:
        """Sends the status line and headers; without `length` the body is chunked."""
        self.started = True
        self._chunked = length is None
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n{framing}\r\n"
        self._write(f"{head}Connection: close\r\n\r\n".encode())

    async def send(self, data: bytes) -> None:
        """Sends a part of a chunked body; returns at once if the client has left."""
        if not data:
            return
        self._write(b"%x\r\n%b\r\n" % (len(data), data))
        transport = self._writer.transport
        if transport.get_write_buffer_size() > _HIGH_WATER and not self.gone.is_set():
            # A client that has half-closed and does not read must not hold us here.
            drained = asyncio.ensure_future(self._writer.drain())
            self.on_gone(lambda: _cancel(drained))
            try:
                await drained
            except ConnectionError:
                pass
            except asyncio.CancelledError:
                if not self.gone.is_set():
                    drained.cancel()
                    raise

    def whole(self, status: int, body: bytes, content_type: str = "application/json; charset=utf-8") -> None:
        """Sends a complete answer."""
        self.start(status, content_type, len(body))
        if self.method != "HEAD":
            self._write(body)

    def json(self, value: object, status: int = 200) -> None:
        """Sends a complete JSON answer, with no LF at its end, as Ollama does."""
        self.whole(status, msgspec.json.encode(value))

    async def close(self, *, complete: bool) -> None:
        """Ends the answer. Its client sees the close, so do this when nothing runs for it any more.

        Args:
            complete: False leaves a chunked body without its end, which tells the client that it was cut off.
        """
        if self._watcher:
            self._watcher.cancel()
        if self.gone.is_set():
            self._writer.transport.abort()
            return
        if complete and self._chunked:
            self._write(b"0\r\n\r\n")
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, OSError):
            pass

    def _write(self, data: bytes) -> None:
        if not self.gone.is_set() and not self._writer.is_closing():
            self._writer.write(data)


def _cancel(task: asyncio.Future[Any]) -> None:
    task.cancel()


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str | None) -> Exchange:
    """Reads one request.

    Args:
        reader: where from.
        writer: where the answer will go.
        key: the bearer key that the client must show, if any.

    Raises:
        OllamaAPIError: it is not a request we answer; send that.
        EOFError: the client closed before it had sent one (asyncio.IncompleteReadError is one).
    """
    exchange = Exchange(reader, writer)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise OllamaAPIError(431, f"request headers are larger than {MAX_HEAD} bytes") from None
    try:
        lines = head.decode("latin-1").split("\r\n")
        exchange.method, target, version = lines[0].split(" ")
        pairs = [line.split(":", 1) for line in lines[1:] if line]
        names = [name.lower() for name, _ in pairs]
        exchange.path = urlsplit(target).path
    except ValueError:
        raise OllamaAPIError(400, "malformed request") from None
    if len(head) > MAX_HEAD:
        raise OllamaAPIError(431, f"request headers are larger than {MAX_HEAD} bytes")
    if version not in ("HTTP/1.1", "HTTP/1.0") or any(name != name.strip() for name in names):
        raise OllamaAPIError(400, "malformed request")
    exchange.headers = {name: value.strip() for name, (_, value) in zip(names, pairs, strict=True)}
    if key is not None:
        shown = exchange.headers.get("authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {key}".encode()):
            raise OllamaAPIError(401, "unauthorized")
    if names.count("content-length") + names.count("transfer-encoding") > 1:
        raise OllamaAPIError(400, "conflicting body lengths")
    if exchange.headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    exchange.body = await _read_body(reader, exchange.headers)
    return exchange


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise OllamaAPIError(501, f"transfer encoding {coding[:40]!r} is not supported")
        return await _read_chunks(reader)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        raise OllamaAPIError(400, "malformed Content-Length")
    if len(length) > 12 or int(length) > MAX_BODY:
        raise OllamaAPIError(413, f"request bodies may have {MAX_BODY} bytes")
    return await reader.readexactly(int(length))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        try:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        except (ValueError, asyncio.LimitOverrunError):
            raise OllamaAPIError(400, "malformed chunk") from None
        if size < 0 or len(body) + size > MAX_BODY:
            raise OllamaAPIError(413, f"request bodies may have {MAX_BODY} bytes")
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers
            return bytes(body)
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise OllamaAPIError(400, "malformed chunk")
