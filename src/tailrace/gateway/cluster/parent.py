"""The parent: starts the workers, starts one again that died, passes signals on. Of requests it sees nothing.

It holds all listening sockets, so that what a dead worker was about to take waits for its successor. It asks each
worker now and then whether its event loop turns; one that hangs without dying is ended, and so started again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tailrace.errors import RequestError, TailraceError
from tailrace.gateway.cluster.process import END, LISTEN, PING, Process, Task, how
from tailrace.gateway.cluster.relay import socket_of
from tailrace.gateway.cluster.split_limits import check, split
from tailrace.gateway.cluster.worker_ids import WorkerId
from tailrace.gateway.server.sockets import BACKLOG, listen_together
from tailrace.gateway.settings import Settings
from tailrace.i18n import say

__all__ = ["Parent"]

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_SOUND = 10.0  # seconds after which a worker that dies was a sound one
_PAUSE = 0.5  # seconds before the third start in a row; twice as long each time, up to
_LONGEST = 10.0
_LATE = 3.0  # seconds after the answers' time is over when all may end, whether they have told that they are drained
_LATEST = 10.0  # seconds after it when the last ones are not waited for any more
_BEAT = 2.0  # seconds between two times that a worker is asked whether it lives
_HUNG = 10.0  # seconds without an answer after which it hangs
_HUNG_AT_END = 5.0  # the same once all are to end, which waits for none that hangs
_STARTS = 120.0  # seconds that it gets until it is ready
_NEVER = float("inf")
_LONGEST_PATH = 100  # of a Unix socket: macOS allows 104 bytes, Linux 108


class _Place:
    """A worker's place: its sockets, which stay, and the process that has it now."""

    def __init__(self, index: int, listener: socket.socket, private: socket.socket) -> None:
        self.index = index
        self.listener = listener
        self.private = private
        self.process: Process | None = None
        self.generation = 0
        self.failures = 0  # in a row
        self.due: float | None = None  # when it is to be started again

    def close(self) -> None:
        """Closes our ends of its sockets."""
        self.listener.close()
        self.private.close()


