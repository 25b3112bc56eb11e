"""The seam of a continued answer: what comes back is compared with what was given, so that nothing is shown twice.

A server that was given the beginning of an answer sends only what is new, or first repeats what it was given
(ggml-org/llama.cpp, pull requests 22727 and 23089: ``echo``). One that was asked in words may say its last words again,
or all of them. Text is held back only as long as it may still turn out to be such a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tailrace.events import Ended, Event, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.run.exchange import Exchange, OnEvents

__all__ = ["Given", "Seam", "Seamed"]

_WINDOW = 400  # characters at the end of what was given in which a repetition may begin, if it is not all repeated
_FENCE = re.compile(r"\s*(`{1,3}[^\n`]*)?")
_REOPENED = re.compile(r"\s*```[^\n`]*\n")
_LEAD = re.compile(r"\s*(?:(?:…|\.\.\.)\s*)?")


class Given(NamedTuple):
    """The beginning of an answer."""

    text: str = ""
    thinking: str = ""


class _Join(Protocol):
    """Joins what comes to what was given."""

    over: bool
    """True once the join is found: the rest is to be passed on as it is."""

    def take(self, text: str) -> str:
        """Takes a piece; returns what is new of it and of what was held back."""

    def rest(self) -> str:
        """Nothing more comes: returns what was held back."""


class _Echo:
    """After a server that was given the beginning: it may repeat the whole of that first.

    Args:
        given: what it was given.
        spaced: whether the server may have dropped a space at the end of that, and says it again.
    """

    def __init__(self, given: str, *, spaced: bool = False) -> None:
        # llama.cpp repeats thoughts without the white space before them.
        self._forms = {given, given.lstrip()} - {""}
        self._space = spaced and given.endswith(" ") and not given[:-1].endswith((" ", "\n"))
        self._held = ""
        self.over = not given

    def take(self, text: str) -> str:
        self._held += text
        held = self._held
        if any(len(held) < len(form) and form.startswith(held) for form in self._forms):
            return ""
        self.over = True
        for form in self._forms:
            if held.startswith(form):
                return held[len(form) :]
        return held[1:] if self._space and held.startswith(" ") else held

    def rest(self) -> str:
        self.over = True
        return self._held


class _Overlap:
    """After a server that was asked in words: it may begin with the last words of what was given, or with all of it."""

    def __init__(self, given: str) -> None:
        self._given = given
        self._tail = given[-_WINDOW:]
        self._in_code = given.count("```") % 2 == 1
        self._held = ""
        self.over = not given

    def take(self, text: str) -> str:
        self._held += text
        if self._may_grow():
            return ""
        return self.rest()

    def rest(self) -> str:
        self.over = True
        held = self._held
        if self._in_code and (match := _REOPENED.match(held)):
            held = held[match.end() :]
        lead = _LEAD.match(held)
        starts = {0, len(held) - len(held.lstrip()), lead.end() if lead else 0}
        length, start = max((self._overlap(held[start:]), start) for start in starts)
        return held[start + length :] if length else held

    def _may_grow(self) -> bool:
        """Returns whether what is held back may be the beginning of a (longer) repetition."""
        held = self._held
        if self._in_code:
            if _FENCE.fullmatch(held):
                return True
            held = _REOPENED.sub("", held, count=1)
        lead = _LEAD.match(held)
        for begun in {held, held.lstrip(), held[lead.end() :] if lead else held}:
            if not begun or begun in (".", ".."):
                return True
            if len(begun) < len(self._given) and self._given.startswith(begun):
                return True
            if self._tail.find(begun, 0, len(self._tail) - 1) >= 0:
                return True
        return False

    def _overlap(self, said: str) -> int:
        """Returns how many characters at the start of `said` repeat the end of what was given."""
        for length in range(min(len(said), len(self._given)), 0, -1):
            if self._given.endswith(said[:length]) and self._is_repetition(length):
                return length
        return 0

    def _is_repetition(self, length: int) -> bool:
        """Returns whether that many characters are more than a coincidence: whole words, or some characters."""
        at = len(self._given) - length
        piece = self._given[at:]
        letters = sum(map(str.isalnum, piece))
        if any("\u2e80" <= letter <= "\uffef" for letter in piece):  # Chinese, Japanese, Korean: no spaces tell words
            return letters >= 2
        starts_word = at == 0 or not (self._given[at - 1].isalnum() and piece[0].isalnum())
        return letters >= 4 or (starts_word and letters >= 1)


class _Thoughts:
    """Tells thoughts from the answer in the plain text of a prompt that ended in the middle of thoughts."""

    def __init__(self, close: str) -> None:
        self._close = close
        self._held = ""
        self._thinking = True

    def take(self, text: str) -> tuple[str, str]:
        """Takes a piece; returns the thoughts and the text in it. Once there is text, all is text."""
        if not self._thinking:
            return "", text.lstrip()  # the white space between the two belongs to neither
        self._held += text
        before, found, after = self._held.partition(self._close)
        if found:
            self._thinking = False
            return before, after.lstrip()
        keep = next((n for n in range(len(self._close) - 1, 0, -1) if before.endswith(self._close[:n])), 0)
        self._held = before[len(before) - keep :]
        return before[: len(before) - keep], ""

    def rest(self) -> str:
        """Nothing more comes: returns the thoughts that were held back."""
        return self._held if self._thinking else ""


class Seam:
    """Joins the events of a continued answer to what was given.

    Args:
        given: the beginning of the answer.
        words: the server was asked in words, and not given the beginning.
        spaced: it may have dropped a space at the end of what it was given.
        close: the server does not tell thoughts from text; it was in the middle of thoughts, which this ends.
    """

    def __init__(self, given: Given, *, words: bool = False, spaced: bool = False, close: str = "") -> None:
        self._text: _Join = _Overlap(given.text) if words else _Echo(given.text, spaced=spaced)
        self._thinking: _Join = _Overlap(given.thinking) if words else _Echo(given.thinking)
        self._split = _Thoughts(close) if close else None

    @property
    def over(self) -> bool:
        """True once events are to be passed on as they are."""
        return self._text.over and self._thinking.over and self._split is None

    def feed(self, events: Sequence[Event]) -> list[Event]:
        """Takes events; returns those that are new."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, TextDelta):
                self._said(event, out)
            elif isinstance(event, ThinkingDelta):
                self._split = None  # the server tells them itself
                _add(out, ThinkingDelta, event.text if self._thinking.over else self._thinking.take(event.text))
            else:
                if isinstance(event, (ToolCall, ToolCallDelta, Ended)):
                    self._flush(out)
                out.append(event)
        return out

    def _said(self, event: TextDelta, out: list[Event]) -> None:
        text = event.text
        if self._split is not None:
            thoughts, text = self._split.take(text)
            if text:
                self._split = None
            _add(out, ThinkingDelta, thoughts if self._thinking.over else self._thinking.take(thoughts))
        elif text and not self._thinking.over:  # the thoughts are over
            _add(out, ThinkingDelta, self._thinking.rest())
        new = text if self._text.over else self._text.take(text)
        if new == event.text:
            out.append(event)
        else:
            _add(out, TextDelta, new)

    def _flush(self, out: list[Event]) -> None:
        if self._split is not None:
            left = self._split.rest()
            _add(out, ThinkingDelta, left if self._thinking.over else self._thinking.take(left))
            self._split = None
        if not self._thinking.over:
            _add(out, ThinkingDelta, self._thinking.rest())
        if not self._text.over:
            _add(out, TextDelta, self._text.rest())


def _add(out: list[Event], kind: type[TextDelta] | type[ThinkingDelta], text: str) -> None:
    if text:
        out.append(kind(text))


class Seamed:
    """An exchange whose events are joined to the beginning of an answer. See `Exchange`."""

    def __init__(self, exchange: Exchange, seam: Seam) -> None:
        self._exchange = exchange
        self._seam = seam
        self.confirms = exchange.confirms
        self.half_close = exchange.half_close
        self.abort = exchange.abort
        self.finish = exchange.finish

    async def relay(self, on_events: OnEvents) -> None:
        """Passes on what is new."""
        seam = self._seam

        def heard(events: Sequence[Event]) -> bool:
            if not seam.over:
                events = seam.feed(events)
            return bool(events) and on_events(events)

        await self._exchange.relay(heard)
