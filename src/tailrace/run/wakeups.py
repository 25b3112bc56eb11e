"""Wake-ups: how an owner wakes readers on its own loop, on other loops and on plain threads, without a lock.

The owner's loop alone changes what is waited for; readers only look. A reader registers first and looks again before it
waits, so a change between its look and its registration is never missed. List and attribute operations are atomic under
the interpreter lock, and nothing here blocks, so it may run in signal handlers and in finalisers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

__all__ = ["Wakeup", "Wakeups"]

_log = logging.getLogger(__name__)


class Wakeups:
    """The callbacks for changes of a log: some for the next change only, some (followers) for every change."""

    __slots__ = ("_following", "_waiting")

    def __init__(self) -> None:
        self._following: tuple[Callable[[], object], ...] = ()
        self._waiting: list[Callable[[], object]] = []

    def wake(self) -> None:
        """Calls the followers, then wakes the waiters, which must register again for the next change.

        An exception of one is logged, and a follower that raised is removed. The others and the owner, which is the
        caller, are not affected.
        """
        for follow in self._following:
            try:
                follow()
            except Exception:
                self.unfollow(follow)
                _log.exception("a reader of a run failed, and follows it no more")
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                try:
                    waiter()
                except Exception:
                    _log.exception("a callback for a change of a run failed")

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Blocks this thread until `ready` or the time is up; returns what `ready` says then."""
        lock = threading.Lock()
        lock.acquire()
        self._waiting.append(lock.release)
        # Interruptible by signals: KeyboardInterrupt comes out of here.
        if not ready() and not lock.acquire(timeout=-1 if timeout is None else timeout):
            with contextlib.suppress(ValueError):  # it has just been removed, to be woken
                self._waiting.remove(lock.release)
        return ready()

    def add(self, wake: Callable[[], object]) -> None:
        """Has `wake` called at the next change, on whatever thread makes it; it must not block."""
        self._waiting.append(wake)

    def follow(self, callback: Callable[[], object]) -> None:
        """Has `callback` called at every change. On the owner's thread only; it must not block."""
        self._following = (*self._following, callback)

    def unfollow(self, callback: Callable[[], object]) -> None:
        """Removes a follower; does nothing if it is none."""
        self._following = tuple(other for other in self._following if other is not callback)

    async def wait_async(self, ready: Callable[[], bool], timeout: float | None = None) -> None:
        """Suspends this task until the next change or until the time is up; returns at once if `ready`."""
        await Wakeup(self).wait(ready, timeout)


class Wakeup:
    """A reusable waiter of one task. It can also be woken directly, by `wake`.

    Args:
        wakeups: where it registers for changes; None if only `wake` is to wake it.
    """

    __slots__ = ("_future", "_loop", "_placed", "_thread", "_wakeups")

    def __init__(self, wakeups: Wakeups | None) -> None:
        self._wakeups = wakeups
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._future: asyncio.Future[None] | None = None
        self._placed = False  # registered: once is enough, however often the timeout expired

    def wake(self) -> None:
        """Wakes the task, from any thread."""
        try:
            if threading.get_ident() == self._thread:
                self._release()  # the usual case: owner and reader share a loop
            else:
                self._loop.call_soon_threadsafe(self._release)
        except RuntimeError:
            pass  # the reader's loop is closed, so nothing waits on it

    def _changed(self) -> None:
        self._placed = False
        self.wake()

    def _release(self) -> None:
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)

    async def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> None:
        """Suspends the task until the next change, until it is woken or until the time is up; not at all if `ready`."""
        future = self._future = self._loop.create_future()
        if not self._placed and self._wakeups is not None:
            self._placed = True
            self._wakeups.add(self._changed)
        if not ready():
            timer = self._loop.call_later(timeout, self._release) if timeout is not None else None
            try:
                await future
            finally:
                if timer is not None:
                    timer.cancel()
