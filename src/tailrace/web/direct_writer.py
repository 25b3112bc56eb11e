"""Direct writing: tokens are sent from within `EventLog.append`, without waking the stream's task for each.

The server must allow writes at any time: ours puts a function into the scope that writes a piece of the body at once,
or returns False if it would have to wait. On other servers the stream's task sends. The task also handles silences,
endings, changes made on other threads, and slow readers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tailrace.web.source import Feed, Source

__all__ = ["DIRECT_WRITE", "DirectWrite", "DirectWriter"]


class DirectWrite(Protocol):
    """A server's way to write without a task. On the loop's thread only."""

    def write(self, data: bytes) -> bool:
        """Writes a piece of the body now; returns False, without writing, if that would have to wait."""

    def watch(self, left: Callable[[], object] | None) -> bool:
        """Sets the callback for a disconnect, None for none; False if only ``receive`` reports it."""


DIRECT_WRITE = "tailrace.direct_write"
"""The key of the `DirectWrite` in a scope."""

_MOST = 64 * 1024  # bytes; more means that a reader was behind, and its task sends that in slices with a time limit


class DirectWriter:
    """Sends what is new in a log while it changes, for one reader of a log whose owner lives on this loop.

    Args:
        push: writes to the connection.
        source: where the reader is.
        wake: wakes the stream's task.

    Attributes:
        waits: True while the task waits for events: only then may this write.
        left: data already taken from the source, which the task must send first.
    """

    __slots__ = ("left", "push", "source", "waits", "wake")

    def __init__(self, push: DirectWrite, source: Source, wake: Callable[[], object]) -> None:
        self.left = b""
        self.waits = False
        self.push = push
        self.source = source
        self.wake = wake
        feed = source.feed
        before = feed.direct
        if before is None:
            _follow(feed, self)  # a single reader, the usual case: one object less for each token to touch
        elif isinstance(before, _SharedWriter):
            before.readers[self] = None
        elif isinstance(before, DirectWriter):
            _follow(feed, _SharedWriter(feed, before, self))

    def close(self) -> None:
        """Stops writing; idempotent."""
        self.waits = False
        feed = self.source.feed
        together = feed.direct
        if together is self:
            _follow(feed, None)
        elif isinstance(together, _SharedWriter):
            together.readers.pop(self, None)
            if not together.readers:
                _follow(feed, None)

    def __call__(self) -> None:
        """Called when the log has changed, if there is one reader."""
        if not self.waits:
            return
        source = self.source
        if source.log.sealed:
            self.leave_to_task()
            return
        try:
            data = source.take()
        except Exception:  # evicted events, or an error of the encoder
            self.leave_to_task()  # it raises again for the task, where it ends this reader
            return
        if data and not self.sent(data):
            self.leave_to_task(data)

    def sent(self, data: bytes) -> bool:
        """Sends a piece if that is possible at once; returns whether it was sent."""
        try:
            return len(data) <= _MOST and self.push.write(data)
        except Exception:
            return False  # the task tries to send it, and gets the same exception

    def leave_to_task(self, data: bytes = b"") -> None:
        """Lets the task continue, with data that was taken already."""
        self.left = data
        self.waits = False
        self.wake()


class _SharedWriter:
    """All readers of one feed: those that keep up are at the same event, so new events are taken once for all."""

    __slots__ = ("_feed", "readers")

    def __init__(self, feed: Feed, *readers: DirectWriter) -> None:
        self._feed = feed
        self.readers = dict.fromkeys(readers)  # ordered, with fast removal

    def __call__(self) -> None:
        """Called when the log has changed."""
        feed = self._feed
        sealed = feed.log.sealed
        at, data, last = -1, b"", 0
        for reader in tuple(self.readers):
            if not reader.waits:
                continue
            if sealed:
                reader.leave_to_task()
                continue
            source = reader.source
            if source.after != at:  # a waiting reader has already sent its first bytes
                try:
                    at = source.after
                    data = source.take()
                except Exception:
                    at = -1
                    reader.leave_to_task()  # it raises again for the task, where it ends this reader
                    continue
                last = source.after
            else:
                source.after = last
            if data and not reader.sent(data):
                reader.leave_to_task(data)


def _follow(feed: Feed, follower: Callable[[], object] | None) -> None:
    """Replaces the follower of a feed's log."""
    if feed.direct is not None:
        feed.log.changed.unfollow(feed.direct)
    feed.direct = follower
    if follower is not None:
        feed.log.changed.follow(follower)
