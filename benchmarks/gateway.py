"""What a token costs `tailrace serve`, by the way it is read: 200 streams at 20 tokens a second.

The model server and the readers are processes of their own; the processor time is the gateway's alone. Beside it is
what people have, ollama-python's asynchronous client behind FastAPI, on the tutorial's route and the same answers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.common import Contestant, Skipped, in_turns, quiet, ratio, report, shown, spread, table
from benchmarks.crowd import ask, get, played, post
from benchmarks.servers import missing, open_files, serving

RATE = 20
PEER = "ollama-python in FastAPI"
_LIMIT = 240.0  # seconds

Read = Callable[[int, int], Awaitable[int]]
"""Reads one answer: the port, the question's number; returns how many readers it took."""


def run(*, quick: bool) -> None:
    """Measure and print."""
    if why := missing("ollama"):
        raise Skipped(why)
    open_files()
    streams, tokens, rounds = (4, 10, 1) if quick else (200, 100, 5)
    costs: dict[str, list[float]] = {name: [] for name in (*WAYS, PEER)}
    for number in range(rounds):
        for name in in_turns([*WAYS, PEER], number):
            with quiet():
                costs[name].append(_measure(name, streams, tokens))
    results, rows = [], []
    for name, values in costs.items():
        cost, part = spread(values), ratio(values, costs[PEER])
        results.append({"label": name, "cpu_us_per_token": cost, "of_peer": part})
        rows.append([name, shown(cost, ".3g"), shown(part, ".2f")])
    table(["way of reading", "CPU µs a token", "of the peer's"], rows)
    report("gateway", quick=quick, streams=streams, tokens=tokens, rate=RATE, results=results)


def _measure(name: str, streams: int, tokens: int) -> float:
    """Microseconds of processor time that a token cost."""
    upstream = Contestant("paced", str(tokens), str(RATE))
    try:
        address = f"http://127.0.0.1:{upstream.hear()['port']}"
        with serving("ollama" if name == PEER else "serve", address) as server:
            read = WAYS.get(name, _chat)
            played(lambda: _crowd(read, server.port, 1))
            before = server.process.cpu()
            played(lambda: _crowd(read, server.port, streams))
            return 1e6 * (server.process.cpu() - before) / (streams * tokens)
    finally:
        upstream.stop()


# -- the readers -----------------------------------------------------------------------------------------------------


async def _crowd(read: Read, port: int, count: int) -> None:
    async with asyncio.timeout(_LIMIT):
        await asyncio.gather(*(read(port, number) for number in range(count)))


async def _chat(port: int, number: int) -> int:
    answer = await ask(port, post("/chat/stream", {"message": str(number)}))
    _check(answer, b"data: [DONE]")
    return 1


async def _run(port: int, number: int) -> int:
    return await _read_run(port, await _start(port, number), "")


async def _html(port: int, number: int) -> int:
    return await _read_run(port, await _start(port, number), "?render=html")


async def _tabs(port: int, number: int) -> int:
    run = await _start(port, number)
    return sum(await asyncio.gather(*(_read_run(port, run, "?render=html") for _ in range(2))))


async def _kept(port: int, number: int) -> int:
    made = json.loads(await ask(port, post("/conversations", {})))
    turn = json.loads(await ask(port, post(f"/conversations/{made['id']}/turns", {"content": str(number)})))
    return await _read_run(port, turn["run"]["id"], "?render=html")


WAYS: dict[str, Read] = {
    "the tutorial's stream": _chat,
    "a run's events": _run,
    "a run as HTML": _html,
    "a run as HTML, in two tabs": _tabs,
    "a turn of a conversation, kept, as HTML": _kept,
}


async def _start(port: int, number: int) -> str:
    run: dict[str, Any] = json.loads(await ask(port, post("/runs", {"message": str(number)})))
    return str(run["id"])


async def _read_run(port: int, run: str, query: str) -> int:
    _check(await ask(port, get(f"/runs/{run}/events{query}")), b'"outcome":"complete"')
    return 1


def _check(answer: bytes, mark: bytes) -> None:
    if mark not in answer:  # who loses the end of an answer has not run the same race
        raise RuntimeError(f"an answer did not come to its end: {answer[-300:]!r}")
