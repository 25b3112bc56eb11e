"""The portal: one background event loop for all synchronous callers, started on first use.

The synchronous API is a reader over the same runs as the asynchronous one; their owners live here. One thread serves
the whole process. A forked child starts its own, and everything ends before the interpreter does.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from tailrace.errors import ConnectionError
from tailrace.run.run import lose_all

__all__ = ["Portal", "portal"]

T = TypeVar("T")

_EXIT_TIME = 2.0  # seconds that runs get to close their connections at exit


class Portal:
    """A background event loop on a thread of its own.

    Raises:
        ConnectionError: there are too many open files for one.
    """

    def __init__(self) -> None:
        _check_files()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="tailrace", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    @property
    def alive(self) -> bool:
        """True while it can take work."""
        return self._thread.is_alive() and not self.loop.is_closed()

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Has the loop call something soon."""
        self.loop.call_soon_threadsafe(call, *args)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the loop and waits for it; an interrupt here cancels it there.

        Raises:
            RuntimeError: called on the loop itself, which would wait for ever.
        """
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a synchronous client cannot be used on tailrace's own loop")
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Ends everything on the loop, then the thread."""
        if not self.alive:
            return
        self.post(self._begin_close)
        self._thread.join(_EXIT_TIME + 1.0)

    def _begin_close(self) -> None:
        self._closing = self.loop.create_task(self._finish())

    async def _finish(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_EXIT_TIME)
        await asyncio.sleep(0)  # closed transports close their sockets in the next iteration
        self.loop.stop()


def _check_files() -> None:
    """Makes sure that a loop gets the three files that it needs; asyncio would complain again when it is collected."""
    with contextlib.ExitStack() as stack:
        try:
            for each in os.pipe():
                stack.callback(os.close, each)
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as error:
            hint = "allow more open files with `ulimit -n`, or close some"
            told = ConnectionError("too many open files: no model server can be asked", hint=hint)
            told.errno, told.about = error.errno, "files"
            raise told from error


_portal: Portal | None = None
_lock = threading.Lock()


def portal() -> Portal:
    """Returns the process's portal, and starts it if there is none."""
    global _portal
    current = _portal
    if current is not None and current.alive:
        return current
    with _lock:
        if _portal is None or not _portal.alive:
            if _portal is None:
                atexit.register(_close)
            _portal = Portal()
        return _portal


def _close() -> None:
    if _portal is not None:
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C, at exit: no waiting then, and no traceback
            _portal.close()


def _after_fork() -> None:
    """In a forked child the thread does not exist and the sockets are the parent's."""
    global _portal, _lock
    _portal = None
    _lock = threading.Lock()
    lose_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
