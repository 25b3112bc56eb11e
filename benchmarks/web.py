"""Many streams at 20 tokens a second through one web server: what arrives, what a token costs, and how late it comes.

The model server and the readers are processes of their own; processor time and memory are the web server's alone.
nginx as a plain proxy is the limit of what any server can do. A server that breaks down is left after a bounded time,
and what it delivered until then is what is told.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks import common, peers
from benchmarks.common import Contestant, in_turns, quiet, ratio, report, shown, spread, table
from benchmarks.crowd import crowd, played
from benchmarks.servers import KINDS, missing, nginx_version, open_files, serving
from benchmarks.told import Tally, tally

RATE = 20
SIZES = (200, 1000)
BESIDE = ("nginx", "ollama", "litellm")  # whose cost ours is divided by
_KEEPS_UP = 99.0  # percent delivered; who delivers less is not asked for more
_WARM = 3.0  # seconds of one answer, before those that count
_BREAK = 2.0  # seconds between two servers, for what is left of the one before


def run(*, quick: bool) -> None:
    """Measure and print."""
    tokens, rounds = (10, 1) if quick else (200, common.rounds or 3)
    open_files()
    names = []
    for name, kind in KINDS.items():
        if why := missing(name):
            print(f"without {kind.label}: {why}", flush=True)
        else:
            names.append(name)
    results = []
    for streams in (5,) if quick else SIZES:
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for number in range(rounds):
            for name in in_turns(names, number):
                with quiet():
                    seen[name].append(measured(name, streams, tokens))
                    time.sleep(0 if quick else _BREAK)
                _tell(number, streams, name, seen[name][-1])
        rows = [_row(name, streams, seen) for name in names]
        results += rows
        names = [row["server"] for row in rows if row["delivered_percent"]["median"] > _KEEPS_UP]
    _print(results)
    versions = {"nginx": nginx_version(), "litellm": peers.version("litellm")}
    report(
        "web",
        quick=quick,
        tokens=tokens,
        rate=RATE,
        rounds=rounds,
        peers={name: version for name, version in versions.items() if version},
        results=results,
    )


def _tell(number: int, streams: int, name: str, one: dict[str, float]) -> None:
    """Says how far it is; the whole takes half an hour."""
    told = ", ".join(f"{key} {one[key]:.4g}" for key in ("received", "cpu_us_per_token", "lag_p99_ms") if key in one)
    print(f"round {number + 1}, {streams} streams, {KINDS[name].label}: {told}", file=sys.stderr, flush=True)


def measured(name: str, streams: int, tokens: int, rate: float = RATE) -> dict[str, float]:
    """One crowd on one server: what it was told, and what that cost."""
    upstream = Contestant("paced", str(tokens), str(rate))
    limit = 3 * tokens / rate + 10
    try:
        with serving(name, f"http://127.0.0.1:{upstream.hear()['port']}") as server:
            played(lambda: crowd(server.port, ["warm"], server.path, limit=min(limit, _WARM)))
            questions = [str(number) for number in range(streams)]
            cpu, memory, start = server.process.cpu(), server.process.memory(), time.monotonic()
            told = played(lambda: crowd(server.port, questions, server.path, limit=limit))
            used, seconds = server.process.cpu() - cpu, time.monotonic() - start
            counted = tally(told, questions, tokens)
            per_stream = (server.process.most_memory() - memory) / 1024 / streams
            return figures(counted, used) | {"kib_per_stream": per_stream, "seconds": seconds}
    finally:
        upstream.stop()


def figures(counted: Tally, cpu: float) -> dict[str, float]:
    """A count with what it cost."""
    per_token = {"cpu_us_per_token": 1e6 * cpu / counted.received} if counted.received else {}
    return counted.figures() | per_token


def _row(name: str, streams: int, seen: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """What a server did in all rounds."""
    rounds = seen[name]
    row: dict[str, Any] = {"server": name, "label": KINDS[name].label, "streams": streams}
    row |= {key: spread([one[key] for one in rounds]) for key in rounds[0] if all(key in one for one in rounds)}
    row["delivered_percent"] = spread([100 * one["received"] / one["expected"] for one in rounds])
    for other in BESIDE:
        if other in seen and all("cpu_us_per_token" in one for one in (*rounds, *seen[other])):
            costs = [[one["cpu_us_per_token"] for one in each] for each in (rounds, seen[other])]
            row[f"times_{other}"] = ratio(*costs)
    if "nginx" in seen and "lag_p99_ms" in row:
        for lag in ("lag_p50_ms", "lag_p99_ms"):
            row[f"{lag}_above_nginx"] = spread(
                [one[lag] - limit[lag] for one, limit in zip(rounds, seen["nginx"], strict=True)]
            )
    return row


_HEADS = {
    "delivered %": ("delivered_percent", ".4g"),
    "doubled": ("doubled", ".0f"),
    "CPU µs a token": ("cpu_us_per_token", ".1f"),
    "times nginx": ("times_nginx", ".2f"),
    "lag p50 ms": ("lag_p50_ms", ".2f"),
    "p99": ("lag_p99_ms", ".1f"),
    "max": ("lag_max_ms", ".0f"),
    "KiB a stream": ("kib_per_stream", ".0f"),
}


def _print(results: Sequence[dict[str, Any]]) -> None:
    rows = []
    for row in results:
        cells = [shown(row[key], form) if key in row else "-" for key, form in _HEADS.values()]
        rows.append([f"{row['streams']} streams, {row['label']}", *cells])
    table(["", *_HEADS], rows)
