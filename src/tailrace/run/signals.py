"""Waiters: how an owner wakes readers on its own loop, on other loops and on plain threads, without a lock.

The owner's loop alone changes what is waited for; readers only look. A reader registers first and looks again before it
waits, so a change between its look and its registration is never missed. List and attribute operations are atomic under
the interpreter lock, and nothing here blocks, so it may run in signal handlers and in finalisers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

__all__ = ["Waiters"]


class Waiters:
    """Those who wait for the next change."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Callable[[], object]] = []

    def wake(self) -> None:
        """Wakes everybody; each must register again."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                waiter()

    def wait(self, ready: Callable[[], bool], timeout: float | None = None) -> bool:
        """Blocks this thread until `ready` or the time is up; returns what `ready` says then."""
        lock = threading.Lock()
        lock.acquire()
        self._waiting.append(lock.release)
        if not ready():
            # Interruptible by signals: KeyboardInterrupt comes out of here.
            lock.acquire(timeout=-1 if timeout is None else timeout)
        return ready()

    async def wait_async(self, ready: Callable[[], bool], timeout: float | None = None) -> None:
        """Suspends this task until the next change or until the time is up; returns at once if `ready`."""
        loop = asyncio.get_running_loop()
        thread = threading.get_ident()
        future = loop.create_future()

        def release() -> None:
            if not future.done():
                future.set_result(None)

        def wake() -> None:
            try:
                if threading.get_ident() == thread:
                    release()  # the usual case: owner and reader share a loop
                else:
                    loop.call_soon_threadsafe(release)
            except RuntimeError:
                pass  # the reader's loop is closed: nobody waits there any more

        self._waiting.append(wake)
        if not ready():
            timer = loop.call_later(timeout, release) if timeout is not None else None
            try:
                await future
            finally:
                if timer is not None:
                    timer.cancel()
