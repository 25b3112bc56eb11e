"""Exchanges: what a backend opens for a run, and what the two say to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from tailrace.events import Event
from tailrace.run.state import Signal

__all__ = ["Exchange", "Opener", "Report", "Take"]

Take = Callable[[Sequence[Event]], bool]
"""Takes events, at least one; returns True if no more are wanted."""


class Exchange(Protocol):
    """One open conversation with a model server, owned by a run's owner."""

    confirms: float
    """Seconds to wait, after a cancel that wants confirmation, for the server to close its side."""

    async def relay(self, take: Take) -> None:
        """Calls `take` with events as they come, until it returns True or there are no more; `Ended` is the last.

        It may be called from within the event loop's own callbacks: between the socket and the log no task has to wake.

        Raises:
            TailraceError: the model server failed.
            Exception: what `take` raised.
        """

    def half_close(self) -> bool:
        """Ends our side only, so that the server's closing of its side tells when it let go; False if impossible."""

    def abort(self) -> None:
        """Closes the connection at once."""

    async def finish(self) -> None:
        """Closes the connection after the ending, giving the server a moment to end its side first."""


class Report(Protocol):
    """How a backend tells a run what it waits for before the exchange is open."""

    def __call__(self, signal: Event | Signal) -> None:
        """Takes a `Queued`, `Loading` or `Prefill` event, or a state signal."""


Opener = Callable[[Report], Awaitable[Exchange]]
