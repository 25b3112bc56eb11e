"""What a process under test and those it started have used, as /proc tells it."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.common import Skipped

_PROC = Path("/proc")


class Process:
    """A process, with all that it started.

    Args:
        pid: of the process.

    Raises:
        Skipped: this system has no /proc.
    """

    def __init__(self, pid: int) -> None:
        if not (_PROC / "self" / "stat").exists():
            raise Skipped("what other processes use is read from /proc")
        self.pid = pid

    def cpu(self) -> float:
        """Seconds of processor time until now."""
        return sum(map(_seconds, self._tree()))

    def memory(self) -> int:
        """Bytes that are in memory now."""
        return sum(_bytes(pid, "VmRSS") for pid in self._tree())

    def most_memory(self) -> int:
        """Bytes that were in memory at most, each process's own peak."""
        return sum(_bytes(pid, "VmHWM") for pid in self._tree())

    def _tree(self) -> list[int]:
        found = [self.pid]
        for pid in found:  # grows while it is walked
            for children in _PROC.glob(f"{pid}/task/*/children"):
                try:
                    found += map(int, children.read_text(encoding="ascii").split())
                except OSError:  # a thread that ended meanwhile
                    continue
        return found


def _seconds(pid: int) -> float:
    """Its own time: the kernel's exact clock of a process, which is named by its id (clock_getcpuclockid(3))."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _bytes(pid: int, name: str) -> int:
    try:
        status = (_PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    sizes = (int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))
    return 1024 * next(sizes, 0)
