"""The base of the decoders of answers: it sees to it that `Ended` comes exactly once."""

from __future__ import annotations

import msgspec

from tailrace.events import Ended, Event, TextDelta, ThinkingDelta
from tailrace.protocols import faults

__all__ = ["AnswerDecoderBase"]


class AnswerDecoderBase:
    """Base of the decoders of answers: halves of characters, the ending, and what comes after it.

    Attributes:
        ended: True once the ending came out; what is fed later is only counted.
        surplus: records after the ending.
    """

    __slots__ = ("_replaced", "_text", "_thinking", "ended", "surplus")

    def __init__(self) -> None:
        self.ended = False
        self.surplus = 0
        self._text = faults.Surrogates()
        self._thinking = faults.Surrogates()
        self._replaced = 0

    def _end(self, ended: Ended, events: list[Event]) -> None:
        if rest := self._thinking.flush():
            events.append(ThinkingDelta(rest))
        if rest := self._text.flush():
            events.append(TextDelta(rest))
        replaced = self._replaced + self._thinking.replaced + self._text.replaced
        if replaced:
            warning = f"{replaced} invalid characters of the answer were replaced by U+FFFD"
            ended = msgspec.structs.replace(ended, warnings=(*ended.warnings, warning))
        self.ended = True
        events.append(ended)

    def _note_surplus(self, events: list[Event], unit: str) -> None:
        """Adds to the ending, if it is in this batch, how many records came after it."""
        if events and isinstance(events[-1], Ended):
            warning = f"{self.surplus} {unit} after the end of the answer were dropped"
            events[-1] = msgspec.structs.replace(events[-1], warnings=(*events[-1].warnings, warning))
