"""Many streams at 20 tokens a second through one web server: what completes, what a token costs, and how late it comes.

The model server and the readers are processes of their own; the processor time is the web server's alone.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.common import Contestant, Skipped, quantile, report, table
from benchmarks.crowd import Told, crowd

RATE = 20
CONTESTANTS = ("tailrace", "ollama")


def run(*, quick: bool) -> None:
    """Measure and print."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as missing:
        raise Skipped(f"{missing.name} is not installed") from missing
    tokens = 10 if quick else 200
    sizes = (5,) if quick else (200, 1000)
    results = [_measure(name, streams, tokens) for streams in sizes for name in CONTESTANTS]
    heads = ("complete", "cpu_us_per_token", "delay_p50_ms", "delay_p99_ms", "seconds")
    rows = [[f"{row['streams']} streams, {row['server']}", *(f"{row[head]:.5g}" for head in heads)] for row in results]
    table(["", *heads], rows)
    report("web", quick=quick, tokens=tokens, rate=RATE, results=results)


def _measure(name: str, streams: int, tokens: int) -> dict[str, Any]:
    """One crowd, on one server."""
    upstream = Contestant("paced", str(tokens), str(RATE))
    try:
        server = Contestant("webserver", name, f"http://127.0.0.1:{upstream.hear()['port']}")
        try:
            port = server.hear()["port"]
            asyncio.run(crowd(port, ["warm"]))
            cpu, start = server.ask()["cpu"], time.monotonic()
            told = asyncio.run(crowd(port, [str(number) for number in range(streams)]))
            seconds = time.monotonic() - start
            return _result(name, told, tokens, server.ask()["cpu"] - cpu, seconds)
        finally:
            server.stop()
    finally:
        upstream.stop()


def _result(name: str, told: list[Told], tokens: int, cpu: float, seconds: float) -> dict[str, Any]:
    delays = [1000 * delay for one in told for delay in one.delays]
    return {
        "server": name,
        "streams": len(told),
        "complete": sum(one.whole and len(one.tokens) == tokens for one in told),
        "cpu_us_per_token": 1e6 * cpu / max(1, len(delays)),
        "delay_p50_ms": quantile(delays, 0.5),
        "delay_p99_ms": quantile(delays, 0.99),
        "seconds": seconds,
    }
