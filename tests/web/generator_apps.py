"""Applications that stream an answer through a generator of their own, as their frameworks' manuals show it.

The collector is off, and every task and exception is kept: nothing is freed by chance.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from tailrace import AsyncClient, Client

gc.disable()
UPSTREAM = os.environ["UPSTREAM"]
ASKED = [{"role": "user", "content": "hi"}]
kept: list[object] = []


async def words() -> AsyncIterator[bytes]:
    stream = await AsyncClient(UPSTREAM).chat("m", ASKED, stream=True)
    kept.append(stream)
    async for chunk in stream:
        yield (chunk.message.content or "").encode()


def words_in_a_thread() -> Iterator[bytes]:
    stream = Client(UPSTREAM).chat("m", ASKED, stream=True)
    kept.append(stream)
    for text in stream.text_stream:
        yield text.encode()


def keep_tasks() -> None:
    loop = asyncio.get_running_loop()
    if loop.get_task_factory() is None:

        def create(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **more: Any) -> Any:
            kept.append(asyncio.Task(coroutine, loop=loop, **more))
            return kept[-1]

        loop.set_task_factory(create)  # type: ignore[arg-type]


def by_starlette() -> ASGIApp:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import StreamingResponse
    from starlette.routing import Route

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(words_in_a_thread() if "thread" in request.url.path else words())

    return Starlette(routes=[Route("/starlette", stream), Route("/starlette/thread", stream)])


def by_fastapi() -> ASGIApp:
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    @app.get("/fastapi")
    async def stream() -> StreamingResponse:
        return StreamingResponse(words())

    return app


def by_django() -> ASGIApp:
    from django.conf import settings  # type: ignore[import-untyped]
    from django.core.asgi import get_asgi_application  # type: ignore[import-untyped]
    from django.http import HttpRequest, StreamingHttpResponse  # type: ignore[import-untyped]
    from django.urls import path  # type: ignore[import-untyped]

    async def stream(_request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(words())

    urls: Any = types.ModuleType("urls_of_generator_apps")
    urls.urlpatterns = [path("django", stream)]
    sys.modules[urls.__name__] = urls
    settings.configure(ROOT_URLCONF=urls.__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="none", MIDDLEWARE=[])
    application: ASGIApp = get_asgi_application()
    return application


apps: dict[str, ASGIApp] = {}
makers: dict[str, Callable[[], ASGIApp]] = {"starlette": by_starlette, "fastapi": by_fastapi, "django": by_django}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serves each framework below its name."""
    if scope["type"] != "http":
        return
    keep_tasks()
    name = scope["path"].split("/")[1]
    if name not in apps:
        apps[name] = makers[name]()
    try:
        await apps[name](scope, receive, send)
    except BaseException as error:
        kept.append(error)
        raise


def serve_aiohttp(port: int) -> None:
    """Serves aiohttp, whose handlers read in the task that it cancels."""
    from aiohttp import web

    def keeping(handle: Callable[[web.StreamResponse], Awaitable[None]]) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            keep_tasks()
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                await handle(response)
            except BaseException as error:
                kept.append(error)
                raise
            return response

        return handler

    async def inline(response: web.StreamResponse) -> None:
        stream = await AsyncClient(UPSTREAM).chat("m", ASKED, stream=True)
        kept.append(stream)
        async for chunk in stream:
            await response.write((chunk.message.content or "").encode())

    async def generator(response: web.StreamResponse) -> None:
        body = words()
        kept.append(body)
        async for data in body:
            await response.write(data)

    application = web.Application()
    application.router.add_get("/aiohttp", keeping(inline))
    application.router.add_get("/aiohttp/generator", keeping(generator))
    web.run_app(application, host="127.0.0.1", port=port, handler_cancellation=True)


if __name__ == "__main__":
    serve_aiohttp(int(sys.argv[1]))
