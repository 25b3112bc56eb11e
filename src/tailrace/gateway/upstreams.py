"""Upstreams: where a run goes when there are several, and what happens when one of them fails.

A model goes where it is loaded, else where it is, and of several such to the one with least to do. An upstream that
fails before the first token is left out for a while, and the run is tried elsewhere; once a token has come, nothing is
tried again: a reader would see the beginning of two answers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from tailrace import errors
from tailrace.client.aio import AsyncClient
from tailrace.events import Ended, Event, Outcome, Progress, Queued, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.gateway.admission import Priority, Queue, Ticket
from tailrace.run.run import Exchange, Opener, Report, error_of
from tailrace.types import ChatRequest, GenerateRequest

__all__ = ["Upstream", "Upstreams"]

_FRESH = 5.0  # seconds that what an upstream has is not asked for again
_PATIENCE = 2.0  # seconds that an upstream has to tell it
_OUT = 10.0  # seconds that one which failed is left out; twice as long each time, up to
_LONGEST_OUT = 300.0
_CONTENT = (TextDelta, ThinkingDelta, ToolCall, ToolCallDelta, Progress)


class Upstream:
    """One model server, and the queue in front of it.

    Args:
        client: talks to it.
        queue: lets runs in.
    """

    def __init__(self, client: AsyncClient, queue: Queue) -> None:
        self.client = client
        self.queue = queue
        self.failures = 0
        self._out_until = 0.0
        self._asked = -_FRESH
        self._asking: asyncio.Task[None] | None = None
        self.models: frozenset[str] = frozenset()
        self.loaded: frozenset[str] = frozenset()

    @property
    def out(self) -> bool:
        """True while it is left out because it failed."""
        return time.monotonic() < self._out_until

    def failed(self) -> None:
        """Leaves it out for a while."""
        self._out_until = time.monotonic() + min(_OUT * 2**self.failures, _LONGEST_OUT)
        self.failures += 1

    def works(self) -> None:
        """It has answered."""
        self.failures = 0
        self._out_until = 0.0

    async def look(self) -> None:
        """Learns which models it has, and which are loaded, unless that is known and fresh. Never raises."""
        if time.monotonic() - self._asked < _FRESH:
            return
        if self._asking is None or self._asking.done():  # many runs at once ask once
            self._asking = asyncio.get_running_loop().create_task(self._look())
        await asyncio.shield(self._asking)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                self.models = _names(await self.client.list())
                self.loaded = _names(await self.client.ps())
        except TimeoutError:
            pass  # what it had it may still have; a run finds out
        except errors.TailraceError:
            self.failed()
        self._asked = time.monotonic()


def _names(listed: object) -> frozenset[str]:
    names = set()
    for entry in getattr(listed, "models", ()):
        name = entry.model or entry.name or ""
        names |= {name, name.removesuffix(":latest")}
    return frozenset(names)


class Upstreams:
    """All upstreams of a gateway; at least one.

    Args:
        all: the upstreams.
    """

    def __init__(self, all: Sequence[Upstream]) -> None:
        self.all = all

    @property
    def first(self) -> Upstream:
        """The one that is asked what only one can tell."""
        return next((each for each in self.all if not each.out), self.all[0])

    async def choose(self, model: str) -> list[Upstream]:
        """Returns the upstreams in the order in which a run of this model is to try them."""
        if len(self.all) == 1:
            return list(self.all)
        await asyncio.gather(*(each.look() for each in self.all))

        def rank(each: Upstream) -> tuple[bool, bool, bool, int]:
            return each.out, model not in each.loaded, model not in each.models, each.queue.busy

        return sorted(self.all, key=rank)

    def opener(self, request: ChatRequest | GenerateRequest, key: str, priority: Priority) -> Opener:
        """Returns what opens a run: it waits for its turn, and tries one upstream after the other.

        Args:
            request: what is asked for.
            key: the client that it belongs to.
            priority: interactive or batch.
        """

        async def open(report: Report) -> Exchange:
            trying = _Trying(await self.choose(request.model), request, key, priority, report)
            return await trying.open()

        return open


class _Trying:
    """An exchange with one upstream after the other, until one says its first word. See `tailrace.run.run.Exchange`."""

    confirms = 0.1

    def __init__(
        self,
        upstreams: list[Upstream],
        request: ChatRequest | GenerateRequest,
        key: str,
        priority: Priority,
        report: Report,
    ) -> None:
        self._left = upstreams
        self._request = request
        self._report = report
        self._ticket = Ticket(key, priority, lambda place: report(Queued(position=place)))
        self._at: Upstream | None = None
        self._exchange: Exchange | None = None
        self._began = False

    async def open(self) -> Exchange:
        """Opens an exchange with the first upstream that takes the request.

        Raises:
            TailraceError: what the last one said.
        """
        while True:
            at = self._at = self._left.pop(0)
            try:
                await at.queue.enter(self._ticket)
                self._exchange = await at.client.opener(self._request)(self._report)
            except errors.TailraceError as error:
                self._leave()
                if not self._elsewhere(error):
                    raise
            except BaseException:
                self._leave()
                raise
            else:
                self.confirms = self._exchange.confirms
                return self

    def _elsewhere(self, error: errors.TailraceError) -> bool:
        """Returns whether another upstream may do better; notes that this one failed, if it did."""
        assert self._at is not None
        if isinstance(error, (errors.ModelNotFoundError, errors.BusyError, errors.UnsupportedError)):
            return bool(self._left)  # this one cannot, and nothing is wrong with it
        if isinstance(error, errors.RequestError):
            return False
        answered = isinstance(error, errors.ResponseError) and not isinstance(error, errors.NotModelServerError)
        if answered and 400 <= getattr(error, "status_code", 0) < 500:
            return False  # the request is wrong, wherever it goes
        self._at.failed()
        return bool(self._left)

    async def receive(self) -> Sequence[Event]:
        """Returns the next events; before the first word a failure means another upstream."""
        assert self._exchange is not None
        assert self._at is not None
        events = await self._exchange.receive()
        if self._began or not events:
            return events
        if any(isinstance(event, _CONTENT) for event in events):
            self._began = True
            self.receive = self._exchange.receive  # type: ignore[method-assign]  # no step more than needed a token
            self._at.works()
            return events
        last = events[-1]
        if isinstance(last, Ended) and not last.outcome.finished:
            error = error_of(last)
            if error is not None and last.outcome is not Outcome.TIMED_OUT and self._elsewhere(error):
                self._exchange.abort()
                self._leave()
                await self.open()
                return events[:-1]
        elif isinstance(last, Ended):
            self._at.works()
        return events

    def _leave(self) -> None:
        assert self._at is not None
        self._at.queue.leave(self._ticket)
        self._ticket = Ticket(self._ticket.key, self._ticket.priority, self._ticket.moved)

    def half_close(self) -> bool:
        """Ends our side only."""
        return self._exchange is not None and self._exchange.half_close()

    def abort(self) -> None:
        """Closes the connection at once, and leaves the queue."""
        if self._exchange is not None:
            self._exchange.abort()
        self._leave()

    async def finish(self) -> None:
        """Closes the connection after the ending, and leaves the queue."""
        try:
            if self._exchange is not None:
                await self._exchange.finish()
        finally:
            self._leave()
