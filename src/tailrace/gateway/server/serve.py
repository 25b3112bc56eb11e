"""The gateway on its own server: uvicorn with our protocol, silent readers let go, and an end that never hangs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

from tailrace.gateway.cluster.process import END, LISTEN, PING, Tie, Told
from tailrace.gateway.cluster.relay import believing
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.endpoint import ENDPOINT
from tailrace.gateway.server.logging import keep_discreet, unheeded
from tailrace.gateway.server.protocol import HttpProtocol, limited
from tailrace.gateway.server.sockets import BACKLOG
from tailrace.transport.io_batch import start_batching
from tailrace.web.detach import with_detached_responses
from tailrace.web.direct_writer import DIRECT_WRITE

__all__ = ["serve"]

_CONNECTIONS = 20_000
_FILES = 65_536
_IDLE = 75  # seconds that a connection is kept between two requests
_GRACE = 0.4  # seconds for readers to take the ending, once the runs have ended
_LOOK = 0.02
_LATEST = 5.0  # seconds after which the end is not waited for any more: a thread may hang, which nothing can end
# Thousands of streams are millions of objects that live: the collector's defaults would stop all of them for long.
_GC = (50_000, 20, 100)


def serve(
    app: Starlette,
    listener: socket.socket,
    *,
    ready: Callable[[], object],
    private: socket.socket | None = None,
    tie: Tie | None = None,
) -> None:
    """Serves until a signal, then lets the running answers end. A second signal ends the process at once.

    Args:
        app: the gateway.
        listener: a listening socket.
        ready: called when requests are taken.
        private: a listening socket that only other workers reach, which say who their client is.
        tie: to the process that started this one, and others beside it.
    """
    context: GatewayContext = app.state.context
    # Half of the files are for the other end of the answers, and for all else.
    most = min(_CONNECTIONS, _files() // 2)
    keep_discreet()
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel(logging.ERROR)  # what strangers send is no news
    config = uvicorn.Config(
        with_detached_responses(app, DIRECT_WRITE, ENDPOINT),
        http=limited(
            head_time=context.settings.head_time,
            most=most,
            write_time=2 * context.settings.stream_settings.send_timeout,  # which lets go of a stream's reader first
        ),
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE,
        backlog=BACKLOG,
        # By default uvicorn believes whoever is on this machine, who then is as many clients as he likes.
        proxy_headers=bool(context.settings.proxies),
        forwarded_allow_ips=list(context.settings.proxies),
    )
    server = _Server(config, context, ready, private, tie)
    try:
        with _collector():
            server.run([listener])
    finally:
        server.ended()


class _Server(uvicorn.Server):
    """uvicorn, with an end in our order: no new runs, the running ones' time, their ending to every reader, then it."""

    def __init__(
        self,
        config: uvicorn.Config,
        context: GatewayContext,
        ready: Callable[[], object],
        private: socket.socket | None,
        tie: Tie | None,
    ) -> None:
        super().__init__(config)
        self._house = context
        self._ready = ready
        self._private = private
        self._tie = tie
        self._admitted = asyncio.Event()  # all workers may listen
        self._agreed = asyncio.Event()  # all workers may end
        self._stopping: asyncio.Task[None] | None = None
        self._watchdog: threading.Timer | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes the signals that end a process, from the loop where it can: no handler runs in the midst of a step."""
        loop = asyncio.get_running_loop()
        names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
        for number in (signal.Signals[name] for name in names):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup, or a job in the background
            stop = functools.partial(self._stop, number)
            try:
                loop.add_signal_handler(number, stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_, stop=stop: loop.call_soon_threadsafe(stop))
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to take requests."""
        asyncio.get_running_loop().set_exception_handler(unheeded)
        start_batching()
        if self._private is not None and self._tie is not None:
            await super().startup([])
            await self._listen_together(sockets or [], self._private, self._tie)
        else:
            await super().startup(sockets)
        if not self.should_exit:
            gc.collect()
            gc.freeze()
            self._ready()

    async def _listen_together(self, sockets: list[socket.socket], private: socket.socket, tie: Tie) -> None:
        """Takes requests as soon as all workers could: who gets in has all of them. And those that others pass on."""
        loop = asyncio.get_running_loop()
        loop.add_reader(tie.socket, self._heard, tie)
        tie.tell(Told(ready=True))
        await self._admitted.wait()
        kind: Any = self.config.http_protocol_class
        app: Any = self.config.app  # without uvicorn's belief in proxies: who the client is is known by now
        believed = believing(app)

        def connection() -> HttpProtocol:
            made: HttpProtocol = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
            return made

        def passed_on() -> HttpProtocol:
            made = connection()
            made.app = believed
            return made

        self.servers.append(await loop.create_unix_server(passed_on, sock=private, backlog=BACKLOG))
        self.servers.extend([await loop.create_server(connection, sock=sock, backlog=BACKLOG) for sock in sockets])

    def _heard(self, tie: Tie) -> None:
        """What the parent lets us do; when it has gone, nobody would pass a signal on, nor start this one again."""
        told = tie.hear()
        if told is None or LISTEN in told or END in told:
            self._admitted.set()
        if told is None or END in told:
            self._agreed.set()
        if told is not None:
            if PING in told:
                tie.tell(Told(alive=True))
            return
        asyncio.get_running_loop().remove_reader(tie.socket)
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_task(self._end(1, at_once=True))

    def _stop(self, number: int) -> None:
        if self._stopping is not None:
            os._exit(128 + number)
        self._stopping = asyncio.get_running_loop().create_task(self._end(128 + number))

    async def _end(self, code: int, *, at_once: bool = False) -> None:
        try:
            if at_once:
                await self._house.end()
                return
            await self._house.drain(self._until_answered)
            if self._tie is not None:
                # What others still read or ask comes on connections to this one too.
                self._tie.tell(Told(drained=True))
                await self._agreed.wait()
        finally:
            self._watchdog = threading.Timer(_LATEST, os._exit, (code,))
            self._watchdog.daemon = True
            self._watchdog.start()
            self.should_exit = True

    def ended(self) -> None:
        """All is over, in order."""
        if self._watchdog is not None:
            self._watchdog.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Lets go of everybody; the runs have ended."""
        for server in self.servers:
            server.close()
        for sock in sockets or ():
            sock.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await self._until_answered()
                while self.server_state.connections:  # noqa: ASYNC110 - uvicorn tells nobody
                    await asyncio.sleep(_LOOK)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await self._until_answered()
        await self.lifespan.shutdown()

    async def _until_answered(self) -> None:
        """Waits until no request is being answered any more."""
        while self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks)


def _files() -> int:
    """Returns how many files this process may have open, once it may have as many as the system lets it."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return _FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted if soft == resource.RLIM_INFINITY else soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):  # macOS has limits beside its limits
        return soft
    return wanted


@contextlib.contextmanager
def _collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*_GC)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
