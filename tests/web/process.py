"""Servers in processes of their own: started on a port that is kept for them, waited for, and stopped with all that
they started.
"""

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
    with held_port() as port, tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command(port)),
                cwd=ROOT,
                env={**os.environ, "PYTHONUTF8": "1", **(env or {})},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        server = Running(process, port, log)
        try:
            assert _accepts(server), f"the server does not start: {server.output}"
            yield server
        finally:
            _stop(process)


def _accepts(server: Running) -> bool:
    end = time.monotonic() + PATIENCE
    while server.process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), 1):
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


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """Gives a port on which servers that are told its number can listen, one after the other, and nobody else.

    The system gives it to no other program, as it is taken; and it lets a server listen, as nobody listens yet.
    """
    with socket.socket() as sock:
        if os.name != "nt":  # there it would let others take the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        yield port
