"""What a token costs `tailrace serve`, by the way it is read: 200 streams at 20 tokens a second.

The model server and the readers are processes of their own; the processor time is the gateway's alone. Beside it is
what people have, ollama-python's asynchronous client behind FastAPI, on the tutorial's route and the same answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Contestant, Skipped, environment, in_turns, ratio, report, shown, spread, table

RATE = 20
PEER = "ollama-python in FastAPI"
_LIMIT = 240.0  # seconds

Read = Callable[[int, int], Awaitable[int]]
"""Reads one answer: the port, the question's number; returns how many readers it took."""


def run(*, quick: bool) -> None:
    """Measure and print."""
    if not Path("/proc/self/stat").exists():
        raise Skipped("processor times of other processes are read from /proc")
    streams, tokens, rounds = (4, 10, 1) if quick else (200, 100, 5)
    costs: dict[str, list[float]] = {name: [] for name in (*WAYS, PEER)}
    for number in range(rounds):
        for name in in_turns([*WAYS, PEER], number):
            costs[name].append(_measure(name, streams, tokens))
    results, rows = [], []
    for name, values in costs.items():
        cost, part = spread(values), ratio(values, costs[PEER])
        results.append({"way": name, "cpu_us_per_token": cost, "of_peer": part})
        rows.append([name, shown(cost, ".3g"), shown(part, ".2f")])
    table(["way of reading", "CPU µs a token", "of the peer's"], rows)
    report("gateway", quick=quick, streams=streams, tokens=tokens, rate=RATE, results=results)


def _measure(name: str, streams: int, tokens: int) -> float:
    """Microseconds of processor time that a token cost."""
    upstream = Contestant("paced", str(tokens), str(RATE))
    try:
        address = f"http://127.0.0.1:{upstream.hear()['port']}"
        with _peer(address) if name == PEER else _gateway(address) as (port, pid):
            read = WAYS.get(name, _chat)
            asyncio.run(_crowd(read, port, 1))
            before = _seconds(pid)
            asyncio.run(_crowd(read, port, streams))
            return 1e6 * (_seconds(pid) - before) / (streams * tokens)
    finally:
        upstream.stop()


# -- the servers -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _gateway(upstream: str) -> Iterator[tuple[int, int]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tailrace", "serve", "--port", "0", "-m", "m", "--data", folder]
        with subprocess.Popen(
            [*command, "--upstream", upstream], cwd=ROOT, env=environment(), stderr=subprocess.PIPE
        ) as process:
            try:
                assert process.stderr is not None
                said = process.stderr.readline()
                found = re.search(rb":(\d+) ", said)
                if found is None:
                    raise RuntimeError(f"tailrace serve does not start: {said!r}")
                yield int(found[1]), process.pid
            finally:
                process.terminate()


@contextlib.contextmanager
def _peer(upstream: str) -> Iterator[tuple[int, int]]:
    server = Contestant("webserver", "ollama", upstream)
    try:
        yield server.hear()["port"], server.pid
    finally:
        server.stop()


def _seconds(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the readers -----------------------------------------------------------------------------------------------------


async def _crowd(read: Read, port: int, count: int) -> None:
    async with asyncio.timeout(_LIMIT):
        await asyncio.gather(*(read(port, number) for number in range(count)))


async def _chat(port: int, number: int) -> int:
    answer = await _ask(port, "POST", "/chat/stream", {"message": str(number)})
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
    made = json.loads(await _ask(port, "POST", "/conversations", {}))
    turn = json.loads(await _ask(port, "POST", f"/conversations/{made['id']}/turns", {"content": str(number)}))
    return await _read_run(port, turn["run"]["id"], "?render=html")


WAYS: dict[str, Read] = {
    "the tutorial's stream": _chat,
    "a run's events": _run,
    "a run as HTML": _html,
    "a run as HTML, in two tabs": _tabs,
    "a turn of a conversation, kept, as HTML": _kept,
}


async def _start(port: int, number: int) -> str:
    run: dict[str, Any] = json.loads(await _ask(port, "POST", "/runs", {"message": str(number)}))
    return str(run["id"])


async def _read_run(port: int, run: str, query: str) -> int:
    _check(await _ask(port, "GET", f"/runs/{run}/events{query}"), b'"outcome":"complete"')
    return 1


def _check(answer: bytes, mark: bytes) -> None:
    if mark not in answer:  # who loses the end of an answer has not run the same race
        raise RuntimeError(f"an answer did not come to its end: {answer[-300:]!r}")


async def _ask(port: int, method: str, path: str, body: Any = None) -> bytes:
    """Sends a request, and reads the answer to its end as cheaply as can be."""
    data = json.dumps(body).encode() if body is not None else b""
    head = f"{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = await reader.read()
    finally:
        writer.close()
    if not re.match(rb"HTTP/1\.1 20[01] ", answer):
        raise RuntimeError(f"refused: {answer[:300]!r}")
    return answer.partition(b"\r\n\r\n")[2]
