"""The base of the decoders of answers: it sees to it that `Ended` comes exactly once."""

from __future__ import annotations

import msgspec

from tailrace.events import Ended, Event, TextDelta, ThinkingDelta
from tailrace.protocols import faults

__all__ = ["MOST_STRANGE", "AnswerDecoderBase"]

MOST_STRANGE = 10_000
"""Records of no kind we know that an answer may have: each costs more than a token does."""


class AnswerDecoderBase:
    """Base of the decoders of answers: halves of characters, the ending, and what comes after it.

    Attributes:
        ended: True once the ending came out; what is fed later is only counted.
        surplus: records after the ending.
    """

    __slots__ = ("_passed_over", "_replaced", "_strange", "_text", "_thinking", "ended", "surplus")

    def __init__(self) -> None:
        self.ended = False
        self.surplus = 0
        self._text = faults.Surrogates()
        self._thinking = faults.Surrogates()
        self._replaced = 0
        self._strange = 0  # records that are of no kind we know
        self._passed_over = b""  # the beginning of the first of them

    def _pass_over(self, record: bytes, events: list[Event]) -> None:
        """Takes note of a record that is of no kind we know; the answer goes on, unless there are far too many."""
        self._strange += 1
        self._passed_over = self._passed_over or record[:1000]
        if self._strange > MOST_STRANGE and not self.ended:
            self._end(faults.too_strange(MOST_STRANGE, self._passed_over), events)

    def _end(self, ended: Ended, events: list[Event]) -> None:
        if rest := self._thinking.flush():
            events.append(ThinkingDelta(rest))
        if rest := self._text.flush():
            events.append(TextDelta(rest))
        replaced = self._replaced + self._thinking.replaced + self._text.replaced
        if replaced:
            ended = _with(ended, f"{replaced} invalid characters of the answer were replaced by U+FFFD")
        if self._passed_over and ended.outcome.finished:
            ended = _with(ended, f"something unknown in the answer was passed over: {faults.shown(self._passed_over)}")
        self.ended = True
        events.append(ended)

    def _note_surplus(self, events: list[Event], unit: str) -> None:
        """Adds to the ending, if it is in this batch, how many records came after it; a failure says all there is."""
        last = events[-1] if events else None
        if isinstance(last, Ended) and last.outcome.finished:
            warning = f"{self.surplus} {unit} after the end of the answer were dropped"
            events[-1] = _with(last, warning)


def _with(ended: Ended, warning: str) -> Ended:
    return msgspec.structs.replace(ended, warnings=(*ended.warnings, warning))
