"""Runs whose model is the test: it says events when the test wants, and sees when it is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tailrace.events import Ended, Event, Outcome, TextDelta
from tailrace.run.exchange import OnEvents, Report
from tailrace.run.log import MemoryLog
from tailrace.run.run import Run

COMPLETE = Ended(Outcome.COMPLETE, reason="stop")


class Spoken:
    """The other side of a run: an exchange with a model that says what the test has it say."""

    confirms = 0.0

    def __init__(self) -> None:
        self.closed = asyncio.Event()
        self._said: asyncio.Queue[Sequence[Event]] = asyncio.Queue()

    def say(self, *events: Event | str) -> None:
        """Says events together; a string is a piece of text."""
        self._said.put_nowait([TextDelta(event) if isinstance(event, str) else event for event in events])

    async def relay(self, on_events: OnEvents) -> None:
        while not on_events(await self._said.get()):
            pass

    def half_close(self) -> bool:
        return False

    def abort(self) -> None:
        self.closed.set()

    async def finish(self) -> None:
        self.closed.set()


def spoken(log: MemoryLog | None = None, *, linger: float | None = None) -> tuple[Run, Spoken]:
    """Returns a run that was started on this loop, and its model."""
    model = Spoken()

    async def open(_: Report) -> Spoken:
        return model

    run = Run(open, model="m", linger=linger, log=log)
    run.start(asyncio.get_running_loop())
    return run, model


async def until(run: Run, number: int) -> None:
    """Waits until a run's log has so many events."""
    while run.log.end < number:
        await run.log.changed.wait_async(lambda: run.log.end >= number, 60)


async def until_ended(run: Run) -> Ended:
    """Waits until a run has ended and its model is let go."""
    while not (run.log.sealed and run.is_released):
        await run.released.wait_async(lambda: run.is_released, 60)
    assert run.ended is not None
    return run.ended
