"""The fair queue in front of an upstream.

A bounded number of runs is active at once; the others wait, and their place in the queue is reported. Interactive runs
go before batch runs. Within a priority, clients are served in rounds: each run has a round, a client's next run is in
the next round, and a new client joins the current round. So a hundred runs of one client delay a single run of another
by two completions at most. (Start-time fair queueing, Goyal et al. 1996, with equal costs for all runs.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Literal

from tailrace.errors import BusyError

__all__ = ["FairQueue", "Priority", "Ticket"]

Priority = Literal["interactive", "batch"]

_RANK = {"interactive": 0, "batch": 1}


class Ticket:
    """A run's place in a queue, from arrival until it leaves.

    Args:
        key: the client that it belongs to.
        priority: interactive or batch.
        moved: called with the ticket's place, 1 is next, whenever it changes; it may be set later.
    """

    __slots__ = ("entered", "inside", "key", "moved", "number", "place", "priority", "round")

    def __init__(self, key: str, priority: Priority, moved: Callable[[int], object] | None = None) -> None:
        self.key = key
        self.priority = priority
        self.moved = moved
        self.number = 0  # in the order of arrival
        self.round = 0
        self.place = 0
        self.inside = False
        self.entered: asyncio.Future[None] | None = None


class FairQueue:
    """Admits runs, a bounded number at once. Belongs to one event loop.

    Args:
        running: how many may be active at once; None: no limit, and so no queue.
        waiting: how many may wait; more are refused.
    """

    def __init__(self, running: int | None = None, waiting: int = 512) -> None:
        self._most = running
        self._most_waiting = waiting
        self._inside = 0
        self._waiting: list[Ticket] = []
        self._count = 0
        self._round = 0  # of the run that was let in last
        self._last: dict[str, int] = {}  # the round of each client's last ticket

    @property
    def running(self) -> int:
        """How many runs are active."""
        return self._inside

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def busy(self) -> int:
        """How many are active or wait."""
        return self.running + self.waiting

    def admit(self, ticket: Ticket) -> None:
        """Gives a ticket a place: active, or in the queue.

        Raises:
            BusyError: 503: too many wait.
        """
        full = self._most is not None and self.running >= self._most
        if full and self.waiting >= self._most_waiting:
            error = BusyError(f"{self.waiting} runs wait already", 503, hint="try again later")
            error.retry_after = max(1.0, self.waiting / max(1, self._most or 1))
            raise error
        self._count += 1
        ticket.number = self._count
        ticket.round = self._last[ticket.key] = max(self._round, self._last.get(ticket.key, 0)) + 1
        if full or self._waiting:
            self._waiting.append(ticket)
            self._order()
        else:
            self._let_in(ticket)

    async def enter(self, ticket: Ticket) -> None:
        """Waits until the ticket is active. If that is cancelled, the ticket has left the queue.

        Raises:
            BusyError: it has no place yet, and there is none.
        """
        if not ticket.number:
            self.admit(ticket)
        if ticket.inside:
            return
        ticket.entered = asyncio.get_running_loop().create_future()
        try:
            await ticket.entered
        except BaseException:
            self.leave(ticket)
            raise

    def leave(self, ticket: Ticket) -> None:
        """Gives the place free, in the queue or inside; may be called again."""
        if ticket.inside:
            ticket.inside = False
            self._inside -= 1
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
            self._move_up(ticket)
        else:
            return
        self._order()
        while self._waiting and (self._most is None or self.running < self._most):
            first = self._waiting.pop(0)
            self._let_in(first)
            if first.entered is not None and not first.entered.done():
                first.entered.set_result(None)
            self._order()

    def _let_in(self, ticket: Ticket) -> None:
        ticket.inside = True
        self._inside += 1
        self._round = max(self._round, ticket.round)
        if len(self._last) > 2 * (self.busy + 16):  # clients of long ago
            self._last = {key: last for key, last in self._last.items() if last > self._round}

    def _move_up(self, gone: Ticket) -> None:
        """A ticket that left while waiting has not used its round: later ones of its client move up a round."""
        for ticket in self._waiting:
            if ticket.key == gone.key and ticket.round > gone.round:
                ticket.round -= 1
        if gone.key in self._last:
            self._last[gone.key] -= 1

    def _order(self) -> None:
        """Sorts the waiting tickets, and calls `moved` of those whose place has changed."""
        self._waiting.sort(key=lambda ticket: (_RANK[ticket.priority], ticket.round, ticket.number))
        for place, ticket in enumerate(self._waiting, 1):
            if ticket.place != place:
                ticket.place = place
                if ticket.moved is not None:
                    ticket.moved(place)
