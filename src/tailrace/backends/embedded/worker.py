"""The child process: serves Ollama's protocol on a socket, and ends when its parent ends.

Its first line of stdin is a `Config`; stdin then stays open for as long as the parent lives. On stdout it writes one
line, a `Ready`. It never writes to the terminal: stdout and stderr go to the log file it was given as stderr.

Run by the supervisor through `_child.py`; ``python -m tailrace.backends.embedded.worker`` does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from tailrace.backends.embedded.engine import Engine
from tailrace.backends.embedded.http1 import read_request
from tailrace.backends.embedded.models import ModelFile
from tailrace.backends.embedded.pool import Pool
from tailrace.backends.embedded.routes import Routes
from tailrace.errors import TailraceError
from tailrace.protocols.ollama.requests import OllamaAPIError

__all__ = ["Config", "Ready", "main"]

MAX_LOG = 262_144
_GRACE = 2.0  # seconds that running engine calls have at exit; then the process ends without them
_F_SETSIG = 10  # of Linux's fcntl.h; Python's fcntl has no name for it


class Config(msgspec.Struct):
    """What the parent tells the worker.

    Attributes:
        folder: a private folder for sockets and the log; the worker removes it at its end.
        parent: the parent's process id.
        key: the bearer key to ask for; with it the worker listens on a loopback port instead of a Unix socket.
        version: what ``/api/version`` says.
        log: the file that stderr goes to.
    """

    folder: str
    parent: int
    key: str | None = None
    version: str = "0.0.0"
    log: str | None = None


class Ready(msgspec.Struct):
    """What the worker tells the parent, once: where it listens, or why it cannot."""

    socket: str | None = None
    port: int | None = None
    error: str | None = None


class Worker:
    """The server and its lifetime."""

    def __init__(self, config: Config, say: Callable[[Ready], None]) -> None:
        self._config = config
        self._say = say
        self._folder = Path(config.folder)
        self._log = Path(config.log) if config.log else None
        self._over = asyncio.Event()
        self._pool = Pool(self._load)
        self._routes = Routes(self._pool, config.version)
        self._connections: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serves until the parent is gone."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            with contextlib.suppress(AttributeError, NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(getattr(signal, name), self._over.set)
        threading.Thread(target=self._watch_stdin, args=(loop,), name="tailrace-parent", daemon=True).start()
        server = await self._listen()
        try:
            while not self._over.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._over.wait(), 1.0)
                # stdin can outlive the parent: a process forked from it may hold the other end.
                if _orphaned(self._config.parent):
                    self._over.set()
                self._bound_log()
        finally:
            server.close()
            await self._end_calls()

    async def _listen(self) -> asyncio.Server:
        if self._config.key is not None:
            server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self._say(Ready(port=server.sockets[0].getsockname()[1]))
            return server
        path = self._folder / "w.sock"
        server = await asyncio.start_unix_server(self._connected, str(path))
        self._say(Ready(socket=str(path)))
        return server

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, EOFError, asyncio.CancelledError):
            pass  # it left before it had asked, or we are going
        except Exception:  # a mistake of ours ends one answer, and its reason is in the log
            traceback.print_exc()
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            exchange = await read_request(reader, writer, self._config.key)
        except OllamaAPIError as fault:
            body = msgspec.json.encode({"error": fault.text})
            head = f"HTTP/1.1 {fault.status} Error\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
            await writer.drain()
            return
        exchange.watch()
        complete = False
        try:
            complete = await self._routes.answer(exchange)
        except Exception as error:
            traceback.print_exc()
            reason = {"error": f"internal error: {type(error).__name__}: {error}"}
            if exchange.started:
                await exchange.send(msgspec.json.encode(reason) + b"\n")
            else:
                exchange.json(reason, 500)
            complete = True
        finally:
            await exchange.close(complete=complete)

    async def _end_calls(self) -> None:
        """Ends what runs: leaving while a thread is inside the engine would abort the process."""
        self._pool.cancel_all()
        for task in self._connections:  # those that wait for a load would wait on
            task.cancel()
        deadline = asyncio.get_running_loop().time() + _GRACE
        while self._connections and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._connections, timeout=left)

    def _watch_stdin(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._over.set)

    def _load(self, model: ModelFile, context: int, embedding: bool) -> Engine:
        return Engine(model, self._folder, context=context, slots=self._pool.slots, embedding=embedding, log=self._log)

    def _bound_log(self) -> None:
        if self._log:
            with contextlib.suppress(OSError):
                if self._log.stat().st_size > MAX_LOG:
                    os.truncate(self._log, 0)


def main() -> None:
    """Runs the worker until its parent is gone. Never returns."""
    say = _private_stdout()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    code = 0
    folder = ""
    try:
        config = msgspec.json.decode(_first_line(), type=Config)
        folder = config.folder
        _end_if_stuck()
        _check_engine()
        asyncio.run(Worker(config, say).run())
    except TailraceError as error:
        say(Ready(error=str(error)))
        code = 3
    except BaseException as error:
        traceback.print_exc()
        with contextlib.suppress(Exception):
            say(Ready(error=f"{type(error).__name__}: {error}"))
        code = 1
    finally:
        if folder and (code == 0 or _orphaned(config.parent)):  # else the parent wants to read the log
            shutil.rmtree(folder, ignore_errors=True)
        # Not sys.exit: a call that is still inside the engine would turn that into an abort.
        os._exit(code)


def _end_if_stuck() -> None:
    """Has the kernel end this process 10 s after the parent closed our stdin, should it still be there.

    All our other watches need the interpreter, which native code may hold for ever. So the closing of the pipe raises a
    signal whose handler is libc's own `alarm`: handlers are called with the signal's number, 10 for SIGUSR1, and that
    many seconds later SIGALRM ends us, unless we have ended by then. A parent-death signal would not do: it comes
    when the *thread* that started us ends, and pools end their threads. Linux only.
    """
    if sys.platform != "linux" or int(signal.SIGUSR1) != 10:  # 16 on MIPS: there our own watches have to do
        return
    import ctypes
    import fcntl

    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal(signal.SIGUSR1, ctypes.cast(libc.alarm, ctypes.c_void_p))
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, _F_SETSIG, signal.SIGUSR1)
    fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_ASYNC)


def _orphaned(parent: int) -> bool:
    return os.name == "posix" and os.getppid() != parent


def _private_stdout() -> Callable[[Ready], None]:
    """Keeps stdout for our one line; what libraries print goes to the log."""
    private = os.dup(1)
    os.dup2(2, 1)

    def say(ready: Ready) -> None:
        with contextlib.suppress(OSError):
            os.write(private, msgspec.json.encode(ready) + b"\n")
            os.close(private)

    return say


def _first_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise EOFError("the parent closed before it had said anything")
        line += byte
    return bytes(line)


def _check_engine() -> None:
    from tailrace.errors import EngineError

    try:
        import xllamacpp  # noqa: F401
    except ImportError as error:
        raise EngineError(
            f"the embedded engine is not installed ({error}): pip install 'tailrace[embedded]', or use Ollama"
        ) from error


if __name__ == "__main__":
    main()
