"""From `cancel()` until the backend is idle: in silence before the first token, and while tokens come.

Over HTTP that is when the server saw the connection close; the server is this process and the client another, and both
read the same monotonic clock. The embedded engine says itself when it has let go; it looks at a stop between two
batches of a prompt (64 tokens on a processor) and between two tokens, so it is measured in those as well.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.answers import words
from benchmarks.common import Contestant, Skipped, contestants, in_turns, quantile, report, table
from benchmarks.embedded import the_model
from tailrace.testing import FakeOllama, hold, say

PHASES = ("prefill", "decoding")
EVERY = 0.002  # seconds between tokens while decoding


def run(*, quick: bool) -> None:
    """Measure and print."""
    results = _over_http(3 if quick else 200)
    try:
        results += _embedded(the_model(quick), 2 if quick else 60)
    except Skipped as why:
        print(f"without the embedded engine: {why}")
    heads = ("p50_ms", "p99_ms", "max_ms")
    rows = [[f"{row['mode']:8} {row['phase']}", *(f"{row[head]:.2f}" for head in heads)] for row in results]
    for row, result in zip(rows, results, strict=True):
        row.append(f"{result['max_steps']:.2f} of {result['step_ms']:.1f} ms" if "max_steps" in result else "")
    table(["mode, phase", *heads, "at most, in batches or tokens"], rows)
    report("cancel", quick=quick, results=results)


def _over_http(times: int) -> list[dict[str, Any]]:
    cases = [(mode, phase) for mode in ("sync", "async") for phase in PHASES]
    seen: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    with contestants("stopper", [("sync",), ("async",)]) as stoppers, FakeOllama() as server:
        by_mode = dict(zip(("sync", "async"), stoppers, strict=True))
        for number in range(-1, times):
            for mode, phase in in_turns(cases, number):
                took = _stop(server, by_mode[mode], phase)
                if number >= 0:
                    seen[mode, phase].append(took)
    return [_result(mode, phase, values) for (mode, phase), values in seen.items()]


def _embedded(model: str, times: int) -> list[dict[str, Any]]:
    seen: dict[str, list[dict[str, float]]] = {phase: [] for phase in PHASES}
    with contestants("stopper", [("embedded", model)]) as (stopper,):
        for number in range(-1, times):
            for phase in in_turns(PHASES, number):
                answer = stopper.ask(phase=phase, number=number)
                if number >= 0:
                    seen[phase].append(answer)
    results = []
    for phase, answers in seen.items():
        result = _result("embedded", phase, [answer["took"] for answer in answers])
        result["step_ms"] = quantile([answer["step"] * 1000 for answer in answers], 0.5)
        result["max_steps"] = result["max_ms"] / result["step_ms"]  # of the usual step: tokens may also come together
        results.append(result)
    return results


def _result(mode: str, phase: str, seconds: list[float]) -> dict[str, Any]:
    ms = [s * 1000 for s in seconds]
    figures = {"p50_ms": quantile(ms, 0.5), "p99_ms": quantile(ms, 0.99), "max_ms": max(ms)}
    return {"mode": mode, "phase": phase, "cancels": len(ms), **figures}


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
