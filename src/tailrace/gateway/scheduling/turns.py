"""Turns: work that takes the processor, done in slices, with the clients' slices one after the other.

One request that has much to do does not keep others waiting for more than a slice, and a client that sends many gets as
much as one that sends one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from tailrace.gateway.scheduling.fair_queue import FairQueue, Ticket
from tailrace.protocols.problems import ProblemError

__all__ = ["Turns", "finished"]

T = TypeVar("T")


class Turns:
    """Gives requests their turns. Belongs to one event loop.

    Args:
        what: what is worked on, for who has too much of it.
        most: how many requests there may be at once.
        each: how many of one client.
        working: how many have their turn at once.
    """

    def __init__(self, what: str, *, most: int = 32, each: int = 8, working: int = 1) -> None:
        self._what = what
        self._most = most
        self._each = each
        self._queue = FairQueue(working, most)
        self._here: Counter[str] = Counter()

    @contextlib.contextmanager
    def place(self, client: str) -> Iterator[None]:
        """A request's place among those that have turns: what each has made so far is kept in memory.

        Raises:
            ProblemError: 503: there are too many; 429: this client has too many.
        """
        if self._here.total() >= self._most:
            raise ProblemError(503, f"too many {self._what} at once", headers={"Retry-After": "1"})
        if self._here[client] >= self._each:
            raise ProblemError(429, f"{self._each} {self._what} of yours wait already", headers={"Retry-After": "1"})
        self._here[client] += 1
        try:
            yield
        finally:
            self._here[client] -= 1
            if not self._here[client]:
                del self._here[client]

    @contextlib.asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """Waits for a client's turn; inside, it has it."""
        ticket = Ticket(client, "interactive")
        await self._queue.enter(ticket)
        try:
            yield
        finally:
            self._queue.leave(ticket)


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Waits for work to its end, also when it is cancelled meanwhile: that is raised then."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not task.done():
            await asyncio.wait({task})
        raise
