"""A contestant that starts a stream and stops it when told: `python -m benchmarks.stopper MODE`.

The stop comes from another thread (sync) or another task (async) than the one that reads. The answer to each `stop` is
the time just before the cancel, on the clock that all processes share, and how the stream ended for its reader.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from typing import Any

import tailrace
from benchmarks.readers import MODEL, QUESTION


def serve_sync() -> None:
    for line in sys.stdin:
        client = tailrace.Client(json.loads(line)["url"])
        stream = client.chat(MODEL, QUESTION, stream=True)
        reader = threading.Thread(target=lambda answer: [None for _ in answer], args=(stream,))
        reader.start()
        sys.stdin.readline()
        at = time.monotonic()
        stream.cancel()
        reader.join()
        print(json.dumps({"at": at, "outcome": stream.outcome}), flush=True)


async def serve_async() -> None:
    loop = asyncio.get_running_loop()

    async def read(answer: Any) -> None:
        async for _ in answer:
            pass

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        client = tailrace.AsyncClient(json.loads(line)["url"])
        stream = await client.chat(MODEL, QUESTION, stream=True)
        reader = asyncio.create_task(read(stream))
        await loop.run_in_executor(None, sys.stdin.readline)
        at = time.monotonic()
        stream.cancel()
        await reader
        print(json.dumps({"at": at, "outcome": stream.outcome}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        serve_sync()
    else:
        asyncio.run(serve_async())
