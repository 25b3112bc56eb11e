"""The log of a run: append-only, read by cursors.

`EventLog` is the protocol that a run needs; `MemoryLog` is the one kept in this process, `BoundedLog` the same with a
limit of bytes. A log that lives elsewhere shows an event only once it is kept there, which is why readers follow the
log and never the owner.
"""

from __future__ import annotations

import copy
import time
from array import array
from collections.abc import Sequence
from typing import Protocol

import msgspec

from tailrace.errors import EvictedError, LogFullError
from tailrace.events import Ended, Event, TextDelta, ThinkingDelta
from tailrace.run.reply import Reply, fold
from tailrace.run.signals import Waiters

__all__ = ["BoundedLog", "EventLog", "MemoryLog"]

_COST = 160  # bytes that an event takes beside its text: the object, its place, its time


class EventLog(Protocol):
    """An append-only log of events, numbered from 1.

    One owner appends, on one thread; any number of readers read, on any thread.
    """

    changed: Waiters

    @property
    def end(self) -> int:
        """The number of the last event that readers may see; 0 while there is none."""

    @property
    def first(self) -> int:
        """The number of the first event that is still kept."""

    @property
    def sealed(self) -> bool:
        """True once the last event is `Ended`."""

    def append(self, events: Sequence[Event]) -> None:
        """Takes events; they are visible when the log says so."""

    def read(self, after: int) -> Sequence[Event]:
        """Returns the events after number `after` that are visible now; empty if there is nothing new.

        Raises:
            EvictedError: some of them are no longer kept.
        """

    def fold(self, reply: Reply) -> Reply:
        """Adds all that was ever appended to `reply`, and returns it."""

    def so_far(self) -> tuple[Reply, int]:
        """Returns all that was ever appended, and the number of its last event: a reader can go on from there."""


class MemoryLog:
    """The log in memory. What is appended is visible at once.

    Attributes:
        times: when each event ever appended came, in seconds on the monotonic clock.
    """

    __slots__ = ("_epoch", "_events", "changed", "sealed", "times")
    first = 1

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._epoch = time.time() - time.monotonic()
        self.changed = Waiters()
        self.sealed = False
        self.times = array("d")  # a list of as many numbers would take four times as much

    @property
    def end(self) -> int:
        """The number of the last event."""
        return len(self._events)

    def append(self, events: Sequence[Event]) -> None:
        """Appends and wakes the readers.

        Raises:
            RuntimeError: the log is sealed; a bug of ours.
        """
        if self.sealed:
            raise RuntimeError("bug in tailrace: append to a sealed log")
        # The times before the events: a reader that sees an event finds its time.
        if len(events) == 1:
            self.times.append(time.monotonic())
        else:
            self.times.extend([time.monotonic()] * len(events))
        self._events.extend(events)
        if type(events[-1]) is Ended:
            self.sealed = True
        self.changed.wake()

    def read(self, after: int) -> Sequence[Event]:
        """Returns what is new after `after`."""
        return self._events[after:]

    def fold(self, reply: Reply) -> Reply:
        """Adds all of it to `reply`, and returns it."""
        return fold(self._events, reply)

    def so_far(self) -> tuple[Reply, int]:
        """Returns all of it, and the number of its last event."""
        events = self._events[:]  # the owner may append meanwhile, on another thread
        return fold(events, Reply()), len(events)

    def parts(self, after: int, events: Sequence[Event]) -> list[tuple[Sequence[Event], float]]:
        """Returns what was read after `after`, cut into what was appended together, each with its time.

        Times are seconds since the epoch.
        """
        times, epoch, last = self.times, self._epoch, after + len(events) - 1
        at = times[after]
        if at == times[last]:
            return [(events, epoch + at)]  # the usual case: a reader that keeps up
        parts: list[tuple[Sequence[Event], float]] = []
        start = after
        for place in range(after + 1, last + 1):
            if times[place] != at:
                parts.append((events[start - after : place - after], epoch + at))
                start, at = place, times[place]
        parts.append((events[start - after :], epoch + at))
        return parts


class BoundedLog(MemoryLog):
    """A log in memory that stays within a limit of bytes.

    Over the limit the oldest events are folded into what `fold` returns: the text is kept, a cursor before them is not.
    An answer whose text alone is larger than the limit ends its run.

    Args:
        limit: bytes, as estimated.

    Attributes:
        size: bytes taken, as estimated.
    """

    __slots__ = ("_kept", "_limit", "size")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        # The first number, the events from there on, and the fold of those before: one value, so that readers on other
        # threads never see two that do not belong together. None while all of them are there.
        self._kept: tuple[int, list[Event], Reply] | None = None
        self.size = 0

    @property
    def first(self) -> int:  # type: ignore[override]
        """The number of the first event that is still kept."""
        return 1 if self._kept is None else self._kept[0]

    @property
    def end(self) -> int:
        """The number of the last event."""
        events, kept = self._events, self._kept
        return len(events) if kept is None else kept[0] - 1 + len(kept[1])

    def append(self, events: Sequence[Event]) -> None:
        """Appends and wakes the readers.

        Raises:
            LogFullError: the answer is larger than the limit; nothing was appended.
            RuntimeError: the log is sealed; a bug of ours.
        """
        size = _COST * len(events) + sum(map(_text, events))
        if self.size + size > self._limit and type(events[-1]) is not Ended:
            self._make_room(size)
        self.size += size
        super().append(events)

    def _make_room(self, size: int) -> None:
        """Folds the older half of the events, or more of them if that is not enough."""
        while self._events and self.size + size > self._limit // 2:
            self._drop((len(self._events) + 1) // 2)
        if self.size + size > self._limit:
            raise LogFullError(f"the answer is larger than the {self._limit:,} bytes that a run may keep")

    def _drop(self, count: int) -> None:
        first, events, folded = self._whole()
        gone, kept = events[:count], events[count:]
        self.size -= _COST * count
        self._kept = (first + count, kept, fold(gone, copy.copy(folded)))
        self._events = kept  # in this order: see `_whole`

    def read(self, after: int) -> Sequence[Event]:
        """Returns what is new after `after`.

        Raises:
            EvictedError: some of it is no longer kept.
        """
        events, kept = self._events, self._kept
        if kept is None:
            return events[after:]
        first, events, _ = kept
        if after < first - 1:
            raise EvictedError(f"events up to number {first - 1} are no longer kept")
        return events[after - first + 1 :]

    def fold(self, reply: Reply) -> Reply:
        """Adds all that was ever appended to `reply`, and returns it."""
        _, events, folded = self._whole()
        return self._join(reply, events, folded)

    def so_far(self) -> tuple[Reply, int]:
        """Returns all that was ever appended, and the number of its last event."""
        first, events, folded = self._whole()
        events = events[:]  # the owner may append meanwhile, on another thread
        return self._join(Reply(), events, folded), first - 1 + len(events)

    def _whole(self) -> tuple[int, list[Event], Reply]:
        events, kept = self._events, self._kept  # in this order: events seen before any were dropped are all of them
        return kept or (1, events, Reply())

    @staticmethod
    def _join(reply: Reply, events: Sequence[Event], folded: Reply) -> Reply:
        for name in ("text", "thinking", "tool_calls", "logprobs"):
            setattr(reply, name, getattr(folded, name))
        return fold(events, reply)


def _text(event: Event) -> int:
    """Bytes of an event's text, as Python keeps them."""
    kind = type(event)
    if kind is TextDelta or kind is ThinkingDelta:
        text: str = event.text  # type: ignore[union-attr]
        return len(text) if text.isascii() else 2 * len(text)
    return len(msgspec.json.encode(event))
