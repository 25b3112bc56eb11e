"""Reader: a cursor on a run's log. It replays, then follows, with no seam, because both are the same read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from tailrace.events import Event
from tailrace.run.run import Run

__all__ = ["Reader"]

_LOOK = 1.0  # seconds between looks at whether the owner still lives


class Reader:
    """Reads one run's events, each exactly once, from a starting cursor.

    Args:
        run: the run to read.
        after: number of the last event already seen; 0 reads from the start.
    """

    __slots__ = ("after", "run")

    def __init__(self, run: Run, after: int = 0) -> None:
        self.run = run
        self.after = after

    def _ready(self) -> bool:
        return self.run.log.end > self.after

    @property
    def at_end(self) -> bool:
        """True once the ending was read."""
        log = self.run.log
        return log.sealed and self.after >= log.end

    def take(self) -> Sequence[Event]:
        """Returns what is new, without waiting."""
        events = self.run.log.read(self.after)
        self.after += len(events)
        return events

    def read(self, look: float = _LOOK, looking: Callable[[], float] | None = None) -> Sequence[Event]:
        """Returns what is new; blocks this thread while there is nothing. Empty once the ending was read.

        Args:
            look: seconds until a thread that waits looks around.
            looking: called then; returns the seconds until it is to be called again. What it raises ends the wait.
        """
        run = self.run
        while not self._ready():
            if self.at_end:
                return ()
            if not run.log.changed.wait(self._ready, look):
                run.settle()
                look = looking() if looking is not None else look
        return self.take()

    async def read_async(self) -> Sequence[Event]:
        """Returns what is new; suspends this task while there is nothing. Empty once the ending was read."""
        run = self.run
        while not self._ready():
            if self.at_end:
                return ()
            run.settle()
            # An owner on this very loop cannot die unnoticed; one elsewhere is looked after.
            look = None if run.lives_on(asyncio.get_running_loop()) else _LOOK
            await run.log.changed.wait_async(self._ready, look)
        return self.take()
