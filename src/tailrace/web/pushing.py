"""Pushing: tokens are sent from within the change of the log, without waking the stream's task for each.

That takes a server that lets us write when we like: ours puts a function into the scope that writes a piece of the
body at once, or says that it would have to wait. Elsewhere streams send from their task. Left to the task in any case
are silences, endings, changes made on other threads, and readers that are slow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tailrace.errors import EvictedError
from tailrace.web.source import Source

__all__ = ["PUSH", "Push", "Pushing"]


class Push(Protocol):
    """A server's way to write without a task. On the loop's thread only."""

    def __call__(self, data: bytes) -> bool:
        """Writes a piece of the body now; returns False, without writing, if that would have to wait."""

    def watch(self, left: Callable[[], object] | None) -> bool:
        """Has `left` called when the client goes, or nothing with None; False if only ``receive`` will tell."""


PUSH = "tailrace.push"
"""Where a scope has it, if the server has it."""

_MOST = 64 * 1024  # bytes; what is more comes to a reader that was behind, and is cut and timed by the task


class Pushing:
    """Sends what is new in a log while it changes; a follower of a log whose owner lives on this loop.

    Args:
        push: the server's.
        source: where the reader is.
        ring: wakes the stream's task.

    Attributes:
        waits: True while the task waits: then nobody else sends.
        left: what was taken from the source and is to be sent by the task, before anything else.
    """

    __slots__ = ("_push", "_ring", "_source", "left", "waits")

    def __init__(self, push: Push, source: Source, ring: Callable[[], object]) -> None:
        self.left = b""
        self.waits = False
        self._push = push
        self._source = source
        self._ring = ring

    def __call__(self) -> None:
        """The log has changed."""
        if not self.waits:
            return
        source = self._source
        if not source.log.sealed:
            try:
                data = source.take()
            except EvictedError:
                pass  # it raises again for the task
            else:
                if not data or (len(data) <= _MOST and self._push(data)):
                    return
                self.left = data
        self.waits = False
        self._ring()
