"""Runs the command in real processes: with pipes, or on a terminal of its own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

TIMEOUT = 60.0  # no test waits for it, unless something hangs
COMMAND = [sys.executable, "-m", "tailrace"]
# The terminal becomes the one that Ctrl-C comes from, then the command takes the process over.
ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(int(sys.argv[1]), termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
INTERRUPT = b"\x03"


@dataclass
class Result:
    """What a command left."""

    code: int
    out: bytes
    err: str


@dataclass
class Command:
    """The command, with the environment of a test."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)
    before: str = ""  # code that its process runs first: it changes times that a busy machine could not keep

    def program(self) -> list[str]:
        """What starts the command; its arguments follow."""
        if not self.before:
            return COMMAND
        return [sys.executable, "-c", f"{self.before}\nfrom tailrace.cli import main\nmain()"]

    def environment(self) -> dict[str, str]:
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("OLLAMA_", "TAILRACE_", "LC_", "LANG"))
        }
        source = str(Path(__file__).parents[2] / "src")
        mine = {"PYTHONPATH": source, "TAILRACE_HOME": str(self.home), "PYTHONWARNINGS": "error", "LANG": "C.UTF-8"}
        return {**clean, **mine, "TERM": "xterm", "OLLAMA_MODELS": str(self.home / "none"), **self.env}

    def __call__(self, *arguments: str | bytes, stdin: bytes | None = None, env: Mapping[str, str] = {}) -> Result:
        """Run it to its end; standard input is empty, or holds `stdin`."""
        done = subprocess.run(
            [*self.program(), *arguments],
            input=stdin or b"",
            capture_output=True,
            env={**self.environment(), **env},
            timeout=TIMEOUT,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr.decode())

    @contextmanager
    def started(self, *arguments: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Start it; it is gone when the block is left."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        with subprocess.Popen([*self.program(), *arguments], env=self.environment(), **streams) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    @contextmanager
    def on_terminal(self, *arguments: str, **streams: Any) -> Iterator[Terminal]:
        """Start it on a terminal, but for the streams that are given."""
        import pty

        ours, theirs = pty.openpty()
        given = {"stdin": theirs, "stdout": theirs, "stderr": theirs, **streams}
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", ON_TERMINAL, str(theirs), *self.program()[1:], *arguments],
                env=self.environment(),
                start_new_session=True,
                pass_fds=(theirs,),
                **given,
            )
        finally:
            os.close(theirs)
        terminal = Terminal(process, ours)
        try:
            with process:
                try:
                    yield terminal
                finally:
                    if process.poll() is None:
                        process.kill()
        finally:
            os.close(ours)


class Terminal:
    """Our side of a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self.seen = b""
        self._descriptor = descriptor

    def read_until(self, text: str | bytes) -> bytes:
        """Read until `text` has appeared; return all that was seen so far."""
        wanted = text.encode() if isinstance(text, str) else text
        deadline = time.monotonic() + TIMEOUT
        while wanted not in self.seen:
            if not self._read(deadline):
                raise AssertionError(f"{wanted!r} did not appear; seen: {self.seen!r}")
        return self.seen

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._descriptor, keys)

    def end(self) -> int:
        """Read to the end; the exit code."""
        deadline = time.monotonic() + TIMEOUT
        while self._read(deadline):
            pass
        return self.process.wait(TIMEOUT)

    def _read(self, deadline: float) -> bool:
        if not select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"nothing more came; seen: {self.seen!r}")
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # Linux: the other side is closed
            return False
        self.seen += data
        return bool(data)


def read_exactly(stream: IO[bytes] | None, count: int) -> bytes:
    """Read `count` bytes from a pipe, however they come."""
    assert stream is not None
    data = b""
    while len(data) < count and (more := os.read(stream.fileno(), count - len(data))):
        data += more
    return data


def interrupt(process: subprocess.Popen[bytes], number: int = signal.SIGINT) -> None:
    """Send a signal."""
    process.send_signal(number)
