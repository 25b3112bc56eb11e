"""A watchdog for sends: a reader that takes nothing is let go, and may come back with its last id."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Self

from tailrace.web.asgi_types import Message, Send

__all__ = ["WatchedSender"]

_SECOND_LOOK = 1.0  # seconds after a send was too long under way, before it is given up


class WatchedSender:
    """Sends, each time within a limit. An async context manager: within it the sends are made.

    It has no timer of its own: whoever has one calls `look`.

    Args:
        send: the server's.
        limit: seconds that a send may take.
    """

    __slots__ = ("_limit", "_loop", "_scope", "_send", "_since", "_suspect")

    def __init__(self, send: Send, limit: float) -> None:
        self._send = send
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._since = math.inf  # when the send began that is under way
        self._suspect = math.inf  # the beginning of one that was too long under way already when it was looked at
        self._scope = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        await self._scope.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> None:
        await self._scope.__aexit__(*raised)  # turns the cancelling that it did into a TimeoutError

    async def send(self, message: Message) -> None:
        """Sends a message.

        Raises:
            TimeoutError: the reader does not take it; leave the context then.
        """
        self._since = self._loop.time()
        await self._send(message)
        self._since = math.inf

    async def body(self, data: bytes, *, more: bool = True) -> None:
        """Sends a piece of the body.

        Raises:
            TimeoutError: the reader does not take it; leave the context then.
        """
        self._since = self._loop.time()
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._since = math.inf

    def look(self) -> float:
        """Gives up a send that takes too long; returns the seconds until this is to be called again, at the latest."""
        now = self._loop.time()
        since = self._since
        if now < since + self._limit:
            return min(since + self._limit - now, self._limit)
        if self._suspect != since:
            # If the loop was blocked, or the whole computer asleep, the socket has not been asked yet.
            self._suspect = since
            return _SECOND_LOOK
        self._scope.reschedule(now)
        self._since = math.inf  # once is enough
        return self._limit
