"""What it costs to show one answer to many: 1,000 readers of one run's events, at 50 tokens a second."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from benchmarks import common
from benchmarks.common import Contestant, quiet, report, shown, spread, table
from benchmarks.crowd import ask, connect, get, played, post
from benchmarks.processes import Process
from benchmarks.servers import open_files, serving
from benchmarks.told import Told, tally
from benchmarks.web import figures

RATE = 50
READERS = (1, 10, 100, 1000)


def run(*, quick: bool) -> None:
    """Measure and print."""
    tokens, rounds = (10, 1) if quick else (500, common.rounds or 3)
    open_files()
    results: list[dict[str, Any]] = []
    for readers in (1, 5) if quick else READERS:
        seen = []
        for _ in range(rounds):
            with quiet():
                seen.append(measured(readers, tokens))
        results.append({"readers": readers} | {key: spread([one[key] for one in seen]) for key in seen[0]})
    heads = {
        "complete": ("complete", ",.0f"),
        "CPU µs a delivered token": ("cpu_us_per_token", ".2f"),
        "lag p50 ms": ("lag_p50_ms", ".2f"),
        "p99": ("lag_p99_ms", ".1f"),
        "max": ("lag_max_ms", ".0f"),
        "KiB a reader": ("kib_per_reader", ".1f"),
    }
    cells = [[shown(row[key], form) for key, form in heads.values()] for row in results]
    table(["readers", *heads], [[f"{row['readers']:,}", *each] for row, each in zip(results, cells, strict=True)])
    report("fanout", quick=quick, rate=RATE, tokens=tokens, results=results)


def measured(readers: int, tokens: int) -> dict[str, float]:
    """One run, and all its readers."""
    upstream = Contestant("paced", str(tokens), str(RATE))
    try:
        with serving("serve", f"http://127.0.0.1:{upstream.hear()['port']}") as server:
            return played(lambda: _read(server.port, server.process, readers, tokens))
    finally:
        upstream.stop()


async def _read(port: int, process: Process, readers: int, tokens: int) -> dict[str, float]:
    await ask(port, post("/chat/stream", {"message": "warm"}))
    memory, cpu = process.memory(), process.cpu()
    run = json.loads(await ask(port, post("/runs", {"message": "0"})))["id"]
    path = f"/runs/{run}/events"
    readings = [await connect(port, get(path)) for _ in range(readers)]
    await asyncio.gather(*(reading.over for reading in readings))
    used, most = process.cpu() - cpu, process.most_memory()
    counted = tally([Told(reading.came, path) for reading in readings], ["0"] * readers, tokens)
    return figures(counted, used) | {"kib_per_reader": (most - memory) / 1024 / readers}
