"""Pushing: tokens are sent from within the change of the log, without waking the stream's task for each.

That is possible where the server's own ``send`` is known not to care which task calls it, and nearly always does not
wait: uvicorn's. The gateway hands it on in the scope; elsewhere streams send from their task. What is left to the task
in any case: silences, endings, changes made on other threads, and the rest of a send that does have to wait.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any

from tailrace.errors import EvictedError
from tailrace.web.source import Source

__all__ = ["RAW_SEND", "Pushing"]

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

RAW_SEND = "tailrace.send"
"""Where a scope has the server's own ``send``, if it may be called from anywhere on the loop."""

_MOST = 64 * 1024  # bytes; what is more comes to a reader that was behind, and is cut and timed by the task


class Pushing:
    """Sends what is new in a log while it changes.

    Args:
        send: the server's own.
        source: where the reader is.
        sent: called when something was sent.

    Attributes:
        left: what was taken from the source and is to be sent by the task, before anything else.
        rest: a send that has to wait, to be awaited by the task.
        error: what a send raised.
    """

    def __init__(self, send: Send, source: Source, sent: Callable[[], object]) -> None:
        self.left = b""
        self.rest: Awaitable[None] | None = None
        self.error: Exception | None = None
        self._send = send
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
        if len(data) > _MOST:
            self.left = data
            return False
        if data:
            sending = self._send({"type": "http.response.body", "body": data, "more_body": True}).__await__()
            try:
                waits_for = next(sending)
            except StopIteration:
                self._sent()
            except Exception as error:
                self.error = error
                return False
            else:
                self.rest = _Rest(sending, waits_for)
                return False
        return True


class _Rest:
    """What is left of a send that has begun: the task waits for what it waits for, and goes on with it."""

    def __init__(self, sending: Generator[Any, Any, None], waits_for: Any) -> None:
        self._sending = sending
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        sending, waits_for = self._sending, self._waits_for
        while True:
            try:
                # The event loop has not seen this yet: it is as the send gave it.
                value = yield waits_for
            except BaseException as error:
                go_on = functools.partial(sending.throw, error)
            else:
                go_on = functools.partial(sending.send, value)
            try:
                waits_for = go_on()
            except StopIteration:
                return
