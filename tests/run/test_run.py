"""The run: its observer, an owner that is gone, an exchange that does not keep its word."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from tests.run.spoken import COMPLETE, Spoken, until_ended

from tailrace import errors
from tailrace.events import Ended, Fault, Outcome
from tailrace.run.exchange import OnEvents, Report
from tailrace.run.run import Run, ended_by
from tailrace.run.state import State
from tailrace.run.timeouts import Timeouts


class Watcher:
    """An observer that writes down what it is told, and may fail at it."""

    def __init__(self, fails: bool = False) -> None:
        self.told: list[tuple[str, State]] = []
        self._fails = fails

    def started(self, run: Run) -> Mapping[str, str]:
        self.told.append(("started", run.state))
        if self._fails:
            raise ValueError("at the start")
        return {"traceparent": "00-1"}

    def ended(self, run: Run) -> None:
        self.told.append(("ended", run.state))
        if self._fails:
            raise ValueError("at the end")


@pytest.mark.parametrize("fails", [False, True])
async def test_an_observer(fails: bool) -> None:
    """It is told of the start and the end, and its headers go with the request; what it raises does the run no harm."""
    model, watcher = Spoken(), Watcher(fails)
    carried: list[Mapping[str, str]] = []

    async def open(report: Report) -> Spoken:
        carried.append(report.headers)
        return model

    run = Run(open)
    run.observer = watcher
    run.start(asyncio.get_running_loop())
    run.start(asyncio.get_running_loop())
    model.say("a", COMPLETE)
    await until_ended(run)

    assert watcher.told == [("started", State.NEW), ("ended", State.ENDED)]
    assert carried == [{} if fails else {"traceparent": "00-1"}]
    assert run.reply().text == "a"


async def test_an_exchange_without_an_ending() -> None:
    """An exchange that returns without one is a mistake of ours, and the run fails and says so."""

    class Mute(Spoken):
        async def relay(self, on_events: OnEvents) -> None:
            return

    async def open(_: Report) -> Spoken:
        return Mute()

    run = Run(open)
    run.start(asyncio.get_running_loop())
    ended = await until_ended(run)

    assert (ended.outcome, ended.fault) == (
        Outcome.FAILED,
        Fault("TailraceError", "RuntimeError: the exchange came to its end without an ending"),
    )


async def never(_: Report) -> Spoken:
    raise AssertionError("nobody is to be asked")


def test_cancel_of_a_run_whose_loop_is_closed() -> None:
    """Nobody else writes any more, so whoever cancels shows the ending."""
    run = Run(never)
    run._loop = asyncio.new_event_loop()
    run._loop.close()

    assert run.cancel()

    assert list(run.log.read(0)) == [Ended(Outcome.CANCELLED)]
    assert run.is_released


def test_a_run_that_nobody_started() -> None:
    """There is nothing to settle; one that was cancelled before has ended."""
    run = Run(never)
    run.settle()
    assert run.log.end == 0

    run.cancel()
    run.settle()
    assert list(run.log.read(0)) == [Ended(Outcome.CANCELLED)]
    assert run.is_released


async def test_a_run_without_limits() -> None:
    """No timer runs; and one that goes off when no limit is left does nothing."""
    model = Spoken()

    async def open(_: Report) -> Spoken:
        return model

    run = Run(open, timeouts=Timeouts.of(None), linger=5.0)
    run.start(asyncio.get_running_loop())
    run.attach()
    assert run._timer is None
    run._tick()
    assert (run.ended, run.linger) == (None, 5.0)
    model.say(COMPLETE)
    await until_ended(run)


@pytest.mark.parametrize(
    ("error", "outcome", "reason", "status"),
    [
        (errors.TruncatedError("cut"), Outcome.TRUNCATED, "", -1),
        (errors.ResponseError("no", 500, hint="try"), Outcome.FAILED, "", 500),
        (errors.ConnectionError("nobody"), Outcome.FAILED, "", -1),
    ],
)
def test_what_an_error_makes_of_a_run(error: errors.TailraceError, outcome: Outcome, reason: str, status: int) -> None:
    """Its kind, its words and its hint are in the ending."""
    ended = ended_by(error)

    assert (ended.outcome, ended.reason) == (outcome, reason)
    assert ended.fault is not None
    assert (ended.fault.kind, ended.fault.status_code, ended.fault.hint) == (type(error).__name__, status, error.hint)


def test_what_a_time_out_makes_of_a_run() -> None:
    """It keeps the phase that took too long."""
    error = errors.TimedOutError("no connection within 1 s")
    error.phase = "connect"

    assert ended_by(error) == Ended(
        Outcome.TIMED_OUT, "connect", fault=Fault("TimedOutError", "no connection within 1 s", hint=error.hint)
    )
