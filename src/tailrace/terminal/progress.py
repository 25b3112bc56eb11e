"""Progress: bars as ``ollama pull`` draws them on a terminal, plain lines everywhere else.

Only the last line is redrawn; a finished bar stays. Nothing above it is redrawn.
"""

from __future__ import annotations

import shutil
import time
from collections import deque

from tailrace.terminal.escape import one_line
from tailrace.terminal.figures import short_duration, size
from tailrace.terminal.sink import Sink

__all__ = ["ProgressPrinter", "bar"]

_REDRAW = 0.1  # seconds between two drawings of one bar
_WINDOW = 10.0  # seconds that the speed is taken over
_BEHIND = 31  # columns for what stands behind a bar, so that the bar keeps its length
_HOME = "\r\x1b[K"


class ProgressPrinter:
    """Shows how far something is.

    Args:
        sink: where.
    """

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._status: str | None = None
        self._line = ""
        self._open = False  # the live line has not been ended
        self._drawn = 0.0
        self._samples: deque[tuple[float, int]] = deque()

    def show(self, status: str, completed: int | None = None, total: int | None = None) -> None:
        """Shows a state of things.

        Args:
            status: what is being done.
            completed: bytes done.
            total: bytes in all; none, no bar.
        """
        status = one_line(status)
        now = time.monotonic()
        new = status != self._status
        if new:
            self._samples.clear()
        if not self._sink.is_terminal:
            if new:
                self._sink.line(f"{status} ({size(total)})" if total else status)
            self._status = status
            return
        if new:
            self._settle()
        self._status = status
        self._line = self._draw(status, completed or 0, total, now) if total else status
        if new or now - self._drawn >= _REDRAW or (total and completed == total):
            self._drawn = now
            self._sink.draw(_HOME + self._line)
            self._open = True

    def close(self) -> None:
        """Leaves the last line as it stands."""
        self._settle()

    def _settle(self) -> None:
        if self._open:
            self._sink.draw(f"{_HOME}{self._line}\n")
            self._open = False

    def _draw(self, status: str, completed: int, total: int, now: float) -> str:
        self._samples.append((now, completed))
        while self._samples[0][0] < now - _WINDOW:
            self._samples.popleft()
        first_time, first = self._samples[0]
        rate = (completed - first) / (now - first_time) if now > first_time else 0.0
        return bar(status, completed, total, rate, shutil.get_terminal_size().columns)


def bar(status: str, completed: int, total: int, rate: float, width: int) -> str:
    """Returns a progress bar.

    Args:
        status: the words before it.
        completed: bytes done.
        total: bytes in all.
        rate: bytes a second.
        width: columns of the terminal.
    """
    part = min(completed / total, 1.0)
    ahead = f"{status} {part * 100:3.0f}%"
    if completed >= total:
        behind = size(total)
    else:
        behind = f"{size(completed)}/{size(total)}"
        if rate > 0:
            behind += f"  {size(rate)}/s  {short_duration((total - completed) / rate)}"
    room = width - len(ahead) - _BEHIND - 5
    if room < 4:
        return f"{ahead} {behind}"[: max(width - 1, 1)]
    full = int(part * room)
    return f"{ahead} ▕{'█' * full}{' ' * (room - full)}▏ {behind}"
