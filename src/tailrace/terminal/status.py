"""Status: one line on a terminal about what an answer waits for, redrawn in place until content comes."""

from __future__ import annotations

import shutil
import threading
import time
from typing import Protocol

from tailrace.events import Event, Loading, Prefill, Queued, ThinkingDelta
from tailrace.i18n import say
from tailrace.run.reader import Reader
from tailrace.run.state import State
from tailrace.terminal.escape import one_line
from tailrace.terminal.sink import Sink
from tailrace.terminal.waiting import Waiting

__all__ = ["Status", "Wait", "fitting", "wait_on"]

_AFTER = 0.15  # seconds of silence before there is anything to say
_REDRAW = 0.1
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_HOME = "\r\x1b[K"
_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


class Wait(Protocol):
    """Tells what an answer waits for."""

    def follow(self, reader: Reader) -> None:
        """Tells apart connecting and waiting by looking at a run."""

    def start(self) -> None:
        """Starts the clock."""

    def note(self, event: Event) -> None:
        """Takes notice of what the run waits for."""

    def stop(self) -> None:
        """Something has come: nothing will be said any more."""


def wait_on(sink: Sink, model: str, *, plain: bool = False) -> Wait:
    """Returns what tells of the wait on `sink`: a status line if it can be drawn, else a remark when it takes long."""
    return Status(sink, model) if sink.is_able and not plain else Waiting(sink, model)


def fitting(text: str, width: int) -> str:
    """Returns `text`, cut to `width` columns; wide characters count two."""
    from tailrace.render.layout import text_width

    text = one_line(text)
    while text and text_width(text) > width:
        text = text[:-1]
    return text


class Status:
    """The line.

    Args:
        sink: the terminal.
        model: the model's name.
    """

    def __init__(self, sink: Sink, model: str) -> None:
        self._sink = sink
        self._model = model
        self._words = ""
        self._reader: Reader | None = None
        self._since = time.monotonic()
        self._drawn = False
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def follow(self, reader: Reader) -> None:
        """Tells apart connecting and waiting by looking at a run."""
        self._reader = reader

    def start(self) -> None:
        """Starts the clock."""
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._tick, name="tailrace-status", daemon=True)
        self._thread.start()

    def note(self, event: Event) -> None:
        """Takes notice of what the run waits for."""
        if isinstance(event, Loading):
            self._words = say("status.loading", model=self._model)
        elif isinstance(event, Prefill):
            if event.processed is not None and event.total:
                self._words = say("status.prefill_part", percent=round(100 * event.processed / event.total))
            else:
                self._words = say("status.prefill")
        elif isinstance(event, Queued):
            known = event.position is not None
            self._words = (
                say("status.queued_at", position=event.position) if known else say("status.queued", model=self._model)
            )
        elif isinstance(event, ThinkingDelta):
            self._words = say("status.thinking")

    def stop(self) -> None:
        """Takes the line away."""
        if self._over.is_set():
            return
        self._over.set()
        with self._lock:  # whoever draws just now finishes first
            if self._drawn:
                self._draw(_HOME)

    def _tick(self) -> None:
        pause = _AFTER
        frame = 0
        while not self._over.wait(pause):
            pause = _REDRAW
            with self._lock:
                if self._over.is_set():
                    return
                seconds = time.monotonic() - self._since
                line = f"{_FRAMES[frame % len(_FRAMES)]} {self._now()}"
                if seconds >= 1:
                    line += " " + say("figures.elapsed", seconds=int(seconds))
                line = fitting(line, shutil.get_terminal_size().columns - 1)
                self._drawn = True
                frame += 1
                try:
                    self._draw(f"{_HOME}{_DIM}{line}{_PLAIN}")
                except BaseException:  # a status is not worth an error, of whatever kind; the answer will meet it too
                    return

    def _now(self) -> str:
        if self._words:
            return self._words
        if self._reader is not None and self._reader.run.state in (State.NEW, State.CONNECTING):
            return say("status.connecting")
        return say("status.waiting", model=self._model)

    def _draw(self, text: str) -> None:
        column = self._sink.column
        self._sink.draw(text)
        self._sink.column = column
