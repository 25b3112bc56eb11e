"""The context: what all requests of one gateway share."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from starlette.requests import Request

from tailrace.backends.embedded.models import is_path
from tailrace.client.aio import AsyncClient
from tailrace.errors import ModelNotFoundError, TailraceError
from tailrace.events import Ended, Fault, Outcome
from tailrace.gateway.access import limits
from tailrace.gateway.access.middleware import Caller
from tailrace.gateway.chats import Chats
from tailrace.gateway.cluster.lost_runs import Runs
from tailrace.gateway.cluster.worker_ids import WorkerId
from tailrace.gateway.counters import Counters
from tailrace.gateway.model_options import options_for
from tailrace.gateway.scheduling.turns import Turns
from tailrace.gateway.scheduling.upstreams import Upstream, Upstreams
from tailrace.gateway.settings import Settings
from tailrace.protocols.problems import ProblemError, problem_of
from tailrace.protocols.runs.requests import RunRequest, check_name, size_of
from tailrace.run.run import Run
from tailrace.telemetry import Telemetry
from tailrace.types import ChatRequest, GenerateRequest
from tailrace.web.asgi import streams
from tailrace.web.registry import Registry
from tailrace.web.requests import DefaultModel, request_of
from tailrace.web.stopping import until_released
from tailrace.web.stream_settings import linger_of

__all__ = ["STOPPING", "GatewayContext", "context_of"]

STOPPING = "server stopping"
_LETTING_GO = 0.2  # seconds that the backends get to let go when the server stops


class GatewayContext:
    """The upstreams, the runs, the figures.

    Args:
        settings: what the gateway was told.
        upstreams: where the models run.
        here: which worker this is, if there are several.
    """

    def __init__(self, settings: Settings, upstreams: Upstreams, here: WorkerId | None = None) -> None:
        self.settings = settings
        self.upstreams = upstreams
        self.here = here
        self.runs = Registry(settings.bounds) if here is None else Runs(settings.bounds, here)
        self.chats = Chats()
        self.default = DefaultModel()
        self.counters = Counters()
        self.telemetry = None if settings.telemetry is None else Telemetry(contents=settings.telemetry)
        self.linger = linger_of(settings.on_leave)
        self.started = time.time()
        self.incoming = 0  # bytes of bodies that are being read
        self.rendering = Turns("texts to render")
        self.searching = Turns("searches", working=2)  # half of the connections to the database are for all else
        self._starting = 0  # how many runs are about to begin
        self._keyed: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._over = False  # the server has stopped
        self.before: Callable[[Run], str] = lambda _run: ""  # the text that a run goes on from, if there is some

    @property
    def client(self) -> AsyncClient:
        """The client of the first upstream that works, for what only one can tell."""
        return self.upstreams.first.client

    async def start(
        self,
        asked: RunRequest | ChatRequest | GenerateRequest,
        caller: Caller,
        *,
        linger: float | None,
        key: str = "",
        body: bytes = b"",
        begin: Callable[[str], Awaitable[object]] | None = None,
    ) -> tuple[Run, bool]:
        """Starts a run; returns it, and False if an earlier request with the same key has started it.

        Args:
            asked: what is asked for; a request that is checked already, as it is to be sent.
            caller: who asks.
            linger: seconds it goes on without readers, where the request does not say; None: to its end.
            key: the idempotency key; empty: none.
            body: the request, to tell whether a key is used for another one.
            begin: is given the run's id before it starts, and may wait.

        Raises:
            ProblemError: there is no room, or it cannot be asked for.
        """
        owner = caller.owner
        # Of two requests with one key at once, one starts the run, and the other waits for that.
        lock = self._keyed.setdefault((owner, key), asyncio.Lock()) if key else contextlib.nullcontext()
        async with lock:
            run = self.runs.joined(key, body, owner)
            if run is not None:
                return run, False
            self.runs.check_room(self._starting)
            self._starting += 1
            try:
                run = await self._prepared(asked, caller, linger, begin)
            except TailraceError as error:
                raise problem_of(error) from error
            finally:
                self._starting -= 1
            self._begin(run, key, body, owner, asked=size_of(asked))
            return run, True

    def start_work(self, upstream: Upstream, operation: str, body: dict[str, Any], caller: Caller) -> Run:
        """Starts a pull, push or create, which ends when its reader leaves; it waits for no turn.

        Args:
            upstream: where it is done.
            operation: ``pull``, ``push`` or ``create``.
            body: the request.
            caller: who asks.

        Raises:
            ProblemError: there is no room.
        """
        self.runs.check_room(self._starting)
        run = self._marked(upstream.client.progress_run(operation, body, self.runs.new_log()))
        run.set_linger(0.0)
        self._begin(run, owner=caller.owner)
        return run

    def _begin(self, run: Run, key: str = "", body: bytes = b"", owner: str = "", *, asked: int = 0) -> None:
        run.start(asyncio.get_running_loop())
        run.released.add(lambda: _drop_frames(run.cause))
        self.counters.watch(run)
        self.runs.add(run, key, body, owner, asked=asked)
        if self._over:  # the server stopped while this one was about to begin
            _stop(run)

    async def _prepared(
        self,
        asked: RunRequest | ChatRequest | GenerateRequest,
        caller: Caller,
        linger: float | None,
        begin: Callable[[str], Awaitable[object]] | None,
    ) -> Run:
        """Returns the run of a request, before its start; it has its place in the queue."""
        check_name(asked.model)
        named = asked.model or self.settings.model or await self._default()
        asked.model = await self.meant(named) if asked.model else self.settings.aliases.get(named, named)
        request = self._checked(asked, named)
        admitted = await self.upstreams.admit(request, caller.key, caller.priority)
        try:
            run = Run(admitted.open, model=named, timeouts=self.client.timeouts, log=self.runs.new_log())
            self._marked(run)
            if self.telemetry is not None:
                run.observer = self.telemetry.server(request, admitted.first.client.known_backend, caller.trace)
            own = asked.linger if isinstance(asked, RunRequest) else msgspec.UNSET
            run.set_linger(linger if own is msgspec.UNSET else own)
            if begin is not None:
                await begin(run.id)
        except BaseException:
            admitted.leave()
            raise
        admitted.belongs_to(run)
        return run

    def _marked(self, run: Run) -> Run:
        """Has a run's id tell which worker it belongs to."""
        if self.here is not None:
            run.id = self.here.mark(run.id)
        return run

    def _checked(self, asked: RunRequest | ChatRequest | GenerateRequest, alias: str) -> ChatRequest | GenerateRequest:
        try:
            own = options_for(self.settings.model_options, asked.model, None, alias=alias) or {}
            if "num_predict" in own:  # to which there may be a limit; the others are this server's own
                asked.options = {"num_predict": own["num_predict"], **(asked.options or {})}
            limits.check(asked, self.settings.limits)
            asked.options = {**own, **(asked.options or {})} or None
            return request_of(asked) if isinstance(asked, RunRequest) else asked
        except RecursionError as error:
            raise ProblemError(400, "the request is nested too deeply") from error

    async def meant(self, name: str) -> str:
        """Returns the model that a request means by a name: an alias stands for another one.

        The engine in this program opens whatever file it is told to; a request tells it none.

        Raises:
            ModelNotFoundError: it names a file.
        """
        target = self.settings.aliases.get(name, name)
        if target == name and is_path(name) and name != self.settings.model:
            for upstream in self.upstreams.all:
                if (await upstream.client.backend()).url == "embedded:":
                    raise ModelNotFoundError(f"model {name[:200]!r} not found", 404, hint="no file is opened by name")
        return target

    async def _default(self) -> str:
        return self.default.known or self.default.remember(await self.upstreams.default_model())

    @property
    def readers(self) -> int:
        """How many readers all runs have."""
        return streams()

    async def drain(self, rest: Callable[[], Awaitable[object]]) -> None:
        """Takes no more runs, and gives the running ones their time; then ends them.

        Args:
            rest: waits for what has to end besides, such as readers that have not taken all of an answer yet.
        """
        self.runs.close(STOPPING)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.drain):
                await self._until_quiet()
                await rest()
        await self.end()

    async def end(self) -> None:
        """Ends what runs, and waits a moment for the backends to let go."""
        self.runs.close(STOPPING)
        self._over = True
        self.runs.end_all(_stop)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LETTING_GO):
                await self._until_quiet()

    async def _until_quiet(self) -> None:
        """Waits until all runs have ended, and the backends have let go of them."""
        for run in self.runs.newest():
            await until_released(run)


def _drop_frames(error: BaseException | None) -> None:
    """Frees what an error's tracebacks hold: the request, as large as it may be, while the run is kept."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _stop(run: Run) -> None:
    fault = Fault("TailraceError", STOPPING, hint="ask again when it is back")
    run.end(Ended(Outcome.FAILED, reason=STOPPING, fault=fault))


def context_of(request: Request) -> GatewayContext:
    """Returns what the application's requests share."""
    context = request.app.state.context
    assert isinstance(context, GatewayContext)
    return context
