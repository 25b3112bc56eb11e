"""What Ollama's clients do with models: list and show them; and, at an Ollama server, pull, push, create, copy, delete.

A pull, a push and a create are runs of their own, which end when the client leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from tailrace import errors
from tailrace.backends.base import Backend
from tailrace.client.aio import AsyncClient
from tailrace.events import Progress
from tailrace.gateway.access.local_files import check_no_files
from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import GatewayContext, context_of
from tailrace.gateway.endpoint import Endpoint, EndpointTable
from tailrace.gateway.endpoints import model_list, openai
from tailrace.gateway.endpoints.answering import DeferredHeadResponse, unless_left, whole
from tailrace.gateway.endpoints.encoders import LINES
from tailrace.gateway.endpoints.ollama import ERRORS, FAULTS, STREAM, body_of, check_name, json
from tailrace.gateway.endpoints.ollama_passthrough import first_of, manager, object_of, target, to_problem
from tailrace.gateway.responses import Answer
from tailrace.gateway.scheduling.upstreams import Upstream
from tailrace.protocols.ollama.encode import ProgressWire
from tailrace.protocols.ollama.requests import CopyBody, NamedBody
from tailrace.protocols.problems import ProblemError
from tailrace.types import ListedModel, ModelDetails, RunningModel
from tailrace.web.asgi import EventStream
from tailrace.web.source import Feed, Source

__all__ = ["ENDPOINTS", "GREETING", "greeting"]

_API = "0.31.1"  # of Ollama, whose API this is: clients look whether it is new enough for them
_NEVER = "0001-01-01T00:00:00Z"  # Go's time that is not set, which its clients show as such
_DIGEST = re.compile(r"sha256[:-][0-9a-f]{64}")


# -- what there is -----------------------------------------------------------------------------------------------------


def greeting() -> Response:
    """Returns what Ollama says at its root."""
    return PlainTextResponse("Ollama is running", headers={"Vary": "Accept"})


async def _greet(_request: Request) -> Response:
    return greeting()


GREETING = EndpointTable((Endpoint("GET", "/", _greet, access="open"),))
"""The root of a gateway without the page."""


async def version(request: Request) -> Response:
    """``GET /api/version``: an Ollama server's own, else that of the API which is spoken here."""

    async def ask(client: AsyncClient) -> str:
        return await client.version() if (await client.backend()).kind == "ollama" else ""

    async def tell() -> str:
        try:
            told = await context_of(request).upstreams.gather(ask)
        except errors.TailraceError:
            return _API
        return next(filter(None, told), _API)

    return json({"version": await unless_left(request, tell())})


async def tags(request: Request) -> Response:
    """``GET /api/tags``: the models of all upstreams, and the aliases."""
    found = await unless_left(request, model_list.listed(context_of(request)), to_problem(""))
    return json({"models": [_listed(model) for model in found]})


def _listed(model: ListedModel) -> dict[str, Any]:
    told = {
        "name": model_list.name_of(model),
        "model": model_list.name_of(model),
        "modified_at": _time(model.modified_at),
        "size": model.size or 0,
        "digest": model.digest or _digest(model_list.name_of(model)),
        "details": _details(model.details),
    }
    more = {name: getattr(model, name) for name in ("capabilities", "remote_model", "remote_host")}
    return {**told, **{name: value for name, value in more.items() if value}}


