"""The application that the tests run under ASGI servers: a stream is served in every way, and through middlewares."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace import AsyncClient, Client
from tailrace.web import sse
from tailrace.web.fastapi import StreamResponse, chat_router, events
from tailrace.web.registry import Bounds
from tailrace.web.stream_settings import StreamSettings

UPSTREAM = os.environ["UPSTREAM"]
MANNERS = StreamSettings(
    ping=float(os.environ.get("PING", "15")), send_timeout=float(os.environ.get("SEND_TIMEOUT", "30"))
)
MESSAGES = [{"role": "user", "content": "hi"}]

client = AsyncClient(UPSTREAM)


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application of its own."""
    await sse(await client.chat("m", MESSAGES, stream=True), stream_settings=MANNERS)(scope, receive, send)


def make(middleware: list[Middleware] | None = None) -> FastAPI:
    """Returns the application."""
    app = FastAPI(middleware=middleware)
    app.include_router(chat_router(client, model="m", stream_settings=MANNERS))
    bounds = Bounds(run_bytes=64 << 20)
    app.include_router(chat_router(client, path="/linger", on_leave=120, stream_settings=MANNERS, bounds=bounds))
    app.include_router(chat_router(client, path="/continue", on_leave="continue", stream_settings=MANNERS))

    @app.post("/response")
    async def response() -> Response:
        return StreamResponse(await client.chat("m", MESSAGES, stream=True), stream_settings=MANNERS)

    @app.post("/events", response_class=EventSourceResponse)
    async def by_fastapi() -> AsyncIterator[ServerSentEvent]:
        async for event in events(await client.chat("m", MESSAGES, stream=True)):
            yield event

    @app.post("/sync")
    async def synchronous() -> Response:
        return StreamResponse(Client(UPSTREAM).chat("m", MESSAGES, stream=True), stream_settings=MANNERS)

    app.mount("/bare", bare)
    return app


class Looking(BaseHTTPMiddleware):
    """A middleware as applications have them: it looks at the request, and adds a header."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        await request.body()
        response = await call_next(request)
        response.headers["x-looked"] = "yes"
        return response


class Passing:
    """A middleware of bare ASGI, which passes everything on through functions of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_on() -> Any:
            return await receive()

        async def send_on(message: Any) -> None:
            await send(message)

        await self.app(scope, receive_on, send_on)


app = make()
gzip = make([Middleware(GZipMiddleware, minimum_size=1)])
looking = make([Middleware(Looking)])
passing = make([Middleware(Passing)])
crowd = make(
    [Middleware(GZipMiddleware, minimum_size=1), Middleware(Looking), Middleware(Passing), Middleware(Looking)]
)
