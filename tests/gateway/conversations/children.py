"""Programs of the tests that need a process of their own: to be killed, to run out of disk, or to have fewer rights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import tailrace

SOURCE = Path(tailrace.__file__).parent.parent
# Without these capabilities the rights of files hold for root too: to write, and to read, what it may not.
_WEAKEN = """
import ctypes, os, sys
for capability in (1, 2):
    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0, "cannot drop a capability"
os.execv(sys.argv[1], sys.argv[1:])
"""


class Child:
    """A Python program, with lines to and from it.

    Args:
        code: the program; it may say `print(…, flush=True)` and `input()`.
        arguments: its arguments.
        weak: without the rights of root, if we have them.
    """

    def __init__(self, code: str, *arguments: object, weak: bool = False) -> None:
        command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
        if weak and os.geteuid() == 0:
            command = [sys.executable, "-c", _WEAKEN, *command]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
        )

    def hear(self) -> str:
        """Returns its next line; empty when it has ended."""
        return self._out.readline().strip()

    def say(self, line: str) -> None:
        """Sends it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> tuple[str, int]:
        """Returns what it still says, and how it ended."""
        rest, _ = self.process.communicate(timeout=100)
        return rest.strip(), self.process.returncode

    def kill(self) -> str:
        """Kills it with SIGKILL; returns what it had said and was not heard yet."""
        self.process.kill()
        rest = self._out.read()
        self.end()
        return rest

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout
