"""Stops: Ctrl-C and SIGTERM, from the first moment to the last.

While an answer streams, a signal cancels its run and nothing else: the ending then arrives as usual, after the text
before it. At any other time, and while a write to a pipe blocks, it raises `Stopped`. A second signal ends the process
at once.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn, Protocol

__all__ = ["Stopped", "Stops"]


class Stopped(BaseException):
    """A signal asked us to stop. Not a `KeyboardInterrupt`, because click makes something else of those."""


class _Cancellable(Protocol):
    def cancel(self) -> Any:
        """Stops it, from a signal handler."""


class Stops:
    """Listens to the signals.

    Attributes:
        code: the exit code that the signal asks for; 0 before there is one.
    """

    def __init__(self) -> None:
        self.code = 0
        self._stream: _Cancellable | None = None
        self._give_back: Callable[[], object] | None = None
        self._blocked = False
        self._leaving = False

    def listen(self) -> None:
        """Starts listening. A signal that was ignored when we started (nohup, a job in the background) stays so."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._stop)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self.code or self._leaving:
            if self._give_back is not None:
                self._give_back()
            os._exit(128 + number)
        self.code = 128 + number
        if self._stream is not None:
            self._stream.cancel()
            if not self._blocked:
                return
        raise Stopped

    @contextmanager
    def over(self, stream: _Cancellable, give_back: Callable[[], object] | None = None) -> Iterator[None]:
        """While inside, a signal cancels `stream`; before a second one ends the process, `give_back` is called."""
        self._stream = stream
        self._give_back = give_back
        try:
            yield
        finally:
            self._stream = None
            self._give_back = None

    def blocked(self, is_blocked: bool) -> None:
        """Called by sinks when a write blocks.

        Raises:
            Stopped: we were stopped already, so there is nothing to wait for.
        """
        self._blocked = is_blocked
        if is_blocked and self.code:
            raise Stopped

    def leave(self, code: int) -> NoReturn:
        """Ends the process in order, but without waiting for threads, such as one that looks up a name for long.

        Nothing after this can be interrupted half-way: the interpreter's own way out could, with a traceback.
        """
        self._leaving = True
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or None
                stream.flush()
        atexit._run_exitfuncs()
        os._exit(self.code or code)
