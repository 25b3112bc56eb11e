"""Upstreams: where a run goes when there are several, and what happens when one of them fails.

A model goes where it is loaded, else where it is, and of several such to the one with least to do. An upstream that
fails before the first token is left out for a while, and the run is tried elsewhere; once a token has come, nothing is
tried again: a reader would see the beginning of two answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence

from tailrace import errors
from tailrace.client.aio import AsyncClient
from tailrace.events import Ended, Event, Outcome, Progress, Queued, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.gateway.scheduling.fair_queue import FairQueue, Priority, Ticket
from tailrace.run.exchange import Exchange, OnEvents, Report
from tailrace.run.run import Run, error_of
from tailrace.types import ChatRequest, GenerateRequest

__all__ = ["Admitted", "Upstream", "Upstreams"]

_FRESH = 5.0  # seconds for which a list of an upstream's models is used
_PATIENCE = 2.0  # seconds that an upstream gets to list them
_OUT = 10.0  # seconds for which a failed upstream is skipped; doubled each time, up to
_LONGEST_OUT = 300.0
_ONE_ENDS = "wait until one has ended"
_CONTENT = (TextDelta, ThinkingDelta, ToolCall, ToolCallDelta, Progress)


class Upstream:
    """One model server, and the queue in front of it.

    Args:
        client: talks to it.
        queue: lets runs in.
    """

    def __init__(self, client: AsyncClient, queue: FairQueue) -> None:
        self.client = client
        self.queue = queue
        self.failures = 0
        self._out_until = 0.0
        self._looked_at = -_FRESH
        self._looking: asyncio.Task[None] | None = None
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
        if time.monotonic() - self._looked_at < _FRESH:
            return
        if self._looking is None or self._looking.done():  # many runs at once ask once
            self._looking = asyncio.get_running_loop().create_task(self._look())
        await asyncio.shield(self._looking)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                self.models = _names(await self.client.list())
                self.loaded = _names(await self.client.ps())
        except TimeoutError:
            pass  # what it had it may still have; a run finds out
        except errors.TailraceError:
            self.failed()
        self._looked_at = time.monotonic()


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
        per_key: how many runs one client may have with all of them, running and waiting; None: no limit.
    """

    def __init__(self, all: Sequence[Upstream], per_key: int | None = None) -> None:
        self.all = all
        self._per_key = per_key
        self._places: defaultdict[str, set[_Place]] = defaultdict(set)  # of the runs of each client

    @property
    def first(self) -> Upstream:
        """The upstream for requests that only one can answer."""
        return next((each for each in self.all if not each.out), self.all[0])

    async def choose(self, model: str) -> list[Upstream]:
        """Returns the upstreams in the order in which a run of this model is to try them."""
        if len(self.all) == 1:
            return list(self.all)
        await asyncio.gather(*(each.look() for each in self.all))

        def rank(each: Upstream) -> tuple[bool, bool, bool, int]:
            return each.out, model not in each.loaded, model not in each.models, each.queue.busy

        return sorted(self.all, key=rank)

    async def admit(self, request: ChatRequest | GenerateRequest, key: str, priority: Priority) -> Admitted:
        """Gives a run its place in the queue of the upstream that it goes to first, and counts it for its client.

        Args:
            request: the request.
            key: the client that it belongs to.
            priority: interactive or batch.

        Raises:
            BusyError: 429: the client has too many runs; 503: too many wait.
        """
        order = await self.choose(request.model)
        place = self._place(key, priority)
        # An upstream without the model is no alternative to a full queue.
        able = [each for each in order if request.model in each.models] or order
        for each in able:
            try:
                place.join(each)
            except errors.BusyError:
                if each is able[-1]:
                    place.leave()
                    raise
            else:
                order.remove(each)
                return Admitted(place, order, request)
        raise AssertionError("there is an upstream")

    @contextlib.asynccontextmanager
    async def turn(self, at: Upstream, key: str, priority: Priority) -> AsyncIterator[None]:
        """Waits in an upstream's queue, for work that is not a run; the place is held until the block ends.

        Raises:
            BusyError: as for `admit`.
        """
        place = self._place(key, priority)
        try:
            place.join(at)
            await at.queue.enter(place.ticket)
            yield
        finally:
            place.leave()

    def _place(self, key: str, priority: Priority) -> _Place:
        if self._per_key is not None and sum(not each.over() for each in self._places[key]) >= self._per_key:
            error = errors.BusyError(f"this client has {self._per_key} runs already", 429, hint=_ONE_ENDS)
            error.retry_after = 1.0
            raise error
        return _Place(self._places, key, priority)


