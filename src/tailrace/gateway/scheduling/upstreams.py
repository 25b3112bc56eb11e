"""Upstreams: where a run goes when there are several, and what happens when one of them fails.

A model goes where it is loaded, else where it is, and of several such to the one with least to do. An upstream that
fails before the first token is left out for a while, and the run is tried elsewhere; once a token has come, nothing is
tried again: a reader would see the beginning of two answers. One that takes connections and says nothing fails like any
other, after a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

from tailrace import errors
from tailrace.client.aio import AsyncClient
from tailrace.events import Ended, Event, Outcome, Progress, Queued, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.gateway.scheduling.fair_queue import FairQueue, Priority, Ticket
from tailrace.run.exchange import Exchange, OnEvents, Report
from tailrace.run.run import Run, error_of
from tailrace.transport.connect import OUT_OF_FILES
from tailrace.types import ChatRequest, GenerateRequest

__all__ = ["Admitted", "Upstream", "Upstreams"]

T = TypeVar("T")

_FRESH = 5.0  # seconds for which a list of an upstream's models is used
_PATIENCE = 1.5  # seconds that an upstream gets for what it can tell at once
_OUT = 10.0  # seconds for which a failed upstream is skipped; doubled each time, up to
_LONGEST_OUT = 300.0
_ONE_ENDS = "wait until one has ended"
_CONTENT = (TextDelta, ThinkingDelta, ToolCall, ToolCallDelta, Progress)


class Upstream:
    """One model server, and the queue in front of it.

    Args:
        client: talks to it.
        queue: lets runs in.

    Attributes:
        failures: how often it has failed in a row.
        unheard: the last failure was that nothing came from it.
        models: the names of the models that it has.
        loaded: of those that it has in memory.
    """

    def __init__(self, client: AsyncClient, queue: FairQueue) -> None:
        self.client = client
        self.queue = queue
        self.failures = 0
        self._out_until = 0.0
        self.unheard = False
        self._looked_at = -_FRESH
        self._looking: asyncio.Task[None] | None = None
        self.models: frozenset[str] = frozenset()
        self.loaded: frozenset[str] = frozenset()

    @property
    def out(self) -> bool:
        """True while it is left out because it failed."""
        return time.monotonic() < self._out_until

    @property
    def is_embedded(self) -> bool:
        """True for the engine in this program."""
        backend = self.client.known_backend()
        return backend is not None and backend.kind == "embedded"

    def failed(self, *, unheard: bool = False) -> None:
        """Leaves it out for a while.

        Args:
            unheard: nothing came from it, so that anything which does shows that it is back.
        """
        if self.out and unheard:
            return  # it is asked for more than runs, and that is no further failure
        self._out_until = time.monotonic() + min(_OUT * 2**self.failures, _LONGEST_OUT)
        self.failures += 1
        self.unheard = unheard

    def works(self) -> None:
        """It has answered a run."""
        self.failures = 0
        self._out_until = 0.0
        self.unheard = False

    async def ask(self, what: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """Asks it for what it can tell at once. One that says nothing within a moment is left out.

        The embedded engine gets all its time: it may have to be started, and is watched by those who do that.

        Args:
            what: asks the client.

        Raises:
            TimedOutError: it says nothing.
            TailraceError: what it says.
        """
        patience = None if self.is_embedded else _PATIENCE
        try:
            async with asyncio.timeout(patience):
                told = await what(self.client)
        except errors.ConnectionError as error:
            if not _is_ours(error):
                self.failed(unheard=True)
            raise
        except TimeoutError as error:  # the client's own as well
            self.failed(unheard=True)
            if isinstance(error, errors.TimedOutError):
                raise
            late = errors.TimedOutError(f"{self.client.upstream} does not answer within {patience:g} s")
            late.phase = "answer"
            raise late from None
        if self.unheard:
            self.works()
        return told

    def look(self) -> asyncio.Task[None] | None:
        """Begins to learn which models it has, and which are loaded, unless that is known and fresh.

        Returns:
            What is worth waiting for; None if it is known, or was asked for a while ago.
        """
        now = time.monotonic()
        going = self._looking is not None and not self._looking.done()
        if going or now - self._looked_at < _FRESH:
            return self._looking if going and now - self._looked_at < _PATIENCE else None  # many at once ask once
        self._looked_at = now
        self._looking = asyncio.get_running_loop().create_task(self._look())
        # Nobody waits again for one that has failed: what it says is known when it is asked for the next time.
        return None if self.failures else self._looking

    async def _look(self) -> None:
        try:
            self.models = _names(await self.ask(AsyncClient.list))
        except errors.TailraceError as error:  # what it had it may still have
            if not (self.unheard or _is_ours(error)):
                self.failed()
        else:
            with contextlib.suppress(errors.TailraceError):  # not every server tells what is loaded
                self.loaded = _names(await self.ask(AsyncClient.ps))
        self._looked_at = time.monotonic()


def _is_ours(error: errors.TailraceError) -> bool:
    """Returns whether a connection failed for a reason that has nothing to do with the upstream."""
    return isinstance(error, errors.ConnectionError) and error.errno in OUT_OF_FILES


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
        self._asking: set[asyncio.Task[Any]] = set()  # goes on when nobody waits for it any more

    @property
    def first(self) -> Upstream:
        """The upstream for requests that only one can answer."""
        return next((each for each in self.all if not each.out), self.all[0])

    async def choose(self, model: str) -> list[Upstream]:
        """Returns the upstreams in the order in which a run of this model is to try them."""
        if len(self.all) == 1:
            return list(self.all)
        if looks := [look for each in self.all if (look := each.look()) is not None]:
            await asyncio.wait(looks, timeout=_PATIENCE)

        def rank(each: Upstream) -> tuple[bool, bool, bool, int]:
            return each.out, model not in each.loaded, model not in each.models, each.queue.busy

        return sorted(self.all, key=rank)

    async def gather(self, what: Callable[[AsyncClient], Awaitable[T]]) -> list[T]:
        """Asks all upstreams at once, and returns what is told within a moment, in their order.

        One that said nothing the last time is not waited for if others tell; it is heard again when it does.

        Args:
            what: asks one of them.

        Raises:
            TailraceError: none tells; what the first one said.
        """
        heard = [each for each in self.all if not each.unheard] or self.all
        asked = {each: self._ask(each.ask(what)) for each in self.all}
        await asyncio.wait([asked[each] for each in heard], timeout=_PATIENCE)
        if limited := [asked[each] for each in heard if not each.is_embedded]:
            await asyncio.wait(limited)  # their time is over as well, and they are left out by now
        await _first(asked.values())
        told = [task for task in asked.values() if task.done()]
        if answers := [task.result() for task in told if task.exception() is None]:
            return answers
        return [told[0].result()]  # raises

    async def first_answer(self, what: Callable[[AsyncClient], Awaitable[T]]) -> tuple[Upstream, T]:
        """Asks all upstreams at once, and returns the first that answers, with what it says.

        Raises:
            TailraceError: none does; what the first one said.
        """
        asked = [self._ask(each.ask(what)) for each in self.all]
        await _first(asked)
        number = next((n for n, task in enumerate(asked) if task.done() and task.exception() is None), 0)
        return self.all[number], asked[number].result()

    def _ask(self, asking: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(asking)
        self._asking.add(task)
        task.add_done_callback(self._asked)
        return task

    def _asked(self, task: asyncio.Task[Any]) -> None:
        self._asking.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits gets it; otherwise nobody is to hear of it

    async def default_model(self) -> str:
        """Returns the model that is meant where none is named: that of the first upstream that has one.

        Raises:
            TailraceError: none has; what the first one said.
        """
        first: errors.TailraceError | None = None
        for each in sorted(self.all, key=lambda each: each.out):
            try:
                return await each.ask(AsyncClient.default_model)
            except errors.TailraceError as error:
                first = first or error
        assert first is not None
        raise first

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


async def _first(asked: Collection[asyncio.Task[Any]]) -> None:
    """Waits until one has succeeded, or all have failed."""
    pending = {task for task in asked if not task.done()}
    while pending and not any(task.done() and task.exception() is None for task in asked):
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)


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
        if self._place.at is not None and not _is_ours(error):
            self._place.at.failed(unheard=isinstance(error, errors.ConnectionError))
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
