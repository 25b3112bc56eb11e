"""A model server that says tokens at a steady rate: `python -m benchmarks.paced TOKENS RATE [DELAY]`.

It speaks as much of Ollama's wire, and below /v1 of OpenAI's, as a chat needs, at next to no cost. Streams are out of
step with each other, as those of real people are: each has its own moment within the interval of two tokens. Each token
is the question, the token's number and the time (monotonic, seconds): what is lost, doubled, mixed up or late can be
told. With a delay, an answer begins so many seconds after it was asked for. It prints its port as a line of JSON, and
ends when its standard input does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from typing import cast

from benchmarks.common import event_loop

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
_PIECE = (
    b'{"model":"m","created_at":"2026-11-27T12:00:00.123456789Z",'
    b'"message":{"role":"assistant","content":"%b:%d:%.6f "},"done":false}\n'
)
_DONE = b'{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","eval_count":%d}\n'
_CHOICE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{%b},"finish_reason":%b}]}\n\n'
)
_OPENAI_PIECE = _CHOICE % (b'"content":"%b:%d:%.6f "', b"null")
_OPENAI_DONE = _CHOICE % (b"", b'"stop"') + b"data: [DONE]\n\n"
_TICK = 0.001  # seconds
_STRIDE = 7919  # a prime: streams that come one after the other are spread over the whole interval


class Paced:
    """The server's pace.

    Args:
        tokens: of an answer.
        rate: tokens of each answer in a second.
        delay: seconds before the first.
    """

    def __init__(self, tokens: int, rate: float, delay: float) -> None:
        self.tokens = tokens
        self.delay = delay
        self._slots: list[dict[_Answer, None]] = [{} for _ in range(max(1, round(1 / rate / _TICK)))]
        self._every = 1 / rate / len(self._slots)
        self._count = 0

    def begin(self, answer: _Answer) -> None:
        """Gives an answer its place."""
        if answer.gone:
            return
        self._count += 1
        answer.slot = self._slots[self._count * _STRIDE % len(self._slots)]
        answer.slot[answer] = None

    async def tick(self) -> None:
        """Says the tokens that are due, again and again."""
        due = time.monotonic()
        while True:
            for slot in self._slots:
                due += self._every
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                for answer in list(slot):
                    answer.say()


class _Answer(asyncio.Protocol):
    """One connection, with one request."""

    def __init__(self, paced: Paced) -> None:
        self.slot: dict[_Answer, None] = {}
        self.gone = False
        self._paced = paced
        self._asked = b""
        self._question: bytes | None = None
        self._said = 0
        self._piece = _PIECE
        self._done = _DONE % paced.tokens

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        if self._question is not None:
            return
        self._asked += data
        head, empty, body = self._asked.partition(b"\r\n\r\n")
        if not empty:
            return
        with contextlib.suppress(ValueError):  # not all of the body is here
            self._question = json.loads(body)["messages"][-1]["content"].encode()
            if head.startswith(b"POST /v1/"):
                self._piece, self._done = _OPENAI_PIECE, _OPENAI_DONE
                self._transport.write(_HEAD % b"text/event-stream")
            else:
                self._transport.write(_HEAD % b"application/x-ndjson")
            if self._paced.delay:
                asyncio.get_running_loop().call_later(self._paced.delay, self._paced.begin, self)
            else:
                self._paced.begin(self)

    def say(self) -> None:
        """Says the next token, or that it was the last."""
        if self._said == self._paced.tokens:
            self._transport.write(_chunk(self._done) + b"0\r\n\r\n")
            self._transport.close()
            self.slot.pop(self, None)
            return
        self._transport.write(_chunk(self._piece % (self._question, self._said, time.monotonic())))
        self._said += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.slot.pop(self, None)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def serve(tokens: int, rate: float, delay: float) -> None:
    """Serves until standard input ends."""
    paced = Paced(tokens, rate, delay)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Answer(paced), "127.0.0.1", 0, backlog=4096)
    ticking = asyncio.create_task(paced.tick())
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    ticking.cancel()
    server.close()


if __name__ == "__main__":
    gc.disable()  # it lives for one measurement
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        runner.run(serve(int(sys.argv[1]), float(sys.argv[2]), float((sys.argv[3:] or ["0"])[0])))
