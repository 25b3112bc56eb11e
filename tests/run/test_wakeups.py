"""Wake-ups: no wake-up is missed, whichever thread makes it; no place is kept for who waits no more."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tailrace.run.wakeups import Wakeup, Wakeups

PATIENCE = 60.0


async def test_wakes_a_task_on_its_own_loop() -> None:
    """A task that waits is woken by a change on its own loop."""
    wakeups, changed = Wakeups(), False

    async def change() -> None:
        nonlocal changed
        changed = True
        wakeups.wake()

    task = asyncio.create_task(change())
    await Wakeup(wakeups).wait(lambda: changed, PATIENCE)
    await task

    assert changed


async def test_wakes_a_task_from_another_thread() -> None:
    """A thousand changes on another thread are seen one by one, and none is missed."""
    wakeups, said, heard = Wakeups(), 0, threading.Semaphore(0)

    def say() -> None:
        nonlocal said
        for _ in range(1000):
            said += 1
            wakeups.wake()
            assert heard.acquire(timeout=PATIENCE)

    thread = threading.Thread(target=say)
    thread.start()
    wakeup = Wakeup(wakeups)
    for number in range(1, 1001):
        while said < number:
            await wakeup.wait(lambda number=number: said >= number, PATIENCE)  # type: ignore[misc]
        heard.release()
    await asyncio.to_thread(thread.join, PATIENCE)

    assert said == 1000


async def test_does_not_wait_for_what_is_there() -> None:
    """Who looks first finds what is there already, without a change."""
    await Wakeup(Wakeups()).wait(lambda: True)


async def test_rung_from_elsewhere() -> None:
    """A task is woken from its own thread or another without any change; before somebody waits, that is lost."""
    wakeups, rung = Wakeups(), 0
    wakeup = Wakeup(wakeups)
    wakeup.wake()

    def wake() -> None:
        nonlocal rung
        rung += 1
        wakeup.wake()

    asyncio.get_running_loop().call_soon(wake)
    await wakeup.wait(lambda: False)
    threading.Timer(0, wake).start()
    await wakeup.wait(lambda: False)

    assert rung == 2


async def test_the_time_is_up() -> None:
    """Waiting ends with the time, and it has one place among those who wait however often it did."""
    wakeups = Wakeups()
    wakeup = Wakeup(wakeups)
    for _ in range(10):
        await wakeup.wait(lambda: False, 0.001)

    assert len(wakeups._waiting) == 1


async def test_cancelled_while_waiting() -> None:
    """A task that is cancelled while it waits is free at once, and may be woken without harm."""
    wakeups = Wakeups()
    wakeup = Wakeup(wakeups)
    task = asyncio.create_task(wakeup.wait(lambda: False))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wakeup.wake()
    wakeups.wake()
    await wakeup.wait(lambda: True)


def test_a_reader_whose_loop_is_closed() -> None:
    """A change finds a reader whose loop is closed, and wakes the others all the same."""
    wakeups = Wakeups()

    async def place() -> None:
        wakeup = Wakeup(wakeups)
        await wakeup.wait(lambda: False, 0.001)

    asyncio.run(place())
    woken = threading.Event()
    wakeups.add(woken.set)
    thread = threading.Thread(target=wakeups.wake)
    thread.start()
    thread.join(PATIENCE)

    assert woken.is_set()


def test_threads_leave_no_place_behind() -> None:
    """A thread that waited in vain is no longer among those who wait."""
    wakeups = Wakeups()
    for _ in range(10):
        assert not wakeups.wait(lambda: False, 0.001)

    assert wakeups._waiting == []


def test_who_follows_is_told_of_each_change() -> None:
    """Until it follows no more; it need not register again, and may leave while it is told."""
    wakeups = Wakeups()
    told: list[str] = []

    def once() -> None:
        told.append("once")
        wakeups.unfollow(once)

    def always() -> None:
        told.append("always")

    wakeups.follow(once)
    wakeups.follow(always)
    wakeups.wake()
    wakeups.wake()
    wakeups.unfollow(always)
    wakeups.unfollow(always)
    wakeups.wake()

    assert told == ["once", "always", "always"]


async def test_a_bell_that_no_change_rings() -> None:
    """It waits until it is rung."""
    wakeup = Wakeup(None)
    asyncio.get_running_loop().call_soon(wakeup.wake)
    await wakeup.wait(lambda: False)

    assert not wakeup._placed


def test_one_who_fails_harms_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """A follower or a waiter that raises is logged, and told no more; the others are, and so is who made the change."""
    wakeups = Wakeups()
    told: list[str] = []

    def fail() -> None:
        told.append("failing")
        raise RuntimeError("a bug of a reader")

    wakeups.follow(fail)
    wakeups.follow(lambda: told.append("follower"))
    wakeups.add(fail)
    wakeups.add(lambda: told.append("waiter"))
    wakeups.wake()
    wakeups.wake()

    assert told == ["failing", "follower", "failing", "waiter", "follower"]
    assert [record.exc_text is not None or record.exc_info is not None for record in caplog.records] == [True, True]
