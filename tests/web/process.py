"""Servers in processes of their own: started on a free port, waited for, and stopped with all that they started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0  # seconds that a server may take to start, on a busy machine


class Running:
    """A server that runs."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def cpu(self) -> float:
        """Seconds of processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Bytes that it holds in memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def running(command: Callable[[int], Sequence[str]], env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Runs a server.

    Args:
        command: the command line for a port.
        env: what the environment has besides.
    """
    with tempfile.TemporaryDirectory() as folder:
        server = _start(command, {**os.environ, "PYTHONUTF8": "1", **(env or {})}, Path(folder) / "output")
        try:
            yield server
        finally:
            _stop(server.process)


def _start(command: Callable[[int], Sequence[str]], env: Mapping[str, str], log: Path) -> Running:
    for _ in range(5):  # somebody else may take the port before the server does
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command(port)), cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True
            )
        server = Running(process, port, log)
        if _accepts(server):
            return server
        _stop(process)
    raise AssertionError(f"the server does not start: {server.output}")


def _accepts(server: Running) -> bool:
    end = time.monotonic() + PATIENCE
    while server.process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1) as sock:
            if sock.getsockname() != sock.getpeername():  # a free port may connect to itself
                return True
        time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and what it started, which is the process group that was made for it."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
