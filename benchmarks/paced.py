"""A model server that says tokens at a steady rate: `python -m benchmarks.paced TOKENS RATE`.

It speaks as much of Ollama's wire as a chat needs, at next to no cost: one timer ticks for all streams. Each token is
the question, the token's number and the time (monotonic, seconds): what is lost, doubled, mixed up or late can be told.
It prints its port as a line of JSON, and ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_PIECE = b'{"model":"m","message":{"role":"assistant","content":"%b:%d:%.6f "},"done":false}\n'
_DONE = b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","eval_count":%d}\n'


class Paced:
    """The server.

    Args:
        tokens: of an answer.
        rate: tokens of each answer in a second.
    """

    def __init__(self, tokens: int, rate: float) -> None:
        self._tokens = tokens
        self._every = 1 / rate
        self._streams: dict[asyncio.StreamWriter, tuple[bytes, int]] = {}  # the question, and how many tokens were said

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes one request."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            asked = json.loads(await reader.readexactly(length))
            writer.write(_HEAD)
            self._streams[writer] = (asked["messages"][-1]["content"].encode(), 0)
            await reader.read()  # until the client has gone
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._streams.pop(writer, None)
            writer.close()

    async def tick(self) -> None:
        """Says a token on every stream, again and again."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due += self._every
            await asyncio.sleep(max(0.0, due - loop.time()))
            for writer, (question, said) in list(self._streams.items()):
                if said == self._tokens:
                    writer.write(_chunk(_DONE % said) + b"0\r\n\r\n")
                    del self._streams[writer]
                    writer.close()
                else:
                    writer.write(_chunk(_PIECE % (question, said, loop.time())))
                    self._streams[writer] = (question, said + 1)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(tokens: int, rate: float) -> None:
    """Serves until standard input ends."""
    paced = Paced(tokens, rate)
    server = await asyncio.start_server(paced.answer, "127.0.0.1", 0, backlog=4096)
    ticking = asyncio.create_task(paced.tick())
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    ticking.cancel()
    server.close()


if __name__ == "__main__":
    gc.set_threshold(50_000, 20, 100)
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
