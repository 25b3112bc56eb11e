"""Streams: what callers iterate over, synchronously or asynchronously. Each reads one run.

A stream starts its run when it is first read (as ollama-python's do), and cancels it when it is dropped. Each ``for``
over a stream is a reader of its own and sees every chunk from the first; `next` has a cursor of its own, which the
``for`` that follows goes on with.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import Any, Generic, Literal, TypeVar, overload

from tailrace.client.chunks import Chunks, chat_chunks, generate_chunks, progress_chunks
from tailrace.client.continuing import Continuation
from tailrace.client.leaving import caller, loop_of
from tailrace.client.partial import Calls, PartialCall, Values
from tailrace.client.reading import (
    Convert,
    Cursor,
    Items,
    as_chunks,
    as_events,
    as_texts,
    go_on,
    nothing,
    read,
    start,
    start_async,
)
from tailrace.errors import RequestError, TailraceError
from tailrace.events import Event, Outcome
from tailrace.run.metrics import Metrics
from tailrace.run.reader import Reader
from tailrace.run.reply import Reply
from tailrace.run.run import CancelReceipt, Run
from tailrace.types import ChatResponse, GenerateResponse, ProgressResponse

__all__ = [
    "AsyncChatStream",
    "AsyncGenerateStream",
    "AsyncProgressStream",
    "ChatStream",
    "GenerateStream",
    "ProgressStream",
]

C = TypeVar("C")
T = TypeVar("T")


# -- shared -------------------------------------------------------------------------------------------


class BaseStream(Generic[C]):
    """The base of all streams: the run, its reply and its metrics."""

    _chunks: Chunks[C]

    def __init__(self, run: Run) -> None:
        self._run = run
        # Dropping the last reference cancels: thread-safe, without blocking, from whatever thread drops it. The
        # finaliser frees nothing itself; the run's owner does.
        self._drop = weakref.finalize(self, Run.cancel, run)
        self._drop.atexit = False

    @property
    def id(self) -> str:
        """The run's id."""
        return self._run.id

    @property
    def reply(self) -> Reply:
        """The reply so far, and the ending once there is one; also of a stopped run. Does not wait."""
        return self._run.reply()

    @property
    def metrics(self) -> Metrics:
        """Times and counts until now. Does not wait."""
        return self._run.metrics()

    @property
    def outcome(self) -> Outcome | None:
        """How the run ended; None while it goes on."""
        ended = self._run.ended
        return ended.outcome if ended is not None else None

    def reader(self, after: int = 0) -> Reader:
        """Returns a reader of the run's events, which takes all that came together at once.

        It does not start the run; enter the stream (``with``) or read it otherwise to do that.

        Args:
            after: number of the last event already seen; 0 reads from the start.
        """
        return Reader(self._run, after)

    def hand_over(self) -> Run:
        """Starts the run and returns it. Dropping the stream no longer cancels it; its readers or a registry decide.

        An asynchronous stream is started on the running event loop.
        """
        self._drop.detach()
        self._run.reading.add("owner")  # nor does an exception that ends its last iteration
        self._begin()
        return self._run

    def _begin(self) -> None:
        raise NotImplementedError

    def stop_for(self, error: BaseException) -> None:
        """Stops the model because of an exception of the caller, and sets the partial reply as its ``reply``."""
        self._run.cancel()
        if isinstance(error, Exception) and not isinstance(error, TailraceError):
            with contextlib.suppress(AttributeError, TypeError):  # an exception may refuse attributes
                error.reply = self._run.reply()  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        state = self.outcome.value if self.outcome is not None else self._run.state.value
        return f"<{type(self).__name__} {self._run.model or 'run'} {state}>"


def _continued(continuation: Continuation | None) -> Continuation:
    if continuation is None:
        raise RequestError("this stream does not know its request", hint="use the client's continue_chat()")
    return continuation


def given_continued(stream: ChatStream | AsyncChatStream) -> tuple[Run, Continuation]:
    """Returns the run of what follows the last message of a stream's request, and how to continue that.

    Raises:
        RequestError: that message is no answer that can be continued.
    """
    return _continued(stream._continuation).begin()


# -- synchronous --------------------------------------------------------------------------------------------


