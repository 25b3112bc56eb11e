"""Answers on other protocols' wires: what a stream, a whole answer and a single result have in common.

Each listens for its client's leaving from the first moment on, because servers tell it through ``receive`` alone, and
each holds its status back until it is known: an error that comes before the answer is no answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from starlette.requests import ClientDisconnect, Request

from tailrace.errors import EvictedError, ModelNotFoundError, TailraceError
from tailrace.events import Outcome, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.gateway.endpoint import endpoint_of
from tailrace.gateway.responses import problem
from tailrace.protocols.problems import ProblemError, problem_of
from tailrace.run.reply import Reply
from tailrace.run.run import Run, error_of
from tailrace.run.wakeups import Wakeup, Wakeups
from tailrace.web.asgi import EventStream
from tailrace.web.asgi_types import Message, Receive, Scope, Send
from tailrace.web.detach import detach_response

__all__ = [
    "CONTENT",
    "DeferredHeadResponse",
    "DisconnectListener",
    "ToProblem",
    "default_problem",
    "failure",
    "unless_left",
    "whole",
]

T = TypeVar("T")

ToProblem = Callable[[Exception], ProblemError]
"""What an error is to a protocol's clients."""

CONTENT = (TextDelta, ThinkingDelta, ToolCall, ToolCallDelta)
"""What ends the waiting for an answer's status: the model has begun to speak."""

_PATIENCE = 10.0  # seconds that a status is held back; a proxy that hears nothing for longer may give up


class DisconnectListener:
    """Listens for a client's leaving, as the one who does: servers tell it once.

    Args:
        receive: the server's.

    Attributes:
        left: True once the client has gone.
    """

    def __init__(self, receive: Receive) -> None:
        self.left = False
        self._receive = receive
        self._wakeup: Wakeup | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._listen())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._task
        if not task.done():
            task.cancel()
        elif error is None:
            task.result()  # a middleware that cannot receive raises there

    async def _listen(self) -> None:
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass  # the rest of the request's body
        finally:
            self.left = True
            if self._wakeup is not None:
                self._wakeup.wake()

    async def receive(self) -> Message:
        """Returns the client's leaving when it comes: what `receive` is for an application further in."""
        await asyncio.wait({self._task})
        return {"type": "http.disconnect"}

    async def wait(self, changed: Wakeups, ready: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Waits until something is ready, the client has gone, or the time is up.

        Args:
            changed: is woken when `ready` may have become true.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        wakeup = self._wakeup = Wakeup(changed)
        while not (self.left or ready()) and (rest := end - clock()) > 0:
            await wakeup.wait(lambda: self.left or ready(), rest if rest < float("inf") else None)

    async def heed(self, work: Coroutine[Any, Any, T]) -> T:
        """Does work for the client; stops it when the client leaves.

        Raises:
            ClientDisconnect: the client has gone.
        """
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait({task, self._task}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientDisconnect
            return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})


def default_problem(error: Exception) -> ProblemError:
    """Returns what an error is to a client, with the word for it that clients look for."""
    said = problem_of(error)
    if isinstance(error, ModelNotFoundError):
        said.more.setdefault("code", "model_not_found")
    return said


class DeferredHeadResponse:
    """A stream whose head waits until the run has something to say: an ASGI application.

    An error that comes first has its own status and the protocol's own form. After a while the head goes out all the
    same, and what comes then is told in the stream.

    Args:
        run: the run.
        stream: reads it out.
        until: the kinds of events that the head waits for.
        patience: seconds that it waits at most.
        to_problem: what an error is to the protocol's clients.
    """

    def __init__(
        self,
        run: Run,
        stream: EventStream,
        until: tuple[type, ...] = CONTENT,
        *,
        patience: float = _PATIENCE,
        to_problem: ToProblem = default_problem,
    ) -> None:
        self._run = run
        self._stream = stream
        self._until = until
        self._patience = patience
        self._to_problem = to_problem
        self._seen = 0
        self._spoken = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the run until its end, or until the reader leaves."""
        if detach_response(self, scope, receive, send):
            return
        run = self._run
        async with DisconnectListener(receive) as listener:
            try:
                await listener.wait(run.log.changed, self._ready, self._patience)
                error = failure(run, self._to_problem) if run.log.sealed and not self._spoken else None
                if error is None and not listener.left:
                    await self._stream(scope, listener.receive, send)
            finally:
                self._stream.leave()
            if error is not None and not listener.left:
                await problem(error, endpoint_of(scope).error_form)(scope, listener.receive, send)

    def _ready(self) -> bool:
        log = self._run.log
        if not self._spoken and log.end > self._seen:
            try:
                events = log.read(self._seen)
            except EvictedError:  # so much has come since, that some of it is no longer kept
                self._spoken = True
            else:
                self._seen += len(events)
                self._spoken = any(isinstance(event, self._until) for event in events)
        return self._spoken or log.sealed


async def whole(request: Request, run: Run, to_problem: ToProblem = default_problem) -> Reply:
    """Waits for a run's end as its reader; returns what it said.

    Args:
        to_problem: what an error is to the protocol's clients.

    Raises:
        ProblemError: it did not come to its end.
        ClientDisconnect: the client has gone.
    """
    run.attach()
    try:
        async with DisconnectListener(request.receive) as listener:
            await listener.wait(run.log.changed, lambda: run.log.sealed)
    finally:
        run.detach()
    if not run.log.sealed:
        raise ClientDisconnect
    error = failure(run, to_problem)
    if error is not None:
        raise error
    return run.reply()


async def unless_left(request: Request, work: Coroutine[Any, Any, T], to_problem: ToProblem = default_problem) -> T:
    """Does work for a request; stops it when the client leaves.

    Args:
        to_problem: what an error is to the protocol's clients.

    Raises:
        ProblemError: what an error of ours is to the client.
        ClientDisconnect: the client has gone.
    """
    async with DisconnectListener(request.receive) as listener:
        try:
            return await listener.heed(work)
        except (TailraceError, ProblemError) as error:  # what a bug says is nobody's but the log's
            raise to_problem(error) from error


def failure(run: Run, to_problem: ToProblem = default_problem) -> ProblemError | None:
    """Returns what the ending of a run is to who wanted an answer of it; None if it is one."""
    ended = run.ended
    if ended is None or ended.outcome.finished:
        return None
    headers = {"X-Run-Id": run.id}
    error = error_of(ended, run.cause)
    if error is None or ended.outcome is Outcome.CANCELLED:
        return ProblemError(499, "the answer was stopped", headers=headers, code=ended.outcome.value)
    said = to_problem(error)
    said.headers = {**headers, **said.headers}
    return said
