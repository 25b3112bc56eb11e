"""Source: a reader that returns what is new in a run's log as bytes of one protocol. The caller sends them.

An event is encoded once for each protocol: readers that keep up share the bytes of the last batch.
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
        """Returns the message that makes a reader discard what it has."""

    def lagged(self) -> bytes:
        """Returns the message for a reader that was too slow and is disconnected."""


class Feed:
    """One run in one protocol, for all of its readers.

    Args:
        log: of the run.
        wire: its encoder.
    """

    __slots__ = ("_last", "direct", "log", "readers", "wire")

    def __init__(self, log: EventLog, wire: Wire) -> None:
        self.log = log
        self.wire = wire
        self.readers = 0  # so far: the last batch is kept only if there is more than one
        self.direct: Callable[[], object] | None = None  # the follower of the log that writes to readers directly
        self._last: tuple[int, int, bytes] = (-1, -1, b"")  # the last encoded batch

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
        after: number of the last event already seen; if the log does not have it yet, a reset is sent first.
        first: bytes to be sent before anything else.

    Attributes:
        after: number of the last event that was taken.

    Raises:
        EvictedError: what comes after it is no longer kept.
    """

    __slots__ = ("_first", "after", "feed", "log")
    paced = False  # whether a piece may be delayed to be sent with later ones

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
        """Returns what is new as bytes, without waiting, up to the size of a piece; empty if there is nothing.

        Raises:
            EvictedError: the reader is so slow that its next event is no longer kept.
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
    """Returns the feed of a run in the tutorial's protocol."""
    return _shared(run, "plain", PlainWire)


def runs_feed(run: Run) -> Feed:
    """Returns the feed of a run in the protocol of ``/runs/{id}/events``."""
    return _shared(run, "runs", RunsWire)
