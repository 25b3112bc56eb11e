"""Input and output in batches: what arrives in one iteration of the event loop is processed together, step by step.

If each token is read, processed and written before the next, the kernel's work and ours evict each other from the
processor's caches. So all data of an iteration is read first, then all of it is processed, then all output is written.
That delays each token by one iteration of the loop, so it is for servers, whose loops carry many streams.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["IOBatch", "batch_of", "start_batching"]

Step = tuple[Callable[[bytes], Any], bytes]


class IOBatch:
    """The batches of one loop.

    Args:
        loop: on which all of it happens.
    """

    __slots__ = ("_dealing", "_loop", "_to_do", "_to_write")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._dealing = False
        self._to_do: list[Step] = []
        self._to_write: list[Step] = []

    def later(self, work: Callable[[bytes], Any], data: bytes) -> None:
        """Schedules ``work(data)`` for when all data of this iteration of the loop has been read."""
        if not self._to_do:
            self._loop.call_soon(self.deal)
        self._to_do.append((work, data))

    def write(self, write: Callable[[bytes], Any], data: bytes) -> None:
        """Calls ``write(data)``: after the batch if one is being processed, else at once."""
        if self._dealing:
            self._to_write.append((write, data))
        else:
            write(data)

    def deal(self) -> None:
        """Processes the batch now, so that what follows comes after it."""
        if not self._to_do:
            return
        to_do, self._to_do = self._to_do, []
        self._dealing = True
        self._each(to_do)
        self._dealing = False
        to_write, self._to_write = self._to_write, []
        self._each(to_write)

    def _each(self, steps: list[Step]) -> None:
        for call, data in steps:
            try:
                call(data)
            except Exception as bug:  # an exception of one stream must not affect the others
                self._loop.call_exception_handler({"message": "a stream could not go on", "exception": bug})


_batches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, IOBatch] = weakref.WeakKeyDictionary()


def start_batching() -> None:
    """Begins with batches on the running loop, for connections that are made from now on."""
    loop = asyncio.get_running_loop()
    _batches.setdefault(loop, IOBatch(loop))


def batch_of(loop: asyncio.AbstractEventLoop) -> IOBatch | None:
    """Returns the batches of a loop; None where there are none."""
    return _batches.get(loop)
