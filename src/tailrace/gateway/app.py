"""The gateway as an ASGI application, for any server. `tailrace.gateway.server.serve` runs it on ours."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from tailrace.client.aio import AsyncClient
from tailrace.client.base import UNSET
from tailrace.errors import TailraceError
from tailrace.gateway import openapi
from tailrace.gateway.access.headers import SafeHeaders
from tailrace.gateway.access.hosts import HostNames, Origins, is_local
from tailrace.gateway.access.middleware import AccessMiddleware
from tailrace.gateway.cluster.lost_runs import Cursors
from tailrace.gateway.cluster.middleware import ChatRouting, Neighbours, WorkerRouting
from tailrace.gateway.cluster.relay import Relay
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.conversations.service import Conversations
from tailrace.gateway.endpoint import Endpoints, endpoint_of
from tailrace.gateway.endpoints import (
    aisdk,
    conversations,
    health,
    models,
    ollama,
    ollama_models,
    openai,
    page,
    queue,
    render,
    runs,
    tutorial,
)
from tailrace.gateway.responses import problem
from tailrace.gateway.scheduling.fair_queue import FairQueue
from tailrace.gateway.scheduling.upstreams import Upstream, Upstreams
from tailrace.gateway.settings import Settings
from tailrace.protocols.problems import ProblemError
from tailrace.run.timeouts import Timeouts

__all__ = ["TABLES", "WITHOUT_PAGE", "create_app"]

TABLES = (
    *(ollama.ENDPOINTS, ollama_models.ENDPOINTS, tutorial.ENDPOINTS, runs.ENDPOINTS, models.ENDPOINTS),
    *(openai.ENDPOINTS, aisdk.ENDPOINTS, conversations.ENDPOINTS, render.ENDPOINTS, queue.ENDPOINTS),
    *(health.ENDPOINTS, page.ENDPOINTS, openapi.ENDPOINTS),
)
"""What the gateway answers."""
WITHOUT_PAGE = (
    *(table for table in TABLES if table not in (conversations.ENDPOINTS, page.ENDPOINTS)),
    ollama_models.GREETING,
)
"""What it answers where the page is left out, and with it what the page keeps."""

_CONNECT = 10.0  # seconds; a longer limit is for the model, not for the network


def create_app(
    settings: Settings | None = None, client: AsyncClient | None = None, neighbours: Neighbours | None = None
) -> Starlette:
    """Returns the gateway.

    Args:
        settings: what it is told; the defaults if None.
        client: talks to the one upstream; by the settings if None.
        neighbours: the other workers, if this is one of several.
    """
    settings = settings or Settings()
    clients = [client] if client is not None else [_client(settings, each) for each in settings.upstreams or (None,)]
    upstreams = [Upstream(each, FairQueue(settings.max_running, settings.max_queued)) for each in clients]
    here = neighbours.here if neighbours is not None else None
    context = GatewayContext(settings, Upstreams(upstreams, settings.max_per_key), here)
    kept = Conversations(context) if settings.page else None
    if kept is not None:
        context.before = kept.before

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            if kept is not None:
                await stack.enter_async_context(kept)
            yield
            await context.end()

    endpoints = Endpoints(TABLES if settings.page else WITHOUT_PAGE)
    app = Starlette(
        routes=endpoints.routes,
        lifespan=lifespan,
        exception_handlers={
            ProblemError: _on_error,
            TailraceError: _on_error,
            HTTPException: _on_http,
            ClientDisconnect: _on_left,
            Exception: _on_bug,
        },
    )
    app.router.redirect_slashes = False
    app.state.endpoints = endpoints
    app.state.context = context
    app.state.conversations = kept
    # The middlewares are built with the first request; errors are told now.
    HostNames(settings.hosts), Origins(settings.origins)
    if neighbours is not None:  # the last one that is added is the first that sees a request
        relay = Relay(neighbours.folder, settings.stream_settings.send_timeout)
        app.add_middleware(Cursors)
        app.add_middleware(ChatRouting, neighbours=neighbours, relay=relay)
    app.add_middleware(
        AccessMiddleware, keys=settings.keys, hosts=settings.hosts, origins=settings.origins, admins=_admins(settings)
    )
    app.add_middleware(SafeHeaders)
    if neighbours is not None:
        app.add_middleware(WorkerRouting, neighbours=neighbours, relay=relay)
    return app


def _admins(settings: Settings) -> tuple[str, ...]:
    if settings.admins is not None:
        return settings.admins
    return ("*",) if is_local(settings.host) and not settings.keys else ()


def _client(settings: Settings, upstream: str | None) -> AsyncClient:
    timeout: Any = UNSET
    if settings.timeout == 0:
        timeout = None
    elif settings.timeout is not None:
        limit = settings.timeout
        timeout = Timeouts(connect=min(limit, _CONNECT), first_token=limit, idle=limit, answer=limit)
    return AsyncClient(upstream, timeout=timeout)


async def _on_error(request: Request, error: Exception) -> Response:
    return problem(error, endpoint_of(request.scope).error_form)


async def _on_left(_request: Request, _error: Exception) -> Response:
    """Nobody reads this."""
    return Response(status_code=499)


async def _on_bug(request: Request, _error: Exception) -> Response:
    """The server logs it."""
    return problem(
        ProblemError(500, "this is a bug in tailrace; the server's output has more"),
        endpoint_of(request.scope).error_form,
    )


async def _on_http(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: no such path, or no such method there."""
    assert isinstance(error, HTTPException)
    form = endpoint_of(request.scope).error_form
    if error.status_code != 405:
        return problem(ProblemError(error.status_code, "there is nothing here"), form)
    allowed = {"Allow": ", ".join(sorted(request.app.state.endpoints.methods(request.scope)))}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=allowed)
    return problem(ProblemError(405, f"{request.method} is not allowed here", headers=allowed), form)
