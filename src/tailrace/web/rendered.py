"""A run read out with its text as HTML: finished pieces once, and the open tail as it grows.

Every event can be the last that a reader saw, so that what comes after it must be told by its id alone. Finished pieces
that came together are one event; the tail after it may come twice, for it replaces the one before. The text's end makes
no piece, only a last tail, which stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tailrace.events import Ended, Event, TextDelta
from tailrace.render.html import HtmlStream
from tailrace.run.log import EventLog
from tailrace.run.run import Run
from tailrace.web.source import Feed, Source
from tailrace.wire import sse
from tailrace.wire.numbering import event_id, tag_of
from tailrace.wire.runs import RunsWire

__all__ = ["rendered"]


class _HtmlWire(RunsWire):
    """Encodes one run's events for one reader.

    Args:
        tag: of the run, for the ids.
        metrics: returns the run's times and counts, for the last event.
        seen: the text that the reader has seen.
        before: the text that the run goes on from, if the reader has not seen it.
    """

    def __init__(self, tag: str, metrics: Callable[[], object], seen: str, before: str) -> None:
        super().__init__(tag, metrics)
        self._html = HtmlStream()
        self._html.feed(seen)
        self._pieces = self._html.feed(before)
        self._tail = ""  # as the reader has it
        self._grown = bool(seen or before)  # the tail may be another one

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        """Returns the events as bytes; `after` is the number of the one before the first."""
        out, number = [], after
        for event in events:
            number += 1
            if type(event) is TextDelta:
                self._pieces += self._html.feed(event.text)
                self._grown = True
                continue
            if isinstance(event, Ended):
                out.append(self._flush(number - 1))
                out.append(self._show("".join(self._html.finish()), number - 1))
            else:
                out.append(self._flush(number - 1))
            out.append(self.other(event, number))
        out.append(self._flush(number))
        return b"".join(out)

    def again(self, number: int) -> bytes:
        """Returns the tail for a reader that comes back: it may have been cut off just before it."""
        return self._flush(number)

    def _flush(self, number: int) -> bytes:
        if not self._grown:
            return b""
        self._grown = False
        out = b""
        if self._pieces:
            out = sse.encode("".join(self._pieces), id=event_id(number, self._tag), event="block")
            self._pieces = []
        return out + self._show(self._html.tail, number)

    def _show(self, tail: str, number: int) -> bytes:
        if tail == self._tail:
            return b""
        self._tail = tail
        return sse.encode(tail, id=event_id(number, self._tag), event="tail")


def rendered(run: Run, after: int, before: str = "") -> Source:
    """Returns where a reader is in a run whose text comes as HTML.

    Args:
        run: the run.
        after: number of the last event that the reader has seen.
        before: the text that the run goes on from. It comes at the start, behind a reset: a reader that is cut off
            there comes back to the start, and gets it again.

    Raises:
        EvictedError: what comes after it is no longer kept.
    """
    begun = 0 < after <= run.log.end
    seen = before + _text(run.log, after) if begun else ""
    wire = _HtmlWire(tag_of(run.id), run.metrics, seen, "" if begun else before)
    first = wire.again(after if begun else 0)
    if before and not begun:
        first = wire.reset() + first
    return Source(Feed(run.log, wire), after, first)


def _text(log: EventLog, until: int) -> str:
    reply, last = log.so_far()
    text: str = reply.text
    later = log.read(until) if until < last else ()
    cut = sum(len(event.text) for event in later[: last - until] if type(event) is TextDelta)
    return text[: len(text) - cut]
