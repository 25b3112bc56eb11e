"""How many streams one process holds: 4,000 at two tokens a second, and 1,000 readers of a run that never read.

nginx holds as many in the same rounds, for what the machine itself makes late. A stream that is held costs memory, and
that memory must not grow with the readers who take nothing.
"""

from __future__ import annotations

import json
import socket
from typing import Any

from benchmarks.common import Contestant, in_turns, quiet, report, shown, spread, table
from benchmarks.crowd import ask, connect, get, played, post
from benchmarks.servers import KINDS, missing, open_files, serving
from benchmarks.told import Told, tally
from benchmarks.web import measured

STREAMS, RATE, SECONDS = 4000, 2, 300
READERS = 1000
_ROUNDS = 3  # of the readers; the streams are held long enough for one
_BUSY_RATE, _BUSY_TOKENS = 200, 4000
_WINDOW = 4096  # bytes that the kernel keeps for a reader that takes nothing: the least there is


def run(*, quick: bool) -> None:
    """Measure and print."""
    streams, readers, seconds, busy = (20, 5, 3, 100) if quick else (STREAMS, READERS, SECONDS, _BUSY_TOKENS)
    files = open_files()
    streams = min(streams, (files - 200) // 3)  # two of the server's for each stream
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in ("nginx", "serve") if not missing(name)}
    for name in in_turns(list(seen), 0):
        with quiet():
            seen[name].append(measured(name, streams, seconds * RATE, RATE))
    unread = []
    for _ in range(1 if quick else _ROUNDS):
        with quiet():
            unread.append(never_read(readers, busy))
    results: list[dict[str, Any]] = []
    for name, rounds in seen.items():
        row = {"what": "held", "label": KINDS[name].label, "streams": streams}
        results.append(row | {key: spread([one[key] for one in rounds]) for key in rounds[0]})
    keys = unread[0]
    label = f"{readers:,} readers that never read"
    results.append({"what": "unread", "label": label} | {key: spread([one[key] for one in unread]) for key in keys})
    _print(results)
    report("held", quick=quick, rate=RATE, seconds=seconds, results=results)


def never_read(readers: int, tokens: int) -> dict[str, float]:
    """Readers that ask for a busy run's events and take none, beside one that takes them all."""
    upstream = Contestant("paced", str(tokens), str(_BUSY_RATE))
    try:
        with serving("serve", f"http://127.0.0.1:{upstream.hear()['port']}") as server:
            return played(lambda: _never_read(server.port, server.process, readers, tokens))
    finally:
        upstream.stop()


async def _never_read(port: int, process: Any, readers: int, tokens: int) -> dict[str, float]:
    await ask(port, post("/chat/stream", {"message": "warm"}))
    run = json.loads(await ask(port, post("/runs", {"message": "0"})))["id"]
    path = f"/runs/{run}/events"
    reading = await connect(port, get(path))
    await reading.begun
    before, used = process.memory(), process.cpu()
    deaf = [_deaf(port, get(path)) for _ in range(readers)]
    await reading.over
    after = process.most_memory()
    for sock in deaf:
        sock.close()
    counted = tally([Told(reading.came, path)], ["0"], tokens).figures()
    cost = {"kib_per_reader": (after - before) / 1024 / readers, "cpu_seconds": process.cpu() - used}
    return counted | cost


def _deaf(port: int, request: bytes) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
    sock.connect(("127.0.0.1", port))
    sock.sendall(request)
    return sock


def _print(results: list[dict[str, Any]]) -> None:
    heads = {
        "complete": ("complete", ",.0f"),
        "missing": ("missing", ",.0f"),
        "doubled": ("doubled", ",.0f"),
        "lag p50 ms": ("lag_p50_ms", ".2f"),
        "p99": ("lag_p99_ms", ".1f"),
        "max": ("lag_max_ms", ".0f"),
        "CPU µs a token": ("cpu_us_per_token", ".1f"),
        "KiB each": ("kib_per_stream", ".1f"),
    }
    rows = []
    for row in results:
        figures = row | {"kib_per_stream": row.get("kib_per_stream") or row["kib_per_reader"]}
        cells = [shown(figures[key], form) if key in figures else "-" for key, form in heads.values()]
        rows.append([row["label"], *cells])
    table(["", *heads], rows)
