"""Direct writing: tokens are sent from within the change of the log, without waking the stream's task for each.

That takes a server that lets us write when we like: ours puts a function into the scope that writes a piece of the
body at once, or says that it would have to wait. Elsewhere streams send from their task. Left to the task in any case
are silences, endings, changes made on other threads, and readers that are slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tailrace.web.source import Feed, Source

__all__ = ["DIRECT_WRITE", "DirectWrite", "DirectWriter"]


class DirectWrite(Protocol):
    """A server's way to write without a task. On the loop's thread only."""

    def __call__(self, data: bytes) -> bool:
        """Writes a piece of the body now; returns False, without writing, if that would have to wait."""

    def watch(self, left: Callable[[], object] | None) -> bool:
        """Has `left` called when the client goes, or nothing with None; False if only ``receive`` will tell."""


DIRECT_WRITE = "tailrace.direct_write"
"""Where a scope has it, if the server has it."""

_MOST = 64 * 1024  # bytes; what is more comes to a reader that was behind, and is cut and timed by the task


class DirectWriter:
    """Sends what is new in a log while it changes, for one reader of a log whose owner lives on this loop.

    Args:
        push: the server's.
        source: where the reader is.
        wake: wakes the stream's task.

    Attributes:
        waits: True while the task waits: then nobody else sends.
        left: what was taken from the source and is to be sent by the task, before anything else.
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
            _follow(feed, self)  # alone, as nearly always: one object less that each token touches
        elif isinstance(before, _SharedWriter):
            before.readers[self] = None
        elif isinstance(before, DirectWriter):
            _follow(feed, _SharedWriter(feed, before, self))

    def close(self) -> None:
        """Sends no more; idempotent."""
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
        """The log has changed, and there is no other reader."""
        if not self.waits:
            return
        source = self.source
        if source.log.sealed:
            self.leave_to_task()
            return
        try:
            data = source.take()
        except Exception:  # what is no longer kept, or a fault of the encoder
            self.leave_to_task()  # it raises again for the task, where it ends this reader
            return
        if data and not self.sent(data):
            self.leave_to_task(data)

    def sent(self, data: bytes) -> bool:
        """Sends a piece if that can be done at once; returns whether it was."""
        try:
            return len(data) <= _MOST and self.push(data)
        except Exception:
            return False  # the task sends it, and finds the same

    def leave_to_task(self, data: bytes = b"") -> None:
        """Has the task go on, with what was taken already."""
        self.left = data
        self.waits = False
        self.wake()


class _SharedWriter:
    """All readers of one feed: those who keep up are at the same place, and what is new is taken once for all."""

    __slots__ = ("_feed", "readers")

    def __init__(self, feed: Feed, *readers: DirectWriter) -> None:
        self._feed = feed
        self.readers = dict.fromkeys(readers)  # in order, and quick to leave

    def __call__(self) -> None:
        """The log has changed."""
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
            if source.after != at:  # who waits has taken what its reader begins with
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
    """Has another one be told of a log's changes, in place of who is told now."""
    if feed.direct is not None:
        feed.log.changed.unfollow(feed.direct)
    feed.direct = follower
    if follower is not None:
        feed.log.changed.follow(follower)
