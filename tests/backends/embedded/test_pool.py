"""The loaded models and their queues, with engines that only pretend: what waits for what, and what goes when."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailrace.backends.embedded import pool as pools
from tailrace.backends.embedded.engine import Engine, Facts, Job, Kind
from tailrace.backends.embedded.models import ModelFile
from tailrace.backends.embedded.pool import FOREVER, Loaded, Pool
from tailrace.errors import ModelError


class Pretended(Engine):
    """Runs a job until the test lets it go, or it is cancelled."""

    def __init__(self, model: ModelFile, context: int, embedding: bool) -> None:
        self.model = model
        self.slots = 2
        self.embedding = embedding
        self.asked_context = context
        self.facts = Facts(n_ctx=min(context, 8192), n_ctx_train=8192)
        self.inside = 0
        self.most = 0
        self.closed = False
        self.go = threading.Event()

    def call(self, kind: Kind, payload: bytes, on_chunk: Callable[[bytes], bool]) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            while not on_chunk(payload) and not self.go.wait(0.005):
                pass
        finally:
            self.inside -= 1

    def close(self) -> None:
        assert not self.inside
        self.closed = True


class Loader:
    """Counts loads, and holds them until the test lets them go."""

    def __init__(self) -> None:
        self.made: list[Pretended] = []
        self.go = threading.Event()
        self.go.set()
        self.error: Exception | None = None

    def __call__(self, model: ModelFile, context: int, embedding: bool) -> Engine:
        self.go.wait(60)
        if self.error:
            raise self.error
        self.made.append(Pretended(model, context, embedding))
        return self.made[-1]


@pytest.fixture
def loader() -> Loader:
    return Loader()


def model(name: str, size: int = 1) -> ModelFile:
    return ModelFile(name=name, path=Path(f"/{name}"), size=size, source="path")


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.002)


async def test_loads_once_for_everybody(loader: Loader) -> None:
    pool = Pool(loader)
    one, two, three = await asyncio.gather(*(pool.acquire(model("a")) for _ in range(3)))
    assert one is two is three
    assert (len(loader.made), one.users) == (1, 3)
    for _ in range(3):
        pool.release(one, FOREVER)
    assert pool.ready(model("a"), None)
    assert one.users == 0


async def test_first_in_first_out(loader: Loader) -> None:
    """Never more inside than slots; places are told and move up; whoever leaves the line leaves at once."""
    pool = Pool(loader)
    loaded = await pool.acquire(model("a"))
    engine = loader.made[0]
    jobs = [loaded.submit(Job("chat", b"%d" % number)) for number in range(6)]
    assert [job.position for job in jobs] == [0, 0, 1, 2, 3, 4]
    await until(lambda: engine.inside == 2)
    jobs[3].cancel()
    assert jobs[3].ended
    assert [job.position for job in jobs if not job.ended] == [0, 0, 1, 2, 3]
    jobs[0].cancel()
    jobs[0].cancel()
    await until(lambda: jobs[0].ended)
    assert [job.position for job in jobs[1:] if not job.ended] == [0, 0, 1, 2]
    engine.go.set()
    await until(lambda: all(job.ended for job in jobs))
    assert engine.most == 2
    assert not pool.busy()
    jobs[5].cancel()  # after its end: nothing


async def test_cancel_of_everything(loader: Loader) -> None:
    pool = Pool(loader)
    loaded = await pool.acquire(model("a"))
    jobs = [loaded.submit(Job("chat", b"")) for _ in range(5)]
    pool.cancel_all()
    await until(lambda: all(job.ended for job in jobs))
    assert not pool.busy()


async def test_what_a_call_raises_is_kept(loader: Loader) -> None:
    pool = Pool(loader)
    loaded = await pool.acquire(model("a"))

    def fail(*_: object) -> None:
        raise ValueError("no such field")

    loaded.engine.call = fail  # type: ignore[method-assign,assignment]
    job = loaded.submit(Job("chat", b""))
    await until(lambda: job.ended)
    assert str(job.failure) == "no such field"
    assert not loaded.running


async def test_keep_alive(loader: Loader) -> None:
    """0 unloads once the last user has gone, for ever keeps, and a new user stops the clock."""
    pool = Pool(loader)
    first = await pool.acquire(model("a"))
    second = await pool.acquire(model("a"))
    pool.release(first, 0)
    await turns()
    assert not loader.made[0].closed
    pool.release(second, 0.001)
    again = await pool.acquire(model("a"))
    assert again is first
    pool.release(again, 0)
    await until(lambda: loader.made[0].closed)
    assert not pool.loaded
    kept = await pool.acquire(model("a"))
    pool.release(kept, FOREVER)
    assert kept.timer is None


async def test_unload(loader: Loader) -> None:
    pool = Pool(loader)
    loaded = await pool.acquire(model("a"))
    pool.unload(model("a"))
    pool.unload(model("never loaded"))
    await turns()
    assert not loader.made[0].closed
    pool.release(loaded, FOREVER)
    pool.unload(model("a"))
    await until(lambda: loader.made[0].closed)


async def test_another_context_reloads_when_idle(loader: Loader) -> None:
    """Users of the old one finish first; newcomers wait for the new one; nobody runs on a closed one."""
    pool = Pool(loader)
    old = await pool.acquire(model("a"))
    task = asyncio.create_task(pool.acquire(model("a"), 2048))
    await turns()
    assert old.draining
    late = asyncio.create_task(pool.acquire(model("a")))
    await turns()
    assert not task.done()
    assert not late.done()
    pool.release(old, 300)
    new = await task
    assert await late is new
    assert (loader.made[0].closed, new.engine.facts.n_ctx) == (True, 2048)
    assert pool.ready(model("a"), 2048)
    assert not pool.ready(model("a"), 4096)


async def test_context_is_capped_at_training(loader: Loader) -> None:
    """Memory is not taken for what the model cannot use, and asking twice does not reload."""
    pool = Pool(loader)
    loaded = await pool.acquire(model("a"), 1_000_000)
    assert [engine.asked_context for engine in loader.made] == [4096, 8192]
    assert loader.made[0].closed
    assert pool.ready(model("a"), 2_000_000)
    assert loaded.engine.facts.n_ctx == 8192


async def test_two_at_a_time(loader: Loader) -> None:
    """The third model takes the place of the one that was not used for longest."""
    pool = Pool(loader)
    for name in ("a", "b", "a", "c"):
        pool.release(await pool.acquire(model(name)), FOREVER)
    assert {loaded.engine.model.name for loaded in pool.loaded.values()} == {"a", "c"}
    assert [engine.model.name for engine in loader.made if engine.closed] == ["b"]


async def test_large_ones_alone(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "_memory", lambda: 100)
    pool = Pool(loader)
    for name in ("a", "b"):
        pool.release(await pool.acquire(model(name, 30)), FOREVER)
    assert [loaded.engine.model.name for loaded in pool.loaded.values()] == ["b"]


async def test_models_that_take_turns_all_get_theirs(loader: Loader) -> None:
    """Many users of more models than fit: everyone is served, none twice loaded at once."""
    pool = Pool(loader)
    served: list[str] = []

    async def use(name: str) -> None:
        loaded = await pool.acquire(model(name))
        assert not loader_of(loaded).closed
        await turns(3)
        assert not loader_of(loaded).closed
        served.append(name)
        pool.release(loaded, FOREVER)

    names = [name for _ in range(10) for name in "abcd"]
    await asyncio.gather(*(use(name) for name in names))
    assert sorted(served) == sorted(names)
    assert len(pool.loaded) <= pools.MAX_LOADED


def loader_of(loaded: Loaded) -> Pretended:
    assert isinstance(loaded.engine, Pretended)
    return loaded.engine


async def test_leaving_during_a_load(loader: Loader) -> None:
    """The waiter is gone at once; the load goes on, and its model waits, unused, for the next."""
    loader.go.clear()
    pool = Pool(loader)
    stays = asyncio.create_task(pool.acquire(model("a")))
    leaves = asyncio.create_task(pool.acquire(model("a")))
    await turns()
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    loader.go.set()
    loaded = await stays
    assert loaded.users == 1
    pool.release(loaded, FOREVER)

    loader.go.clear()
    alone = asyncio.create_task(pool.acquire(model("b")))
    await turns()
    alone.cancel()
    await turns()
    loader.go.set()
    await until(lambda: (Path("/b"), False) in pool.loaded)
    assert pool.loaded[Path("/b"), False].users == 0
    assert pool.ready(model("b"), None)


async def test_leaving_in_the_very_moment_of_loading(loader: Loader) -> None:
    """A cancel at every step of a load: the count of users is right in the end."""
    for steps in range(1, 40):
        pool = Pool(loader)
        task = asyncio.create_task(pool.acquire(model("a")))
        for _ in range(steps):
            await asyncio.sleep(0.0002)  # not to wait for anything: each round is cut off a little later
        task.cancel()
        try:
            pool.release(await task, FOREVER)
        except asyncio.CancelledError:
            pass
        await until(pool.loaded.__len__)
        await turns()
        assert [loaded.users for loaded in pool.loaded.values()] == [0]


async def test_load_that_fails(loader: Loader) -> None:
    """Everybody who waits is told, and the next one tries again."""
    pool = Pool(loader)
    loader.error = ModelError("broken")
    results = await asyncio.gather(*(pool.acquire(model("a")) for _ in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["broken"] * 3
    loader.error = None
    assert (await pool.acquire(model("a"))).users == 1


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_NUM_PARALLEL", "5")
    monkeypatch.setenv("TAILRACE_CONTEXT_LENGTH", "nonsense")

    async def make() -> Pool:
        return Pool(Loader())

    pool = asyncio.run(make())
    assert (pool.slots, pool.context) == (5, 4096)


async def test_everybody_leaves_during_a_load(loader: Loader) -> None:
    """A model whose waiters have all left stays for a while, with no user; a load that then fails is nobody's news."""
    for error in (None, ModelError("broken")):
        pool = Pool(loader)
        loader.error = error
        loader.go.clear()
        task = asyncio.create_task(pool.acquire(model("a")))
        await turns()
        task.cancel()
        await turns()
        loader.go.set()
        while pool._tasks:
            await turns()
        assert [loaded.users for loaded in pool.loaded.values()] == ([0] if error is None else [])