class Parent:
    """Several workers behind one address.

    Args:
        settings: of the whole gateway.
        count: how many workers.
        ready: is given the address once all of them serve.
        note: takes a line about a worker that died.

    Raises:
        RequestError: that is impossible here, or a limit is smaller than `count`.
    """

    def __init__(
        self,
        settings: Settings,
        count: int,
        *,
        ready: Callable[[tuple[str, int]], object],
        note: Callable[[str], object],
    ) -> None:
        if not (hasattr(socket, "SO_REUSEPORT") and hasattr(socket, "AF_UNIX")):
            hint = "start one process, without --workers; or one on each of several ports"
            raise RequestError("this system cannot share one port among several --workers", hint=hint)
        check(settings, count)
        self._settings = settings
        self._count = count
        self._ready = ready
        self._note = note
        self._life = secrets.token_hex(3)
        self._places: list[_Place] = []
        self._selector = selectors.DefaultSelector()
        self._serving = False  # all have been ready
        self._told = False  # where they serve
        self._stopping = False
        self._agree_at = self._until = _NEVER  # when all may end, and when they have to
        self._beat_at = 0.0  # when the workers are asked again whether they live
        self._ends_with = 0
        self._number = 0  # of the signal

    def run(self) -> int:
        """Serves until a signal; returns the exit code.

        Raises:
            TailraceError: the address cannot be listened on, or a worker cannot start.
        """
        listeners = listen_together(self._settings.host, self._settings.port, self._count)
        self._folder = _private_folder()
        try:
            self._places = [
                _Place(index, listener, _listen_privately(self._folder, index))
                for index, listener in enumerate(listeners)
            ]
            with self._signals() as signals, signals:
                self._selector.register(signals, selectors.EVENT_READ, None)
                for place in self._places:
                    self._start(place)
                return self._watch(signals)
        finally:
            for place in self._places:
                if place.process is not None:
                    place.process.kill()
                place.close()
            self._selector.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """Yields a socket that signals come out of, each as a byte."""
        there, here = socket.socketpair()
        there.setblocking(False)
        before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
        handlers = {}
        for number in (signal.Signals[name] for name in _SIGNALS):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a job in the background
                handlers[number] = signal.signal(number, lambda *_: None)
        try:
            yield here
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            there.close()

    def _watch(self, signals: socket.socket) -> int:
        while True:
            for key, _ in self._selector.select(self._wait()):
                if key.data is None:
                    for number in signals.recv(64):
                        self._stop(number)
                elif not key.data.process.hear():
                    self._ended(key.data)
                elif key.data.process.drained and not self._stopping:
                    key.data.process.let(END)  # somebody stopped this one alone
                elif self._serving and not key.data.process.listening:
                    key.data.process.let(LISTEN)  # one that was started again
            self._feel_pulses()
            if self._stopping:
                left = [place.process for place in self._places if place.process is not None]
                if not left:
                    return self._ends_with
                if time.monotonic() >= self._until:
                    return self._number + 128
                if self._agree_at <= time.monotonic() or (self._agree_at < _NEVER and all(one.drained for one in left)):
                    self._let_end(left)
                continue
            self._let_listen()
            self._start_due()

    def _wait(self) -> float:
        """Returns how long nothing is to be done but to listen."""
        due = [
            self._until,
            self._agree_at,
            self._beat_at,
            *(place.due for place in self._places if place.due is not None),
        ]
        return max(0.0, min(due) - time.monotonic())

    def _let_listen(self) -> None:
        """Has the first workers take requests, all at once; tells the address when all do."""
        processes = [place.process for place in self._places if place.process is not None]
        if not self._serving and all(process.ready for process in processes):
            self._serving = True
            for process in processes:
                process.let(LISTEN)
        if self._serving and not self._told and all(process.listening for process in processes):
            self._told = True
            self._ready(self._places[0].listener.getsockname()[:2])

    # -- workers -------------------------------------------------------------------------------------------------

    def _start(self, place: _Place) -> None:
        place.due = None
        place.generation += 1
        place.process = Process(
            Task(
                settings=split(self._settings, place.index, self._count),
                here=WorkerId(self._life, place.index, place.generation),
                count=self._count,
                folder=self._folder,
                listener=place.listener.fileno(),
                private=place.private.fileno(),
            )
        )
        self._selector.register(place.process.control, selectors.EVENT_READ, place)

    def _start_due(self) -> None:
        for place in self._places:
            if place.due is not None and time.monotonic() >= place.due:
                self._start(place)

    def _ended(self, place: _Place) -> None:
        """A worker has ended: one that could not even start ends all, any other is started again."""
        process, place.process = place.process, None
        assert process is not None
        self._selector.unregister(process.control)
        code = process.bury()
        if self._stopping:
            place.close()  # nobody is to wait for it
            if process.ready:
                self._ends_with = self._ends_with or (code if code >= 0 else 128 - code)
            return
        told = process.told
        if not self._serving:
            if told.missing:
                raise ModuleNotFoundError(told.error, name=told.missing)
            text = told.error or f"worker {place.index + 1} ended before it served ({how(code)})"
            raise TailraceError(text, hint=told.hint)
        sound = process.ready and time.monotonic() >= process.began + _SOUND
        place.failures = 1 if sound else place.failures + 1
        pause = 0.0 if place.failures == 1 else min(_LONGEST, _PAUSE * 2 ** min(place.failures - 2, 10))
        place.due = time.monotonic() + pause
        reason = f"{how(code)}: {told.error}" if told.error else how(code)
        number, pid = place.index + 1, process.pid
        if process.ready:
            self._note(say("note.worker_ended", number=number, pid=pid, how=reason))
        else:
            self._note(say("note.worker_again", number=number, pid=pid, how=reason, seconds=f"{pause:g}"))

    def _feel_pulses(self) -> None:
        """Asks the workers whether they live, and ends those that have not said so for too long."""
        now = time.monotonic()
        if now < self._beat_at:
            return
        held_up = now - self._beat_at > _BEAT  # we were, so that nothing is known of them
        self._beat_at = now + _BEAT
        for place in self._places:
            process = place.process
            if process is None:
                continue
            if held_up:
                process.heard_at = now
            limit = (_HUNG_AT_END if self._stopping else _HUNG) if process.ready else _STARTS
            silent = now - process.heard_at
            if silent <= limit:
                process.let(PING)
                continue
            if not process.hung:
                process.hung = True
                self._note(say("note.worker_hung", number=place.index + 1, pid=process.pid, seconds=f"{silent:.0f}"))
            process.send(signal.SIGKILL)

    # -- the end -------------------------------------------------------------------------------------------------

    def _stop(self, number: int) -> None:
        """Passes a signal on; after a second one nothing is waited for."""
        self._number = number
        if self._stopping:
            self._until = 0.0
            return
        self._stopping = True
        if not self._serving:
            self._ends_with = 128 + number
        self._agree_at = time.monotonic() + self._settings.drain + _LATE
        self._until = time.monotonic() + self._settings.drain + _LATEST
        for place in self._places:
            place.due = None
            if place.process is None:
                place.close()
            else:
                place.process.send(number)

    def _let_end(self, processes: list[Process]) -> None:
        """Has the workers end, which until then take what comes, for each other too."""
        self._agree_at = _NEVER
        for place in self._places:
            place.close()
        for process in processes:
            process.let(END)


def _listen_privately(folder: Path, index: int) -> socket.socket:
    """Returns a socket that listens on the private path of a worker."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    path = socket_of(folder, index)
    # By another name first: from 3.13 on asyncio deletes the path of a socket that it closes, which here is still
    # listened on, by us.
    first = path.with_suffix(".new")
    listener.bind(str(first))
    listener.listen(BACKLOG)
    first.rename(path)
    return listener


def _private_folder() -> Path:
    """Returns a new folder that only we can enter, with a path short enough for sockets."""
    folder = tempfile.mkdtemp(prefix="tailrace-")
    if len(os.fsencode(folder)) + len("/00.new") > _LONGEST_PATH and sys.platform != "win32":
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="tailrace-", dir="/tmp")
    return Path(folder)
