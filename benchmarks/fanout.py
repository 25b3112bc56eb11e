"""What it costs to show one answer to many: up to 1,000 readers of one run's events, at 50 tokens a second.

Beside it, in the same rounds, stands a loop that writes the same bytes to as many sockets and does nothing else. The
answer begins when all its readers are there; what it takes to let one in is told for itself.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from benchmarks import common
from benchmarks.common import Contestant, in_turns, quiet, ratio, report, shown, spread, table
from benchmarks.crowd import ask, connect, crowd, get, played, post
from benchmarks.processes import Process
from benchmarks.servers import open_files, serving
from benchmarks.told import Told, tally
from benchmarks.web import figures

RATE = 50
READERS = (1, 10, 100, 1000)
_DELAY = 4.0  # seconds until the first token, for the readers to come
_WARM = 1.0  # seconds
_WHO = {"serve": "tailrace serve", "bare": "nothing but the writes"}


def run(*, quick: bool) -> None:
    """Measure and print."""
    tokens, rounds, delay = (10, 1, 0.5) if quick else (500, common.rounds or 3, _DELAY)
    open_files()
    cases = [(readers, who) for readers in ((1, 5) if quick else READERS) for who in _WHO]
    seen: dict[tuple[int, str], list[dict[str, float]]] = {case: [] for case in cases}
    for number in range(rounds):
        for readers, who in in_turns(cases, number):
            with quiet():
                seen[readers, who].append((measured if who == "serve" else bare)(readers, tokens, delay))
    results: list[dict[str, Any]] = []
    for (readers, who), runs in seen.items():
        label = f"{_WHO[who]}, {readers:,} reader{'s' if readers > 1 else ''}"
        row: dict[str, Any] = {"who": who, "label": label, "readers": readers}
        row |= {key: spread([one[key] for one in runs]) for key in runs[0]}
        costs = [[one["cpu_us_per_token"] for one in each] for each in (runs, seen[readers, "bare"])]
        results.append(row | {"times_bare": ratio(*costs)})
    heads = {
        "complete": ("complete", ",.0f"),
        "CPU µs a delivered token": ("cpu_us_per_token", ".2f"),
        "times the writes": ("times_bare", ".2f"),
        "lag p50 ms": ("lag_p50_ms", ".2f"),
        "p99": ("lag_p99_ms", ".1f"),
        "max": ("lag_max_ms", ".0f"),
        "CPU ms to let one in": ("cpu_ms_to_come", ".2f"),
        "KiB a reader": ("kib_per_reader", ".1f"),
    }
    table(["", *heads], [[row["label"], *(shown(row[key], form) for key, form in heads.values())] for row in results])
    report("fanout", quick=quick, rate=RATE, tokens=tokens, results=results)


def measured(readers: int, tokens: int, delay: float) -> dict[str, float]:
    """One run, and all its readers."""
    upstream = Contestant("paced", str(tokens), str(RATE), str(delay))
    try:
        with serving("serve", f"http://127.0.0.1:{upstream.hear()['port']}") as server:
            return played(lambda: _of_a_run(server.port, server.process, readers, tokens, delay))
    finally:
        upstream.stop()


async def _of_a_run(port: int, process: Process, readers: int, tokens: int, delay: float) -> dict[str, float]:
    await crowd(port, ["warm"], limit=delay + _WARM)
    run = json.loads(await ask(port, post("/runs", {"message": "0"})))["id"]
    return await _read(port, process, readers, tokens, f"/runs/{run}/events")


def bare(readers: int, tokens: int, delay: float) -> dict[str, float]:
    """The same bytes for as many, with nothing around them."""
    server = Contestant("repeated", str(tokens), str(RATE), str(delay))
    try:
        port, process = server.hear()["port"], Process(server.pid)
        return played(lambda: _read(port, process, readers, tokens, "/runs/0/events"))
    finally:
        server.stop()


async def _read(port: int, process: Process, readers: int, tokens: int, path: str) -> dict[str, float]:
    memory, start = process.memory(), process.cpu()
    readings = [await connect(port, get(path)) for _ in range(readers)]
    await asyncio.gather(*(reading.begun for reading in readings))
    cpu = process.cpu()
    if any(b"0:0:" in data for reading in readings for _, data in reading.came):
        raise RuntimeError(f"the answer began before its {readers:,} readers were there")
    await asyncio.gather(*(reading.over for reading in readings))
    used, most = process.cpu() - cpu, process.most_memory()
    counted = tally([Told(reading.came, path) for reading in readings], ["0"] * readers, tokens)
    coming = {"cpu_ms_to_come": 1000 * (cpu - start) / readers, "kib_per_reader": (most - memory) / 1024 / readers}
    return figures(counted, used) | coming
