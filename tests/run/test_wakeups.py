"""Waiters and bells: no wake-up is missed, whichever thread makes it; no place is kept for who waits no more."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tailrace.run.wakeups import Bell, Waiters

PATIENCE = 60.0


async def test_wakes_a_task_on_its_own_loop() -> None:
    """A task that waits is woken by a change on its own loop."""
    waiters, changed = Waiters(), False

    async def change() -> None:
        nonlocal changed
        changed = True
        waiters.wake()

    task = asyncio.create_task(change())
    await Bell(waiters).wait(lambda: changed, PATIENCE)
    await task

    assert changed


async def test_wakes_a_task_from_another_thread() -> None:
    """A thousand changes on another thread are seen one by one, and none is missed."""
    waiters, said, heard = Waiters(), 0, threading.Semaphore(0)

    def say() -> None:
        nonlocal said
        for _ in range(1000):
            said += 1
            waiters.wake()
            assert heard.acquire(timeout=PATIENCE)

    thread = threading.Thread(target=say)
    thread.start()
    bell = Bell(waiters)
    for number in range(1, 1001):
        while said < number:
            await bell.wait(lambda number=number: said >= number, PATIENCE)  # type: ignore[misc]
        heard.release()
    await asyncio.to_thread(thread.join, PATIENCE)

    assert said == 1000


async def test_does_not_wait_for_what_is_there() -> None:
    """Who looks first finds what is there already, without a change."""
    await Bell(Waiters()).wait(lambda: True)


async def test_rung_from_elsewhere() -> None:
    """A bell is rung from its own thread or another without any change; before somebody waits, that is lost."""
    waiters, rung = Waiters(), 0
    bell = Bell(waiters)
    bell.ring()

    def ring() -> None:
        nonlocal rung
        rung += 1
        bell.ring()

    asyncio.get_running_loop().call_soon(ring)
    await bell.wait(lambda: False)
    threading.Timer(0, ring).start()
    await bell.wait(lambda: False)

    assert rung == 2


async def test_the_time_is_up() -> None:
    """Waiting ends with the time, and the bell has one place among the waiters however often it did."""
    waiters = Waiters()
    bell = Bell(waiters)
    for _ in range(10):
        await bell.wait(lambda: False, 0.001)

    assert len(waiters._waiting) == 1


async def test_cancelled_while_waiting() -> None:
    """A task that is cancelled while it waits is free at once, and its bell may be rung without harm."""
    waiters = Waiters()
    bell = Bell(waiters)
    task = asyncio.create_task(bell.wait(lambda: False))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bell.ring()
    waiters.wake()
    await bell.wait(lambda: True)


def test_a_reader_whose_loop_is_closed() -> None:
    """A change finds a reader whose loop is closed, and wakes the others all the same."""
    waiters = Waiters()

    async def place() -> None:
        bell = Bell(waiters)
        await bell.wait(lambda: False, 0.001)

    asyncio.run(place())
    woken = threading.Event()
    waiters.add(woken.set)
    thread = threading.Thread(target=waiters.wake)
    thread.start()
    thread.join(PATIENCE)

    assert woken.is_set()


def test_threads_leave_no_place_behind() -> None:
    """A thread that waited in vain is no longer among the waiters."""
    waiters = Waiters()
    for _ in range(10):
        assert not waiters.wait(lambda: False, 0.001)

    assert waiters._waiting == []


def test_who_follows_is_told_of_each_change() -> None:
    """Until it follows no more; it need not register again, and may leave while it is told."""
    waiters = Waiters()
    told: list[str] = []

    def once() -> None:
        told.append("once")
        waiters.unfollow(once)

    def always() -> None:
        told.append("always")

    waiters.follow(once)
    waiters.follow(always)
    waiters.wake()
    waiters.wake()
    waiters.unfollow(always)
    waiters.unfollow(always)
    waiters.wake()

    assert told == ["once", "always", "always"]


async def test_a_bell_that_no_change_rings() -> None:
    """It waits until it is rung."""
    bell = Bell(None)
    asyncio.get_running_loop().call_soon(bell.ring)
    await bell.wait(lambda: False)

    assert not bell._placed


def test_one_who_fails_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """A follower or a waiter that raises is logged, and told no more; the others are, and so is who made the change."""
    waiters = Waiters()
    told: list[str] = []

    def fail() -> None:
        told.append("failing")
        raise RuntimeError("a bug of a reader")

    waiters.follow(fail)
    waiters.follow(lambda: told.append("follower"))
    waiters.add(fail)
    waiters.add(lambda: told.append("waiter"))
    waiters.wake()
    waiters.wake()

    assert told == ["failing", "follower", "failing", "waiter", "follower"]
    assert [record.exc_text is not None or record.exc_info is not None for record in caplog.records] == [True, True]
