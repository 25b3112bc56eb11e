"""Many readers of event streams on bare sockets, as cheap as they can be: what they cost is not what is measured."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote

from benchmarks.common import event_loop
from benchmarks.told import Came, Told, pieces

__all__ = ["Reading", "ask", "asked", "connect", "crowd", "get", "played", "post"]

AT_ONCE = 200  # connections that are made at once
LIMIT = 300.0  # seconds

T = TypeVar("T")


def played(work: Callable[[], Awaitable[T]]) -> T:
    """Runs the readers' side of a benchmark, on the cheapest loop there is and with no garbage collection."""

    async def play() -> T:
        return await work()

    with asyncio.Runner(loop_factory=event_loop()) as runner, _no_collector():
        return runner.run(play())


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    gc.disable()  # its pauses would be taken for the server's
    try:
        yield
    finally:
        gc.enable()


async def crowd(port: int, questions: Sequence[str], path: str = "/chat/stream", *, limit: float = LIMIT) -> list[Told]:
    """Asks all questions at once, and reads every answer to its end.

    Args:
        port: of the server.
        questions: tell the answers apart.
        path: where to ask, which tells the wire: below ``/api/`` it is Ollama's, below ``/v1/`` OpenAI's.
        limit: seconds after which the readers leave, with what they have.
    """
    gate = asyncio.Semaphore(AT_ONCE)
    readings: list[Reading | None] = [None] * len(questions)

    async def ask(number: int) -> None:
        async with gate:
            with contextlib.suppress(OSError):  # who is not let in was told nothing
                readings[number] = reading = await connect(port, asked(path, questions[number]))
                await reading.begun
        if (begun := readings[number]) is not None:
            await begun.over

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit):
            await asyncio.gather(*map(ask, range(len(questions))))
    came: list[Came] = [reading.left() if reading else [] for reading in readings]
    return [Told(one, path) for one in came]


def asked(path: str, question: str) -> bytes:
    """Returns the request that asks a question in the way of a path's wire."""
    if path.endswith("="):
        return post(path + quote(question), None)
    if path.startswith(("/api/", "/v1/")):
        messages = [{"role": "user", "content": question}]
        return post(path, {"model": "m", "stream": True, "messages": messages})
    return post(path, {"message": question})


def post(path: str, body: Any) -> bytes:
    """Returns a request."""
    data = json.dumps(body).encode() if body is not None else b""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def get(path: str) -> bytes:
    """Returns a request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


async def ask(port: int, request: bytes) -> bytes:
    """Sends a request, and returns the body of the answer.

    Raises:
        RuntimeError: it was refused.
    """
    reading = await connect(port, request)
    await reading.over
    return b"".join(data for _, data in pieces(reading.came))


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
        self._transport: asyncio.Transport | None = None
        self.came: Came = []
        self.begun: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if not self.came:
            self._done(self.begun)
        self.came.append((time.monotonic(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._done(self.begun)
        self._done(self.over)

    def left(self) -> Came:
        """Leaves, if the answer is not over; what has come."""
        if self._transport is not None:
            self._transport.abort()
        return self.came

    @staticmethod
    def _done(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)
