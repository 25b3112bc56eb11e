"""Health: is the process alive, does it take runs, what does it count; and which version it is."""

from __future__ import annotations

import asyncio

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace._version import __version__
from tailrace.client.aio import AsyncClient
from tailrace.errors import TailraceError
from tailrace.gateway.context import context_of
from tailrace.gateway.counters import Gauge, text
from tailrace.gateway.endpoint import Endpoint, EndpointTable
from tailrace.gateway.endpoints.queue import queue_of
from tailrace.gateway.responses import json
from tailrace.protocols.problems import ProblemError

__all__ = ["ENDPOINTS", "Health", "Version"]

_STARTING = 2.0  # seconds that are waited for the embedded engine
_TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"


class Health(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All is well."""

    status: str
    upstream: str = ""
    version: str = ""


class Version(msgspec.Struct, kw_only=True):
    """Which tailrace this is."""

    version: str


async def healthz(_request: Request) -> Response:
    """The process lives."""
    return json({"status": "ok"})


async def readyz(request: Request) -> Response:
    """New runs are taken, and an upstream answers."""
    context = context_of(request)
    if context.runs.closed:
        raise ProblemError(503, context.runs.closed, headers={"Retry-After": "5"})
    try:
        async with asyncio.timeout(_STARTING):
            upstream, version = await context.upstreams.first_answer(_greeted)
    except TailraceError as error:
        raise ProblemError(503, str(error), hint=error.hint) from error
    except TimeoutError:
        raise ProblemError(503, "the embedded engine is being started", headers={"Retry-After": "2"}) from None
    return json(Health(status="ok", upstream=upstream.client.upstream, version=version))


async def _greeted(client: AsyncClient) -> str:
    """Asks a model server for what its own protocol has; returns its version if it tells one."""
    if (await client.backend()).kind == "openai":
        await client.list()
        return ""
    return await client.version()


async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    context = context_of(request)
    runs, queue = context.runs, queue_of(context)
    gauges: list[Gauge] = [
        ("tailrace_runs_running", "Runs that go on.", float(runs.running)),
        ("tailrace_runs_kept", "Runs that can be read.", float(len(runs))),
        ("tailrace_readers", "Readers of all runs.", float(context.readers)),
        ("tailrace_log_bytes", "Memory of all logs, as estimated.", float(runs.size)),
        ("tailrace_queue_running", "Runs that an upstream works on.", {each.url: each.running for each in queue}),
        ("tailrace_queue_waiting", "Runs that wait for it.", {each.url: each.waiting for each in queue}),
        ("tailrace_upstream_out", "1 while it is left out.", {each.url: int(each.out) for each in queue}),
        ("process_start_time_seconds", "When the gateway was started.", context.started),
    ]
    return Response(text(context.counters, gauges), media_type=_TEXT_FORMAT)


async def version(_request: Request) -> Response:
    """``GET /version``."""
    return json(Version(version=__version__))


ENDPOINTS = EndpointTable(
    (
        Endpoint("GET", "/healthz", healthz, "Does the process live?", gives=Health, access="open"),
        Endpoint("GET", "/readyz", readyz, "Are new runs taken?", gives=Health, errors=(503,), node="all"),
        Endpoint("GET", "/metrics", metrics, "Figures for Prometheus.", gives="text/plain", node="all"),
        Endpoint("GET", "/version", version, "Which version of tailrace is this?", gives=Version),
    )
)
