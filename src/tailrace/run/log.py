"""The log of a run: append-only, read by cursors.

`EventLog` is the protocol that a run needs; `MemoryLog` is the one kept in this process; `bounded_log` has the same
with a limit of bytes. A log that lives elsewhere shows an event only once it is kept there, which is why readers follow
the log and never the owner.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from typing import Protocol

from tailrace.events import Ended, Event
from tailrace.run.reply import Reply, fold
from tailrace.run.wakeups import Wakeups

__all__ = ["EventLog", "MemoryLog"]


class EventLog(Protocol):
    """An append-only log of events, numbered from 1.

    One owner appends, on one thread; any number of readers read, on any thread.
    """

    changed: Wakeups

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

    def read(self, after: int, most: int | None = None) -> Sequence[Event]:
        """Returns the events after number `after` that are visible now; empty if there is nothing new.

        Args:
            after: number of an event; 0 reads from the start.
            most: how many are wanted at most.

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
        self.changed = Wakeups()
        self.sealed = False
        self.times = array("d")  # a list of as many numbers would take four times as much

    @property
    def end(self) -> int:
        """The number of the last event."""
        return len(self._events)

    def append(self, events: Sequence[Event]) -> None:
        """Appends and wakes the readers.

        Raises:
            RuntimeError: the log is sealed; a bug in tailrace.
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

    def read(self, after: int, most: int | None = None) -> Sequence[Event]:
        """Returns what is new after `after`, but no more than `most`."""
        return self._events[after:] if most is None else self._events[after : after + most]

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
