"""Source: a reader that writes. It takes what is new in a run's log, encoded for one wire, whoever sends it then.

An event is encoded once for each wire: readers that keep up share the bytes of the last batch.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Protocol

from tailrace.events import Event
from tailrace.protocols.event_ids import tag_of
from tailrace.protocols.runs.encode import RunsWire
from tailrace.protocols.tutorial.encode import PlainWire
from tailrace.run.log import EventLog
from tailrace.run.run import Run

__all__ = ["Feed", "Source", "Wire", "plain_feed", "runs_feed"]

MOST = 512  # events in one send: what a slow reader holds in buffers stays small


class Wire(Protocol):
    """A protocol's encoder for one run."""

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        """Returns the events as bytes; `after` is the number of the one before the first."""

    def reset(self) -> bytes:
        """Returns what tells a reader to forget what it has."""

    def lagged(self) -> bytes:
        """Returns what tells a reader that it was too slow and is let go."""


class Feed:
    """One run on one wire, for all of its readers.

    Args:
        log: of the run.
        wire: its encoder.
    """

    __slots__ = ("_last", "direct", "log", "readers", "wire")

    def __init__(self, log: EventLog, wire: Wire) -> None:
        self.log = log
        self.wire = wire
        self.readers = 0  # that there have been: the bytes are kept for a second one only
        self.direct: Callable[[], object] | None = None  # those of them that are sent to from within the log's change
        self._last: tuple[int, int, bytes] = (-1, -1, b"")  # the batch that was encoded last

    def take(self, after: int) -> tuple[bytes, int]:
        """Returns what comes after event `after`, as bytes, and the number of the last event in them.

        Raises:
            EvictedError: the log no longer keeps it.
        """
        log = self.log
        if self.readers > 1:
            first, last, data = self._last
            if first == after and last == log.end:
                return data, last
        events = log.read(after, MOST)
        if not events:
            return b"", after
        data, last = self.wire.encode(events, after), after + len(events)
        if self.readers > 1:
            self._last = (after, last, data)
        return data, last


class Source:
    """A cursor on a feed.

    Args:
        feed: what to read.
        after: number of the last event already seen; one the log does not have yet begins with a reset.
        first: bytes that are to come before anything else.

    Attributes:
        after: number of the last event that was taken.

    Raises:
        EvictedError: what comes after it is no longer kept.
    """

    __slots__ = ("_first", "after", "feed", "log")
    paced = False  # whether what comes soon after the last piece may wait for more

    def __init__(self, feed: Feed, after: int = 0, first: bytes = b"") -> None:
        self.feed = feed
        feed.readers += 1
        self.log = feed.log
        ahead = after > self.log.end
        self.after = 0 if ahead else after
        self._first = first or feed.wire.reset() if ahead else first
        self.log.read(self.after)

    def ready(self) -> bool:
        """True if there is something new."""
        return self.log.end > self.after or bool(self._first)

    @property
    def at_end(self) -> bool:
        """True once the ending was taken."""
        return self.log.sealed and self.after >= self.log.end and not self._first

    def take(self) -> bytes:
        """Returns what is new, as bytes, but no more than a piece; empty if there is nothing.

        Raises:
            EvictedError: the reader is so slow that what it wants is no longer kept.
        """
        data, self.after = self.feed.take(self.after)
        if self._first:
            data, self._first = self._first + data, b""
        return data


_feeds: weakref.WeakKeyDictionary[Run, dict[str, Feed]] = weakref.WeakKeyDictionary()


def _shared(run: Run, name: str, make: Callable[[str, Callable[[], object]], Wire]) -> Feed:
    feeds = _feeds.setdefault(run, {})
    feed = feeds.get(name)
    if feed is None:
        reference = weakref.ref(run)

        def metrics() -> object:
            alive = reference()
            return alive.metrics() if alive is not None else None

        feed = feeds.setdefault(name, Feed(run.log, make(tag_of(run.id), metrics)))
    return feed


def plain_feed(run: Run) -> Feed:
    """Returns a run on the tutorial's wire."""
    return _shared(run, "plain", PlainWire)


def runs_feed(run: Run) -> Feed:
    """Returns a run on the wire of ``/runs/{id}/events``."""
    return _shared(run, "runs", RunsWire)
