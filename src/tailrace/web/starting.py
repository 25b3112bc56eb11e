"""Starting: the order in which a stream's run gets its first reader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from tailrace.client.streams import BaseStream
from tailrace.run.run import Run

__all__ = ["start"]

T = TypeVar("T")


def start(stream: BaseStream[Any], linger: float | None, read: Callable[[Run], T]) -> T:
    """Starts a stream's run, and returns its first reader.

    Args:
        stream: what ``chat(…, stream=True)`` returned.
        linger: seconds that the run goes on without readers; None: to its end. Set last: before the run has a reader,
            it would end at once.
        read: returns what has attached itself to the run as its reader.
    """
    run = stream.hand_over()
    reader = read(run)
    run.set_linger(linger)
    return reader
