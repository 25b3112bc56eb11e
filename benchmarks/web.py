"""Many streams at 20 tokens a second through one web server: what completes, what a token costs, and how late it comes.

The model server and the readers are processes of their own; the processor time is the web server's alone. nginx as a
plain proxy is the limit of what any server can do; ollama-python behind FastAPI is what people have.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Contestant, Skipped, environment, event_loop, quantile, report, table
from benchmarks.crowd import Told, crowd

RATE = 20
CONTESTANTS = {
    "nginx": "nginx, a plain proxy",
    "serve": "tailrace serve",
    "tailrace": "tailrace in FastAPI",
    "ollama": "ollama-python in FastAPI",
}
_HEADS = ("complete", "cpu_us_per_token", "delay_p50_ms", "delay_p99_ms", "seconds")


def run(*, quick: bool) -> None:
    """Measure and print."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as missing:
        raise Skipped(f"{missing.name} is not installed") from missing
    tokens = 10 if quick else 200
    sizes = (5,) if quick else (200, 1000)
    names = [name for name in CONTESTANTS if name != "nginx" or _nginx()]
    results = []
    for streams in sizes:
        rounds = [[_measure(name, streams, tokens) for name in names] for _ in range(1 if quick else 3)]
        results += [_middle(each) for each in zip(*rounds, strict=True)]
    rows = [
        [f"{row['streams']} streams, {CONTESTANTS[row['server']]}", *(f"{row[head]:.5g}" for head in _HEADS)]
        for row in results
    ]
    table(["", *_HEADS], rows)
    report("web", quick=quick, tokens=tokens, rate=RATE, results=results)


def _middle(rounds: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """The medians of the rounds, and the range of what a token cost."""
    costs = [each["cpu_us_per_token"] for each in rounds]
    middle = {head: statistics.median(each[head] for each in rounds) for head in _HEADS}
    return {**rounds[0], **middle, "cpu_us_range": [min(costs), max(costs)]}


def _measure(name: str, streams: int, tokens: int) -> dict[str, Any]:
    """One crowd, on one server."""
    upstream = Contestant("paced", str(tokens), str(RATE))
    try:
        with _server(name, f"http://127.0.0.1:{upstream.hear()['port']}") as server:
            path = "/api/chat" if name == "nginx" else "/chat/stream"
            _ask(server.port, ["warm"], path)
            cpu, start = server.cpu(), time.monotonic()
            told = _ask(server.port, [str(number) for number in range(streams)], path)
            seconds = time.monotonic() - start
            return _result(name, told, tokens, server.cpu() - cpu, seconds)
    finally:
        upstream.stop()


def _ask(port: int, questions: list[str], path: str) -> list[Told]:
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        return runner.run(crowd(port, questions, path))


class _Process:
    """A server in a process of its own, and those it started."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._pid = pid

    def cpu(self) -> float:
        """Seconds of processor time until now."""
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="ascii").split()
        return sum(map(_seconds, [str(self._pid), *children]))


def _seconds(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _server(name: str, upstream: str) -> Iterator[_Process]:
    if name == "serve":
        command = [sys.executable, "-m", "tailrace", "serve", "--port", "0", "--no-page", "-m", "m"]
        with _started([*command, "--max-runs", "5000", "--upstream", upstream]) as process:
            assert process.stderr is not None
            said = process.stderr.readline()
            found = re.search(rb":(\d+) ", said)
            if found is None:
                raise RuntimeError(f"tailrace serve does not start: {said!r}")
            yield _Process(int(found[1]), process.pid)
    elif name == "nginx":
        with tempfile.TemporaryDirectory() as folder:
            port, path = _free_port(), Path(folder) / "nginx.conf"
            path.write_text(
                _PROXY.format(
                    user="user root;" if os.geteuid() == 0 else "", folder=folder, port=port, upstream=upstream
                ),
                encoding="ascii",
            )
            program = _nginx() or ""
            with _started([program, "-p", folder, "-c", str(path), "-e", "stderr", "-g", "daemon off;"]) as process:
                _wait_for(port)
                yield _Process(port, process.pid)
    else:
        server = Contestant("webserver", name, upstream)
        try:
            yield _Process(server.hear()["port"], server.pid)
        finally:
            server.stop()


_PROXY = """
{user}
pid {folder}/nginx.pid;
events {{ worker_connections 8192; }}
worker_rlimit_nofile 20000;
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass {upstream}; proxy_buffering off; proxy_http_version 1.1; }}
  }}
}}
"""


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


def _free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    import socket

    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise RuntimeError("nginx does not start")


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


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
