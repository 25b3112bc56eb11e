"""Lost runs: their process died, and another has its place. Who comes back with their id is told so, on every wire.

All that is known of such a run is its id. Its only event is the ending, which comes right after whatever a reader has
seen; a reader that has seen that ending gets a 204, which is what stops an `EventSource`.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import NoReturn

from starlette.requests import Request

from tailrace.events import Ended, Fault, Outcome
from tailrace.gateway.cluster.worker_ids import WorkerId
from tailrace.protocols.event_ids import BadCursorError, parse_cursor, tag_of
from tailrace.protocols.problems import ProblemError
from tailrace.run.bounded_log import BoundedLog
from tailrace.run.reply import Reply
from tailrace.run.run import Run
from tailrace.web.asgi_types import App, Receive, Scope, Send
from tailrace.web.cursors import cursors_of
from tailrace.web.registry import Bounds, Registry

__all__ = ["Cursors", "Runs"]


_MOST = 10_000  # endings told that are remembered
_seen: ContextVar[str | None] = ContextVar("tailrace_seen", default=None)


class Cursors:
    """An ASGI middleware: has `Runs` know where a request's reader is."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] == "http" and scope["path"].endswith("/events"):
            request = Request(scope)
            cursors = cursors_of(request.headers.getlist("last-event-id"), request.query_params.getlist("after"))
            _seen.set(cursors[0] if cursors else "")
        await self._app(scope, receive, send)


class Runs(Registry):
    """The runs of one worker; and, of those that went with its predecessors, how they ended.

    Args:
        bounds: how many, how much, how long.
        here: the worker.
    """

    def __init__(self, bounds: Bounds, here: WorkerId) -> None:
        super().__init__(bounds)
        self._here = here
        self._started = time.time()
        self._told: dict[tuple[str, int], None] = {}  # endings, by the run and their number; the oldest first

    def get(self, id: str, owner: str = "") -> Run:
        """Returns a run, also one that is lost.

        Raises:
            ProblemError: 404: there is none, or it is somebody else's, which is not told apart.
        """
        try:
            return super().get(id, owner)
        except ProblemError:
            if not self._here.outlived(id):
                raise
            return _lost(id, self._before_ending(id))

    def created(self, id: str) -> float:
        """Returns when a run was started; of one that is lost the latest time when it may have been."""
        return super().created(id) or (self._started if self._here.outlived(id) else 0.0)

    def _before_ending(self, id: str) -> int:
        """Returns the number of the last event before the ending, for the reader who asks."""
        seen = _seen.get()
        if seen is None:
            return 0  # no reader
        try:
            number = parse_cursor(seen, tag_of(id))
        except BadCursorError:
            return 0  # which is told where the cursor is read
        if (id, number) in self._told:
            return number - 1
        self._told[id, number + 1] = None
        if len(self._told) > _MOST:
            del self._told[next(iter(self._told))]
        return number


class _Rest(BoundedLog):
    """A log of which only what comes after an event is there."""

    def __init__(self, after: int) -> None:
        super().__init__(0)
        self._keep((after, after, [], [], Reply()))


def _lost(id: str, after: int) -> Run:
    run = Run(_never, log=_Rest(after))
    run.id = id
    fault = Fault("OwnerLostError", "the worker process that talked to the model is gone", hint="ask again")
    run.end(Ended(Outcome.OWNER_LOST, fault=fault))
    run.settle()
    return run


async def _never(_report: object) -> NoReturn:
    raise AssertionError("a lost run is not opened")
