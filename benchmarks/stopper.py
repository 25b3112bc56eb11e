"""A contestant that starts a stream and stops it: `python -m benchmarks.stopper sync|async` or `embedded MODEL`.

The stop comes when told, from another thread (sync) or another task (async) than the one that reads. The answer to each
`stop` is the time just before the cancel, on the clock that all processes share, and how the stream ended for its
reader.

The embedded engine runs beside the contestant. It stops by itself, at any moment between two batches of the prompt or
two tokens, and waits for the engine's word that it has let go.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import sys
import threading
import time
from itertools import pairwise
from typing import Any

import tailrace
from benchmarks.answers import words
from benchmarks.readers import MODEL, QUESTION, requests
from tailrace.events import Event, Prefill, TextDelta

LOOKED = 2  # batches or tokens that have come when the stop does, after the first
LONG = 1_500  # words of a prompt that is stopped while it is read


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


def serve_embedded(model: str) -> None:
    client = tailrace.Client(f"embedded:{model}")
    for request in requests():
        print(json.dumps(_stopped(client, request["phase"], request["number"])), flush=True)


def _stopped(client: tailrace.Client, phase: str, number: int) -> dict[str, Any]:
    """Stop one answer: the seconds until the engine had let go, and those from one batch or token to the next."""
    asked = "".join(words(LONG)) if phase == "prefill" else "Tell me a long story about a river."
    # Another beginning each time: a prompt seen before would come out of the engine's cache.
    stream = client.chat(MODEL, [{"role": "user", "content": f"{number}: {asked}"}], stream=True)
    kind: type[Event] = Prefill if phase == "prefill" else TextDelta
    at: list[float] = []
    for event in stream.events():
        if type(event) is kind:
            at.append(time.perf_counter())
            if len(at) > LOOKED:
                break
    steps = [later - sooner for sooner, later in pairwise(at)]
    time.sleep(random.random() * statistics.median(steps))
    begun = time.perf_counter()
    receipt = stream.cancel(wait=True)
    took = time.perf_counter() - begun
    if stream.outcome != "cancelled" or not receipt.confirmed:
        raise RuntimeError(f"a stop ended as {stream.outcome}: {receipt}")
    return {"took": took, "step": statistics.median(steps)}


if __name__ == "__main__":
    if sys.argv[1] == "embedded":
        serve_embedded(sys.argv[2])
    elif sys.argv[1] == "sync":
        serve_sync()
    else:
        asyncio.run(serve_async())
