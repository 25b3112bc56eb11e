"""Limits: how many connections a client may have at once, over all its threads and event loops."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from tailrace.errors import RequestError
from tailrace.run.exchange import Exchange

__all__ = ["Limit", "limit_of"]

_Waiting = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


def limit_of(limits: Any) -> Limit | None:
    """Returns the limit that ``limits=`` means: a number, or an object with ``max_connections``, as httpx.Limits is.

    Raises:
        RequestError: it is neither.
    """
    most = getattr(limits, "max_connections", limits)
    if most is None:
        return None
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise RequestError(f"limits is how many connections there may be at once, or an httpx.Limits, not {limits!r}")
    return Limit(most)


class Limit:
    """Places for connections; whoever finds none waits for one, first come first served.

    Args:
        most: how many there are.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._free = self._most
        self._waiting: deque[_Waiting] = deque()

    async def enter(self, waits: Callable[[], object] = bool) -> None:
        """Takes a place; `waits` is called if there is none yet."""
        if self._process != os.getpid():
            self._begin()  # what is taken is the parent's
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._free:
                self._free -= 1
                return
            place: asyncio.Future[None] = loop.create_future()
            mine = (loop, place)
            self._waiting.append(mine)
        waits()
        try:
            await place
        except asyncio.CancelledError:
            with self._lock:
                gave_up = mine in self._waiting
                if gave_up:
                    self._waiting.remove(mine)
            if not gave_up and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Gives a place back, to the next one that waits. From any thread."""
        while True:
            with self._lock:
                if not self._waiting:
                    self._free = min(self._free + 1, self._most)
                    return
                loop, place = self._waiting.popleft()
            with contextlib.suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(self._give, place)
                return

    def _give(self, place: asyncio.Future[None]) -> None:
        if place.cancelled():
            self.leave()
        else:
            place.set_result(None)

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Holds a place while the block runs."""
        await self.enter()
        try:
            yield
        finally:
            self.leave()

    def counted(self, exchange: Exchange) -> Exchange:
        """Returns the exchange, which gives its place back at its end."""
        return _Counted(exchange, self)


class _Counted:
    """An exchange with a place. See `Exchange`."""

    def __init__(self, exchange: Exchange, limit: Limit) -> None:
        self._exchange = exchange
        self._limit: Limit | None = limit
        self.confirms = exchange.confirms
        self.relay = exchange.relay
        self.half_close = exchange.half_close

    def abort(self) -> None:
        """Closes the connection at once."""
        self._exchange.abort()
        self._leave()

    async def finish(self) -> None:
        """Closes the connection after the ending."""
        try:
            await self._exchange.finish()
        finally:
            self._leave()

    def _leave(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None:
            limit.leave()
