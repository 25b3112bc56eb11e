"""The run: one generation, its owner, its readers' log, and exactly one ending.

Who owns what:

- The owner task, on one event loop, is alone in touching the transport and the log.
- The *verdict*, the run's ending, is decided once, from any thread, by the first caller: the owner, a time-out or a
  cancel. Deciding is one atomic operation, so it is safe in signal handlers and finalisers. Events that arrive from the
  server after the verdict are dropped.
- The verdict is appended to the log by the owner's loop, right after it is decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from tailrace import errors
from tailrace.events import Ended, Event, Fault, Outcome
from tailrace.run.exchange import Exchange, Opener
from tailrace.run.log import MemoryLog
from tailrace.run.metrics import Metrics, Stopwatch
from tailrace.run.reply import Reply, fold
from tailrace.run.state import SIGNALS, Signal, State, advance
from tailrace.run.timeouts import Timeouts
from tailrace.run.wakeups import Wakeups

__all__ = ["CancelReceipt", "Observer", "Run", "ended_by", "error_of", "lose_all"]

_log = logging.getLogger(__name__)

_WAITING = frozenset(kind for kind, signal in SIGNALS.items() if signal in (Signal.QUEUE, Signal.WORK))
_LATE = 0.1  # a timer this much late means that the loop was blocked, not the server silent


class Observer(Protocol):
    """Watches one run. An exception that it raises is logged and does not affect the run."""

    def started(self, run: Run) -> Mapping[str, str]:
        """Called when the run starts; returns headers for its requests to the model server."""

    def ended(self, run: Run) -> None:
        """Called when the run has ended and its connection is closed."""


class CancelReceipt:
    """What `cancel(wait=True)` found out.

    Attributes:
        seconds: from the cancel until the connection was gone.
        confirmed: True if the server itself showed that it let go, by closing its side; False if all we know is that
            our side is closed.
    """

    __slots__ = ("confirmed", "seconds")

    def __init__(self, seconds: float, confirmed: bool) -> None:
        self.seconds = seconds
        self.confirmed = confirmed

    def __repr__(self) -> str:
        return f"CancelReceipt(seconds={self.seconds:.4f}, confirmed={self.confirmed})"


_live: weakref.WeakSet[Run] = weakref.WeakSet()


class Run:
    """One generation: an id, a state, one owner, one log, one ending.

    Args:
        open: opens the exchange with the model server; called once, by the owner.
        model: the model's name, for the reply.
        timeouts: the limits of each phase.
        linger: seconds without any attached reader after which the run is abandoned; None means it is not.
        log: where its events are kept.
    """

    __slots__ = (
        *("__weakref__", "_before", "_cancelled_at", "_confirm", "_confirmed", "_due", "_exchange", "_linger"),
        *("_linger_timer", "_looked", "_loop", "_lost", "_open", "_readers", "_released", "_sealing", "_task"),
        *("_timeouts", "_timer", "_verdict", "cause", "id", "log", "model", "observer", "reading", "released"),
        *("state", "watch", "way"),
    )

    def __init__(
        self,
        open: Opener,
        *,
        model: str = "",
        timeouts: Timeouts | None = None,
        linger: float | None = None,
        log: MemoryLog | None = None,
    ) -> None:
        self.id = f"run_{secrets.token_hex(16)}"
        self.model = model
        self.log = log if log is not None else MemoryLog()
        self.state = State.NEW
        self.watch = Stopwatch()
        self.cause: BaseException | None = None  # the exception behind a failure, for `raise … from`
        self.released = Wakeups()
        self.observer: Observer | None = None
        self.way: Callable[[], str] = str  # tells of the proxy that the model server is asked through
        # The iterations under way, on whatever threads, and who else is to keep the run: see `tailrace.client.leaving`.
        self.reading: set[object] = set()
        self._released = False
        self._confirmed = False
        self._open = open
        self._timeouts = timeouts or Timeouts()
        self._linger = linger
        self._readers = 0
        self._verdict: dict[str, Ended] = {}  # setdefault is atomic: the first to decide wins
        self._sealing: dict[str, object] = {}
        self._before: int | None = None  # events before the first content, once that is there
        self._confirm = False
        self._cancelled_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._exchange: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._looked = False  # whether what had come by the time of the limit was read
        self._linger_timer: asyncio.TimerHandle | None = None
        self._lost = False

    # -- starting ------------------------------------------------------------------------------------------------

    @property
    def started(self) -> bool:
        """True once the run has an owner, or has ended without one."""
        return self._loop is not None or bool(self._verdict)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives the run its owner; call it on `loop`'s thread. A run cancelled before that never talks to anybody."""
        if self._loop is not None:
            return
        self._loop = loop
        self.watch.started = self.watch.entered = time.monotonic()
        if self._verdict:
            self._seal()
            self._release()
            return
        _live.add(self)
        headers: Mapping[str, str] = {}
        if self.observer is not None:
            with _watching():
                headers = self.observer.started(self)
        self._task = loop.create_task(self._own(headers), name=f"tailrace {self.id}")
        self._task.add_done_callback(self._never_began)
        self._arm()
        self._watch_readers()

    # -- the owner -----------------------------------------------------------------------------------------------

    async def _own(self, headers: Mapping[str, str]) -> None:
        exchange: Exchange | None = None
        try:
            exchange = self._exchange = await self._open(_Report(self, headers))
            self.report(Signal.SENT)
            await exchange.relay(self._on_events)
            if not self._verdict:
                raise RuntimeError("the exchange came to its end without an ending")
        except asyncio.CancelledError:
            # If we cancelled, the verdict exists already; a cancel from outside (the loop shuts down) ends the run too.
            self._decide(Ended(Outcome.CANCELLED))
        except errors.TailraceError as error:
            self.cause = error
            self._decide(ended_by(error))
        except Exception as bug:
            self.cause = bug
            self._decide(Ended(Outcome.FAILED, fault=Fault("TailraceError", f"{type(bug).__name__}: {bug}")))
        finally:
            self._disarm()
            self._seal()
            try:
                if exchange is not None:
                    await self._close(exchange)
            finally:
                self._exchange = None
                self._task = None
                del self._open  # and with it the request, which may be large, while the log is kept
                self._release()

    def _never_began(self, _task: asyncio.Task[None]) -> None:
        """Ends the run of an owner task that was cancelled before its first step: its ``finally`` never ran."""
        if not self._released:
            self._decide(Ended(Outcome.CANCELLED))
            self._disarm()
            self._seal()
            self._task = None
            self._release()

    async def _close(self, exchange: Exchange) -> None:
        if self._verdict["ended"].outcome.finished:
            try:
                await exchange.finish()
                return
            except asyncio.CancelledError:
                pass
        exchange.abort()

    def _on_events(self, events: Sequence[Event]) -> bool:
        if not self._verdict:
            return self._append(events)
        # Waiting for the server to close its side; what it still says is dropped.
        self._confirmed = type(events[-1]) is Ended
        return self._confirmed

    def _append(self, events: Sequence[Event]) -> bool:
        """Appends events of the server; returns True if the last one is the ending."""
        if self.state is not State.STREAMING:
            self._move(events)
        elif not _WAITING.isdisjoint(map(type, events)):
            # A late report of waiting is not content: it must neither restart the idle limit nor be counted.
            events = [event for event in events if type(event) not in _WAITING]
            if not events:
                return False
        last = events[-1]
        if type(last) is not Ended:
            self.log.append(events)
            return False
        if len(events) > 1:
            self.log.append(events[:-1])
        self._decide(last)  # unless the run was cancelled in the meantime: then that verdict stands
        return True

    def _move(self, events: Sequence[Event]) -> None:
        now = time.monotonic()
        for place, event in enumerate(events):
            signal = SIGNALS[type(event)]
            if signal is not Signal.END:
                self._enter(signal, now)
            if self.state is State.STREAMING:
                self._before = self.log.end + place
                return  # nothing but the ending leads out of it

    def _enter(self, signal: Signal, now: float) -> None:
        state = advance(self.state, signal)
        if state is not self.state:
            self.watch.leave(self.state, now)
            self.state = state
            self._arm()

    def report(self, signal: Event | Signal) -> None:
        """Takes what a backend says before the exchange is open. On the owner's loop."""
        if self._verdict:
            return
        if isinstance(signal, Signal):
            self._enter(signal, time.monotonic())
        else:
            self._append([signal])

    # -- the verdict ---------------------------------------------------------------------------------------------

    def _decide(self, ended: Ended) -> bool:
        """Decides the ending unless it is decided; returns True if this call did. Atomic, so callable from anywhere."""
        return self._verdict.setdefault("ended", ended) is ended

    def _seal(self) -> None:
        """Appends the verdict to the log; on the owner's loop, or where no owner is left."""
        mine = object()
        if self._sealing.setdefault("by", mine) is not mine:
            return
        now = time.monotonic()
        self.watch.leave(self.state, now)
        self.watch.ended = now
        self.state = State.ENDED
        self.log.append([self._verdict["ended"]])

    def _stop(self) -> None:
        """Appends a verdict from outside and frees the model. On the owner's loop."""
        self._seal()
        self._disarm()
        if self._task is None:
            return
        exchange = self._exchange
        if self._confirm and exchange is not None and exchange.half_close():
            assert self._loop is not None
            self._timer = self._loop.call_later(exchange.confirms, self._task.cancel)
            return
        if exchange is not None:
            exchange.abort()
        self._task.cancel()

    def _release(self) -> None:
        if self._cancelled_at is not None:
            self.watch.cancel = time.monotonic() - self._cancelled_at
        observer, self.observer = self.observer, None  # called once
        if observer is not None:
            with _watching():
                observer.ended(self)
        self._released = True
        _live.discard(self)
        self.released.wake()

    def end(self, ended: Ended, *, confirm: bool = False) -> bool:
        """Ends the run from outside, on any thread; returns False if it had ended already."""
        if not self._decide(ended):
            return False
        self._cancelled_at = time.monotonic()
        self._confirm = confirm
        loop = self._loop
        if loop is None:
            return True  # never started: sealed when somebody starts it or reads it
        try:
            loop.call_soon_threadsafe(self._stop)
        except RuntimeError:  # the owner's loop is closed, so nothing else writes to the log
            self._seal()
            self._release()
        return True

    # -- for everybody -------------------------------------------------------------------------------------------

    def cancel(self, *, confirm: bool = False) -> bool:
        """Stops the run and the model; idempotent, from any thread, in every phase. Returns at once.

        Args:
            confirm: end our side of the connection first and wait for the server to close its own, so that
                `receipt` can say when the model was let go.

        Returns:
            False if the run had ended already.
        """
        return self.end(Ended(Outcome.CANCELLED), confirm=confirm)

    @property
    def ended(self) -> Ended | None:
        """The ending, as soon as it is decided; None while the run goes on."""
        return self._verdict.get("ended")

    @property
    def is_released(self) -> bool:
        """True once the connection to the backend is closed."""
        return self._released or self._loop is None

    def lives_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """True if the owner lives on `loop`."""
        return self._loop is loop

    def receipt(self) -> CancelReceipt:
        """Returns how the release went; meaningful once `is_released`."""
        return CancelReceipt(self.watch.cancel or 0.0, self._confirmed)

    def settle(self) -> None:
        """Ends a run whose owner is gone. Readers call it now and then while they wait."""
        loop = self._loop
        if self.log.sealed and self.is_released:
            return
        if loop is None:
            if self._verdict:
                self._seal()
        elif loop.is_closed() or self._lost:
            message = "the event loop that talked to the model is closed, or belongs to another process"
            self._decide(Ended(Outcome.OWNER_LOST, fault=Fault("OwnerLostError", message)))
            self._seal()
            self._release()

    def lose(self) -> None:
        """Marks the owner as lost: in a forked child the owner lives in the parent."""
        self._lost = True
        self.settle()

    def reply(self) -> Reply:
        """Returns the reply so far, and the ending once there is one."""
        reply = self.log.fold(Reply(run_id=self.id, model=self.model))
        ended = self.ended
        if reply.outcome is None and ended is not None:
            fold([ended], reply)
        reply.metrics = self.metrics(reply)
        return reply

    def metrics(self, reply: Reply | None = None) -> Metrics:
        """Returns times and counts."""
        ended = self.ended
        return self.watch.metrics(ended.usage if ended is not None else None, self.times)

    @property
    def times(self) -> Sequence[float]:
        """When each piece of content came, in seconds on the monotonic clock."""
        if self._before is None:
            return ()
        times = self.log.times[self._before :]
        if self.log.sealed:
            times.pop()  # the ending's
        return times

    # -- readers and timers --------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Counts a reader; callable on any thread."""
        self._count(1)

    def detach(self) -> None:
        """Counts a reader no more; callable on any thread."""
        self._count(-1)

    @property
    def readers(self) -> int:
        """How many readers are attached."""
        return self._readers

    @property
    def linger(self) -> float | None:
        """Seconds without any attached reader after which the run is abandoned; None means it is not."""
        return self._linger

    def set_linger(self, seconds: float | None) -> None:
        """Sets how long the run goes on without readers; callable on any thread."""
        self._linger = seconds
        self._count(0)

    def _count(self, readers: int) -> None:
        loop = self._loop
        if loop is None or loop is asyncio._get_running_loop():
            self._counted(readers)
            return
        with contextlib.suppress(RuntimeError):  # the owner's loop is closed: the run has ended, or is lost
            loop.call_soon_threadsafe(self._counted, readers)

    def _counted(self, readers: int) -> None:
        self._readers += readers
        self._watch_readers()

    def _watch_readers(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        if self._linger is None or self._loop is None:
            return
        if self._readers <= 0 and not self._verdict:
            ended = Ended(Outcome.ABANDONED, reason=f"no reader for {self._linger:g} s")
            self._linger_timer = self._loop.call_later(self._linger, lambda: self.end(ended) and None)

    def _limit(self) -> tuple[float, str] | None:
        entered, times = self.watch.entered, self.log.times
        content = max(entered, times[-1]) if times else entered
        return self._timeouts.due(self.state, self.watch.started, entered, content)

    def _arm(self) -> None:
        """Sets the timer to the next limit. Not moved with each token: it looks again when it fires."""
        if self._loop is None or self._verdict:
            return
        due = self._limit()
        self._disarm()
        if due is not None:
            self._due = due[0]
            self._looked = False
            self._timer = self._loop.call_later(max(0.0, due[0] - time.monotonic()), self._tick)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        now = time.monotonic()
        due = self._limit()
        if due is None or self._loop is None:
            return
        if due[0] > now:
            self._arm()
            return
        late = now - self._due
        if late > _LATE or not self._looked:
            # Data that arrived while the loop was blocked is still unread: wait that long, and at least one iteration.
            self._looked = True
            self._due = now + min(late, 1.0)
            self._timer = self._loop.call_later(self._due - now, self._tick)
            return
        limit = {name: getattr(self._timeouts, name) for name in ("connect", "first_token", "idle", "total")}[due[1]]
        message = {
            "connect": f"no connection {self.way()} within {limit:g} s".replace("  ", " "),
            "first_token": f"no first token within {limit:g} s",
            "idle": f"no further token for {limit:g} s",
            "total": f"the answer took longer than {limit:g} s",
        }[due[1]]
        hint = f"raise it with timeout=Timeouts({due[1]}=SECONDS)"
        self.end(Ended(Outcome.TIMED_OUT, reason=due[1], fault=Fault("TimedOutError", message, hint=hint)))


class _Report:
    """What a run gives its opener. See `tailrace.run.exchange.Report`."""

    __slots__ = ("_run", "headers")

    def __init__(self, run: Run, headers: Mapping[str, str]) -> None:
        self._run = run
        self.headers = headers

    @property
    def way(self) -> Callable[[], str]:
        return self._run.way

    @way.setter
    def way(self, told: Callable[[], str]) -> None:
        self._run.way = told

    def __call__(self, signal: Event | Signal) -> None:
        self._run.report(signal)


@contextlib.contextmanager
def _watching() -> Iterator[None]:
    """Logs exceptions of an observer instead of raising them."""
    try:
        yield
    except Exception:
        _log.exception("an observer of a run failed")


def ended_by(error: errors.TailraceError) -> Ended:
    """Returns the ending of a run that failed with this exception."""
    outcome = Outcome.FAILED
    if isinstance(error, errors.TruncatedError):
        outcome = Outcome.TRUNCATED
    elif isinstance(error, errors.TimedOutError):
        outcome = Outcome.TIMED_OUT
    status = error.status_code if isinstance(error, errors.ResponseError) else -1
    message = error.error if isinstance(error, errors.ResponseError) else str(error)
    reason = error.phase if isinstance(error, errors.TimedOutError) else ""
    return Ended(outcome, reason=reason, fault=Fault(type(error).__name__, message, status, error.hint))


def error_of(ended: Ended, cause: BaseException | None = None) -> errors.TailraceError | None:
    """Returns the exception that readers get for an ending; None for complete, length and cancelled."""
    fault = ended.fault
    if fault is None:
        return None
    if isinstance(cause, errors.TailraceError):
        return cause
    kind: Any = getattr(errors, fault.kind, errors.TailraceError)
    error: errors.TailraceError
    if issubclass(kind, errors.ResponseError):
        error = kind(fault.message, fault.status_code, hint=fault.hint)
    else:
        error = kind(fault.message, hint=fault.hint)
    if isinstance(error, errors.TimedOutError):
        error.phase = ended.reason
    if cause is not None:
        error.__cause__ = cause
    return error


def lose_all() -> None:
    """In a forked child: ends every run whose owner stayed in the parent. Their sockets are the parent's."""
    for run in list(_live):
        with contextlib.suppress(Exception):
            run.lose()
