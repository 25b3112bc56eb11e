"""The gateway on its own server: uvicorn, a socket that lets go of silent readers, and an end that never hangs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette

from tailrace.errors import TailraceError
from tailrace.gateway.house import House
from tailrace.gateway.output import keep_discreet, unheeded
from tailrace.gateway.protocol import bounded
from tailrace.web.pushing import RAW_SEND

__all__ = ["listen", "serve"]

_BACKLOG = 4096
_SEND_BUFFER = 256 * 1024  # bytes: the kernel's own limit of 4 MB would hold a reader's whole answer
_UNACKNOWLEDGED = 30_000  # ms after which a peer that acknowledges nothing, or takes nothing, is gone
_CONNECTIONS = 20_000
_FILES = 65_536
_IDLE = 75  # seconds that a connection is kept between two requests
_GRACE = 0.4  # seconds for readers to take the ending, once the runs have ended
_LOOK = 0.02
_LATEST = 5.0  # seconds after which the end is not waited for any more: a thread may hang, which nothing can end
# Thousands of streams are millions of objects that live: the collector's defaults would stop all of them for long.
_GC = (50_000, 20, 100)


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket.

    Raises:
        TailraceError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit both.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        hint = "name another port with --port, or 0 for any free one"
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            hint = "name an address of this computer with --host"
        raise TailraceError(f"cannot listen on {host}:{port}: {reason}", hint=hint) from error
    listener.setblocking(False)
    return listener


def serve(app: Starlette, listener: socket.socket, *, ready: Callable[[], object]) -> None:
    """Serves until a signal, then lets the running answers end. A second signal ends the process at once.

    Args:
        app: the gateway.
        listener: a listening socket.
        ready: called when requests are taken.
    """
    house: House = app.state.house
    # Half of the files are for the other end of the answers, and for all else.
    most = min(_CONNECTIONS, _files() // 2)
    keep_discreet()
    logger = logging.getLogger("uvicorn.error")
    logger.setLevel(logging.ERROR)  # what strangers send is no news
    logger.addFilter(_is_news)
    config = uvicorn.Config(
        _with_send(app),
        http=bounded(head_time=house.settings.head_time, most=most),
        loop="auto",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE,
        backlog=_BACKLOG,
        # By default uvicorn believes whoever is on this machine, who then is as many clients as he likes.
        proxy_headers=bool(house.settings.proxies),
        forwarded_allow_ips=list(house.settings.proxies),
    )
    server = _Server(config, house, ready)
    try:
        with _collector():
            server.run([listener])
    finally:
        server.ended()


def _with_send(app: Starlette) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Has the scope tell uvicorn's own ``send``, past all middleware, so that tokens can be pushed."""

    async def handing_on(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope[RAW_SEND] = send
        await app(scope, receive, send)

    return handing_on


class _Server(uvicorn.Server):
    """uvicorn, with an end in our order: no new runs, the running ones' time, their ending to every reader, then it."""

    def __init__(self, config: uvicorn.Config, house: House, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._house = house
        self._ready = ready
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
        await super().startup(sockets)
        if not self.should_exit:
            gc.collect()
            gc.freeze()
            self._ready()

    def _stop(self, number: int) -> None:
        if self._stopping is not None:
            os._exit(128 + number)
        self._stopping = asyncio.get_running_loop().create_task(self._end(128 + number))

    async def _end(self, code: int) -> None:
        try:
            await self._house.drain(self._until_answered)
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


def _is_news(record: logging.LogRecord) -> bool:
    """False of a reader that was let go: its answer is left without an end, so that it knows."""
    return "without completing response" not in record.getMessage()


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