class _Place:
    """A run's place in one queue after the other, until `leave`.

    It counts for its client until its run is over: whoever has read the ending may begin the next run at once, though
    the connection to the model server is not closed yet.

    Attributes:
        over: returns whether its run has ended.
    """

    def __init__(self, places: defaultdict[str, set[_Place]], key: str, priority: Priority) -> None:
        self.over: Callable[[], bool] = lambda: False
        self._places = places
        self._key = key
        self._priority: Priority = priority
        self.ticket = Ticket(key, priority)
        self.at: Upstream | None = None
        places[key].add(self)

    def join(self, at: Upstream) -> None:
        """Takes a place in an upstream's queue.

        Raises:
            BusyError: there is none.
        """
        at.queue.admit(self.ticket)
        self.at = at

    async def enter(self, report: Report) -> Upstream:
        """Waits in the queue, and reports the place until the run is active."""
        assert self.at is not None
        self.ticket.moved = lambda place: report(Queued(position=place))
        if not self.ticket.inside:
            self.ticket.moved(self.ticket.place)
        await self.at.queue.enter(self.ticket)
        return self.at

    def give_up(self) -> None:
        """Leaves the queue, maybe for another one."""
        if self.at is not None:
            self.at.queue.leave(self.ticket)
            self.at = None
        self.ticket = Ticket(self._key, self._priority)

    def leave(self) -> None:
        """Leaves; may be called again."""
        self.give_up()
        places = self._places.get(self._key)
        if places is not None:
            places.discard(self)
            if not places:
                del self._places[self._key]


class Admitted:
    """A run that has its place with the upstreams, from before its start.

    Args:
        place: its place.
        others: the upstreams to try if the first one fails.
        request: the request.

    Attributes:
        first: the upstream that it goes to first.
        leave: frees the place; to be called when the run has ended or is not started.
    """

    def __init__(self, place: _Place, others: list[Upstream], request: ChatRequest | GenerateRequest) -> None:
        assert place.at is not None
        self.first = place.at
        self.leave = place.leave
        self._place = place
        self._trying = _Trying(place, others, request)

    def belongs_to(self, run: Run) -> None:
        """Counts this place for its client only as long as the run goes on, and frees it with the run."""
        self._place.over = lambda: run.ended is not None
        run.released.add(self.leave)

    async def open(self, report: Report) -> Exchange:
        """Waits in the queue and opens the exchange, with one upstream after the other. See `Opener`."""
        return await self._trying.open(report)


class _Trying:
    """An exchange with one upstream after the other, until one sends content. See `Exchange`."""

    confirms = 0.1

    def __init__(self, place: _Place, others: list[Upstream], request: ChatRequest | GenerateRequest) -> None:
        self._place = place
        self._others = others
        self._request = request
        self._exchange: Exchange | None = None
        self._began = False

    async def open(self, report: Report) -> Exchange:
        """Opens an exchange with the first upstream that takes the request.

        Raises:
            TailraceError: what the last one said.
        """
        self._report = report
        while True:
            try:
                if self._place.at is None:
                    self._place.join(self._others.pop(0))
                at = await self._place.enter(report)
                self._exchange = await at.client.opener(self._request)(report)
            except errors.TailraceError as error:
                elsewhere = self._elsewhere(error)
                self._place.give_up()
                if not elsewhere:
                    raise
            except BaseException:
                self._place.leave()
                raise
            else:
                self.confirms = self._exchange.confirms
                return self

    def _elsewhere(self, error: errors.TailraceError) -> bool:
        """Returns whether to try another upstream; marks this one as failed if it is."""
        if isinstance(error, (errors.ModelNotFoundError, errors.BusyError, errors.UnsupportedError)):
            return bool(self._others)  # this one cannot serve it, but has not failed
        if isinstance(error, errors.RequestError):
            return False
        answered = isinstance(error, errors.ResponseError) and not isinstance(error, errors.NotModelServerError)
        if answered and 400 <= getattr(error, "status_code", 0) < 500:
            return False  # the request is wrong, wherever it goes
        if self._place.at is not None:
            self._place.at.failed()
        return bool(self._others)

    async def relay(self, on_events: OnEvents) -> None:
        """Passes the events on as they arrive; before the first content a failure leads to another upstream."""
        elsewhere = over = False

        def heard(events: Sequence[Event]) -> bool:
            nonlocal elsewhere, over
            elsewhere = not self._works(events)
            events = events[:-1] if elsewhere else events
            over = bool(events) and on_events(events)
            return over or elsewhere or self._began

        while not over:
            assert self._exchange is not None
            if self._began:
                await self._exchange.relay(on_events)  # directly: no extra call for each token
                return
            await self._exchange.relay(heard)
            if elsewhere:
                self._exchange.abort()
                self._place.give_up()
                await self.open(self._report)

    def _works(self, events: Sequence[Event]) -> bool:
        """Looks at events before the first content; returns False if another upstream is to be tried."""
        at, last = self._place.at, events[-1]
        if any(isinstance(event, _CONTENT) for event in events):
            self._began = True
            if at is not None:
                at.works()
        elif isinstance(last, Ended) and not last.outcome.finished:
            error = error_of(last)
            return error is None or last.outcome is Outcome.TIMED_OUT or not self._elsewhere(error)
        elif isinstance(last, Ended) and at is not None:
            at.works()
        return True

    def half_close(self) -> bool:
        """Ends our side only."""
        return self._exchange is not None and self._exchange.half_close()

    def abort(self) -> None:
        """Closes the connection at once, and leaves the queue."""
        if self._exchange is not None:
            self._exchange.abort()
        self._place.leave()

    async def finish(self) -> None:
        """Closes the connection after the ending, and leaves the queue."""
        try:
            if self._exchange is not None:
                await self._exchange.finish()
        finally:
            self._place.leave()
