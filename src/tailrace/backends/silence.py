"""What a model server is doing while it says nothing: asked now and then, on a connection of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tailrace import errors
from tailrace.events import Event
from tailrace.run.exchange import Report

__all__ = ["SilenceWatch"]

_AFTER = 2.0  # seconds without an answer's head
_ANSWER = 2.0  # seconds that the server has to answer


class SilenceWatch:
    """A context in which a request waits for its answer's head; meanwhile somebody asks what the server is doing.

    Args:
        ask: returns it; None ends the watch, and so does an error.
        report: is told of it, once for each change.
        every: seconds between two questions.
    """

    def __init__(self, ask: Callable[[], Awaitable[Event | None]], report: Report, every: float = _AFTER) -> None:
        self._ask = ask
        self._report = report
        self._every = every
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_AFTER, self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._watch(), name="tailrace watch")

    async def _watch(self) -> None:
        reported: Event | None = None
        while True:
            try:
                async with asyncio.timeout(_ANSWER):
                    now = await self._ask()
            except (TimeoutError, errors.TailraceError):
                return  # it does not say; the run reports what it knows without it
            if now is None:
                return
            if now != reported:
                self._report(now)
                reported = now
            await asyncio.sleep(self._every)

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
