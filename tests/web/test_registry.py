"""The runs of a server: found by id, forgotten after a time, within bounds of number and memory."""

from __future__ import annotations

import threading

import pytest
from tests.run.spoken import COMPLETE, Spoken, spoken, until, until_ended

from tailrace.events import Ended, Outcome
from tailrace.protocols.problems import ProblemError
from tailrace.run.run import Run
from tailrace.web.registry import Bounds, Registry


def running(runs: Registry) -> tuple[Run, Spoken]:
    """A run that goes on, kept."""
    run, model = spoken(runs.new_log())
    runs.add(run)
    return run, model


async def ended(runs: Registry, text: str = "x") -> Run:
    """A run that has ended, kept."""
    run, model = running(runs)
    model.say(text, COMPLETE)
    await until_ended(run)
    return run


def status(runs: Registry, id: str) -> int:
    """The status of a look for a run."""
    try:
        runs.get(id)
    except ProblemError as error:
        return error.status
    return 200


async def test_found_and_not_found() -> None:
    """A run is found by its id, while it goes on and after; another id is a 404."""
    runs = Registry()
    first = await ended(runs)
    second, _ = running(runs)

    assert [runs.get(first.id), runs.get(second.id)] == [first, second]
    assert status(runs, "run_0") == 404
    assert list(runs.newest()) == [second, first]
    assert (len(runs), runs.running) == (2, 1)
    assert 0 < runs.created(first.id) <= runs.created(second.id)


async def test_forgotten() -> None:
    """A run is kept for a time after its end; one that goes on is kept however long it does."""
    runs = Registry(Bounds(keep=0))
    gone = await ended(runs)
    goes_on, _ = running(runs)

    assert (status(runs, gone.id), status(runs, goes_on.id)) == (404, 200)
    assert len(runs) == 1


async def test_as_many_at_once() -> None:
    """Beyond the bound of runs at once there is a 503 with the time to come back, until one ends."""
    runs = Registry(Bounds(runs=2))
    (first, model), _ = running(runs), running(runs)
    with pytest.raises(ProblemError) as caught:
        runs.check_room()
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    model.say(COMPLETE)
    await until_ended(first)

    runs.check_room()
    assert runs.running == 1


async def test_as_much_memory() -> None:
    """Over the bound of memory ended runs are forgotten, the oldest first; if those that go on fill it, it is a 503."""
    runs = Registry(Bounds(log_bytes=300_000))
    old, new = await ended(runs, "x" * 100_000), await ended(runs, "y" * 100_000)
    runs.check_room()
    large, model = running(runs)
    model.say("z" * 150_000)
    await until(large, 1)
    eventually_room(runs)
    assert [status(runs, run.id) for run in (old, new, large)] == [404, 200, 200]
    model.say("z" * 200_000)
    await until(large, 2)

    with pytest.raises(ProblemError, match="full") as caught:
        eventually_full(runs)
    assert (caught.value.status, status(runs, new.id)) == (503, 404)


def eventually_room(runs: Registry) -> None:
    """Asks for room until something was forgotten for it: what the runs take is summed up now and then only."""
    before = len(runs)
    while len(runs) == before:
        runs.check_room()


def eventually_full(runs: Registry) -> None:
    """Asks for room until there is none."""
    while True:
        runs.check_room()


async def test_no_more() -> None:
    """A server that stops takes no more runs, says why, and ends those that go on."""
    runs = Registry()
    await ended(runs)
    run, model = running(runs)
    runs.close("server stopping")
    with pytest.raises(ProblemError, match="server stopping"):
        runs.check_room()

    assert runs.end_all(lambda run: run.end(Ended(Outcome.FAILED, reason="server stopping"))) == [run]
    assert (await until_ended(run)).reason == "server stopping"
    assert model.closed.is_set()


async def test_c11_one_key_one_run() -> None:
    """A request that is repeated joins its run; the same key with another body is a 422; forgotten with the run."""
    runs = Registry(Bounds(keep=0))
    run, model = spoken()
    runs.add(run, "key", b"body")

    assert (runs.joined("key", b"body"), runs.joined("other", b"body"), runs.joined("", b"body")) == (run, None, None)
    with pytest.raises(ProblemError) as caught:
        runs.joined("key", b"another body")
    assert caught.value.status == 422
    model.say(COMPLETE)
    await until_ended(run)
    assert status(runs, run.id) == 404
    assert runs.joined("key", b"another body") is None


async def test_threads() -> None:
    """Runs that threads add, look up and forget at once are counted right in the end."""
    runs = Registry(Bounds(keep=0))
    kept = [running(runs) for _ in range(50)]
    errors: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(50):
                runs.check_room()
                for run, _ in kept:
                    status(runs, run.id)
                list(runs.newest())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for run, model in kept:
        model.say(COMPLETE)
        await until_ended(run)
    for thread in threads:
        thread.join(60)

    assert errors == []
    assert (runs.running, list(runs.newest())) == (0, [])
