"""From Ctrl-C until it is obeyed, in the middle of a 100,000-character answer on a terminal.

The terminal is a pseudo-terminal whose other side is this process, and so is the model's server: both are on one clock.
Obeyed means twice: the server saw the connection close, and the prompt's closing line was read from the terminal.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks.answers import words
from benchmarks.common import Skipped, environment, quantile, report, table
from tailrace.testing import FakeOllama, say

SIZE = 100_000  # characters
LIMIT = 50.0  # milliseconds
_ON_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
fcntl.ioctl(0, termios.TIOCSWINSZ, b"\\x1e\\x00\\x64\\x00\\x00\\x00\\x00\\x00")
os.execv(sys.executable, [sys.executable, "-m", "tailrace", "chat"])
"""


def run(*, quick: bool) -> None:
    """Measure and print."""
    if os.name == "nt":
        raise Skipped("it needs a pseudo-terminal")
    times = 1 if quick else 30
    answers = {"in a burst": 0.0, "2,000 tokens/s": 0.0005}
    results = []
    for name, every in answers.items():
        model, shown = zip(*(_stop(every) for _ in range(times)), strict=True)
        results.append(
            {
                "answer": name,
                "model_p50_ms": quantile(model, 0.5),
                "model_max_ms": max(model),
                "prompt_p50_ms": quantile(shown, 0.5),
                "prompt_max_ms": max(shown),
                "within_limit": max(model) <= LIMIT,
            }
        )
    heads = ("model_p50_ms", "model_max_ms", "prompt_p50_ms", "prompt_max_ms")
    table(["answer", *heads], [[str(row["answer"]), *(f"{row[head]:.1f}" for head in heads)] for row in results])
    report("stopping", quick=quick, stops=times, limit_ms=LIMIT, results=results)


def _stop(every: float) -> tuple[float, float]:
    """Stop one answer; milliseconds until the server saw it, and until the closing line was there."""
    text = "".join(words(SIZE // 4))[:SIZE]
    tokens = [text[place : place + 4] for place in range(0, len(text), 4)]
    with FakeOllama(models=["m"]) as server, tempfile.TemporaryDirectory() as home:
        # The second half never comes: so the connection is open when it is stopped, however fast the first half was.
        server.script(say(*tokens[: len(tokens) // 2], every=every), say(*tokens[len(tokens) // 2 :], every=0.05))
        env = {**environment(), "OLLAMA_HOST": server.url, "TAILRACE_HOME": home, "TERM": "xterm"}
        env["PROMPT_TOOLKIT_NO_CPR"] = "1"
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL],
            stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        try:
            screen = _Screen(ours)
            screen.until(rb">>> ")
            os.write(ours, b"go\r")
            screen.until(rb"\x1b\[\?2026h")  # the first frame
            screen.more(20_000)
            at = time.monotonic()
            os.write(ours, b"\x03")
            screen.until(rb"\[stopped")
            shown = screen.at - at
            record = server.wait_for_request(path="/api/chat")
            if not record.wait_until_left() or record.left_at is None:
                raise RuntimeError("the server saw nobody leave")
            return max(record.left_at - at, 0.0) * 1000, shown * 1000
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            os.close(ours)


class _Screen:
    """What came to the terminal, read at once on a thread so that the program never waits for us."""

    def __init__(self, descriptor: int) -> None:
        self.at = 0.0
        self._descriptor = descriptor
        self._seen = bytearray()
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                select.select([self._descriptor], [], [])
                data = os.read(self._descriptor, 65536)
            except (OSError, ValueError):
                return
            with self._changed:
                self.at = time.monotonic()
                self._seen += data
                self._changed.notify_all()

    def until(self, pattern: bytes) -> None:
        """Wait for a pattern, and forget what came before its end."""
        with self._changed:
            found = None
            if not self._changed.wait_for(lambda: re.search(pattern, self._seen), 30):
                raise RuntimeError(f"{pattern!r} did not come: {bytes(self._seen[-300:])!r}")
            found = re.search(pattern, self._seen)
            assert found is not None
            del self._seen[: found.end()]

    def more(self, size: int) -> None:
        """Wait until so many bytes more have come."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._seen) >= size, 30):
                raise RuntimeError("the answer does not come")
