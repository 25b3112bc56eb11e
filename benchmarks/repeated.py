"""One answer for many, and nothing else: `python -m benchmarks.repeated TOKENS RATE DELAY`.

A contestant beside a run's events. There is no run, no log and no request to be understood, and whoever comes late has
lost what was said: what is left is a write for each token and reader, which is the machine's own price. The tokens and
their events are those of `tailrace serve`; the first one comes DELAY seconds after the first reader.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from typing import cast

from benchmarks.common import event_loop

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = b'id: %d-3fa9c2d1\nevent: text_delta\ndata: {"text":"0:%d:%.6f "}\n\n'
_ENDED = b'id: %d-3fa9c2d1\nevent: ended\ndata: {"outcome":"complete"}\n\n'


class _Reader(asyncio.Protocol):
    """One connection."""

    def __init__(self, readers: dict[_Reader, None], begin: asyncio.Event) -> None:
        self._readers = readers
        self._begin = begin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(_HEAD)
        self._readers[self] = None
        self._begin.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._readers.pop(self, None)


async def serve(tokens: int, rate: float, delay: float) -> None:
    """Serves until standard input ends."""
    readers: dict[_Reader, None] = {}
    begin = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Reader(readers, begin), "127.0.0.1", 0, backlog=4096)
    saying = asyncio.create_task(_say(readers, begin, tokens, rate, delay))
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    saying.cancel()
    server.close()


async def _say(readers: dict[_Reader, None], begin: asyncio.Event, tokens: int, rate: float, delay: float) -> None:
    await begin.wait()
    due = time.monotonic() + delay
    for number in range(tokens):
        await asyncio.sleep(due - time.monotonic())
        due += 1 / rate
        chunk = _chunk(_EVENT % (number + 1, number, time.monotonic()))
        for reader in readers:
            reader.transport.write(chunk)
    for reader in list(readers):
        reader.transport.write(_chunk(_ENDED % (tokens + 1)) + b"0\r\n\r\n")
        reader.transport.close()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


if __name__ == "__main__":
    gc.disable()  # it lives for one measurement
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        runner.run(serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
