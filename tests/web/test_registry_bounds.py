"""The registry: runs by id and key, within bounds, forgotten by the time of their end, at a cost that does not grow."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from tailrace.events import Ended, Outcome, TextDelta
from tailrace.protocols.problems import ProblemError
from tailrace.run.bounded_log import BoundedLog
from tailrace.run.exchange import Exchange, Report
from tailrace.run.run import Run
from tailrace.web import registry as module
from tailrace.web.registry import Bounds, Registry


class Clock:
    """Time that goes when it is told to."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        patch.setattr("tailrace.web.registry.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The registry's clock."""
    return Clock(monkeypatch)


async def _start(registry: Registry, key: str = "", body: bytes = b"", owner: str = "", text: str = "") -> Run:
    """Starts a run that goes on until it is ended."""

    async def open(_report: Report) -> Exchange:
        await asyncio.Event().wait()
        raise AssertionError

    run = Run(open, model="m", log=registry.new_log())
    run.start(asyncio.get_running_loop())
    if text:
        run.log.append([TextDelta(text)])
    return registry.add(run, key, body, owner)


async def _end(*runs: Run) -> None:
    for run in runs:
        run.end(Ended(Outcome.CANCELLED))
    for run in runs:
        while not run.is_released:
            await asyncio.sleep(0)


def _status(registry: Registry, id: str, owner: str = "") -> int:
    try:
        registry.get(id, owner)
    except ProblemError as problem:
        return problem.status
    return 200


async def test_runs_are_found_until_their_time_is_over(clock: Clock) -> None:
    """A run is kept while it goes on, however long, and for a time after its end."""
    registry = Registry(Bounds(keep=10))
    one, two = await _start(registry), await _start(registry)
    clock.now += 1000
    await _end(one)
    assert (registry.running, len(registry)) == (1, 2)
    clock.now += 9.9
    assert _status(registry, one.id) == 200
    clock.now += 0.2
    assert _status(registry, one.id) == 404
    assert [two] == list(registry.newest())
    await _end(two)


async def test_owners_see_their_own_runs() -> None:
    """Another owner's run is as good as none, and so is its key."""
    registry = Registry()
    mine, theirs = await _start(registry, "k", b"1", "me"), await _start(registry, "k", b"2", "they")

    assert mine is registry.get(mine.id, "me")
    assert _status(registry, mine.id, "they") == 404
    assert _status(registry, mine.id) == 404
    assert mine is registry.joined("k", b"1", "me")
    assert theirs is registry.joined("k", b"2", "they")
    assert registry.joined("k", b"1") is None
    assert [theirs] == list(registry.newest("they"))
    await _end(mine, theirs)


async def test_keys_join_and_are_forgotten_with_their_run(clock: Clock) -> None:
    """The same request joins, another one is refused; a key is free again when its run is forgotten."""
    registry = Registry(Bounds(keep=10))
    run = await _start(registry, "k", b"body")

    assert run is registry.joined("k", b"body")
    assert registry.joined("", b"body") is None
    with pytest.raises(ProblemError, match="another request") as raised:
        registry.joined("k", b"other")
    assert raised.value.status == 422
    await _end(run)
    registry.running  # noqa: B018 - takes note of the end
    clock.now += 11
    assert _status(registry, run.id) == 404
    assert registry.joined("k", b"other") is None


async def test_room_for_runs() -> None:
    """As many as may run at once, those that are about to start included; one that has ended makes room."""
    registry = Registry(Bounds(runs=2))
    one = await _start(registry)
    registry.check_room()
    with pytest.raises(ProblemError, match="too many"):
        registry.check_room(1)
    two = await _start(registry)
    with pytest.raises(ProblemError, match="too many") as raised:
        registry.check_room()
    assert (raised.value.status, raised.value.headers["Retry-After"]) == (503, "1")
    await _end(one)
    registry.check_room()
    registry.close("over")
    with pytest.raises(ProblemError, match="over"):
        registry.check_room()
    await _end(two)


