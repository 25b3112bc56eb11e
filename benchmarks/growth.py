"""Does a token cost more where there are many? With 10, 100 and 1,000 streams, and late in a very long answer.

What costs the same for each must not grow with the number of streams, nor with what was said before. nginx stands
beside it for what the machine itself makes dearer: a process that is seldom woken pays more for each time.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import common
from benchmarks.common import Contestant, in_turns, quiet, ratio, report, shown, spread, table
from benchmarks.crowd import ask, connect, get, played, post
from benchmarks.processes import Process
from benchmarks.servers import KINDS, missing, open_files, serving
from benchmarks.told import Told
from benchmarks.web import RATE, measured

STREAMS = (10, 100, 1000)
EACH = 400  # tokens of each of them
LONG, SLICES, FAST = 50_000, 10, 1000  # tokens of the long answer, its parts, and tokens a second


def run(*, quick: bool) -> None:
    """Measure and print."""
    rounds = 1 if quick else common.rounds or 3
    open_files()
    servers = [name for name in ("serve", "nginx") if not missing(name)]
    sizes = [(size, name) for size in ((2, 5) if quick else STREAMS) for name in servers]
    seen: dict[tuple[int, str], list[float]] = {case: [] for case in sizes}
    long: list[list[float]] = []
    for number in range(rounds):
        for size, name in in_turns(sizes, number):
            with quiet():
                seen[size, name].append(measured(name, size, 10 if quick else EACH)["cpu_us_per_token"])
        with quiet():
            long.append(sliced(100 if quick else LONG))
    results: list[dict[str, Any]] = []
    for (size, name), costs in seen.items():
        row = {"what": "streams", "server": name, "label": f"{KINDS[name].label}, {size:,} streams"}
        beside = {"times_nginx": ratio(costs, seen[size, "nginx"])} if "nginx" in servers else {}
        results.append(row | _figures(costs, seen[sizes[0][0], name]) | beside)
    parts = list(zip(*long, strict=True))
    whole = 100 if quick else LONG
    for part, sliced_costs in enumerate(parts):
        label = f"tokens {part * whole // SLICES + 1:,} to {(part + 1) * whole // SLICES:,}"
        results.append({"what": "tokens", "label": label} | _figures(sliced_costs, parts[0]))
    rows = [[row["label"], shown(row["cpu_us_per_token"], ".1f"), shown(row["times_first"], ".2f")] for row in results]
    table(["", "CPU µs a token", "times the first"], rows)
    report("growth", quick=quick, rate=RATE, long=LONG, long_rate=FAST, results=results)


def _figures(costs: Sequence[float], first: Sequence[float]) -> dict[str, Any]:
    return {"cpu_us_per_token": spread(costs), "times_first": ratio(costs, first)}


def sliced(tokens: int) -> list[float]:
    """Microseconds that a token of one long answer costs, in each part of it."""
    upstream = Contestant("paced", str(tokens), str(FAST))
    try:
        options = ("--run-bytes", "64MB", "--max-tokens", str(2 * tokens))
        with serving("serve", f"http://127.0.0.1:{upstream.hear()['port']}", *options) as server:
            return played(lambda: _slices(server.port, server.process, tokens))
    finally:
        upstream.stop()


async def _slices(port: int, process: Process, tokens: int) -> list[float]:
    run = json.loads(await ask(port, post("/runs", {"message": "0"})))["id"]
    path = f"/runs/{run}/events"
    reading = await connect(port, get(path))
    await reading.begun
    marks = [(time.monotonic(), process.cpu())]
    for _ in range(SLICES - 1):
        await asyncio.wait([reading.over], timeout=tokens / FAST / SLICES)
        marks.append((time.monotonic(), process.cpu()))
    await reading.over
    marks.append((time.monotonic(), process.cpu()))
    told = Told(reading.came, path)
    if not told.whole or len(told.tokens) != tokens:
        raise RuntimeError(f"{len(told.tokens)} of {tokens} tokens came")
    # When each token came: its making and its delay.
    came = [float(text.rpartition(":")[2]) + late for text, late in zip(told.tokens, told.delays, strict=True)]
    costs = []
    for (start, before), (end, after) in itertools.pairwise(marks):
        costs.append(1e6 * (after - before) / max(1, sum(start < when <= end for when in came)))
    return costs
