"""Many readers of event streams on bare sockets, as cheap as they can be: what they cost is not what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from typing import Any, cast

from tailrace.wire.lines import LineSplitter
from tailrace.wire.sse import SSEDecoder

__all__ = ["Reading", "Told", "connect", "crowd", "pieces", "post"]

_AT_ONCE = 200  # connections that are made at once
_LIMIT = 300.0  # seconds


class Told:
    """What one reader was told.

    Attributes:
        tokens: the texts of the answer's events, in order.
        ids: the numbers of all events.
        delays: seconds from a token's making to its coming.
        whole: True if the stream ended as it should, with an ending and [DONE].
    """

    def __init__(self, read: list[tuple[float, bytes]], *, plain: bool = False) -> None:
        self.tokens: list[str] = []
        self.ids: list[int] = []
        self.delays: list[float] = []
        self.whole = False
        if plain:
            self._lines(read)
        else:
            self._events(read)

    def _events(self, read: list[tuple[float, bytes]]) -> None:
        ended = False
        decoder = SSEDecoder()
        for came, data in read:
            for event in decoder.feed(data):
                self.ids.append(int(event.id.partition("-")[0] or 0))
                if event.type == "ended":
                    ended = True
                elif event.data == b"[DONE]":
                    self.whole = ended or not event.id  # peers have no ending of ours
                elif text := json.loads(event.data)["content"]:
                    self._token(text, came)

    def _lines(self, read: list[tuple[float, bytes]]) -> None:
        """A proxy passes on the model server's own lines."""
        lines = LineSplitter()
        for came, data in read:
            for line in lines.feed(data):
                chunk = json.loads(line)
                if chunk["done"]:
                    self.whole = True
                else:
                    self._token(chunk["message"]["content"], came)

    def _token(self, text: str, came: float) -> None:
        self.tokens.append(text)
        self.delays.append(came - float(text.rpartition(":")[2]))


async def crowd(port: int, questions: Iterable[str], path: str = "/chat/stream") -> list[Told]:
    """Asks all questions at once, and reads every answer to its end.

    Args:
        port: of the server.
        questions: tell the answers apart.
        path: where to ask; below ``/api/`` it is Ollama's own wire.

    Raises:
        RuntimeError: an answer was refused.
        TimeoutError: they did not all come to an end.
    """
    gate = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.timeout(_LIMIT):
        read = await asyncio.gather(*(_ask(port, path, text, gate) for text in questions))
    return [Told(one, plain=path.startswith("/api/")) for one in read]


async def _ask(port: int, path: str, question: str, gate: asyncio.Semaphore) -> list[tuple[float, bytes]]:
    asked = (
        {"model": "m", "messages": [{"role": "user", "content": question}]}
        if "/api/" in path
        else {"message": question}
    )
    async with gate:
        reader = await connect(port, post(path, asked))
        await reader.begun
    await reader.over
    return pieces(reader.came)


def post(path: str, body: Any) -> bytes:
    """Returns a request."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def connect(port: int, request: bytes) -> Reading:
    """Sends a request, on a connection of its own."""
    _, reading = await asyncio.get_running_loop().create_connection(lambda: Reading(request), "127.0.0.1", port)
    return reading


class Reading(asyncio.Protocol):
    """Notes what comes, and when. All else is done afterwards.

    Args:
        request: to be sent.

    Attributes:
        came: the times, and the bytes as they were.
        begun: done once something has come.
        over: done once the connection has ended.
    """

    def __init__(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._request = request
        self.came: list[tuple[float, bytes]] = []
        self.begun: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.came:
            self.begun.set_result(None)
        self.came.append((time.monotonic(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.begun, self.over):
            if not future.done():
                future.set_result(None)


def pieces(came: list[tuple[float, bytes]]) -> list[tuple[float, bytes]]:
    """Returns the pieces of a body as they were framed, each with the time when it was complete.

    Raises:
        RuntimeError: the request was refused.
    """
    read: list[tuple[float, bytes]] = []
    rest, framed, headed = b"", False, False
    for when, data in came:
        rest += data
        if not headed:
            head, empty, after = rest.partition(b"\r\n\r\n")
            if not empty:
                continue
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"refused: {rest!r}")
            headed, framed, rest = True, b"transfer-encoding: chunked" in head.lower(), after
        if not framed:
            read.append((when, rest))
            rest = b""
            continue
        start = 0
        while (stop := rest.find(b"\r\n", start)) > 0:
            end = stop + 2 + int(rest[start:stop], 16)
            if len(rest) < end + 2:
                break
            if end > stop + 2:
                read.append((when, rest[stop + 2 : end]))
            start = end + 2
        rest = rest[start:]
    if not headed:
        raise RuntimeError(f"no answer: {rest!r}")
    return read
