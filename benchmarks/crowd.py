"""Many readers of event streams on bare sockets, as cheap as they can be: what they cost is not what is measured."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable

from tailrace.wire.lines import LineSplitter
from tailrace.wire.sse import SSEDecoder

__all__ = ["Told", "crowd"]

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
    body = json.dumps(asked).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    async with gate:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"refused: {answer!r}")
    read: list[tuple[float, bytes]] = []
    try:
        while size := int((await reader.readline()) or b"0", 16):
            read.append((time.monotonic(), (await reader.readexactly(size + 2))[:-2]))
    finally:
        writer.close()
    return read
