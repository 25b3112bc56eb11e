"""The queue in front of an upstream: order, fairness, priorities, and places that are given free whatever happens."""

from __future__ import annotations

import asyncio

import pytest

from tailrace.errors import BusyError
from tailrace.gateway.scheduling.fair_queue import FairQueue, Ticket


class Run:
    """Somebody who waits, is in, and leaves when told."""

    def __init__(self, queue: FairQueue, key: str, priority: str = "interactive") -> None:
        self.queue = queue
        self.places: list[int] = []
        self.ticket = Ticket(key, priority, self.places.append)  # type: ignore[arg-type]
        self.task = asyncio.ensure_future(queue.enter(self.ticket))

    @property
    def inside(self) -> bool:
        return self.ticket.inside

    def leave(self) -> None:
        self.queue.leave(self.ticket)


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_without_a_limit_nobody_waits() -> None:
    """All are let in at once, and told nothing."""
    queue = FairQueue()
    runs = [Run(queue, "a") for _ in range(50)]
    await settled()

    assert all(run.inside and not run.places for run in runs)
    assert (queue.running, queue.waiting) == (50, 0)


async def test_those_who_wait_are_told_their_place() -> None:
    """The place moves up as others leave; who is let in is told no place."""
    queue = FairQueue(1)
    first, second, third = (Run(queue, "a") for _ in range(3))
    await settled()

    assert (first.places, second.places, third.places) == ([], [1], [2])

    first.leave()
    await settled()
    assert (second.inside, third.inside) == (True, False)
    assert third.places == [2, 1]


@pytest.mark.parametrize("places", [1, 2, 5])
async def test_a_flood_of_one_client_lets_another_through(places: int) -> None:
    """One key's hundred runs: another's single run is let in within two completions, whenever it comes."""
    queue = FairQueue(places)
    flood = [Run(queue, "flood") for _ in range(100)]
    await settled()
    for came_after in range(10):
        flood[came_after].leave()
    await settled()
    single = Run(queue, "single")
    await settled()
    assert single.places[0] <= 2

    for _ in range(2):
        next(run for run in flood if run.inside).leave()
        await settled()
    assert single.inside


async def served(queue: FairQueue, holder: Run, runs: list[Run]) -> list[str]:
    """Lets one after the other in, and returns whose they were."""
    order = []
    holder.leave()
    for _ in runs:
        await settled()
        inside = next(run for run in runs if run.inside)
        order.append(inside.ticket.key)
        inside.leave()
    return order


async def test_several_clients_take_turns() -> None:
    """With one place, clients who wait with many are served in turns."""
    queue = FairQueue(1)
    holder = Run(queue, "x")
    await settled()
    runs = [Run(queue, key) for key in ("a", "a", "a", "b", "b", "c")]
    await settled()

    assert await served(queue, holder, runs) == ["a", "b", "c", "a", "b", "a"]
    assert queue.busy == 0


async def test_who_leaves_the_queue_is_not_counted() -> None:
    """A client that gave up many waiting runs is not set back for them."""
    queue = FairQueue(1)
    holder = Run(queue, "x")
    await settled()
    given_up = [Run(queue, "a") for _ in range(20)]
    await settled()
    for run in given_up:
        run.task.cancel()
    await settled()
    runs = [Run(queue, key) for key in ("b", "b", "a", "a")]
    await settled()

    assert await served(queue, holder, runs) == ["b", "a", "b", "a"]


async def test_clients_of_long_ago_are_forgotten() -> None:
    """A thousand clients leave nothing behind."""
    queue = FairQueue(1)
    for number in range(1000):
        run = Run(queue, f"client {number}")
        await settled()
        run.leave()

    assert len(queue._last) < 50


async def test_interactive_before_batch() -> None:
    """Batch waits while anybody interactive does, however early it came."""
    queue = FairQueue(1)
    holder = Run(queue, "x")
    await settled()
    batch = Run(queue, "a", "batch")
    await settled()
    interactive = Run(queue, "a")
    await settled()

    assert (batch.places, interactive.places) == ([1, 2], [1])
    holder.leave()
    await settled()
    assert (batch.inside, interactive.inside) == (False, True)


async def test_cancelled_while_waiting() -> None:
    """Who is cancelled has left: the place is another's, and nothing stays."""
    queue = FairQueue(1)
    first, second, third = (Run(queue, "a") for _ in range(3))
    await settled()
    second.task.cancel()
    await settled()

    assert third.places == [2, 1]
    first.leave()
    await settled()
    assert third.inside
    third.leave()
    second.leave()
    third.leave()
    assert (queue.running, queue.waiting) == (0, 0)


async def test_cancelled_just_when_let_in() -> None:
    """A cancel between being let in and noticing it gives the place free."""
    queue = FairQueue(1)
    first, second, third = (Run(queue, "a") for _ in range(3))
    await settled()
    first.leave()  # the second is let in, and its task has not run yet
    second.task.cancel()
    await settled()

    assert third.inside
    assert (queue.running, queue.waiting) == (1, 0)


async def test_a_full_queue_refuses() -> None:
    """503 with the time to wait; who is refused takes no place."""
    queue = FairQueue(1, 2)
    runs = [Run(queue, "a") for _ in range(3)]
    await settled()

    with pytest.raises(BusyError) as caught:
        await queue.enter(Ticket("b", "interactive", lambda place: None))
    assert caught.value.status_code == 503
    assert caught.value.retry_after is not None
    assert queue.busy == 3
    for run in runs:
        run.leave()


async def test_a_place_is_taken_at_once() -> None:
    """Who has taken a place has it before it waits for its turn: others see it, and it may leave unheard."""
    queue = FairQueue(1, 1)
    tickets = [Ticket("a", "interactive") for _ in range(2)]
    for ticket in tickets:
        queue.admit(ticket)
    assert (queue.running, queue.waiting) == (1, 1)
    with pytest.raises(BusyError):
        queue.admit(Ticket("b", "interactive"))

    queue.leave(tickets[0])
    await queue.enter(tickets[1])
    assert tickets[1].inside
    queue.leave(tickets[1])
    assert queue.busy == 0
