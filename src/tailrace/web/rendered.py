"""A run with its text as HTML: finished pieces once, and the open tail as it grows.

A reader may resume after any event, so its id alone must determine what comes next: a finished piece has the number of
the event that finished it. The tail may be sent twice, since it replaces the previous one. The end of the text makes no
piece, only a last tail, which stays.

A run is rendered once for all of its readers, while there are any.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import importlib
import sys
from collections.abc import AsyncIterator, Sequence
from weakref import WeakValueDictionary

from tailrace.events import Ended, Event, TextDelta
from tailrace.protocols import sse
from tailrace.protocols.event_ids import event_id, tag_of
from tailrace.protocols.runs.encode import RunsWire
from tailrace.run.log import EventLog
from tailrace.run.run import Run
from tailrace.web.source import Feed, Source

__all__ = ["prepared", "rendered"]

_RENDERER = "tailrace.render.html"  # imported late: a start does not wait for the Markdown parser
_SLICE = 1000  # characters that are rendered before other tasks may run: some milliseconds
_MOST = 64 * 1024  # bytes in one send: what a slow reader holds in buffers stays small


class _Rendering(Feed):
    """One run as HTML, for all of its rendered readers. Belongs to one event loop.

    Args:
        run: the run.
        before: the text that it goes on from.

    Attributes:
        number: of the last event in it.
        head: the pieces of the text before.
    """

    def __init__(self, run: Run, before: str) -> None:
        self._tag = tag_of(run.id)
        self._wire = RunsWire(self._tag, run.metrics)
        super().__init__(run.log, self._wire)
        self.number = 0
        self.head = ""
        self._before = before
        self._start_over(before)

    def _start_over(self, seen: str) -> None:
        from tailrace.render.html import HtmlStream

        self._html = HtmlStream()
        self._unseen = seen  # what is to be rendered before the events; whole pieces of it are no events'
        self._fed = 0  # characters of the event under way
        self._pieces: list[str] = []
        # Finished pieces, and events of other kinds, as bytes, and their numbers.
        self._numbers: list[int] = []
        self._items: list[bytes] = []
        self._tail = ""
        self._grown = bool(seen)  # the tail may be another one
        self._ended = False

    def advance(self, most: int = sys.maxsize) -> bool:
        """Renders what has come, but no more than so many characters of text; returns whether that was all."""
        events = self._unread()
        if self._unseen:
            part, self._unseen = self._unseen[:most], self._unseen[most:]
            self._pieces += self._html.feed(part)
            most -= len(part)
            if self._unseen:
                return False
            self.head, self._pieces = "".join(self._pieces), []
        for event in events:
            if most <= 0:
                return False
            if type(event) is TextDelta:
                part = event.text[self._fed : self._fed + most]
                self._pieces += self._html.feed(part)
                self._fed += len(part)
                most -= len(part)
                if self._fed < len(event.text):
                    return False
            self._add(event)
        return True

    def _unread(self) -> Sequence[Event]:
        log = self.log
        if self.number < log.first - 1:  # nobody has read for long, and what we have not seen is folded away
            self.number = log.first - 1
            self._start_over(self._before + _text(log, self.number))
        elif self._numbers and self._numbers[0] < log.first:
            gone = bisect.bisect_left(self._numbers, log.first)
            del self._numbers[:gone], self._items[:gone]
        return log.read(self.number)

    def _add(self, event: Event) -> None:
        """The event is in it."""
        self.number += 1
        self._fed = 0
        if type(event) is TextDelta:
            self._grown = True
            if not self._pieces:
                return
            item = sse.encode("".join(self._pieces), id=event_id(self.number, self._tag), event="block")
            self._pieces = []
        else:
            item = self._wire.other(event, self.number)
            if isinstance(event, Ended):
                self._tail, self._grown, self._ended = "".join(self._html.finish()), False, True
        self._numbers.append(self.number)
        self._items.append(item)

    @property
    def tail(self) -> str:
        """What is open, as HTML."""
        if self._grown:
            self._grown = False
            tail = self._html.tail
            if tail != self._tail:
                self._tail = tail
        return self._tail

    def since(self, after: int, seen: str | None) -> tuple[bytes, int, str | None]:
        """Returns what comes after event `after`, but no more than a piece.

        Args:
            after: number of the last event that the reader has seen.
            seen: the tail that it has seen last; None: it has seen none.

        Returns:
            bytes, the number of the last event in them, and the tail that the reader has then.

        Raises:
            EvictedError: the log no longer keeps it.
        """
        self.log.read(after)
        self.advance()
        first = last = bisect.bisect_right(self._numbers, after)
        size = 0
        while last < len(self._items) and size < _MOST:
            size += len(self._items[last])
            last += 1
        items = self._items[first:last]
        if last < len(self._items):
            return b"".join(items), self._numbers[last - 1], seen
        if self.tail != (seen or ""):
            ended = self._ended and bool(items)  # whoever has its id comes no more: the tail goes before it
            id = event_id(self.number - 1 if ended else self.number, self._tag)
            items.insert(len(items) - ended, sse.encode(self.tail, id=id, event="tail"))
        return b"".join(items), self.number, self.tail


class _HtmlSource(Source):
    """A cursor on a rendering."""

    __slots__ = ("_rendering", "_seen")
    paced = True

    def __init__(self, rendering: _Rendering, after: int, first: bytes) -> None:
        super().__init__(rendering, after, first)
        self._rendering = rendering
        self._seen: str | None = None  # the reader may have been cut off just before the tail

    def ready(self) -> bool:
        """True if there is something new, or may be."""
        return self._seen is None or super().ready()

    def take(self) -> bytes:
        """Returns what is new, as bytes, but no more than a piece; empty if there is nothing.

        Raises:
            EvictedError: the reader is so slow that what it wants is no longer kept.
        """
        data, self.after, self._seen = self._rendering.since(self.after, self._seen)
        data, self._first = self._first + data, b""
        return data


_renderings: WeakValueDictionary[str, _Rendering] = WeakValueDictionary()


def _shared(run: Run, before: str) -> _Rendering:
    found = _renderings.get(run.id)
    if found is None:
        found = _renderings[run.id] = _Rendering(run, before)
    return found


@contextlib.asynccontextmanager
async def prepared(run: Run, before: str = "") -> AsyncIterator[None]:
    """Renders what a run has said until now, and lets others have their turns meanwhile; inside, `rendered` is quick.

    Args:
        run: the run.
        before: the text that it goes on from.
    """
    if _RENDERER not in sys.modules:
        await asyncio.to_thread(importlib.import_module, _RENDERER)
    rendering = _shared(run, before)
    while not rendering.advance(_SLICE):  # noqa: ASYNC110 - it waits for nothing, others have a turn
        await asyncio.sleep(0)
    yield


def rendered(run: Run, after: int, before: str = "") -> Source:
    """Returns where a reader is in a run whose text comes as HTML.

    Args:
        run: the run.
        after: number of the last event that the reader has seen; one the log does not have yet begins with a reset.
        before: the text that the run goes on from. It comes at the start, behind a reset: a reader that is cut off
            there comes back to the start, and gets it again.

    Raises:
        EvictedError: what comes after it is no longer kept.
    """
    rendering = _shared(run, before)
    if 0 < after <= run.log.end:
        return _HtmlSource(rendering, after, b"")
    rendering.advance()
    first = rendering.wire.reset() if after or before else b""
    if rendering.head:
        first += sse.encode(rendering.head, id=event_id(0, tag_of(run.id)), event="block")
    return _HtmlSource(rendering, 0, first)


def _text(log: EventLog, until: int) -> str:
    """Returns the text of the events up to number `until`."""
    reply, last = log.so_far()
    text: str = reply.text
    later = log.read(until) if until < last else ()
    cut = sum(len(event.text) for event in later[: last - until] if type(event) is TextDelta)
    return text[: len(text) - cut]
