"""Printers: a run's events, batch by batch, to standard output and standard error.

All that came together is written together: one write a wake-up, however many tokens it brought.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tailrace.events import Ended, Event, Outcome, TextDelta, ThinkingDelta, ToolCall
from tailrace.i18n import say
from tailrace.terminal.escape import printable
from tailrace.terminal.sink import Sink
from tailrace.terminal.waiting import Waiting

__all__ = ["AnswerPrinter", "JSONPrinter", "Printer"]


class Printer:
    """Shows events; a printer knows where each kind belongs.

    Args:
        out: where the answer goes.
        err: where everything else goes.
        model: the model's name, for the words about waiting.
    """

    def __init__(self, out: Sink, err: Sink, model: str) -> None:
        self.out = out
        self.err = err
        self.waiting = Waiting(err, model)

    def show(self, events: Sequence[Event]) -> None:
        """Shows what came together.

        Raises:
            OutputClosedError: nobody reads it any more.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Ends the open line of a terminal, so that what follows has its own."""
        self.waiting.stop()
        if self.out.is_terminal:
            self.out.end_line()
        self.err.end_line()


class AnswerPrinter(Printer):
    """The answer to standard output; thinking, tool calls and remarks to standard error."""

    def show(self, events: Sequence[Event]) -> None:
        """Shows what came together."""
        texts: list[str] = []
        thoughts: list[str] = []
        for event in events:
            if isinstance(event, TextDelta):
                self._think(thoughts)
                texts.append(event.text)
            elif isinstance(event, ThinkingDelta):
                self._answer(texts)
                thoughts.append(event.text)
            elif isinstance(event, ToolCall):
                self._think(thoughts)
                self._answer(texts)
                self._remark(say("mark.tool", call=_call(event)))
            elif isinstance(event, Ended):
                self._think(thoughts)
                self._answer(texts)
                self._end(event)
            else:
                self.waiting.note(event)
        self._think(thoughts)
        self._answer(texts)

    def _think(self, thoughts: list[str]) -> None:
        text = "".join(thoughts)
        thoughts.clear()
        if text:
            self.waiting.stop()
            self.err.write(text, dim=True)

    def _answer(self, texts: list[str]) -> None:
        text = "".join(texts)
        texts.clear()
        if text:
            self.waiting.stop()
            if self.err.column:  # the answer starts a line of its own after the thinking
                self.err.write("\n\n")
            self.out.write(text)

    def _remark(self, text: str) -> None:
        self.waiting.stop()
        if self.out.is_terminal:
            self.out.end_line()
        self.err.line(text, dim=True)

    def _end(self, ended: Ended) -> None:
        self.close()
        if ended.outcome is Outcome.CANCELLED:
            self.err.line(say("mark.stopped"))
        elif ended.outcome is Outcome.LENGTH:
            self.err.line(say("mark.length"), dim=True)
        for warning in ended.warnings:
            self.err.line(say("mark.warning", text=warning), dim=True)


class JSONPrinter(Printer):
    """One event a line on standard output; the last is the ending."""

    def show(self, events: Sequence[Event]) -> None:
        """Shows what came together."""
        self.waiting.stop()
        lines = b"".join([msgspec.json.encode(event) + b"\n" for event in events]).decode()
        # JSON escapes C0 by itself; for a terminal the rest is escaped the same way, and it stays JSON.
        self.out.write(printable(lines) if self.out.is_terminal else lines)
        if isinstance(events[-1], Ended) and events[-1].outcome is Outcome.CANCELLED:
            self.err.line(say("mark.stopped"))


def _call(event: ToolCall) -> str:
    arguments = event.invalid if event.invalid is not None else msgspec.json.encode(event.arguments).decode()
    return f"{event.name}({arguments})"
