"""Printers: a run's events, batch by batch, to standard output and standard error.

A batch of events is written with one write, however many tokens are in it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence

import msgspec

from tailrace.events import Ended, Event, Outcome, TextDelta, ThinkingDelta, ToolCall
from tailrace.i18n import say
from tailrace.run.reply import Reply
from tailrace.terminal.escape import printable
from tailrace.terminal.figures import closing, rate
from tailrace.terminal.sink import Sink
from tailrace.terminal.status import fitting, wait_on

__all__ = ["AnswerPrinter", "JSONPrinter", "MarkdownPrinter", "Printer", "answer_printer"]

_GIVE_BACK = b"\x1b[?2026l\x1b[?7h\x1b[?25h\r\n"
_FOOTER = 0.5  # seconds between two footers


class Printer:
    """Shows events, each kind on its output.

    Args:
        out: where the answer goes.
        err: where everything else goes.
        model: the model's name, for the words about waiting.
        plain: no control characters, also where they would be obeyed.
    """

    def __init__(self, out: Sink, err: Sink, model: str, *, plain: bool = False) -> None:
        self.out = out
        self.err = err
        self.plain = plain
        self.waiting = wait_on(err, model, plain=plain)

    def show(self, events: Sequence[Event]) -> None:
        """Shows a batch of events.

        Raises:
            OutputClosedError: the output is closed.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Ends the open line of a terminal, so that later output starts a new one."""
        self.waiting.stop()
        if self.out.is_terminal:
            self.out.end_line()
        self.err.end_line()

    def give_back(self) -> None:
        """Gives back what was borrowed of a terminal, however the answer was left; also from a signal handler."""


class AnswerPrinter(Printer):
    """The answer to standard output; thinking, tool calls and remarks to standard error.

    Args:
        out: where the answer goes.
        err: where everything else goes.
        model: the model's name, for the words about waiting.
        plain: no control characters, also where they would be obeyed.
        hide_thinking: one line instead of the thinking.
        reply: gives the reply, for the closing line on a terminal; None: no such line.
    """

    def __init__(
        self,
        out: Sink,
        err: Sink,
        model: str,
        *,
        plain: bool = False,
        hide_thinking: bool = False,
        reply: Callable[[], Reply] | None = None,
    ) -> None:
        super().__init__(out, err, model, plain=plain)
        self._hide_thinking = hide_thinking
        self._thought: float | None = None  # since when it thinks without being shown
        self._reply = reply if err.is_terminal else None

    def show(self, events: Sequence[Event]) -> None:
        """Shows a batch of events."""
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
        if not text:
            return
        if self._hide_thinking:
            if self._thought is None:
                self._thought = time.monotonic()
                self.waiting.note(ThinkingDelta(text))
            return
        self.waiting.stop()
        self._before_thinking()
        self.err.write(text, dim=not self.plain)

    def _before_thinking(self) -> None:
        if self.out.is_terminal and self.err.is_terminal:
            self.out.end_line()

    def _thought_over(self) -> None:
        if self._thought is not None:
            seconds, self._thought = time.monotonic() - self._thought, None
            self.waiting.stop()
            self.err.line(say("mark.thought", seconds=f"{seconds:.1f}"), dim=not self.plain)

    def _answer(self, texts: list[str]) -> None:
        text = "".join(texts)
        texts.clear()
        if text:
            self.waiting.stop()
            self._thought_over()
            if self.err.column:  # the answer starts a line of its own after the thinking
                self.err.write("\n\n")
            self._write(text)

    def _write(self, text: str) -> None:
        self.out.write(text)

    def _remark(self, text: str) -> None:
        self.waiting.stop()
        self._thought_over()
        if self.out.is_terminal:
            self.out.end_line()
        self.err.line(text, dim=not self.plain)

    def _end(self, ended: Ended) -> None:
        self.waiting.stop()
        self._thought_over()
        self.close()
        if ended.outcome is Outcome.LENGTH:
            self.err.line(say("mark.length"), dim=not self.plain)
        for warning in ended.warnings:
            self.err.line(say("mark.warning", text=warning), dim=not self.plain)
        if ended.outcome is Outcome.CANCELLED:
            self.err.line(closing(self._reply()) if self._reply is not None else say("mark.stopped"))
        elif ended.outcome.finished and self._reply is not None:
            line = closing(self._reply())
            if line:
                self.err.line(line, dim=not self.plain)


class MarkdownPrinter(AnswerPrinter):
    """An answer as Markdown on a terminal that can draw it, with figures below while it comes."""

    def __init__(
        self,
        out: Sink,
        err: Sink,
        model: str,
        *,
        hide_thinking: bool = False,
        reply: Callable[[], Reply] | None = None,
    ) -> None:
        from tailrace.render.live import LiveMarkdown

        super().__init__(out, err, model, hide_thinking=hide_thinking, reply=reply)
        self._make = LiveMarkdown
        self._live: LiveMarkdown | None = None
        self._size = os.terminal_size((0, 0))
        self._count = 0
        self._first = 0.0
        self._footer_at = 0.0

    def show(self, events: Sequence[Event]) -> None:
        """Shows a batch of events."""
        self._count += sum(isinstance(event, TextDelta | ThinkingDelta) for event in events)
        if self._count and not self._first:
            self._first = time.monotonic()
        super().show(events)

    def close(self) -> None:
        """Prints what is open, and gives the cursor back."""
        self.waiting.stop()
        live, self._live = self._live, None
        if live is not None:
            live.finish()
            self.out.column = 0
        super().close()

    def give_back(self) -> None:
        """Gives the cursor back, past whatever is still being written."""
        if self._live is not None:
            try:
                os.write(self.out.descriptor, _GIVE_BACK)
            except OSError:
                pass  # the terminal has gone, or takes nothing

    def _before_thinking(self) -> None:
        self._settle()

    def _settle(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.finish()
            self.out.column = 0

    def _remark(self, text: str) -> None:
        self._settle()
        super()._remark(text)

    def _write(self, text: str) -> None:
        size = shutil.get_terminal_size()
        if self._live is None:
            self._live = self._make(self.out.draw, size.columns, size.lines)
        elif size != self._size:
            self._live.resize(size.columns, size.lines)
        self._size = size
        self._draw_footer(self._live.footer)
        self._live.feed(text)

    def _draw_footer(self, footer: Callable[[str], object]) -> None:
        now = time.monotonic()
        seconds = now - self._first
        if seconds < _FOOTER or now - self._footer_at < _FOOTER:
            return
        self._footer_at = now
        parts = [
            say("figures.tokens", count=f"~{self._count:,}"),
            say("figures.rate", rate=rate((self._count - 1) / seconds)),
            say("figures.elapsed", seconds=int(seconds)),
        ]
        footer(f"\x1b[2m{fitting(' · '.join(parts), self._size.columns - 1)}\x1b[0m")


class JSONPrinter(Printer):
    """One event a line on standard output; the last is the ending."""

    def show(self, events: Sequence[Event]) -> None:
        """Shows a batch of events."""
        self.waiting.stop()
        lines = b"".join([msgspec.json.encode(event) + b"\n" for event in events]).decode()
        # JSON escapes C0 by itself; for a terminal the rest is escaped the same way, and it stays JSON.
        self.out.write(printable(lines) if self.out.is_terminal else lines)
        if isinstance(events[-1], Ended) and events[-1].outcome is Outcome.CANCELLED:
            self.err.line(say("mark.stopped"))


def answer_printer(
    out: Sink,
    err: Sink,
    model: str,
    *,
    plain: bool = False,
    hide_thinking: bool = False,
    reply: Callable[[], Reply] | None = None,
) -> AnswerPrinter:
    """Returns the printer for what `out` can show; see `AnswerPrinter` for the arguments."""
    if out.is_able and not plain:
        return MarkdownPrinter(out, err, model, hide_thinking=hide_thinking, reply=reply)
    return AnswerPrinter(out, err, model, plain=plain, hide_thinking=hide_thinking, reply=reply)


def _call(event: ToolCall) -> str:
    arguments = event.invalid if event.invalid is not None else msgspec.json.encode(event.arguments).decode()
    return f"{event.name}({arguments})"
