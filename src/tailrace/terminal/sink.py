"""Sinks: unbuffered standard output and standard error.

Text is written at once: nothing is lost when the process ends, and the interpreter has nothing left to flush into a
closed pipe.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any, TextIO

from tailrace.terminal.escape import printable

__all__ = ["OutputClosedError", "Sink"]

_PIECE = 4096  # a pipe that select calls writable takes this much without blocking
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class OutputClosedError(Exception):
    """Whoever read our output has gone. Not an `OSError`: others catch those, for other reasons."""


class Sink:
    """A stream to write text to.

    Args:
        stream: ``sys.stdout`` or the like; None (closed before we started) swallows everything.
        waiting: called with True before, and with False after, we wait for the other side to take something. What it
            raises, also from a signal handler meanwhile, comes out of `write`.

    Attributes:
        is_terminal: True if control characters would be obeyed; they are escaped then.
        is_able: True if it may be sent control characters: styles, and lines that are drawn again.
        column: 0 if what was written last ended a line.
    """

    def __init__(self, stream: TextIO | None, waiting: Callable[[bool], object] = bool) -> None:
        self._stream = stream
        self._waiting = waiting
        buffer: Any = getattr(stream, "buffer", None)
        self._raw: Any = getattr(buffer, "raw", buffer)
        self.is_terminal = stream is not None and stream.isatty()
        self._encoding = (self.is_terminal and stream is not None and stream.encoding) or "utf-8"
        self._fd = _descriptor(stream)
        self.is_able = self.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.column = 0

    @property
    def descriptor(self) -> int:
        """The descriptor that is written to; -1 if there is none."""
        return -1 if self._fd is None else self._fd

    def write(self, text: str, *, dim: bool = False) -> None:
        """Writes what somebody else said: escaped for a terminal, as it is for anything else.

        Raises:
            OutputClosedError: nobody reads it any more.
            OSError: it cannot be written for another reason.
        """
        if not text:
            return
        self._note(text)
        if self.is_terminal:
            text = printable(text)
            if dim and self.is_able:
                text = f"{_DIM}{text}{_PLAIN}"
        self._put(text.encode(self._encoding, "replace"))

    def draw(self, text: str) -> None:
        """Writes our own words, control characters included."""
        self._note(text)
        self._put(text.encode(self._encoding, "replace"))

    def line(self, text: str, *, dim: bool = False) -> None:
        """Writes a line of its own."""
        self.write(("\n" if self.column else "") + text + "\n", dim=dim)

    def end_line(self) -> None:
        """Ends the line if one is open."""
        if self.column:
            self.write("\n")

    def _note(self, text: str) -> None:
        self.column = 0 if text.endswith("\n") else 1

    def _put(self, data: bytes) -> None:
        if self._raw is None:
            if self._stream is not None:  # somebody put another object in its place: a test, a notebook
                self._stream.write(data.decode(self._encoding))
                self._stream.flush()
            return
        view = memoryview(data)
        try:
            while view:
                piece = view[:_PIECE]
                self._wait()
                written = self._raw.write(piece)
                view = view[written or 0 :]  # None: the descriptor does not block, and somebody was faster
        except BrokenPipeError:
            raise OutputClosedError from None

    def _wait(self) -> None:
        """Waits where it may be interrupted without our losing count of what was written."""
        if self._fd is None or os.name == "nt":  # Windows can select on sockets only
            return
        if select.select([], [self._fd], [], 0)[1]:
            return
        try:
            self._waiting(True)
            select.select([], [self._fd], [])
        finally:
            self._waiting(False)


def _descriptor(stream: TextIO | None) -> int | None:
    try:
        return stream.fileno() if stream is not None else None
    except (OSError, ValueError):
        return None
