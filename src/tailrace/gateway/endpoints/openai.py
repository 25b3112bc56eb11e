"""``/v1/*``: OpenAI's API, over whatever the upstream speaks. What `docs/gateway.md` says of it."""

from __future__ import annotations

import array
import base64
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import context_of
from tailrace.gateway.endpoint import EVENTS, RUN, Endpoint, EndpointTable
from tailrace.gateway.endpoints import model_list
from tailrace.gateway.endpoints.answering import DeferredHeadResponse, unless_left, whole
from tailrace.gateway.endpoints.body import read_body
from tailrace.gateway.endpoints.encoders import CHUNKS
from tailrace.gateway.error_form import ErrorForm, text_of
from tailrace.gateway.model_options import options_for
from tailrace.gateway.responses import Answer as Reply
from tailrace.gateway.responses import json
from tailrace.protocols.openai.encode import (
    Answer,
    ChatWire,
    CompletionWire,
    Said,
    error_json,
    whole_chat,
    whole_completion,
)
from tailrace.protocols.openai.requests import (
    ChatBody,
    CompletionBody,
    EmbeddingsBody,
    embeddings_of,
    read,
    run_request_of_chat,
    run_request_of_completion,
)
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest
from tailrace.run.run import Run
from tailrace.types import ListedModel
from tailrace.web.asgi import EventStream
from tailrace.web.source import Feed, Source, Wire

__all__ = ["ENDPOINTS", "ERRORS"]


class OpenAIFault(msgspec.Struct, kw_only=True):
    """What went wrong, as OpenAI's clients have it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(msgspec.Struct, kw_only=True):
    """An error of OpenAI's API."""

    error: OpenAIFault


def _error(error: ProblemError) -> bytes:
    more = {name: error.more[name] for name in ("param", "code") if name in error.more}
    return error_json(text_of(error), error.status, **more)


ERRORS = ErrorForm("application/json", OpenAIError, _error)
"""OpenAI's error object."""


async def chat(request: Request) -> Reply:
    """``POST /v1/chat/completions``."""
    body, given = read(await read_body(request), ChatBody)
    wire = (lambda answer: ChatWire(answer, usage=body.wants_usage)) if body.stream else None
    asked = run_request_of_chat(body, given, openai=await _speaks_it(request))
    return await _answer(request, asked, wire, whole_chat, functions=bool(body.functions))


async def completion(request: Request) -> Reply:
    """``POST /v1/completions``."""
    body, given = read(await read_body(request), CompletionBody)
    wire = (lambda answer: CompletionWire(answer, usage=body.wants_usage)) if body.stream else None
    asked = run_request_of_completion(body, given, openai=await _speaks_it(request))
    return await _answer(request, asked, wire, whole_completion)


async def _speaks_it(request: Request) -> bool:
    """Returns whether an upstream speaks this protocol too."""
    for upstream in context_of(request).upstreams.all:
        backend = upstream.client.known_backend() or await upstream.client.backend()
        if backend.kind == "openai":
            return True
    return False


async def _answer(
    request: Request,
    asked: RunRequest,
    wire: Callable[[Answer], Wire] | None,
    make: Callable[[Answer, Said], bytes],
    *,
    functions: bool = False,
) -> Reply:
    """Starts a run and answers with it. Its client cannot come back, so that its leaving stops the model at once.

    Args:
        wire: encodes the stream; None if it is to be one object.
        make: makes that.
        functions: calls are told as those of functions, the form that is older than tools.
    """
    context = context_of(request)
    model = asked.model
    run, _ = await context.start(asked, caller_of(request.scope), linger=0.0)
    created = int(context.runs.created(run.id))
    answer = Answer(run=run.id, created=created, model=model, functions=functions)
    if wire is None:
        return await _whole(request, run, answer, make)
    source = Source(Feed(run.log, wire(answer)))
    headers = [("X-Run-Id", run.id)]
    return DeferredHeadResponse(
        run, EventStream(run, source, stream_settings=context.settings.stream_settings, headers=headers, medium=CHUNKS)
    )


async def _whole(request: Request, run: Run, answer: Answer, make: Callable[[Answer, Said], bytes]) -> Response:
    said = make(answer, await whole(request, run))
    return Response(said, 200, {"Cache-Control": "no-store", "X-Run-Id": run.id}, "application/json")