async def test_memory_is_made_by_those_that_ended_first(clock: Clock) -> None:
    """When the logs are full, ended runs go in the order of their end, no more than need be; running ones never."""
    registry = Registry(Bounds(log_bytes=400_000))
    runs = [await _start(registry, text="x" * 100_000) for _ in range(3)]
    await _end(runs[2])
    registry.check_room()
    clock.now += 1
    await _end(runs[0])
    registry.check_room()
    clock.now += 1
    more = await _start(registry, text="x" * 100_000)
    registry.check_room()

    assert [_status(registry, run.id) for run in (*runs, more)] == [200, 200, 404, 200]
    assert registry.size < 400_000
    big = await _start(registry, text="x" * 300_000)
    clock.now += 1
    with pytest.raises(ProblemError, match="full"):
        registry.check_room()
    assert [_status(registry, run.id) for run in (*runs, more, big)] == [404, 200, 404, 200, 200]
    await _end(runs[1], more, big)


async def test_c21_requests_and_what_is_kept_with_runs_count(clock: Clock) -> None:
    """A large request counts while its run goes on; what is kept beside a log counts until the run is forgotten."""
    registry = Registry(Bounds(log_bytes=300_000, keep=10))
    run = registry.add(await _start(Registry()), asked=200_000)
    registry.weigh(run, 50_000)
    assert 250_000 < registry.size < 300_000
    registry.add(other := await _start(Registry()), asked=200_000)
    clock.now += 1
    with pytest.raises(ProblemError, match="full"):
        registry.check_room()
    await _end(run, other)
    registry.check_room()
    clock.now += 1

    assert 50_000 < registry.size < 100_000
    clock.now += 10
    registry.check_room()
    assert registry.size == 0


async def test_run_that_ended_before_it_was_added(clock: Clock) -> None:
    """It counts as ended, and is forgotten as others are."""
    registry = Registry(Bounds(keep=10))

    async def open(_report: Report) -> Exchange:
        raise AssertionError

    run = Run(open, model="m", log=BoundedLog(1000))
    run.cancel()
    run.start(asyncio.get_running_loop())
    registry.add(run)

    assert registry.running == 0
    clock.now += 11
    assert _status(registry, run.id) == 404


async def test_forgotten_runs_are_freed(clock: Clock) -> None:
    """Nothing holds a run that was forgotten."""
    registry = Registry(Bounds(keep=10))
    run = await _start(registry, "k")
    await _end(run)
    registry.check_room()
    seen = weakref.ref(run)
    del run
    clock.now += 11
    registry.check_room()
    await asyncio.sleep(0)
    gc.collect()

    assert seen() is None
    assert (len(registry), registry.size) == (0, 0)


async def test_all_are_ended() -> None:
    """Those that go on are ended; those that have ended are left as they are."""
    registry = Registry()
    one, two = await _start(registry), await _start(registry)
    await _end(one)
    ended = registry.end_all(lambda run: run.end(Ended(Outcome.FAILED, reason="server stopping")))

    assert [two] == ended
    await _end(two)
    assert two.ended is not None
    assert two.ended.reason == "server stopping"


async def test_cost_of_a_start_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a thousand runs a start, a look and an end go through none of the others."""
    registry = Registry(Bounds(runs=2000))
    runs = [await _start(registry) for _ in range(1000)]
    registry.check_room()
    touched = 0
    size = module._size

    def counted(run: Run) -> int:
        nonlocal touched
        touched += 1
        return size(run)

    monkeypatch.setattr(module, "_size", counted)
    for run in runs[:50]:
        registry.check_room()
        registry.get(run.id)
        await _end(run)
    assert registry.running == 950
    assert touched <= 50 + 1000 * 3  # the sum is made anew now and then
    await _end(*runs[50:])


def test_threads_start_and_end_runs() -> None:
    """Runs of several loops on several threads come and go; none is lost and none stays."""
    registry = Registry(Bounds(keep=0))
    failures: list[BaseException] = []

    async def work() -> None:
        for _ in range(100):
            run = await _start(registry)
            registry.check_room()
            await _end(run)

    def thread() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=thread) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    registry.check_room()

    assert failures == []
    assert (registry.running, len(registry)) == (0, 0)
