"""A turn: sends one question and shows its answer while it streams."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tailrace.client.streams import ChatStream
from tailrace.client.sync import Client
from tailrace.events import Event, TextDelta, ThinkingDelta
from tailrace.i18n import say
from tailrace.run.reply import Reply
from tailrace.terminal.figures import progress, summary
from tailrace.terminal.printer import Printer, answer_printer
from tailrace.terminal.repl.interrupts import Interrupts, Stopped
from tailrace.terminal.repl.settings import Settings
from tailrace.terminal.sink import Sink

__all__ = ["Answers", "pieces"]

_PIECE = 2000  # characters drawn between two looks at whether we were stopped
_REST = 2000  # characters that had come when we were stopped, and are shown all the same


class Answers:
    """Asks a model on the terminal that standard input and output are, and shows what it answers.

    Args:
        client: who to ask.
        settings: what was set when it begins.

    Attributes:
        interrupts: the signals.
        out: standard output.
        err: standard error.
        open: the stream of the answer under way.
    """

    def __init__(self, client: Client, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self.interrupts = Interrupts()
        self.out = Sink(sys.stdout, self.interrupts.blocked)
        self.err = Sink(sys.stderr, self.interrupts.blocked)
        self.open: ChatStream | None = None

    def answer(self, messages: Sequence[dict[str, Any]], *, continued: bool = False) -> Reply:
        """Has the model answer, showing what comes; returns the reply, however it ended.

        Args:
            messages: the conversation, with our marks.
            continued: its last message is an answer that goes on.

        Raises:
            TailraceError: the answer cannot be asked for.
            Leave: the conversation is over; the reply until then is `open`.
        """
        settings = self.settings
        ask: Any = self.client.continue_chat if continued else self.client.chat
        stream: ChatStream = ask(
            settings.model,
            [{name: value for name, value in message.items() if name != "interrupted"} for message in messages],
            stream=True,
            think=settings.think,
            format=settings.format,
            options=settings.options or None,
        )
        own_lines = settings.verbose or settings.progress
        printer = answer_printer(
            self.out,
            self.err,
            settings.model,
            plain=settings.raw,
            hide_thinking=settings.hide_thinking,
            reply=None if own_lines else lambda: stream.reply,
        )
        self.open = stream
        reader = stream.reader()
        printer.waiting.follow(reader)
        hidden = 0
        try:
            with self.interrupts.over(stream), stream:
                printer.waiting.start()
                while events := reader.read():
                    hidden += self._show(printer, events)
        except Stopped:  # the terminal took nothing more
            pass
        finally:
            printer.close()
        reply = stream.reply
        if hidden:
            self.err.line(say("repl.not_shown", count=f"{hidden:,}"), dim=True)
        if settings.progress:
            self.err.line(progress(reply))
        if settings.verbose:
            for line in summary(reply):
                self.err.line(line)
        return reply

    def _show(self, printer: Printer, events: Sequence[Event]) -> int:
        """Shows what came together; returns how many characters it did not show, because we were stopped."""
        hidden = 0
        for piece in pieces(events):
            if self.interrupts.stopped:
                size = sum(len(event.text) for event in piece if isinstance(event, TextDelta))
                if hidden or size > _REST:
                    hidden += size
                    piece = [event for event in piece if not isinstance(event, TextDelta | ThinkingDelta)]  # noqa: PLW2901
            if piece:
                printer.show(piece)
        return hidden


def pieces(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Yields events in lists that hold little text each."""
    piece: list[Event] = []
    size = 0
    for event in events:
        text = event.text if isinstance(event, TextDelta | ThinkingDelta) else ""
        if piece and size + len(text) > _PIECE:
            yield piece
            piece, size = [], 0
        if len(text) > _PIECE and isinstance(event, TextDelta):
            for start in range(0, len(text), _PIECE):
                yield [TextDelta(text[start : start + _PIECE])]
            continue
        piece.append(event)
        size += len(text)
    if piece:
        yield piece
