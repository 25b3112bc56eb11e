"""Waiting: one line about what an answer waits for, on a terminal, when it takes a while."""

from __future__ import annotations

import threading

from tailrace.events import Event, Loading, Prefill, Queued
from tailrace.i18n import say
from tailrace.run.reader import Reader
from tailrace.terminal.sink import OutputClosedError, Sink

__all__ = ["Waiting"]

_AFTER = 2.0  # seconds of silence before we speak


class Waiting:
    """Says what an answer waits for if nothing has come for a while; once a cause.

    Args:
        sink: where it says so; nothing is said to what is not a terminal.
        model: the model's name.
    """

    def __init__(self, sink: Sink, model: str) -> None:
        self._sink = sink
        self._model = model
        self._words = say("wait.plain", model=model)
        self._said = ""
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        if sink.is_terminal:
            self._timer = threading.Timer(_AFTER, self._speak)
            self._timer.daemon = True

    def follow(self, reader: Reader) -> None:
        """Nothing more to know from there: the remark comes too late for connecting."""

    def start(self) -> None:
        """Starts the clock."""
        if self._timer is not None:
            self._timer.start()

    def note(self, event: Event) -> None:
        """Takes notice of what the run waits for."""
        if isinstance(event, Loading):
            self._words = say("wait.loading", model=self._model)
        elif isinstance(event, Prefill):
            self._words = say("wait.prefill", model=self._model)
        elif isinstance(event, Queued):
            self._words = say("wait.queued", model=self._model)
        if self._said:
            self._speak()

    def stop(self) -> None:
        """Something has come: nothing will be said any more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
            with self._lock:  # whoever speaks just now finishes first
                pass

    def _speak(self) -> None:
        with self._lock:
            if self._timer is None or self._said == self._words:
                return
            self._said = self._words
            try:
                self._sink.line(self._words, dim=True)
            except (OSError, OutputClosedError):
                pass  # a remark is not worth an error; the answer will meet it too
