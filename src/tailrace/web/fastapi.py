"""FastAPI: a response for an endpoint of yours, a router that has the endpoints already, and events for `fastapi.sse`.

    from tailrace.web.fastapi import StreamResponse, chat_router

    @app.post("/ask")
    async def ask(question: str):
        return StreamResponse(await client.chat("qwen3:0.6b", [{"role": "user", "content": question}], stream=True))

    app.include_router(chat_router())            # POST /chat/stream, and reading on, and stopping

Without FastAPI, Starlette's endpoints may return `tailrace.web.sse(stream)` as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from tailrace.client.aio import AsyncClient
from tailrace.client.streams import BaseStream
from tailrace.errors import TailraceError
from tailrace.protocols.problems import MEDIA_TYPE, ProblemError, problem_of
from tailrace.protocols.runs.requests import RunRequest, parse, size_of
from tailrace.protocols.sse import SSEDecoder
from tailrace.run.run import Run
from tailrace.web.asgi import EventStream, frames, sse
from tailrace.web.bodies import MAX_BODY, Body, check_media_type
from tailrace.web.cursors import cursors_of, reading
from tailrace.web.registry import Bounds, Registry
from tailrace.web.requests import DefaultModel, chat
from tailrace.web.source import Source, plain_feed
from tailrace.web.starting import start
from tailrace.web.stopping import Stopped, stop
from tailrace.web.stream_settings import OnLeave, StreamSettings, linger_of

try:
    from fastapi import APIRouter, Request
    from starlette.background import BackgroundTask
    from starlette.requests import ClientDisconnect
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send
except ImportError as error:
    raise ImportError("tailrace.web.fastapi needs FastAPI: pip install fastapi", name=error.name) from error

if TYPE_CHECKING:
    from fastapi.sse import ServerSentEvent

__all__ = ["StreamResponse", "chat_router", "events"]


class StreamResponse(Response):
    """A stream as the tutorial's server-sent events: what an endpoint of FastAPI's or Starlette's returns.

    It starts the run, so make it in an ``async def``. Headers and cookies may be set on it, as on any response.

    Args:
        stream: what ``chat(…, stream=True)`` returned, synchronous or asynchronous.
        on_leave: what becomes of the run when its reader leaves: ``"cancel"``, ``"continue"``, or seconds to wait for
            a reader to come back.
        stream_settings: pings and limits.
        headers: further response headers.
        background: run after the response.

    Raises:
        ValueError: `on_leave` is no policy.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        stream: BaseStream[Any],
        *,
        on_leave: OnLeave = "cancel",
        stream_settings: StreamSettings | None = None,
        headers: Iterable[tuple[str, str]] = (),
        background: BackgroundTask | None = None,
    ) -> None:
        self._begin(sse(stream, on_leave=on_leave, stream_settings=stream_settings, headers=headers), background)

    @classmethod
    def of(cls, events: EventStream) -> StreamResponse:
        """Returns a reader of a run that is known already as a response."""
        response = cls.__new__(cls)
        response._begin(events, None)
        return response

    def _begin(self, events: EventStream, background: BackgroundTask | None) -> None:
        self._events = events
        self.status_code = 200
        self.background = background
        self.init_headers(dict(events.headers))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the run until its end, or until the reader leaves."""
        await self._events.answer(scope, receive, send, self.raw_headers)
        if self.background is not None:
            await self.background()


async def events(stream: BaseStream[Any], *, on_leave: OnLeave = "cancel") -> AsyncGenerator[ServerSentEvent, None]:
    """Yields a stream as events for an endpoint whose ``response_class`` is `fastapi.sse.EventSourceResponse`.

    Ids, names and data are those of `StreamResponse`. Leaving the iterator is the reader's leaving.

    Args:
        stream: what ``chat(…, stream=True)`` returned.
        on_leave: as for `StreamResponse`.

    Raises:
        ValueError: `on_leave` is no policy.
    """
    from fastapi.sse import ServerSentEvent

    decoder = SSEDecoder()
    async with contextlib.aclosing(frames(stream, on_leave=on_leave)) as pieces:
        async for piece in pieces:
            for event in decoder.feed(piece):
                name = event.type if event.type != "message" else None
                yield ServerSentEvent(raw_data=event.text, event=name, id=event.id or None)
            if decoder.retry is not None:
                yield ServerSentEvent(retry=decoder.retry, comment="tailrace")
                decoder.retry = None


class _Chat:
    """What the requests of one router share."""

    def __init__(
        self, client: AsyncClient | None, linger: float | None, bounds: Bounds, stream_settings: StreamSettings
    ) -> None:
        self.runs = Registry(bounds)
        self.client = copy.copy(client or AsyncClient())  # a client of the user's keeps its own logs
        self.client.new_log = self.runs.new_log
        self.default = DefaultModel()
        self.linger = linger
        self.stream_settings = stream_settings

    async def start(self, asked: RunRequest, path: str) -> StreamResponse:
        """Starts a run, and reads it out."""
        self.runs.check_room()
        linger = self.linger if asked.linger is msgspec.UNSET else asked.linger

        def read(run: Run) -> tuple[Run, EventStream]:
            where = [("Location", f"{path.rstrip('/')}/{run.id}")]
            return run, EventStream(run, Source(plain_feed(run)), stream_settings=self.stream_settings, headers=where)

        run, events = start(await chat(self.client, asked, self.default), linger, read)
        self.runs.add(run, asked=size_of(asked))
        return StreamResponse.of(events)

    def read_on(self, id: str, cursors: Iterable[str]) -> Response:
        """Reads a run out from a cursor."""
        run = self.runs.get(id)
        source = reading(run, list(cursors), wire="plain")
        if source is None:
            return Response(status_code=204)
        return StreamResponse.of(EventStream(run, source, stream_settings=self.stream_settings))


def chat_router(
    client: AsyncClient | None = None,
    *,
    model: str = "",
    system: str | None = None,
    path: str = "/chat/stream",
    on_leave: OnLeave = "cancel",
    max_body: int = MAX_BODY,
    body_time: float = 30.0,
    bounds: Bounds | None = None,
    stream_settings: StreamSettings | None = None,
) -> APIRouter:
    """Returns a router with the tutorial's ``POST /chat/stream``, and more.

    ``POST`` takes the message as ``?message=``, or JSON: ``message`` or ``messages``, and ``model``, ``system``,
    ``options``, ``think``, ``format``, ``tools``, ``keep_alive``, ``linger``. ``GET PATH/RUN`` reads on after the event
    that ``Last-Event-ID`` or ``?after=`` names; ``DELETE PATH/RUN`` stops the model and answers when it has let go. The
    run's path is the ``Location`` of the first answer. Runs live in the process that started them.

    A reader that knows nothing of reading on cannot come back, so that its leaving stops the model. One that can, asks
    for time to do so: ``"linger": 30`` in its request, or ``on_leave=30`` here, for all.

    Args:
        client: talks to the model server; default: the upstream of the environment.
        model: the model when a request names none; empty: the upstream's default.
        system: the system prompt when a request has none.
        path: where the endpoints are.
        on_leave: what becomes of a run when its reader leaves, unless its request says so by ``linger``: ``"cancel"``,
            ``"continue"``, or seconds to wait for a reader to come back.
        max_body: bytes of a request.
        body_time: seconds that they may take to come.
        bounds: how many runs are kept, how much of them, and how long.
        stream_settings: pings and limits.

    Raises:
        ValueError: `on_leave` is no policy.
    """
    shared = _Chat(client, linger_of(on_leave), bounds or Bounds(), stream_settings or StreamSettings())
    router = APIRouter(tags=["chat"])
    one = f"{path.rstrip('/')}/{{run_id}}"

    @router.post(path, response_class=Response, openapi_extra=_asked_schema(), responses=_STREAM)
    async def chat_stream(request: Request) -> Response:
        """Starts an answer and reads it out as server-sent events."""

        async def start() -> Response:
            asked = parse(await _body(request, max_body, body_time), request.query_params)
            if asked.prompt is not None:
                raise ProblemError(400, "this route takes a message or messages")
            asked.model = asked.model or model
            asked.system = asked.system or system
            return await shared.start(asked, request.url.path)

        return await _answer(start)

    @router.get(one, response_class=Response, responses=_STREAM)
    async def read_on(run_id: str, request: Request) -> Response:
        """Reads an answer on, after the event that ``Last-Event-ID`` or ``?after=`` names."""
        cursors = cursors_of(request.headers.getlist("last-event-id"), request.query_params.getlist("after"))

        async def read() -> Response:
            return shared.read_on(run_id, cursors)

        return await _answer(read)

    @router.delete(one, response_class=Response)
    async def stop_run(run_id: str) -> Response:
        """Stops the model, and answers when it has let go."""

        async def stopped() -> Response:
            return _json(await stop(shared.runs.get(run_id)))

        return await _answer(stopped)

    return router


async def _answer(make: Callable[[], Awaitable[Response]]) -> Response:
    """Returns a response, or the problem that stands in its way."""
    try:
        return await make()
    except (ProblemError, TailraceError) as error:
        told = problem_of(error)
        return Response(told.body, told.status, told.headers, MEDIA_TYPE)


async def _body(request: Request, limit: int, seconds: float) -> bytes:
    """Returns the body of a request.

    Raises:
        ProblemError: it is too large or too slow, or not JSON by its own word.
    """
    body = Body(limit, request.headers.get("content-length", ""))
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body.add(part)
    except TimeoutError:
        headers = {"Connection": "close"}  # the rest of it is not read either
        raise ProblemError(408, f"the body did not come within {seconds:g} s", headers=headers) from None
    except ClientDisconnect:
        raise ProblemError(400, "the connection closed in the middle of the body") from None
    if body.size:
        check_media_type(request.headers.get("content-type", ""))
    return body.take()


def _json(value: Stopped) -> Response:
    return Response(msgspec.json.encode(value), headers={"Cache-Control": "no-store"}, media_type="application/json")


_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def _asked_schema() -> dict[str, Any]:
    """Returns what the documentation of the application shows of a request."""
    schema = msgspec.json.schema(RunRequest)["$defs"]["RunRequest"]
    message = {"name": "message", "in": "query", "required": False, "schema": {"type": "string"}}
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}, "parameters": [message]}
