"""Input and output in batches: what comes in one turn of a busy event loop is dealt with together, step by step.

The kernel's reads and writes and our own work push each other out of the processor's caches, when one token after the
other goes all of its way. So all that came in a turn is read first, then all of it is worked on, then all of it is
written. It costs each token one more turn of the loop, so it is for servers, whose loops carry many streams.
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
        """Has `work` called with `data`, when all that came in this turn has been read."""
        if not self._to_do:
            self._loop.call_soon(self.deal)
        self._to_do.append((work, data))

    def write(self, write: Callable[[bytes], Any], data: bytes) -> None:
        """Has `write` called with `data`: after the work if that is being done, else at once."""
        if self._dealing:
            self._to_write.append((write, data))
        else:
            write(data)

    def deal(self) -> None:
        """Does all that is to be done, now: what follows must come after it."""
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
            except Exception as bug:  # one stream's must not be the others'
                self._loop.call_exception_handler({"message": "a stream could not go on", "exception": bug})


_batches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, IOBatch] = weakref.WeakKeyDictionary()


def start_batching() -> None:
    """Begins with batches on the running loop, for connections that are made from now on."""
    loop = asyncio.get_running_loop()
    _batches.setdefault(loop, IOBatch(loop))


def batch_of(loop: asyncio.AbstractEventLoop) -> IOBatch | None:
    """Returns the batches of a loop; None where there are none."""
    return _batches.get(loop)
