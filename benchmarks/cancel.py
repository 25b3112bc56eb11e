"""From `cancel()` until the server saw the connection close: in silence before the first token, and while tokens come.

The server is this process and the client another; both read the same monotonic clock.
"""

from __future__ import annotations

import time

from benchmarks.answers import words
from benchmarks.common import Contestant, contestants, in_turns, quantile, report, table
from tailrace.testing import FakeOllama, hold, say

PHASES = ("prefill", "decoding")
EVERY = 0.002  # seconds between tokens while decoding


def run(*, quick: bool) -> None:
    """Measure and print."""
    times = 3 if quick else 200
    cases = [(mode, phase) for mode in ("sync", "async") for phase in PHASES]
    seen: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    with contestants("stopper", [("sync",), ("async",)]) as stoppers, FakeOllama() as server:
        by_mode = dict(zip(("sync", "async"), stoppers, strict=True))
        for number in range(-1, times):
            for mode, phase in in_turns(cases, number):
                took = _stop(server, by_mode[mode], phase)
                if number >= 0:
                    seen[mode, phase].append(took)
    results = [
        {"mode": mode, "phase": phase, "p50_ms": quantile(ms, 0.5), "p99_ms": quantile(ms, 0.99), "max_ms": max(ms)}
        for (mode, phase), ms in ((case, [s * 1000 for s in values]) for case, values in seen.items())
    ]
    heads = ("p50_ms", "p99_ms", "max_ms")
    rows = [[f"{row['mode']:6} {row['phase']}", *(f"{row[head]:.2f}" for head in heads)] for row in results]
    table(["mode, phase", *heads], rows)
    report("cancel", quick=quick, cancels=times, results=results)


def _stop(server: FakeOllama, stopper: Contestant, phase: str) -> float:
    """Stop one stream; the seconds it took."""
    if phase == "prefill":
        server.script(hold())
    else:
        server.script(say(*words(5_000), every=EVERY))
    number = len(server.requests) + 1
    stopper.tell(url=server.url)
    record = server.wait_for_request(number)
    record.wait_until_phase("holding" if phase == "prefill" else "streaming")
    time.sleep(0.01)
    answer = stopper.ask(stop=True)
    if not record.wait_until_left() or record.left_at is None or answer["outcome"] != "cancelled":
        raise RuntimeError(f"a cancelled stream ended as {answer['outcome']} and the server saw {record.phase}")
    return record.left_at - float(answer["at"])
