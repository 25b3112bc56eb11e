"""Iterations over a run: the synchronous one is a generator, the asynchronous one `Items`. Each is a reader of its own.

Both take what came together at once, convert it, hand it out piece by piece, and raise what the ending is. What happens
when an exception ends them is told in `tailrace.client.leaving`.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from types import CodeType, FrameType
from typing import Generic, TypeVar

from tailrace.client.chunks import Chunks
from tailrace.client.leaving import LOOK, caller, check_cancelled, end_with, is_closed, is_unwound, leave, loop_of
from tailrace.client.portal import portal
from tailrace.events import Ended, Event, TextDelta
from tailrace.run.reader import Reader
from tailrace.run.run import Run, error_of

__all__ = [
    "Convert",
    "Cursor",
    "Items",
    "as_chunks",
    "as_events",
    "as_texts",
    "go_on",
    "nothing",
    "read",
    "start",
    "start_async",
]

C = TypeVar("C")
T = TypeVar("T")
Convert = Callable[[Reader, Sequence[Event]], Iterable[T]]
"""Makes what is handed out of the events that a reader has just taken."""


def _raise_for(run: Run, ended: Ended) -> None:
    """Raises the exception for an ending, if it is an error, with the partial reply as its ``reply``."""
    error = error_of(ended, run.cause)
    if error is not None:
        error.reply = run.reply()
        raise error


# -- conversions -----------------------------------------------------------------------------------------------------


class _Clock:
    """Formats the time of a batch, once for all of its chunks; the date and the second, once for all of the second."""

    __slots__ = ("_at", "_prefix", "_second", "_text")

    def __init__(self) -> None:
        self._at = -1.0
        self._second = -1
        self._prefix = ""
        self._text = ""

    def stamp(self, at: float) -> str:
        if at != self._at:
            self._at = at
            second = int(at)
            if second != self._second:
                self._second = second
                self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._text = f"{self._prefix}.{min(round((at - second) * 1e6), 999_999):06d}Z"
        return self._text


def as_chunks(chunks: Chunks[C]) -> Convert[C]:
    """Returns the conversion to chunks; each carries the time its event came, whenever it is read."""
    clock = _Clock()

    def convert(reader: Reader, events: Sequence[Event]) -> Iterable[C]:
        run = reader.run
        parts = run.log.parts(reader.after - len(events), events)
        if len(parts) == 1:
            return chunks(events, run.model, clock.stamp(parts[0][1]))
        return itertools.chain.from_iterable(chunks(part, run.model, clock.stamp(at)) for part, at in parts)

    return convert


def as_events(_reader: Reader, events: Sequence[Event]) -> Sequence[Event]:
    """The events as they are."""
    return events


def as_texts(_reader: Reader, events: Sequence[Event]) -> list[str]:
    """The pieces of the answer's text only."""
    return [event.text for event in events if type(event) is TextDelta and event.text]


def nothing(_reader: Reader, _events: Sequence[Event]) -> tuple[()]:
    """Nothing: only the ending counts."""
    return ()


# -- synchronous -----------------------------------------------------------------------------------------------------


def start(run: Run) -> None:
    """Starts a run on the background loop, unless it has been started."""
    if not run.started:
        background = portal()
        background.post(run.start, background.loop)
    elif run.ended is not None and not run.log.sealed:
        run.settle()


def read(
    run: Run, convert: Convert[T], hold: object, *, raises: bool = True, shared: bool = False
) -> Generator[T, None, None]:
    """Yields a run's events from the first, converted.

    Args:
        run: what to read; it is started.
        convert: what is yielded of what was read.
        hold: what is kept alive as long as somebody iterates: the stream.
        raises: raise what the ending is, if it is an error.
        shared: the stream keeps this iteration for whoever asks next: nobody is in the middle of it between two values.
    """
    reader = Reader(run)
    key, reading, loop = id(reader), run.reading, loop_of(caller())
    try:
        start(run)
        reading.add(key)
        while events := reader.read(LOOK, check_cancelled):
            if shared:
                reading.discard(key)
            yield from convert(reader, events)
            last = events[-1]
            if type(last) is Ended:
                if raises:
                    _raise_for(run, last)
                return
            if shared:
                reading.add(key)
    except GeneratorExit:
        if _is_left_by_an_exception(caller(), loop):
            leave(run, key)
        raise
    except BaseException:
        leave(run, key)
        raise
    finally:
        reading.discard(key)


