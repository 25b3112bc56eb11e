"""``/runs``: start, read, resume and stop a run. What `docs/gateway.md` says of it."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.events import Loading, Prefill, Queued
from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import GatewayContext, context_of
from tailrace.gateway.endpoint import EVENTS as EVENT_STREAM
from tailrace.gateway.endpoint import UPSTREAM, Endpoint, EndpointTable, Node
from tailrace.gateway.endpoints.answering import unless_left
from tailrace.gateway.endpoints.body import read_body
from tailrace.gateway.endpoints.encoders import WIRES, source_of
from tailrace.gateway.responses import Answer, json, response
from tailrace.protocols.event_json import fault_of, fields_of, name_of
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest, parse
from tailrace.run.metrics import Metrics
from tailrace.run.run import Run
from tailrace.run.state import State
from tailrace.web.asgi import EventStream
from tailrace.web.cursors import WireName, cursors_of, reading
from tailrace.web.rendered import prepared
from tailrace.web.source import Source
from tailrace.web.stopping import Stopped
from tailrace.web.stopping import stop as stop_run
from tailrace.web.stream_settings import EVENTS, Medium, opening

__all__ = ["ENDPOINTS", "Described", "RunList", "Said", "describe", "key_of", "run_of", "whole_of"]

_LONGEST_KEY = 255
_AT_ONCE = 10
_IN_A_LIST = 500  # characters of an upstream's words


class Said(msgspec.Struct, kw_only=True):
    """What a run has said until now."""

    text: str = ""
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = []


class Described(msgspec.Struct, kw_only=True):
    """A run.

    Attributes:
        state: ``new``, ``queued``, ``connecting``, ``waiting``, ``streaming`` or ``ended``.
        outcome: how it ended; null while it runs.
        reason: the server's word for the ending.
        events: the number of the last event of its log.
        first: the number of the first that is still kept.
        created: RFC 3339.
        readers: how many readers follow it.
        metrics: times and counts; seconds.
        error: what went wrong: ``message``, ``type``, ``hint``.
        waiting: what it waits for, if that is known: ``for`` is ``queued``, ``loading`` or ``prefill``, and the fields
            of that event.
    """

    id: str
    model: str
    state: str
    outcome: str | None = None
    reason: str = ""
    events: int = 0
    first: int = 1
    created: str = ""
    readers: int = 0
    reply: Said | msgspec.UnsetType = msgspec.UNSET
    metrics: Metrics = Metrics()
    error: dict[str, Any] | None = None
    waiting: dict[str, Any] | None = None


class RunList(msgspec.Struct, kw_only=True):
    """Runs, the newest first."""

    runs: list[Described]


def describe(context: GatewayContext, run: Run, *, whole: bool = True) -> Described:
    """Returns a run as JSON shows it; in lists without what it said, nor more of an error than a few lines."""
    ended, most = run.ended, None if whole else _IN_A_LIST
    created = datetime.datetime.fromtimestamp(context.runs.created(run.id), datetime.UTC)
    described = Described(
        id=run.id,
        model=run.model,
        state="ended" if ended is not None else run.state.value,
        outcome=ended.outcome.value if ended is not None else None,
        reason=ended.reason[:most] if ended is not None else "",
        events=run.log.end,
        first=run.log.first,
        created=created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        readers=run.readers,
        metrics=run.metrics(),
        error=_cut(fault_of(ended), most) if ended is not None and ended.fault is not None else None,
        waiting=_waiting(run),
    )
    if whole:
        reply = run.reply()
        calls = [msgspec.to_builtins(call) for call in reply.tool_calls]
        described.reply = Said(text=reply.text, thinking=reply.thinking, tool_calls=calls)
    return described


def _cut(error: dict[str, Any], most: int | None) -> dict[str, Any]:
    return {name: value[:most] if isinstance(value, str) else value for name, value in error.items()}


def _waiting(run: Run) -> dict[str, Any] | None:
    if run.state is State.STREAMING or run.ended is not None:
        return None
    for event in run.log.read(max(run.log.end - 1, run.log.first - 1)):
        if isinstance(event, (Queued, Loading, Prefill)):
            return {"for": name_of(event), **fields_of(event)}
    return None


async def start(request: Request) -> Response:
    """``POST /runs``."""
    context = context_of(request)
    body = await read_body(request)
    asked = parse(body, request.query_params)
    caller, key = caller_of(request.scope), key_of(request)
    run, new = await context.start(asked, caller, linger=context.linger, key=key, body=whole_of(request, body))
    return json(describe(context, run), 201 if new else 200, {"Location": f"/runs/{run.id}"})


def key_of(request: Request) -> str:
    """Returns the idempotency key of a request; empty if it has none.

    Raises:
        ProblemError: 400: it is no key.
    """
    key = request.headers.get("idempotency-key", "").strip()
    if len(key) > _LONGEST_KEY or not key.isascii():
        raise ProblemError(400, f"an Idempotency-Key is ASCII, {_LONGEST_KEY} characters at most")
    return key


def whole_of(request: Request, body: bytes) -> bytes:
    """Returns all that makes a request another one than one with the same idempotency key."""
    return f"{request.method} {request.url.path}?{request.url.query}\n".encode() + body


def run_of(request: Request) -> Run:
    """Returns the run that a path names.

    Raises:
        ProblemError: 404.
    """
    return context_of(request).runs.get(request.path_params["id"], caller_of(request.scope).owner)


async def listing(request: Request) -> Response:
    """``GET /runs``."""
    context = context_of(request)
    state = request.query_params.get("state", "")
    if state not in ("", "running", "ended"):
        raise ProblemError(400, "state is running or ended")
    limit = _number(request.query_params.get("limit", "100"), 1, 1000)
    found: list[Described] = []
    for run in context.runs.newest(caller_of(request.scope).owner):
        if len(found) == limit:
            break
        if not state or (run.ended is None) == (state == "running"):
            found.append(describe(context, run, whole=False))
            if not len(found) % _AT_ONCE:
                await asyncio.sleep(0)  # the figures of long answers take a moment, and others wait
    return json(RunList(runs=found))


def _number(text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise ProblemError(400, f"limit is a number from {least} to {most}")
    return int(text)


async def show(request: Request) -> Response:
    """``GET /runs/{id}``."""
    context = context_of(request)
    return json(describe(context, run_of(request)))


async def stop(request: Request) -> Response:
    """``DELETE /runs/{id}``: answers when the backend has let go."""
    return json(await stop_run(run_of(request)))


async def events(request: Request) -> Answer:
    """``GET /runs/{id}/events``."""
    context, run = context_of(request), run_of(request)
    follow = request.query_params.get("follow", "true")
    if follow not in ("true", "false"):
        raise ProblemError(400, "follow is true or false")
    source, medium = await _read(request, run)
    if source is None:
        return Response(status_code=204)
    if request.method == "HEAD" or follow == "false":
        there = b"" if request.method == "HEAD" else _whats_there(source, medium)
        return response(there, headers=dict(medium.headers))
    return EventStream(run, source, stream_settings=context.settings.stream_settings, medium=medium)


async def _read(request: Request, run: Run) -> tuple[Source | None, Medium]:
    """Returns a reader where a request's cursor is, and how it is carried; None in its place if nothing will come."""
    context, query = context_of(request), request.query_params
    cursors = cursors_of(request.headers.getlist("last-event-id"), query.getlist("after"))
    wire, render = query.get("wire", "runs"), query.get("render", "")
    if render not in ("", "html"):
        raise ProblemError(400, "render is html")
    if wire not in ("runs", "plain", *WIRES):
        raise ProblemError(400, f"wire is one of runs, plain, {', '.join(WIRES)}")
    if wire != "runs" and render:
        raise ProblemError(400, "HTML comes on the wire of runs only")
    if wire in WIRES:
        if any(cursors):
            raise ProblemError(400, "this wire has no ids; it is read from its start")
        make, medium = WIRES[wire]
        return source_of(run, make(run, int(context.runs.created(run.id)))), medium
    before = context.before(run)
    named: WireName = "html" if render else "plain" if wire == "plain" else "runs"
    if not render:
        return reading(run, cursors, wire=named, before=before), EVENTS

    async def rendered() -> Source | None:
        async with prepared(run, before):
            return reading(run, cursors, wire=named, before=before)

    return await unless_left(request, rendered()), EVENTS  # a long text takes long


