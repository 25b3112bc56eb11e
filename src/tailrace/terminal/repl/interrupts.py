"""Signals of a conversation: Ctrl-C stops the answer and nothing else; a second one within a second quits.

Between answers `keys` reads the keyboard and reports a Ctrl-C here. While an answer streams, Ctrl-C is a signal whose
handler cancels the run itself, so it works at once, however much output is pending.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

__all__ = ["HANGUP", "INTERRUPT", "TERMINATE", "Interrupts", "Leave", "Stopped"]

_AGAIN = 1.0  # seconds within which a second Ctrl-C leaves
INTERRUPT, TERMINATE, HANGUP = 130, 143, 129


class Leave(BaseException):
    """The conversation is over.

    Attributes:
        code: the exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Stopped(BaseException):
    """Ctrl-C outside an answer: whatever was being done is to end."""


class _Cancellable(Protocol):
    def cancel(self) -> Any:
        """Stops it, from a signal handler."""


class Interrupts:
    """Listens while a conversation goes on.

    Attributes:
        stopped: True if the answer under way was stopped.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._stream: _Cancellable | None = None
        self._blocked = False
        self._last: float | None = None
        self._end_reading: Callable[[int], bool] | None = None
        self._leaving = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While inside, signals come here; one that was ignored stays so."""
        numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in numbers}
        try:
            for number, handler in before.items():
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._signal)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def over(self, stream: _Cancellable) -> Iterator[None]:
        """While inside, Ctrl-C cancels `stream`."""
        self.stopped = False
        self._stream = stream
        try:
            yield
        finally:
            self._stream = None

    @contextmanager
    def reading(self, end_reading: Callable[[int], bool]) -> Iterator[None]:
        """While inside, a line is being read; `end_reading` ends that with an exit code, if it can, and says so."""
        self._end_reading = end_reading
        try:
            yield
        finally:
            self._end_reading = None

    def again(self) -> bool:
        """Notes a Ctrl-C; True if it is the second within a second."""
        now = time.monotonic()
        last, self._last = self._last, now
        return last is not None and now - last <= _AGAIN

    def blocked(self, is_blocked: bool) -> None:
        """Called by sinks when they wait until the terminal accepts output.

        Raises:
            Stopped: the answer was stopped already, so there is nothing to wait for.
        """
        self._blocked = is_blocked
        if is_blocked and self.stopped:
            raise Stopped

    def _signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGINT:
            self._leave(128 + number)
        elif self.again():
            self._leave(INTERRUPT)
        elif self._stream is not None:
            self.stopped = True
            self._stream.cancel()
            if self._blocked:
                raise Stopped
        else:
            raise Stopped

    def _leave(self, code: int) -> None:
        if self._leaving:
            return  # on the way out already: what is being saved is to be saved
        self._leaving = True
        if self._stream is not None:
            self._stream.cancel()
        if self._end_reading is None or not self._end_reading(code):
            raise Leave(code)
