"""Exchanges: what a backend opens for a run, and what the two say to each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from tailrace.events import Event
from tailrace.run.state import Signal

__all__ = ["Exchange", "OnEvents", "Opener", "Report"]

OnEvents = Callable[[Sequence[Event]], bool]
"""Called with one or more events; returns True if no more are wanted."""


class Exchange(Protocol):
    """One open conversation with a model server, owned by a run's owner."""

    confirms: float
    """Seconds to wait, after a cancel that wants confirmation, for the server to close its side."""

    async def relay(self, on_events: OnEvents) -> None:
        """Calls `on_events` with events as they arrive, until it returns True or there are no more.

        `Ended` is the last event. `on_events` may be called from within callbacks of the event loop: between the socket
        and the log no task has to be woken.

        Raises:
            TailraceError: the model server failed.
            Exception: what `on_events` raised.
        """

    def half_close(self) -> bool:
        """Ends our side only, so that the server's closing of its side tells when it let go; False if impossible."""

    def abort(self) -> None:
        """Closes the connection at once."""

    async def finish(self) -> None:
        """Closes the connection after the ending, giving the server a moment to end its side first."""


class Report(Protocol):
    """How a backend tells a run what it waits for before the exchange is open; and what its requests carry."""

    headers: Mapping[str, str]
    """Sent with the requests of this run to the model server, such as ``traceparent``."""

    way: Callable[[], str]
    """Set by the backend: returns words such as ``through the proxy …``, for the error if there is no connection."""

    def __call__(self, signal: Event | Signal) -> None:
        """Takes a `Queued`, `Loading` or `Prefill` event, or a state signal."""


Opener = Callable[[Report], Awaitable[Exchange]]
"""Opens the exchange of a run: called once, by its owner."""
