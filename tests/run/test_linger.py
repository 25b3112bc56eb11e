"""Readers and the run: without one for the linger time it is abandoned, and the model let go; with one it never is."""

from __future__ import annotations

import asyncio
import threading

from tests.run.spoken import COMPLETE, spoken, until, until_ended

from tailrace.events import Outcome
from tailrace.run.run import Run


async def test_a_run_goes_on_without_readers() -> None:
    """Without a linger time nobody needs to be there."""
    run, model = spoken()
    run.attach()
    run.detach()
    model.say("a", COMPLETE)

    assert (await until_ended(run)).outcome is Outcome.COMPLETE


async def test_abandoned() -> None:
    """With the last reader gone the time runs, then the run ends and says why, and the model is let go."""
    run, model = spoken(linger=0.01)
    run.attach()
    run.attach()
    run.detach()
    model.say("a")
    await until(run, 1)
    run.detach()
    ended = await until_ended(run)

    assert (ended.outcome, ended.reason) == (Outcome.ABANDONED, "no reader for 0.01 s")
    assert model.closed.is_set()
    assert (run.readers, run.reply().text) == (0, "a")


async def test_nobody_ever_came() -> None:
    """The time runs from the start of a run on, and from the moment it is set."""
    first, _ = spoken(linger=0.01)
    second, _ = spoken()
    second.set_linger(0.0)

    assert (await until_ended(first)).outcome is Outcome.ABANDONED
    assert (await until_ended(second)).reason == "no reader for 0 s"


async def test_a_reader_that_comes_in_time() -> None:
    """A reader that comes before the time is up stops the clock; a longer time, or none, starts it anew."""
    run, model = spoken(linger=3600)
    run.attach()
    run.set_linger(0.0)
    await asyncio.sleep(0)
    assert run.ended is None
    run.set_linger(None)
    run.detach()
    await asyncio.sleep(0)
    assert run.ended is None
    run.attach()
    model.say(COMPLETE)

    assert (await until_ended(run)).outcome is Outcome.COMPLETE
    run.detach()
    assert run.readers == 0


async def test_readers_on_other_threads() -> None:
    """Readers are counted exactly, whatever thread they come and go on; with the last of them the run is abandoned."""
    run, _ = spoken()
    run.attach()
    threads = [threading.Thread(target=_come_and_go, args=(run,)) for _ in range(4)]
    run.set_linger(0.0)
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join, 60)
    await asyncio.sleep(0)

    assert (run.readers, run.ended) == (1, None)
    await asyncio.to_thread(run.detach)
    assert (await until_ended(run)).outcome is Outcome.ABANDONED


def _come_and_go(run: Run) -> None:
    for _ in range(200):
        run.attach()
        run.detach()
