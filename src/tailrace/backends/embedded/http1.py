"""The worker's side of one request: read it, answer it, close.

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
from tailrace.transport.http_server import NEED_DATA, BadRequestError, Head, Request, RequestParser

__all__ = ["ClientGoneError", "Exchange", "read_request"]

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
        EOFError: the client closed before it had sent one.
    """
    exchange, parser = Exchange(reader, writer), RequestParser()
    try:
        head = await _next_event(reader, parser)
        assert isinstance(head, Head)
        if key is not None:
            shown = head.header("authorization") or ""
            if not hmac.compare_digest(shown.encode(), f"Bearer {key}".encode()):
                raise OllamaAPIError(401, "unauthorized")
        if head.expects_continue:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request = await _next_event(reader, parser)
        assert isinstance(request, Request)
    except BadRequestError as error:
        raise OllamaAPIError(error.status, str(error)) from None
    try:
        exchange.path = urlsplit(head.target).path
    except ValueError:
        raise OllamaAPIError(400, "malformed request") from None
    exchange.method, exchange.body = head.method, request.body
    return exchange


async def _next_event(reader: asyncio.StreamReader, parser: RequestParser) -> Head | Request:
    while (event := parser.next_event()) is NEED_DATA:
        data = await reader.read(_HIGH_WATER)
        if not data:
            raise EOFError("the client closed before its request was whole")
        parser.receive_data(data)
    return event
