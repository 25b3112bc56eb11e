"""The loaded models: which ones stay in memory, and in which order requests are given to them.

Everything here runs on the worker's event loop; only loading, unloading and the engine's calls happen on threads.
"""

from __future__ import annotations

import asyncio
import collections
import os
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tailrace.backends.embedded.engine import CONTEXT, SLOTS, Engine, Facts, Job
from tailrace.backends.embedded.models import ModelFile

__all__ = ["FOREVER", "KEEP_ALIVE", "Loaded", "Pool"]

KEEP_ALIVE = 300.0  # seconds, Ollama's default
FOREVER = float("inf")
MAX_LOADED = 2

Key = tuple[Path, bool]  # the file, and whether it is loaded for embeddings
Load = Callable[[ModelFile, int, bool], Engine]
T = TypeVar("T")


class Loaded:
    """A model in memory with its queue.

    Attributes:
        engine: the model.
        users: requests that hold it, the queued ones too; it is never unloaded while there are any.
        draining: another load waits for it to become idle, so newcomers queue up behind that.
        expires: when it will be unloaded, seconds since 1970.
        last_cancelled: how far the engine had got with the last request whose client left.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.users = 0
        self.draining = False
        self.used = time.monotonic()
        self.expires = time.time() + KEEP_ALIVE
        self.last_cancelled: dict[str, int] | None = None
        self.idle = asyncio.Event()
        self.running: set[Job] = set()
        self.waiting: collections.deque[Job] = collections.deque()
        self.timer: asyncio.TimerHandle | None = None

    def submit(self, job: Job) -> Job:
        """Puts a job in line; it runs as soon as a slot is free."""
        job.on_end = lambda: self._leave(job)
        job.on_cancel = lambda: self._drop(job)
        self.waiting.append(job)
        self._advance()
        return job

    def _drop(self, job: Job) -> None:
        if job in self.waiting:  # the engine has not seen it, so it is over at once
            self.waiting.remove(job)
            job.finish()

    def _leave(self, job: Job) -> None:
        self.running.discard(job)
        self._advance()

    def _advance(self) -> None:
        while self.waiting and len(self.running) < self.engine.slots:
            job = self.waiting.popleft()
            self.running.add(job)
            job.start(self.engine)
        for position, job in enumerate(self.waiting, 1):
            job.moved(position)


class _Pending(msgspec.Struct):
    """A load in progress, shared by everybody who asked for the same."""

    context: int | None
    task: asyncio.Task[Loaded] | None = None
    waiters: int = 0


class Pool:
    """Loads models on demand, keeps them for a while, and makes room for others."""

    def __init__(self, load: Load) -> None:
        self.loaded: dict[Key, Loaded] = {}
        self.facts: dict[Path, Facts] = {}
        self._load = load
        self._pending: dict[Key, _Pending] = {}
        self._gate = asyncio.Lock()  # one load or reload at a time
        self._tasks: set[asyncio.Task[Any]] = set()
        self.slots = _setting("TAILRACE_NUM_PARALLEL", SLOTS, 64)
        self.context = _setting("TAILRACE_CONTEXT_LENGTH", CONTEXT, 1 << 24)

    def ready(self, model: ModelFile, context: int | None, embedding: bool = False) -> bool:
        """Says whether `acquire` would return without waiting."""
        return self._usable((model.path, embedding), context) is not None

    async def acquire(self, model: ModelFile, context: int | None = None, embedding: bool = False) -> Loaded:
        """Returns the model, loading it if need be; give it back with `release`.

        A load goes on when its last waiter leaves (the library cannot stop one), and the model is there for the next.

        Args:
            model: the file.
            context: tokens a slot; None takes what there is.
            embedding: for embeddings instead of text.

        Raises:
            ModelError: it cannot be loaded.
        """
        key = (model.path, embedding)
        loaded = self._usable(key, context)
        if loaded is not None:
            loaded.users += 1
            loaded.idle.clear()
            return loaded
        pending = self._pending.get(key)
        if pending is None or (context is not None and pending.context != context):
            pending = self._pending[key] = _Pending(context)
            pending.task = self._spawn(self._bring(model, embedding, pending))
        assert pending.task is not None
        pending.waiters += 1
        try:
            return await asyncio.shield(pending.task)
        except asyncio.CancelledError:
            self._forsake(pending)
            raise

    def release(self, loaded: Loaded, keep_alive: float) -> None:
        """Gives a model back and says how long it should stay from now on."""
        loaded.users -= 1
        loaded.used = time.monotonic()
        loaded.expires = time.time() + keep_alive
        if loaded.timer:
            loaded.timer.cancel()
            loaded.timer = None
        if loaded.users == 0:
            loaded.idle.set()
            if keep_alive != FOREVER and not loaded.draining:
                # An idle model whose time is up goes by way of the loop, so that a request just arriving may keep it.
                loaded.timer = asyncio.get_running_loop().call_later(keep_alive, self._expire, loaded)

    def unload(self, model: ModelFile) -> None:
        """Unloads a model as soon as nobody uses it."""
        for embedding in (False, True):
            loaded = self.loaded.get((model.path, embedding))
            if loaded is not None:
                loaded.users += 1
                self.release(loaded, 0)

    def cancel_all(self) -> None:
        """Cancels every job; the engine lets go of the running ones a moment later."""
        for loaded in self.loaded.values():
            for job in [*loaded.waiting, *loaded.running]:
                job.cancel()

    def busy(self) -> bool:
        """Says whether any call is inside the engine."""
        return any(loaded.running for loaded in self.loaded.values())

    def _usable(self, key: Key, context: int | None) -> Loaded | None:
        loaded = self.loaded.get(key)
        if loaded is None or loaded.draining or key in self._pending:
            return None
        if context in (None, loaded.engine.asked_context) or self._capped(key[0], context) == loaded.engine.facts.n_ctx:
            return loaded
        return None

    def _capped(self, path: Path, context: int | None) -> int:
        """The context to load with: what was asked for, but no more than the model was trained for."""
        facts = self.facts.get(path)
        wanted = self.context if context is None else context
        return min(wanted, facts.n_ctx_train) if facts and facts.n_ctx_train else wanted

    def _forsake(self, pending: _Pending) -> None:
        """A waiter leaves: before the load is done it is only forgotten, after it the model has to be given back."""
        task = pending.task
        if task is not None and task.done() and not task.cancelled() and task.exception() is None:
            self.release(task.result(), KEEP_ALIVE)
        else:
            pending.waiters -= 1

    async def _bring(self, model: ModelFile, embedding: bool, pending: _Pending) -> Loaded:
        key = (model.path, embedding)
        try:
            async with self._gate:
                loaded = self.loaded.get(key)
                if loaded is None or not self._fits(loaded, key, pending.context):
                    await self._make_room(key, model.size)
                    loaded = await self._read(model, embedding, pending.context)
                # Counted here, for the waiters' sake: the next load may run before they do, and must see them.
                loaded.users += pending.waiters
                loaded.draining = False
                if loaded.users:
                    loaded.idle.clear()
                else:
                    loaded.users = 1
                    self.release(loaded, KEEP_ALIVE)
                return loaded
        finally:
            if self._pending.get(key) is pending:
                del self._pending[key]

    def _fits(self, loaded: Loaded, key: Key, context: int | None) -> bool:
        return context in (None, loaded.engine.asked_context) or (
            self._capped(key[0], context) == loaded.engine.facts.n_ctx
        )

    async def _read(self, model: ModelFile, embedding: bool, context: int | None) -> Loaded:
        wanted = self._capped(model.path, context)
        if model.path not in self.facts and wanted > self.context:
            # How much context a model can have is known once it is loaded, and memory is taken for what is asked.
            engine = await asyncio.to_thread(self._load, model, self.context, embedding)
            self.facts[model.path] = engine.facts
            wanted = self._capped(model.path, context)
            if wanted > engine.facts.n_ctx:
                await asyncio.to_thread(engine.close)
                engine = await asyncio.to_thread(self._load, model, wanted, embedding)
        else:
            engine = await asyncio.to_thread(self._load, model, wanted, embedding)
        self.facts[model.path] = engine.facts
        loaded = self.loaded[model.path, embedding] = Loaded(engine)
        return loaded

    async def _make_room(self, key: Key, size: int) -> None:
        """Unloads the same model with another context, and others while there are too many or they are too large."""
        while True:
            loaded = self.loaded.get(key)
            others = sorted((other for other in self.loaded.values()), key=lambda other: (other.users > 0, other.used))
            if loaded is None:
                total = size + sum(other.engine.model.size for other in others)
                if not others or (len(others) < MAX_LOADED and total <= _memory() // 2):
                    return
                loaded = others[0]
            loaded.draining = True
            while loaded.users:
                loaded.idle.clear()
                await loaded.idle.wait()
            await self._remove(loaded)

    def _expire(self, loaded: Loaded) -> None:
        if loaded.users == 0 and not loaded.draining:
            self._spawn(self._remove(loaded))

    async def _remove(self, loaded: Loaded) -> None:
        key = (loaded.engine.model.path, loaded.engine.embedding)
        if self.loaded.get(key) is loaded:
            del self.loaded[key]
            if loaded.timer:
                loaded.timer.cancel()
            await asyncio.to_thread(loaded.engine.close)

    def _spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved, or asyncio would log it when all waiters have left


def _setting(name: str, default: int, most: int) -> int:
    text = os.environ.get(name, "")
    return min(max(int(text), 1), most) if text.isdecimal() else default


def _memory() -> int:
    """The machine's memory in bytes; generous where it cannot be told, because models are mapped, not copied."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 16 << 30