def _digest(name: str) -> str:
    """Returns what stands in for a digest that nobody told: `ollama list` cannot do without."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def _time(moment: datetime | None) -> Any:
    return moment if moment is not None else _NEVER


def _details(details: ModelDetails | None) -> dict[str, Any]:
    details = details or ModelDetails()
    return {
        "parent_model": details.parent_model or "",
        "format": details.format or "",
        "family": details.family or "",
        "families": list(details.families or ()),
        "parameter_size": details.parameter_size or "",
        "quantization_level": details.quantization_level or "",
    }


async def ps(request: Request) -> Response:
    """``GET /api/ps``: the models that are loaded at any upstream that tells."""

    async def ask(client: AsyncClient) -> list[RunningModel]:
        try:
            return list((await client.ps()).models)
        except errors.UnsupportedError:
            return []

    told = await unless_left(request, context_of(request).upstreams.gather(ask), to_problem(""))
    return json({"models": [_running(model) for models in told for model in models]})


def _running(model: RunningModel) -> dict[str, Any]:
    name = model.model or model.name or ""
    return {
        "name": name,
        "model": name,
        "size": model.size or 0,
        "digest": model.digest or _digest(name),
        "details": _details(model.details),
        "expires_at": _time(model.expires_at),
        "size_vram": model.size_vram or 0,
        "context_length": model.context_length or 0,
    }


async def show(request: Request) -> Response:
    """``POST /api/show``."""
    context = context_of(request)
    body, given = await body_of(request, NamedBody)
    called = await _called(context, body)
    name = target(context, called)

    async def ask(upstream: Upstream, backend: Backend) -> bytes | dict[str, Any]:
        if backend.kind != "openai":
            return await upstream.client.pass_on("POST", "/api/show", {**given, "model": name})
        found = model_list.find((await upstream.ask(AsyncClient.list)).models, name)
        if found is None:
            raise errors.ModelNotFoundError(f"model '{name}' not found", 404)
        return _shown(found)

    async def first() -> bytes | dict[str, Any]:
        return await first_of(await context.upstreams.choose(name), ask)

    return json(await unless_left(request, first(), to_problem(called)))


async def systemone(request: Request) -> Response:
    """``POST /v1/systemone``, which Ollama's clients know and OpenAI's do not."""
    context = context_of(request)
    body, given = await body_of(request, NamedBody)
    called = await _called(context, body)
    name, caller = target(context, called), caller_of(request.scope)

    async def ask(upstream: Upstream, backend: Backend) -> bytes:
        async with context.upstreams.turn(upstream, caller.key, caller.priority):
            return await upstream.client.pass_on("POST", "/v1/systemone", {**given, "model": name}, by_model=True)

    async def first() -> dict[str, Any]:
        return object_of(await first_of(await context.upstreams.choose(name), ask))

    return json({**await unless_left(request, first(), to_problem(called)), "model": called})


def _shown(model: ListedModel) -> dict[str, Any]:
    """What can be said of a model of a server that says little: that it completes, and may be handed tools."""
    return {
        "details": _details(model.details),
        "model_info": {"general.architecture": "unknown"},  # `ollama show` cannot do without
        "capabilities": ["completion", "tools"],
        "modified_at": _time(model.modified_at),
    }


async def _called(context: GatewayContext, body: NamedBody) -> str:
    called = body.called()
    if not called:
        raise ProblemError(400, "model is required")
    await check_name(context, called)
    return called


# -- keeping models ----------------------------------------------------------------------------------------------------


async def pull(request: Request) -> Answer:
    """``POST /api/pull``: an alias means the model that it stands for."""
    return await _work(request, "pull", resolve=True)


async def push(request: Request) -> Answer:
    """``POST /api/push``."""
    return await _work(request, "push")


async def create(request: Request) -> Answer:
    """``POST /api/create``: of models and blobs; of files on the model server's machine only where that is allowed."""
    return await _work(request, "create")


async def _work(request: Request, operation: str, *, resolve: bool = False) -> Answer:
    context = context_of(request)
    body, given = await body_of(request, NamedBody)
    called = await _called(context, body)
    if operation == "create" and not context.settings.local_files:
        check_no_files(given)
    name = target(context, called) if resolve else called
    told = to_problem(called, 500)
    try:
        upstream, _ = await manager(context, name if operation == "push" else "")
        sent = {**given, "model": name, "stream": True}  # always, so that it can be stopped
        run = context.start_work(upstream, operation, sent, caller_of(request.scope))
    except (errors.TailraceError, ProblemError) as error:
        raise told(error) from error
    headers = {"X-Run-Id": run.id}
    if body.stream is False:
        reply = await whole(request, run, told)
        return json({"status": reply.reason}, headers)
    source = Source(Feed(run.log, ProgressWire()))
    stream = EventStream(
        run, source, stream_settings=context.settings.stream_settings, headers=headers.items(), medium=LINES
    )
    return DeferredHeadResponse(run, stream, (Progress,), patience=float("inf"), to_problem=told)


async def delete(request: Request) -> Response:
    """``DELETE /api/delete``: of an alias nothing is deleted."""
    context = context_of(request)
    body, given = await body_of(request, NamedBody)
    called = await _called(context, body)

    async def ask() -> bytes:
        upstream, _ = await manager(context, called)
        return await upstream.client.pass_on("DELETE", "/api/delete", {**given, "model": called})

    await unless_left(request, ask(), to_problem(called))
    return Response()


async def copy(request: Request) -> Response:
    """``POST /api/copy``."""
    context = context_of(request)
    body, given = await body_of(request, CopyBody)
    for name in (body.source, body.destination):
        await check_name(context, name)
    source = target(context, body.source)

    async def ask() -> bytes:
        upstream, _ = await manager(context, source)
        return await upstream.client.pass_on("POST", "/api/copy", {**given, "source": source})

    await unless_left(request, ask(), to_problem(body.source, missing='model "{}" not found'))
    return Response()


