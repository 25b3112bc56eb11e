"""How long a server takes from its start to its first answer, beside FastAPI with ollama-python and LiteLLM's proxy."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.common import Contestant, in_turns, quiet, ratio, report, shown, spread, table
from benchmarks.crowd import ask as reply
from benchmarks.crowd import asked, played
from benchmarks.servers import KINDS, missing, serving

NAMES = ("serve", "ollama", "tutorial-flask", "litellm")


def run(*, quick: bool) -> None:
    """Measure and print."""
    rounds = 1 if quick else 9
    names = [name for name in NAMES if not missing(name) and not (quick and name == "litellm")]
    wall: dict[str, list[float]] = {name: [] for name in names}
    cpu: dict[str, list[float]] = {name: [] for name in names}
    for number in range(0 if quick else -1, rounds):  # the first round writes what is compiled
        for name in in_turns(names, number):
            if name == "litellm" and number >= 3:
                continue  # it takes half a minute
            with quiet():
                seconds, used = _start(name)
            if number >= 0:
                wall[name].append(1000 * seconds)
                cpu[name].append(1000 * used)
    results: list[dict[str, Any]] = [
        {
            "server": name,
            "label": KINDS[name].label,
            "wall_ms": spread(wall[name]),
            "cpu_ms": spread(cpu[name]),
            "of_serve": ratio(wall[name], wall["serve"][: len(wall[name])]),
        }
        for name in names
    ]
    rows = [
        [row["label"], shown(row["wall_ms"]), shown(row["cpu_ms"]), shown(row["of_serve"], ".2f")] for row in results
    ]
    table(["from start to the first token", "wall ms", "CPU ms", "times tailrace serve"], rows)
    report("ready", quick=quick, rounds=rounds, results=results)


def _start(name: str) -> tuple[float, float]:
    """Seconds until an answer of one token was there, and the server's processor time by then."""
    upstream = Contestant("paced", "1", "1000")
    try:
        address = f"http://127.0.0.1:{upstream.hear()['port']}"
        started = time.monotonic()
        with serving(name, address, settled=False) as server:
            answer = played(lambda: reply(server.port, asked(server.path, "0")))
            seconds = time.monotonic() - started
            if b"0:0:" not in answer:
                raise RuntimeError(f"{name} gave no answer: {answer[:300]!r}")
            return seconds, server.process.cpu()
    finally:
        upstream.stop()