async def retrieve(request: Request) -> Response:
    """``GET /v1/chat/completions/{id}``: any run, whichever protocol started it, once it has ended."""
    context = context_of(request)
    id = request.path_params["id"].removeprefix("chatcmpl-").removeprefix("run_")
    run = context.runs.get(f"run_{id}", caller_of(request.scope).owner)
    answer = Answer(run=run.id, created=int(context.runs.created(run.id)), model=run.model)
    return await _whole(request, run, answer, whole_chat)


# -- models ------------------------------------------------------------------------------------------------------------


def _model(model: ListedModel, started: float) -> dict[str, Any]:
    created = int(model.modified_at.timestamp() if model.modified_at is not None else started)
    return {"id": model_list.name_of(model), "object": "model", "created": created, "owned_by": "tailrace"}


async def models(request: Request) -> Response:
    """``GET /v1/models``."""
    context = context_of(request)
    found = await unless_left(request, model_list.listed(context))
    return json({"object": "list", "data": [_model(model, context.started) for model in found]})


async def model(request: Request) -> Response:
    """``GET /v1/models/{id}``."""
    context = context_of(request)
    name = request.path_params["id"]
    found = model_list.find(await unless_left(request, model_list.listed(context)), name)
    if found is None:
        raise ProblemError(404, f"model {name!r} not found", param="model", code="model_not_found")
    return json({**_model(found, context.started), "id": name})


# -- embeddings --------------------------------------------------------------------------------------------------------


async def embeddings(request: Request) -> Response:
    """``POST /v1/embeddings``."""
    context = context_of(request)
    body, given = read(await read_body(request), EmbeddingsBody)
    model, caller = body.model, caller_of(request.scope)

    async def embed() -> Any:
        name = await context.meant(model)
        able = [(each, await each.client.backend()) for each in await context.upstreams.choose(name)]
        upstream, backend = able[0]
        if not _texts(body):  # tokens, which only a server of this protocol takes
            upstream, backend = next((each for each in able if each[1].kind == "openai"), able[0])
        asked = embeddings_of(body, given, openai=backend.kind == "openai")
        if backend.kind != "openai":
            asked["options"] = options_for(context.settings.model_options, name, None, alias=model)
        async with context.upstreams.turn(upstream, caller.key, caller.priority):
            return await upstream.client.embed_body({"model": name, **asked})

    told = await unless_left(request, embed())
    shown: Callable[[Sequence[float]], Any] = _packed if body.encoding_format == "base64" else list
    rows = [
        {"object": "embedding", "index": index, "embedding": shown(row)} for index, row in enumerate(told.embeddings)
    ]
    answer: dict[str, Any] = {"object": "list", "data": rows, "model": body.model}
    if told.prompt_eval_count:
        answer["usage"] = {"prompt_tokens": told.prompt_eval_count, "total_tokens": told.prompt_eval_count}
    return json(answer)


def _texts(body: EmbeddingsBody) -> bool:
    return isinstance(body.input, str) or all(isinstance(text, str) for text in body.input or ())


def _packed(row: Sequence[float]) -> str:
    """Returns numbers as base64 of little-endian floats of 32 bits."""
    numbers = array.array("f", row)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode()


ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "POST",
            "/v1/chat/completions",
            chat,
            "Answer a chat as OpenAI's API does.",
            takes=ChatBody,
            gives=dict,
            streams=EVENTS,
            errors=RUN,
        ),
        Endpoint(
            "GET",
            "/v1/chat/completions/{id}",
            retrieve,
            "Show the answer of a run that has ended, or wait for its end.",
            gives=dict,
            errors=RUN,
            node="owner of the run",
        ),
        Endpoint(
            "POST",
            "/v1/completions",
            completion,
            "Complete a text as OpenAI's API does.",
            takes=CompletionBody,
            gives=dict,
            streams=EVENTS,
            errors=RUN,
        ),
        Endpoint(
            "POST",
            "/v1/embeddings",
            embeddings,
            "Embed texts as OpenAI's API does.",
            takes=EmbeddingsBody,
            gives=dict,
            errors=RUN,
        ),
        Endpoint("GET", "/v1/models", models, "List the models as OpenAI's API does.", gives=dict, errors=RUN),
        Endpoint("GET", "/v1/models/{id:path}", model, "Show a model as OpenAI's API does.", gives=dict, errors=RUN),
    ),
    root="/v1",
    error_form=ERRORS,
)