def _is_left_by_an_exception(frame: FrameType | None, loop: CodeType | None) -> bool:
    return is_unwound(frame, loop) and not is_closed(frame)


def go_on(run: Run, shared: Generator[T, None, None], hold: object) -> Generator[T, None, None]:
    """Yields the rest of a shared iteration, which is not closed with this one."""
    key, reading, loop = id(shared), run.reading, loop_of(caller())
    reading.add(key)
    try:
        for item in shared:  # noqa: UP028  (`yield from` would close it)
            yield item
    except GeneratorExit:
        if _is_left_by_an_exception(caller(), loop):
            leave(run, key)
        raise
    except BaseException:
        leave(run, key)
        raise
    finally:
        reading.discard(key)


# -- asynchronous ----------------------------------------------------------------------------------------------------


def start_async(run: Run) -> None:
    """Starts a run on the running loop, unless it has been started."""
    if not run.started:
        run.start(asyncio.get_running_loop())
    elif run.ended is not None and not run.log.sealed:
        run.settle()


class Cursor(Generic[T]):
    """A place in a run: what of the events read so far is still to be handed out, and a reader for more.

    Args:
        run: what to read.
        convert: what is handed out of what was read.
        raises: raise what the ending is, if it is an error.
    """

    __slots__ = ("convert", "items", "raises", "reader")

    def __init__(self, run: Run, convert: Convert[T], raises: bool = True) -> None:
        self.reader = Reader(run)
        self.convert = convert
        self.items: Iterator[T] = iter(())
        self.raises = raises

    def take(self, events: Sequence[Event]) -> None:
        """Makes ready what is to be handed out of these events."""
        items = self.convert(self.reader, events)
        last = events[-1]
        raises = self.raises and type(last) is Ended
        self.items = _then_raise(items, self.reader.run, last) if raises else iter(items)  # type: ignore[arg-type]


class Items(Generic[T]):
    """Iterates over a run. Not an async generator: two tasks must not meet in one.

    Args:
        cursor: where it begins; it may be shared by several, one after the other.
        hold: what is kept alive as long as somebody iterates: the stream.
        loop: whose ``async for`` this is for, see `tailrace.client.leaving.loop_of`.
        passing: it belongs to nobody: between two calls nobody is in the middle of it.
    """

    __slots__ = ("__weakref__", "_cursor", "_hold", "_loop", "_over", "_passing", "_run", "_task")

    def __init__(self, cursor: Cursor[T], hold: object, loop: CodeType | None = None, *, passing: bool = False) -> None:
        self._cursor = cursor
        self._run = cursor.reader.run
        self._hold = hold
        self._loop = loop
        self._passing = passing
        self._over = False
        self._task: asyncio.Task[object] | None = None

    def __aiter__(self) -> Items[T]:
        self._loop = loop_of(caller())
        return self

    async def __anext__(self) -> T:
        cursor = self._cursor
        for item in cursor.items:
            return item
        if self._over:
            raise StopAsyncIteration
        try:
            task = asyncio.current_task()
            if task is not self._task or self._passing:
                self._begin(task)
            while events := await cursor.reader.read_async():
                cursor.take(events)
                for item in cursor.items:
                    return item
        except BaseException:
            self._end()
            raise
        finally:
            if self._passing:
                self._run.reading.discard(id(self))
        raise StopAsyncIteration

    def _begin(self, task: asyncio.Task[object] | None) -> None:
        """Starts the run, unless it has been, and has this count as a reader as long as `task` goes on."""
        start_async(self._run)
        self._run.reading.add(id(self))
        self._task = task
        if task is not None:
            end_with(task, self)

    def _end(self) -> None:
        """An exception has ended this iteration."""
        self._over = True
        self._cursor = Cursor(self._run, self._cursor.convert)
        leave(self._run, id(self))

    def task_ended(self, task: asyncio.Task[object], failed: bool) -> None:
        """Ends this too if that task was the last to read it, and did not end well: nobody goes on with it."""
        if self._task is task:
            self._task = None  # the task's exception may hold this iteration: no circle is to keep them both
            if failed:
                self._end()

    def __del__(self) -> None:
        if is_unwound(caller(), self._loop):
            self._end()
        self._run.reading.discard(id(self))


def _then_raise(items: Iterable[T], run: Run, ended: Ended) -> Iterator[T]:
    yield from items
    _raise_for(run, ended)
