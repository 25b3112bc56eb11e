"""The log of a run: append-only, read by cursors.

`EventLog` is the protocol that a run needs; `MemoryLog` is the one kept in this process. A log that lives elsewhere
shows an event only once it is kept there, which is why readers follow the log and never the owner.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Sequence
from typing import Protocol

from tailrace.events import Ended, Event
from tailrace.run.signals import Waiters

__all__ = ["EventLog", "MemoryLog"]


class EventLog(Protocol):
    """An append-only log of events, numbered from 1.

    One owner appends, on one thread; any number of readers read, on any thread.
    """

    changed: Waiters

    @property
    def end(self) -> int:
        """The number of the last event that readers may see; 0 while there is none."""

    @property
    def sealed(self) -> bool:
        """True once the last event is `Ended`."""

    def append(self, events: Sequence[Event]) -> None:
        """Takes events; they are visible when the log says so."""

    def read(self, after: int) -> Sequence[Event]:
        """Returns the events after number `after` that are visible now; empty if there is nothing new."""


class MemoryLog:
    """The log in memory. What is appended is visible at once."""

    __slots__ = ("_ends", "_events", "_times", "changed", "sealed")

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._times: list[float] = []  # of each append
        self._ends: list[int] = []  # the number of each append's last event
        self.changed = Waiters()
        self.sealed = False

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
        # Before the events: a reader that sees an event finds its time.
        self._times.append(time.time())
        self._ends.append(len(self._events) + len(events))
        self._events.extend(events)
        if type(events[-1]) is Ended:
            self.sealed = True
        self.changed.wake()

    def read(self, after: int) -> Sequence[Event]:
        """Returns what is new after `after`."""
        return self._events[after:]

    def parts(self, after: int, events: Sequence[Event]) -> list[tuple[Sequence[Event], float]]:
        """Returns what was read after `after`, cut into what was appended together, each with its time.

        Times are seconds since the epoch.
        """
        index = bisect.bisect_right(self._ends, after)
        if self._ends[index] >= after + len(events):
            return [(events, self._times[index])]  # the usual case: a reader that keeps up
        parts: list[tuple[Sequence[Event], float]] = []
        start = 0
        while start < len(events):
            stop = self._ends[index] - after
            parts.append((events[start:stop], self._times[index]))
            start = stop
            index += 1
        return parts