def _whats_there(source: Source, medium: Medium) -> bytes:
    parts = [opening() if medium.opening is None else medium.opening]
    while data := source.take():
        parts.append(data)
    return b"".join(parts)


_OWNER: Node = "owner of the run"

ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "POST",
            "/runs",
            start,
            "Start a run.",
            takes=RunRequest,
            optional=True,
            query=("message", "model", "system"),
            headers=("Idempotency-Key",),
            status=201,
            also=(200,),
            gives=Described,
            errors=(*UPSTREAM, 422),
            node="owner of the idempotency key",
        ),
        Endpoint(
            "GET",
            "/runs",
            listing,
            "List the runs, the newest first.",
            query=("state", "limit"),
            gives=RunList,
            errors=(400,),
            node="all",
        ),
        Endpoint("GET", "/runs/{id}", show, "Show a run.", gives=Described, errors=(404,), node=_OWNER),
        Endpoint(
            "DELETE",
            "/runs/{id}",
            stop,
            "Stop a run; answers when the backend has let go.",
            gives=Stopped,
            errors=(404,),
            node=_OWNER,
        ),
        Endpoint(
            "GET",
            "/runs/{id}/events",
            events,
            "Read a run: what it has said after the cursor, then what it says.",
            query=("after", "follow", "render", "wire"),
            headers=("Last-Event-ID",),
            gives=EVENT_STREAM,
            also=(204,),
            errors=(400, 404, 410),
            node=_OWNER,
        ),
    )
)