# -- blobs -------------------------------------------------------------------------------------------------------------


async def blob(request: Request) -> Response:
    """``HEAD`` and ``POST /api/blobs/{digest}``: a file, which is passed on as it comes."""
    digest = request.path_params["digest"]
    if _DIGEST.fullmatch(digest) is None:
        raise ProblemError(400, "invalid digest format")
    context, path = context_of(request), f"/api/blobs/{digest}"
    told = to_problem("")
    try:
        upstream, backend = await manager(context)
        there = await _is_there(upstream.client, path)
        if request.method == "POST" and not there:
            await _upload(request, backend, path, context.settings.body_time)
            return Response(status_code=201)
    except errors.TailraceError as error:
        raise told(error) from error
    return Response(status_code=200 if there else 404)


async def _is_there(client: AsyncClient, path: str) -> bool:
    try:
        await client.pass_on("HEAD", path)
    except errors.ResponseError as error:
        if error.status_code != 404:
            raise
        return False
    return True


async def _upload(request: Request, backend: Backend, path: str, patience: float) -> None:
    """Passes a body on; stops when the client leaves, also while the upstream looks at what it got."""
    parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)

    async def listen() -> None:
        more = True
        while more:
            async with asyncio.timeout(patience):
                message = await request.receive()
            if message["type"] == "http.disconnect":
                return
            await parts.put(message.get("body", b""))
            more = message.get("more_body", False)
        await parts.put(None)
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async def content() -> AsyncIterator[bytes]:
        while (part := await parts.get()) is not None:
            if part:
                yield part

    listener = asyncio.ensure_future(listen())
    call = asyncio.ensure_future(backend.call("POST", path, content()))
    try:
        await asyncio.wait({listener, call}, return_when=asyncio.FIRST_COMPLETED)
        if call.done():
            call.result()
            return
        listener.result()
        raise ClientDisconnect
    except TimeoutError:
        raise ProblemError(408, f"nothing came for {patience:g} s", headers={"Connection": "close"}) from None
    finally:
        for task in (listener, call):
            task.cancel()
        await asyncio.wait({listener, call})


ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "GET", "/api/tags", tags, "List the models of all upstreams as Ollama does.", gives=dict, errors=FAULTS
        ),
        Endpoint(
            "GET",
            "/api/ps",
            ps,
            "List the models that are loaded as Ollama does.",
            gives=dict,
            errors=FAULTS,
        ),
        Endpoint(
            "GET",
            "/api/version",
            version,
            "Tell the version of Ollama's API.",
            gives=dict,
            errors=FAULTS,
        ),
        Endpoint(
            "POST",
            "/api/show",
            show,
            "Show a model as Ollama does.",
            takes=NamedBody,
            gives=dict,
            errors=FAULTS,
        ),
        Endpoint(
            "POST",
            "/v1/systemone",
            systemone,
            "Judge a state as Ollama does.",
            takes=NamedBody,
            gives=dict,
            errors=FAULTS,
            error_form=openai.ERRORS,
        ),
        Endpoint(
            "POST",
            "/api/pull",
            pull,
            "Have an Ollama upstream pull a model.",
            takes=NamedBody,
            gives=dict,
            streams=STREAM,
            errors=FAULTS,
            access="admin",
        ),
        Endpoint(
            "POST",
            "/api/push",
            push,
            "Have an Ollama upstream push a model.",
            takes=NamedBody,
            gives=dict,
            streams=STREAM,
            errors=FAULTS,
            access="admin",
        ),
        Endpoint(
            "POST",
            "/api/create",
            create,
            "Have an Ollama upstream make a model.",
            takes=NamedBody,
            gives=dict,
            streams=STREAM,
            errors=FAULTS,
            access="admin",
        ),
        Endpoint(
            "POST",
            "/api/copy",
            copy,
            "Have an Ollama upstream copy a model.",
            takes=CopyBody,
            errors=FAULTS,
            access="admin",
        ),
        Endpoint(
            "DELETE",
            "/api/delete",
            delete,
            "Have an Ollama upstream delete a model.",
            takes=NamedBody,
            errors=FAULTS,
            access="admin",
        ),
        Endpoint("POST", "/api/blobs/{digest}", blob, access="admin"),
        Endpoint("HEAD", "/api/blobs/{digest}", blob),
    ),
    root="/api",
    error_form=ERRORS,
)
