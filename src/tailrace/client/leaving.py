"""Leaving: what an exception that ends the reading of a stream does to the model.

A reader reads to the end, or is left in order (``break``, or the iterator is dropped), which changes nothing as long as
somebody holds the stream; or an exception ends it. Then nobody goes on with it, and the exception that ends the last
reader of a run ends the run. That must not wait until the stream is dropped: the traceback of the exception holds the
frames that were left, they hold the stream, and whoever keeps the exception (a notebook, an error reporter, the task)
would keep the model busy.

Such an exception is noticed in three places:

- in the read, when it passes through it: a task that is cancelled while it waits for a token, Ctrl-C, a cancelled task
  for which a thread waits;
- at the end of the task that read, when that was cancelled or failed: a reader that is suspended in an async generator
  sees nothing of what happens to the task that was to send its value;
- in the body of a loop: while it unwinds, the interpreter drops the iterator of the ``for``, which is in no variable
  and so is not held by the traceback.
"""

from __future__ import annotations

import asyncio
import dis
import inspect
import sys
import weakref
from importlib import import_module
from types import CodeType, FrameType
from typing import Protocol

from tailrace.run.run import Run

__all__ = ["LOOK", "Left", "caller", "check_cancelled", "end_with", "is_closed", "is_unwound", "leave", "loop_of"]


def leave(run: Run, reader: int) -> None:
    """Takes out a reader that an exception ended, and stops the run if it was the last; from any thread.

    Args:
        run: what was read.
        reader: the `id` by which it is in `Run.reading`.
    """
    run.reading.discard(reader)
    if not run.reading:
        run.cancel()


# -- a thread that a task waits for ----------------------------------------------------------------------------------

LOOK = 0.05
"""Seconds until a thread that waits for a token looks whether it is still waited for itself."""


def check_cancelled() -> float:
    """Raises what cancels the task that waits for this thread, if anyio runs it; returns when to look again.

    Starlette and FastAPI read a synchronous generator in such threads. They cannot end one when the browser has left.
    """
    if "anyio.to_thread" in sys.modules:
        try:
            import_module("anyio.from_thread").check_cancelled()
            return LOOK
        except (AttributeError, RuntimeError):  # an anyio that cannot tell, or no such thread
            pass
    return 1.0


# -- the end of a task ----------------------------------------------------------------------------------------------


class Left(Protocol):
    """A reader that is told when a task that read it has ended."""

    def task_ended(self, task: asyncio.Task[object], failed: bool) -> None:
        """Called once for each task that was given to `end_with`, on its loop."""


_readers: weakref.WeakKeyDictionary[asyncio.Task[object], weakref.WeakSet[Left]] = weakref.WeakKeyDictionary()


def end_with(task: asyncio.Task[object], reader: Left) -> None:
    """Has a reader told when `task` has ended. It does not keep the reader alive."""
    readers = _readers.get(task)
    if readers is None:
        readers = _readers[task] = weakref.WeakSet()
        task.add_done_callback(_ended)  # one for all that it reads: a server's task may read thousands of streams
    readers.add(reader)


def _ended(task: asyncio.Task[object]) -> None:
    # `exception()` would mark a failure as seen, and asyncio would not report it. A task that swallowed a cancel ends
    # without any, but still says how often it was asked.
    failed = task.cancelled() or task.cancelling() > 0 or bool(task.get_stack(limit=1))
    for reader in list(_readers.pop(task, ())):
        reader.task_ended(task, failed)


# -- the body of a loop ----------------------------------------------------------------------------------------------

# The instructions that drop the iterator of a loop which ends, or is left by `break` or `return`. At any other the
# interpreter drops it because it unwinds. See https://docs.python.org/3/library/dis.html; they may change with each
# version, so nothing is concluded from those of a version that is not known here.
_KNOWN = sys.implementation.name == "cpython" and sys.version_info < (3, 15)
_IN_ORDER = {dis.opmap.get(name) for name in ("FOR_ITER", "END_FOR", "POP_TOP", "POP_ITER")}
_SUSPENDED = {dis.opmap.get(name) for name in ("YIELD_VALUE", "RESUME")}
_LOOPS = {dis.opmap.get(name) for name in ("FOR_ITER", "GET_AITER")}


def caller() -> FrameType | None:
    """Returns the frame that called whoever calls this; None if nothing in Python did."""
    try:
        return sys._getframe(2)  # a frame that holds itself, in a variable, would be left to the collector
    except ValueError:
        return None


def _instruction(frame: FrameType) -> int:
    return frame.f_code.co_code[frame.f_lasti] if frame.f_lasti >= 0 else -1


def loop_of(frame: FrameType | None) -> CodeType | None:
    """Returns the code whose ``for`` or ``async for`` asks for an iterator, or its first value, just now.

    None if something else asks, such as `next` or `zip`: when that drops an iterator, nothing is known.
    """
    return frame.f_code if _KNOWN and frame is not None and _instruction(frame) in _LOOPS else None


def is_unwound(frame: FrameType | None, loop: CodeType | None) -> bool:
    """Returns True if this frame, which is dropping the iterator of that loop just now, does so for an exception."""
    return frame is not None and frame.f_code is loop and _instruction(frame) not in _IN_ORDER


def is_closed(frame: FrameType | None) -> bool:
    """Returns True if this frame is a synchronous generator that is being closed where it yielded.

    Its consumer left it, perhaps in order: ``next(chunk for chunk in stream if …)``.
    """
    generator = frame is not None and bool(frame.f_code.co_flags & inspect.CO_GENERATOR)
    return generator and frame is not None and _instruction(frame) in _SUSPENDED
