"""A contestant that reads streams: `python -m benchmarks.readers LIBRARY MODE`, driven over stdin.

Each request names a URL and how many chats to read, one after the other; the answer tells chunks, characters, and the
wall and CPU time of this process. `bare` is no library: the shortest loop around a socket and msgspec that yields text.
It knows nothing of endings, errors, timeouts or a stop, and is what a client could cost at the least.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec

MODEL = "m"
QUESTION: list[Any] = [{"role": "user", "content": "Tell me about rivers."}]

Counts = tuple[int, int]  # chunks and characters
Sync = Callable[[], Counts]
Async = Callable[[], Awaitable[Counts]]


def tailrace_sync(url: str) -> Sync:
    import tailrace

    client = tailrace.Client(url)

    def read() -> Counts:
        count = size = 0
        for chunk in client.chat(MODEL, QUESTION, stream=True):
            count += 1
            size += len(chunk.message.content or "")
        return count, size

    return read


def ollama_sync(url: str) -> Sync:
    import ollama

    client = ollama.Client(url)

    def read() -> Counts:
        count = size = 0
        for chunk in client.chat(MODEL, QUESTION, stream=True):
            count += 1
            size += len(chunk.message.content or "")
        return count, size

    return read


def openai_sync(url: str) -> Sync:
    import openai

    client = openai.OpenAI(base_url=f"{url}/v1")

    def read() -> Counts:
        count = size = 0
        for chunk in client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True):
            count += 1
            if chunk.choices:
                size += len(chunk.choices[0].delta.content or "")
        return count, size

    return read


def tailrace_async(url: str) -> Async:
    import tailrace

    client = tailrace.AsyncClient(url)

    async def read() -> Counts:
        count = size = 0
        async for chunk in await client.chat(MODEL, QUESTION, stream=True):
            count += 1
            size += len(chunk.message.content or "")
        return count, size

    return read


def ollama_async(url: str) -> Async:
    import ollama

    client = ollama.AsyncClient(url)

    async def read() -> Counts:
        count = size = 0
        async for chunk in await client.chat(MODEL, QUESTION, stream=True):
            count += 1
            size += len(chunk.message.content or "")
        return count, size

    return read


def openai_async(url: str) -> Async:
    import openai

    client = openai.AsyncOpenAI(base_url=f"{url}/v1")

    async def read() -> Counts:
        count = size = 0
        async for chunk in await client.chat.completions.create(model=MODEL, messages=QUESTION, stream=True):
            count += 1
            if chunk.choices:
                size += len(chunk.choices[0].delta.content or "")
        return count, size

    return read


class _Said(msgspec.Struct):
    content: str


class _Line(msgspec.Struct):
    model: str
    created_at: str
    message: _Said
    done: bool


_decode = msgspec.json.Decoder(_Line).decode


def _asked(url: str) -> tuple[str, int, bytes]:
    """Host, port and the bytes of a chat's request."""
    where = urlsplit(url)
    body = msgspec.json.encode({"model": MODEL, "messages": QUESTION, "stream": True})
    head = f"POST /api/chat HTTP/1.1\r\nHost: {where.netloc}\r\nConnection: close\r\nContent-Length: {len(body)}"
    return where.hostname or "", where.port or 80, f"{head}\r\n\r\n".encode() + body


def bare_sync(url: str) -> Sync:
    host, port, request = _asked(url)

    def read() -> Counts:
        count = size = 0
        with socket.create_connection((host, port)) as connection:
            connection.sendall(request)
            rest = b""
            while data := connection.recv(65536):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    if line.startswith(b"{"):  # else it is of the head, or a chunk's size
                        count += 1
                        size += len(_decode(line).message.content)
        return count, size

    return read


def bare_async(url: str) -> Async:
    host, port, request = _asked(url)

    async def read() -> Counts:
        count = size = 0
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        rest = b""
        while data := await reader.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):
                    count += 1
                    size += len(_decode(line).message.content)
        writer.close()
        return count, size

    return read


SYNC = {"bare": bare_sync, "tailrace": tailrace_sync, "ollama-python": ollama_sync, "openai-python": openai_sync}
ASYNC = {"bare": bare_async, "tailrace": tailrace_async, "ollama-python": ollama_async, "openai-python": openai_async}


def requests() -> Any:
    """What the benchmark asks, until it closes our stdin."""
    return (json.loads(line) for line in sys.stdin)


def measured(counts: list[Counts], wall: float, cpu: float) -> dict[str, Any]:
    return {"chunks": sum(c for c, _ in counts), "characters": sum(s for _, s in counts), "wall": wall, "cpu": cpu}


def serve_sync(library: str) -> None:
    made: dict[str, Sync] = {}  # one client an address: connections are kept where a library keeps them
    for request in requests():
        url = request["url"]
        read = made.get(url) or made.setdefault(url, SYNC[library](url))
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        counts = [read() for _ in range(request["chats"])]
        print(json.dumps(measured(counts, time.perf_counter() - wall, time.process_time() - cpu)), flush=True)


async def serve_async(library: str) -> None:
    made: dict[str, Async] = {}
    for request in requests():
        url = request["url"]
        read = made.get(url) or made.setdefault(url, ASYNC[library](url))
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        counts = [await read() for _ in range(request["chats"])]
        print(json.dumps(measured(counts, time.perf_counter() - wall, time.process_time() - cpu)), flush=True)


if __name__ == "__main__":
    if sys.argv[2] == "sync":
        serve_sync(sys.argv[1])
    else:
        asyncio.run(serve_async(sys.argv[1]))
