"""A worker process and its parent, as they see each other over what connects them: a pair of sockets.

The parent sends the task, and later bytes: all may listen now, all may end; and now and then one that asks whether the
worker's event loop turns, which that answers. The worker sends lines of JSON. Each has gone when its end is closed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from tailrace.gateway.cluster.worker_ids import WorkerId
from tailrace.gateway.settings import Settings
from tailrace.i18n import language

__all__ = ["END", "LISTEN", "PING", "Process", "Task", "Tie", "Told", "how"]

LISTEN, END, PING = b"l", b"e", b"p"
_ENDING = 5.0  # seconds from a process's last word to its end


class Task(msgspec.Struct, frozen=True):
    """What a worker is to do.

    Attributes:
        settings: of this worker.
        here: which one it is.
        count: how many there are.
        folder: where their private sockets are.
        listener: the file descriptor of its listening socket.
        private: that of its private one.
    """

    settings: Settings
    here: WorkerId
    count: int
    folder: Path
    listener: int
    private: int


class Told(msgspec.Struct, omit_defaults=True):
    """What a worker tells its parent: how far it is, or why it cannot start.

    Attributes:
        ready: it could take requests.
        listening: it takes them.
        drained: its answers have ended after a signal.
        alive: its event loop turns.
        error: what is wrong; empty: nothing.
        hint: what to do about it.
        missing: the module that is not installed.
    """

    ready: bool = False
    listening: bool = False
    drained: bool = False
    alive: bool = False
    error: str = ""
    hint: str = ""
    missing: str = ""


class Process:
    """One worker process.

    Args:
        task: what it is to do.

    Attributes:
        control: our end of what connects us with it; closed at the other end when it has ended.
        ready: True once it could take requests.
        listening: True once it does.
        drained: True once its answers have ended after a signal.
        told: the last that it told.
        began: when it was started, by the monotonic clock.
        heard_at: when it last told something.
        hung: True once it was ended because it told nothing.
    """

    def __init__(self, task: Task) -> None:
        self.control, theirs = socket.socketpair()
        self.told = Told()
        self.ready = self.listening = self.drained = self.hung = False
        self.began = self.heard_at = time.monotonic()
        self._heard = b""
        name = f"{task.here.index + 1}/{task.count}"  # for those who look at the list of processes
        with theirs:
            # -P: a json.py in the user's folder must not become ours; what we import is found by the worker as well.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tailrace.gateway.cluster", str(theirs.fileno()), name],
                pass_fds=(theirs.fileno(), task.listener, task.private),
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                    "TAILRACE_LANG": language(),
                },
                start_new_session=True,  # so that Ctrl-C in the terminal is the parent's alone
            )
        with contextlib.suppress(BrokenPipeError):  # it died at once, which is noticed soon
            self.control.sendall(pickle.dumps(task))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def hear(self) -> bool:
        """Takes what it tells; returns False once it has ended."""
        try:
            data = self.control.recv(65536)
        except OSError:
            data = b""
        self.heard_at = time.monotonic()
        self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            self.told = msgspec.json.decode(line, type=Told)
            self.ready = self.ready or self.told.ready
            self.listening = self.listening or self.told.listening
            self.drained = self.drained or self.told.drained
        return bool(data)

    def let(self, what: bytes) -> None:
        """Lets it `LISTEN`, or `END`, or has it answer a `PING`."""
        with contextlib.suppress(OSError):  # it has ended
            self.control.sendall(what)

    def send(self, number: int) -> None:
        """Sends it a signal."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def bury(self) -> int:
        """Waits for its end, which is near; returns its exit code, or less than 0: the signal that ended it."""
        self.control.close()
        try:
            return self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self.bury()


class Tie:
    """What ties this process to its parent.

    Args:
        socket: our end of it.
    """

    def __init__(self, socket: socket.socket) -> None:
        self.socket = socket

    def task(self) -> Task:
        """Waits for what is to be done, and returns it."""
        with self.socket.makefile("rb") as told:
            task = pickle.load(told)  # noqa: S301 - from our parent
        self.socket.setblocking(False)
        assert isinstance(task, Task)
        return task

    def tell(self, what: Told) -> None:
        """Tells it something."""
        with contextlib.suppress(OSError):  # it has gone, which is noticed otherwise
            self.socket.sendall(msgspec.json.encode(what) + b"\n")

    def hear(self) -> bytes | None:
        """Takes what it lets us do; None once it has gone."""
        try:
            return self.socket.recv(64) or None
        except BlockingIOError:
            return b""
        except OSError:
            return None


def how(code: int) -> str:
    """Returns how a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
