"""The gateway on its own server: uvicorn, a socket that lets go of silent readers, and an end that never hangs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn
from starlette.applications import Starlette

from tailrace.errors import TailraceError
from tailrace.gateway.house import House
from tailrace.gateway.protocol import BoundedProtocol

__all__ = ["listen", "serve"]

_BACKLOG = 4096
_SEND_BUFFER = 256 * 1024  # bytes: the kernel's own limit of 4 MB would hold a reader's whole answer
_UNACKNOWLEDGED = 30_000  # ms after which a peer that acknowledges nothing, or takes nothing, is gone
_GRACE = 1  # seconds for what is not a stream, once the runs have ended
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
        raise TailraceError(f"cannot listen on {host}:{port}: {reason}", hint=hint) from error
    listener.setblocking(False)
    return listener


def serve(app: Starlette, listener: socket.socket, *, ready: Callable[[], object]) -> None:
    """Serves until a signal, then lets the running answers end. A second signal ends at once.

    Args:
        app: the gateway.
        listener: a listening socket.
        ready: called when requests are taken.
    """
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        loop="auto",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=75,
        backlog=_BACKLOG,
    )
    server = _Server(config, app.state.house, ready)
    with _collector():
        server.run([listener])


class _Server(uvicorn.Server):
    """uvicorn, with an end in our order: no new runs, the running ones' time, their ending to every reader, then it."""

    def __init__(self, config: uvicorn.Config, house: House, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._house = house
        self._ready = ready
        self._stopping: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes the signals that end a process, from the loop where it can: no handler runs in the midst of a step."""
        loop = asyncio.get_running_loop()
        names = [name for name in ("SIGINT", "SIGTERM") if hasattr(signal, name)]
        for number in (signal.Signals[name] for name in names):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup, or a job in the background
            try:
                loop.add_signal_handler(number, self._stop)
            except NotImplementedError:  # Windows
                signal.signal(number, lambda *_: loop.call_soon_threadsafe(self._stop))
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to take requests."""
        await super().startup(sockets)
        if not self.should_exit:
            gc.collect()
            gc.freeze()
            self._ready()

    def _stop(self) -> None:
        if self._stopping is not None:
            self.force_exit = self.should_exit = True
            self._stopping.cancel()
            return
        self._stopping = asyncio.get_running_loop().create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._house.drain()
        finally:
            self.should_exit = True


@contextlib.contextmanager
def _collector() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*_GC)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