async def test_two_loads_of_one_model_for_one_context(loader: Loader) -> None:
    """Who asks for another context, and for the one that is loading, gets in the end what they asked for."""
    pool = Pool(loader)
    loader.go.clear()
    small, large = (asyncio.create_task(pool.acquire(model("a"), context)) for context in (1000, 2000))
    await turns()
    capped = asyncio.create_task(pool.acquire(model("a")))  # any context will do
    await turns()
    loader.go.set()

    pool.release(await small, FOREVER)
    assert (await large).engine.asked_context == 2000
    assert await capped is await large
    assert [made.closed for made in loader.made] == [True, False]


async def test_a_second_load_that_finds_it_done(loader: Loader) -> None:
    """Who asks for the context that a model is being loaded with anyway gets that one."""
    pool = Pool(loader)
    loader.go.clear()
    any_will_do, the_same = (asyncio.create_task(pool.acquire(model("a"), context)) for context in (None, pool.context))
    await turns()
    loader.go.set()

    assert await any_will_do is await the_same
    assert len(loader.made) == 1


async def test_more_context_than_the_default_and_no_more_in_the_model(loader: Loader) -> None:
    """What a model can have is known once it is loaded; if that is no more than it has, it is not loaded again."""
    pool = Pool(loader)
    pool.context = 8192

    loaded = await pool.acquire(model("a"), 100_000)

    assert (loaded.engine.facts.n_ctx, len(loader.made)) == (8192, 1)


async def test_a_model_that_is_used_again_as_its_time_is_up(loader: Loader) -> None:
    """A timer that fires for a model in use, or for one that is gone, does nothing."""
    pool = Pool(loader)
    loaded = await pool.acquire(model("a"))

    pool._expire(loaded)
    assert not pool._tasks
    pool.release(loaded, FOREVER)
    await pool._remove(loaded)
    await pool._remove(loaded)

    assert not pool.loaded
    assert [made.closed for made in loader.made] == [True]


async def test_a_load_that_is_cancelled_as_the_program_ends(loader: Loader) -> None:
    """Who waits for it is cancelled too, and the pool forgets it."""
    pool = Pool(loader)
    loader.go.clear()
    waiting = asyncio.create_task(pool.acquire(model("a")))
    await turns()
    for task in pool._tasks:
        task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    loader.go.set()
    await turns()
    assert (pool.loaded, pool._pending, pool._tasks) == ({}, {}, set())


def test_memory_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system does not say how much memory there is, much is taken to be there."""

    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown, raising=False)

    assert pools._memory() == 16 << 30
