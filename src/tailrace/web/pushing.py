"""Pushing: tokens are sent from within the change of the log, without waking the stream's task for each.

That takes a server that lets us write when we like: ours puts a function into the scope that writes a piece of the
body at once, or says that it would have to wait. Elsewhere streams send from their task. Left to the task in any case
are silences, endings, changes made on other threads, and readers that are slow.
"""

from __future__ import annotations

from collections.abc import Callable

from tailrace.errors import EvictedError
from tailrace.web.source import Source

__all__ = ["PUSH", "Push", "Pushing"]

Push = Callable[[bytes], bool]
"""Writes a piece of the body now, on the loop's thread; returns False, without writing, if that would have to wait."""

PUSH = "tailrace.push"
"""Where a scope has it, if the server has it."""

_MOST = 64 * 1024  # bytes; what is more comes to a reader that was behind, and is cut and timed by the task


class Pushing:
    """Sends what is new in a log while it changes.

    Args:
        push: the server's.
        source: where the reader is.
        sent: called when something was sent.

    Attributes:
        left: what was taken from the source and is to be sent by the task, before anything else.
    """

    __slots__ = ("_push", "_sent", "_source", "left")

    def __init__(self, push: Push, source: Source, sent: Callable[[], object]) -> None:
        self.left = b""
        self._push = push
        self._source = source
        self._sent = sent

    def __call__(self) -> bool:
        """The log has changed, and the task waits; returns False if the task is to see to it."""
        source = self._source
        if source.log.sealed:
            return False
        try:
            data = source.take()
        except EvictedError:
            return False  # it raises again for the task
        if not data:
            return True
        if len(data) > _MOST or not self._push(data):
            self.left = data
            return False
        self._sent()
        return True