class SyncStream(BaseStream[C]):
    """A stream for synchronous code. Safe to read and to cancel from any thread.

    Iterating yields chunks and raises what the ending is, if it is an error; a cancelled stream just ends.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._cursor: Generator[C, None, None] | None = None  # must not hold the stream: it would never be dropped
        self._cursor_is_given = False

    def _begin(self) -> None:
        start(self._run)

    def __iter__(self) -> Iterator[C]:
        if self._cursor is not None and not self._cursor_is_given:
            self._cursor_is_given = True
            return go_on(self._run, self._cursor, self)
        return read(self._run, as_chunks(type(self)._chunks), self)

    def __next__(self) -> C:
        if self._cursor is None:
            self._cursor = read(self._run, as_chunks(type(self)._chunks), None, shared=True)
        return next(self._cursor)

    def events(self) -> Iterator[Event]:
        """Yields the run's events from the first, `Ended` last. Never raises for an ending: it is an event."""
        return read(self._run, as_events, self, raises=False)

    @overload
    def cancel(self, wait: Literal[False] = False) -> None: ...
    @overload
    def cancel(self, wait: Literal[True]) -> CancelReceipt: ...
    def cancel(self, wait: bool = False) -> CancelReceipt | None:
        """Stops the model; idempotent, from any thread, also before the first token. What was said is kept.

        Args:
            wait: return only when the backend has let go, with a receipt that says how long that took.
        """
        self._run.cancel(confirm=wait)
        if not wait:
            return None
        run = self._run
        while not run.is_released:
            run.released.wait(lambda: run.is_released, 1.0)
            run.settle()
        return run.receipt()

    def close(self) -> None:
        """The same as `cancel`; for code that treats the stream as a generator."""
        self.cancel()

    def wait(self) -> Reply:
        """Reads to the end and returns the reply.

        Raises:
            TailraceError: what the ending is, if it is an error; the partial reply is on it.
        """
        for _ in read(self._run, nothing, self):
            pass
        return self.reply

    def __enter__(self) -> SyncStream[C]:
        start(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self.cancel()


class _SyncText(SyncStream[C]):
    """A synchronous stream of an answer."""

    @property
    def text_stream(self) -> Iterator[str]:
        """Yields the pieces of the answer's text only."""
        return read(self._run, as_texts, self)

    def partial(self) -> Iterator[Any]:
        """Yields the value of an answer in JSON (``format=…``) as it grows, and at last the whole.

        Raises:
            ProtocolError: the whole answer is not JSON.
            TailraceError: the answer broke off, or jiter is not installed.
        """
        return self._converted(Values().feed)

    def tool_calls(self) -> Iterator[PartialCall]:
        """Yields the tool calls as their arguments come, each at last as a complete one."""
        return self._converted(Calls().feed)

    def _converted(self, convert: Callable[[Sequence[Event]], Iterator[T]]) -> Iterator[T]:
        return read(self._run, lambda _, events: convert(events), self)


class ChatStream(_SyncText[ChatResponse]):
    """The stream of ``chat(…, stream=True)``: an iterable of `ChatResponse` chunks, and much more than that."""

    _chunks = staticmethod(chat_chunks)

    def __init__(self, run: Run, continuation: Continuation | None = None) -> None:
        super().__init__(run)
        self._continuation = continuation

    def continue_(self) -> ChatStream:
        """Returns the stream of the rest of an answer that did not finish: it yields only what is new.

        The model goes on from the last character, also of its thinking, whoever cut the answer; ``options`` apply
        anew, so that ``num_predict`` allows as many tokens again. Nothing is sent before it is first read.

        Raises:
            RequestError: the answer goes on, is complete, or ended with calls of tools.
        """
        return ChatStream(*_continued(self._continuation).of(self._run))

    def __enter__(self) -> ChatStream:
        start(self._run)
        return self


class GenerateStream(_SyncText[GenerateResponse]):
    """The stream of ``generate(…, stream=True)``: an iterable of `GenerateResponse` chunks."""

    _chunks = staticmethod(generate_chunks)

    def __enter__(self) -> GenerateStream:
        start(self._run)
        return self


class ProgressStream(SyncStream[ProgressResponse]):
    """The stream of a pull, push or create: an iterable of `ProgressResponse` lines. Dropping it stops the work."""

    _chunks = staticmethod(progress_chunks)

    def __enter__(self) -> ProgressStream:
        start(self._run)
        return self


# -- asynchronous -------------------------------------------------------------------------------------------


class Cancelling:
    """A cancel that is under way: it has been given already; awaiting it waits, if ``wait`` was given."""

    __slots__ = ("_run", "_wait")

    def __init__(self, run: Run, wait: bool) -> None:
        self._run = run
        self._wait = wait

    def __await__(self) -> Generator[Any, None, CancelReceipt | None]:
        return self._receipt().__await__()

    async def _receipt(self) -> CancelReceipt | None:
        run = self._run
        if not self._wait:
            return None
        while not run.is_released:
            await run.released.wait_async(lambda: run.is_released, 1.0)
            run.settle()
        return run.receipt()


class AsyncStream(BaseStream[C]):
    """A stream for asyncio. May be read by several tasks, also on several loops, and cancelled from any thread."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._cursor: Cursor[C] | None = None
        self._next: Items[C] | None = None  # must not hold the stream: it would never be dropped
        self._cursor_is_given = False

    def _begin(self) -> None:
        start_async(self._run)

    def __aiter__(self) -> AsyncIterator[C]:
        cursor = self._cursor
        if cursor is None or self._cursor_is_given:
            cursor = Cursor(self._run, as_chunks(type(self)._chunks))
        else:
            self._cursor_is_given = True
        return Items(cursor, self, loop_of(caller()))

    async def __anext__(self) -> C:
        if self._next is None:
            self._cursor = Cursor(self._run, as_chunks(type(self)._chunks))
            self._next = Items(self._cursor, None, passing=True)
        return await self._next.__anext__()

    def events(self) -> AsyncIterator[Event]:
        """Yields the run's events from the first, `Ended` last. Never raises for an ending: it is an event."""
        return self._items(as_events, raises=False)

    def _items(self, convert: Convert[T], *, raises: bool = True) -> Items[T]:
        return Items(Cursor(self._run, convert, raises), self)

    def cancel(self, wait: bool = False) -> Cancelling:
        """Stops the model; idempotent, from any thread, also before the first token. What was said is kept.

        It acts at once, awaited or not.

        Args:
            wait: make ``await`` return only when the backend has let go, with a `CancelReceipt`.
        """
        self._run.cancel(confirm=wait)
        return Cancelling(self._run, wait)

    async def aclose(self) -> None:
        """The same as `cancel`; for code that treats the stream as a generator."""
        self._run.cancel()

    async def wait(self) -> Reply:
        """Reads to the end and returns the reply.

        Raises:
            TailraceError: what the ending is, if it is an error; the partial reply is on it.
        """
        async for _ in self._items(nothing):
            pass
        return self.reply

    async def __aenter__(self) -> AsyncStream[C]:
        start_async(self._run)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._run.cancel()


class _AsyncText(AsyncStream[C]):
    """An asynchronous stream of an answer."""

    @property
    def text_stream(self) -> AsyncIterator[str]:
        """Yields the pieces of the answer's text only."""
        return self._items(as_texts)

    def partial(self) -> AsyncIterator[Any]:
        """Yields the value of an answer in JSON (``format=…``) as it grows, and at last the whole.

        Raises:
            ProtocolError: the whole answer is not JSON.
            TailraceError: the answer broke off, or jiter is not installed.
        """
        return self._converted(Values().feed)

    def tool_calls(self) -> AsyncIterator[PartialCall]:
        """Yields the tool calls as their arguments come, each at last as a complete one."""
        return self._converted(Calls().feed)

    def _converted(self, convert: Callable[[Sequence[Event]], Iterator[T]]) -> AsyncIterator[T]:
        return self._items(lambda _, events: convert(events))


class AsyncChatStream(_AsyncText[ChatResponse]):
    """`ChatStream` for asyncio."""

    _chunks = staticmethod(chat_chunks)

    def __init__(self, run: Run, continuation: Continuation | None = None) -> None:
        super().__init__(run)
        self._continuation = continuation

    def continue_(self) -> AsyncChatStream:
        """Returns the stream of the rest of an answer; see `ChatStream.continue_`. It may be awaited as well."""
        return AsyncChatStream(*_continued(self._continuation).of(self._run))

    def __await__(self) -> Generator[Any, None, AsyncChatStream]:
        """Gives the stream itself, so that ``await stream.continue_()`` reads as ``await client.chat(…)`` does."""
        return self
        yield  # type: ignore[unreachable]

    async def __aenter__(self) -> AsyncChatStream:
        start_async(self._run)
        return self


class AsyncGenerateStream(_AsyncText[GenerateResponse]):
    """`GenerateStream` for asyncio."""

    _chunks = staticmethod(generate_chunks)

    async def __aenter__(self) -> AsyncGenerateStream:
        start_async(self._run)
        return self


class AsyncProgressStream(AsyncStream[ProgressResponse]):
    """`ProgressStream` for asyncio."""

    _chunks = staticmethod(progress_chunks)

    async def __aenter__(self) -> AsyncProgressStream:
        start_async(self._run)
        return self
