"""``/api/chat``, ``/api/generate`` and embeddings: Ollama's API, over whatever the upstream speaks.

What `docs/gateway.md` says of it. What Ollama's clients do with models is in `ollama_models`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace import errors
from tailrace.backends.base import Backend
from tailrace.backends.embedded.models import is_name
from tailrace.client.aio import AsyncClient
from tailrace.gateway import responses
from tailrace.gateway.access import limits
from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import GatewayContext, context_of
from tailrace.gateway.endpoint import RUN, Endpoint, EndpointTable
from tailrace.gateway.endpoints import model_list
from tailrace.gateway.endpoints.answering import DeferredHeadResponse, unless_left, whole
from tailrace.gateway.endpoints.body import read_body
from tailrace.gateway.endpoints.encoders import LINES, on_ollama, timed
from tailrace.gateway.endpoints.ollama_passthrough import first_of, object_of, target, to_problem
from tailrace.gateway.error_form import ErrorForm, text_of
from tailrace.gateway.model_options import options_for
from tailrace.gateway.responses import Answer
from tailrace.gateway.scheduling.upstreams import Upstream
from tailrace.protocols.ollama import encode as ollama_encode
from tailrace.protocols.ollama import requests as ollama_requests
from tailrace.protocols.ollama.encode import Lines
from tailrace.protocols.ollama.requests import ChatBody, EmbedBody, GenerateBody, OllamaAPIError, RunBody
from tailrace.protocols.problems import ProblemError
from tailrace.types import ChatRequest, GenerateRequest
from tailrace.web.asgi import EventStream
from tailrace.web.source import Feed, Source

__all__ = ["ENDPOINTS", "ERRORS", "FAULTS", "STREAM", "body_of", "check_name", "json"]

T = TypeVar("T")

_FOREVER = float("inf")
_JSON = "application/json; charset=utf-8"
STREAM = "application/x-ndjson"
FAULTS = (*RUN, 500)
"""The errors of a request of Ollama's API: of a wrong option it tells with a 500."""
# Options that older clients send and Ollama ignores; other servers would refuse them.
_IGNORED = frozenset(
    (
        *("numa", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock", "embedding_only", "num_gqa"),
        *("tfs_z", "mirostat", "mirostat_tau", "mirostat_eta", "penalize_newline"),
    )
)


class OllamaError(msgspec.Struct, kw_only=True):
    """An error of Ollama's API."""

    error: str


ERRORS = ErrorForm(_JSON, OllamaError, lambda error: ollama_encode.error_json(text_of(error)))
"""Ollama's object, of one member."""


def json(value: Any, headers: dict[str, str] | None = None) -> Response:
    """Returns a value, or JSON as it is, as Ollama answers."""
    return responses.json(value, headers=headers, media_type=_JSON)


async def body_of(request: Request, kind: type[T]) -> tuple[T, dict[str, Any]]:
    """Returns a request's body, as `kind` and as it is.

    Raises:
        ProblemError: it is too large, or not of that form.
    """
    body = await read_body(request)
    return _checked(lambda: ollama_requests.read(body, kind))


def _checked(check: Callable[[], T]) -> T:
    try:
        return check()
    except OllamaAPIError as fault:
        raise ProblemError(fault.status, fault.text) from fault


async def check_name(context: GatewayContext, name: str) -> None:
    """Makes sure that a name is one: of Ollama's grammar, or as an upstream lists it. A path is none.

    Raises:
        ProblemError: 400.
    """
    if is_name(name):
        return
    try:
        known = model_list.find(await model_list.listed(context), name)
    except errors.TailraceError:
        known = None
    if known is None:
        raise ProblemError(400, "invalid model name")


# -- chat and generate -------------------------------------------------------------------------------------------------


async def chat(request: Request) -> Answer:
    """``POST /api/chat``."""
    body, given = await body_of(request, ChatBody)
    if not body.model:
        raise ProblemError(400, "model is required")
    options = _checked(lambda: _options(body))
    await check_name(context_of(request), body.model)
    if not body.messages:
        return await _load(request, body, chat=True)
    messages = _checked(lambda: [_message(message) for message in given["messages"]])
    wanted = ChatRequest(messages=messages, tools=body.tools, **_rest(body, options, given))
    return await _answer(request, body, wanted, chat=True)


async def generate(request: Request) -> Answer:
    """``POST /api/generate``."""
    context = context_of(request)
    body, given = await body_of(request, GenerateBody)
    if not body.model:
        raise ProblemError(404, "model '' not found")
    options = _checked(lambda: _options(body))
    await check_name(context, body.model)
    if not body.prompt and not body.images and not body.suffix:
        return await _load(request, body, chat=False)
    images = _checked(lambda: ollama_requests.base64_of(body.images or [])) or None
    rest = _rest(body, options, given)
    if not body.raw and not body.suffix and await _only_chats(context, body):
        return await _answer(request, body, ChatRequest(messages=_as_messages(body, images), **rest), chat=False)
    completion = GenerateRequest(
        prompt=body.prompt,
        suffix=body.suffix,
        system=body.system,
        template=body.template,
        context=body.context,
        raw=body.raw,
        images=images,
        **rest,
    )
    return await _answer(request, body, completion, chat=False)


def _options(body: RunBody) -> dict[str, Any] | None:
    """Returns the options of a request; checks it besides, so far as that needs no model."""
    ollama_requests.check_run(body)
    ollama_requests.keep_alive(body.keep_alive, 0.0)
    options = {name: value for name, value in ollama_requests.options(body.options).items() if name not in _IGNORED}
    return options or None


def _rest(body: RunBody, options: dict[str, Any] | None, given: dict[str, Any]) -> dict[str, Any]:
    """Returns what chat and generate have in common, as it is sent on; always streamed, so that it can be stopped.

    Args:
        body: the request.
        options: its options.
        given: the same request, as it is: members that we do not know go on, for the upstream may know them.
    """
    known = body.__struct_fields__
    return {
        "extra_body": {name: value for name, value in given.items() if name not in known} or None,
        "model": body.model,
        "stream": True,
        "options": options,
        "format": body.format or None,
        "think": body.think,
        "keep_alive": body.keep_alive,
        "logprobs": body.logprobs,
        "top_logprobs": body.top_logprobs,
        "truncate": body.truncate,
        "shift": body.shift,
    }


def _message(given: dict[str, Any]) -> dict[str, Any]:
    message = {**given, "role": given["role"].lower()}
    if given.get("images"):
        message["images"] = ollama_requests.base64_of(given["images"])
    return message


async def _only_chats(context: GatewayContext, body: GenerateBody) -> bool:
    """Returns whether the upstream puts a prompt through the model's template as a chat only.

    Raises:
        ProblemError: 501: it cannot do what is asked.
    """
    upstream = (await context.upstreams.choose(target(context, body.model)))[0]
    try:
        if (await upstream.client.backend()).kind != "openai":
            return False
    except errors.TailraceError:
        return False  # the run finds out what is wrong
    for name in ("template", "context"):
        if getattr(body, name):
            raise ProblemError(501, f"the upstream speaks OpenAI's protocol, which has no {name}")
    return True


def _as_messages(body: GenerateBody, images: list[str] | None) -> list[dict[str, Any]]:
    system = [{"role": "system", "content": body.system}] if body.system else []
    return [*system, {"role": "user", "content": body.prompt or "", **({"images": images} if images else {})}]


async def _answer(request: Request, body: RunBody, wanted: ChatRequest | GenerateRequest, *, chat: bool) -> Answer:
    """Starts a run and answers with it. Its client cannot come back, so that its leaving stops the model at once."""
    context, name = context_of(request), body.model
    told = to_problem(name)
    try:
        run, _ = await context.start(wanted, caller_of(request.scope), linger=0.0)
    except ProblemError as error:
        raise told(error) from error
    headers = {"X-Run-Id": run.id}
    if body.stream is False:
        reply = await whole(request, run, told)
        lines = Lines(name, chat=chat, clock=time.time_ns)
        return json(ollama_encode.whole(lines, run.id, reply, timed(run, reply.usage)), headers)
    source = Source(Feed(run.log, on_ollama(run, chat=chat)))
    stream = EventStream(
        run, source, stream_settings=context.settings.stream_settings, headers=headers.items(), medium=LINES
    )
    return DeferredHeadResponse(run, stream, patience=_FOREVER, to_problem=told)


async def _load(request: Request, body: RunBody, *, chat: bool) -> Response:
    """A request that says nothing loads the model, or unloads it; nothing of it is a run."""
    context = context_of(request)
    name, caller = target(context, body.model), caller_of(request.scope)
    limits.check_options(body.options, context.settings.limits)
    unload = ollama_requests.keep_alive(body.keep_alive, 1.0) == 0.0
    options = options_for(context.settings.model_options, name, body.options, alias=body.model)
    sent = {"model": name, "stream": False, **_filled(keep_alive=body.keep_alive, options=options)}

    async def ask(upstream: Upstream, backend: Backend) -> str:
        if backend.kind == "openai":
            return await _stays(upstream, name, unload=unload)
        if unload:  # which the server does when it can, and answers at once
            return await say(upstream)
        async with context.upstreams.turn(upstream, caller.key, caller.priority):
            return await say(upstream)

    async def say(upstream: Upstream) -> str:
        path = "/api/chat" if chat else "/api/generate"
        told = object_of(await upstream.client.pass_on("POST", path, sent, by_model=True))
        return str(told.get("done_reason") or "load")

    async def all() -> str:
        upstreams = await context.upstreams.choose(name)
        holding = [each for each in upstreams if name in each.loaded] if unload else []
        for each in holding[1:]:
            await first_of([each], ask)
        return await first_of(holding[:1] or upstreams, ask)

    reason = await unless_left(request, all(), to_problem(body.model))
    return json(Lines(body.model, chat=chat, clock=time.time_ns).last(reason))


async def _stays(upstream: Upstream, name: str, *, unload: bool) -> str:
    """A server of OpenAI's protocol has its models or has them not."""
    if model_list.find((await upstream.ask(AsyncClient.list)).models, name) is None:
        raise errors.ModelNotFoundError(f"model '{name}' not found", 404)
    if unload:
        raise errors.UnsupportedError("the upstream speaks OpenAI's protocol, by which no model is unloaded", 501)
    return "load"


def _filled(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


# -- embeddings --------------------------------------------------------------------------------------------------------

_MISSING = 'model "{}" not found, try pulling it first'


async def embed(request: Request) -> Response:
    """``POST /api/embed``."""
    body, given = await body_of(request, EmbedBody)
    texts = [body.input] if isinstance(body.input, str) else body.input or []
    answer = await _embedded(request, body, given, texts)
    return json({**answer, "model": body.model})


async def embeddings(request: Request) -> Response:
    """``POST /api/embeddings``, which is older."""
    body, given = await body_of(request, EmbedBody)
    answer = await _embedded(request, body, given, [body.prompt] if body.prompt else [])
    if "embedding" in answer:
        return json({"embedding": answer["embedding"]})
    rows = answer.get("embeddings") or [[]]
    return json({"embedding": rows[0]})


async def _embedded(request: Request, body: EmbedBody, given: dict[str, Any], texts: list[str]) -> dict[str, Any]:
    context, path = context_of(request), request.url.path
    _checked(lambda: (ollama_requests.options(body.options), ollama_requests.keep_alive(body.keep_alive, 0.0)))
    if not body.model:
        raise ProblemError(404, _MISSING.format(""))
    limits.check_options(body.options, context.settings.limits)
    await check_name(context, body.model)
    name, caller = target(context, body.model), caller_of(request.scope)

    async def ask(upstream: Upstream, backend: Backend) -> dict[str, Any]:
        async with context.upstreams.turn(upstream, caller.key, caller.priority):
            return await embed_at(upstream, backend)

    async def embed_at(upstream: Upstream, backend: Backend) -> dict[str, Any]:
        if backend.kind != "openai":
            options = options_for(context.settings.model_options, name, body.options, alias=body.model)
            sent = {**given, "model": name, **_filled(options=options)}
            return object_of(await upstream.client.pass_on("POST", path, sent, by_model=True))
        if not any(texts):  # which that protocol refuses
            await _stays(upstream, name, unload=False)
            return {"model": name, "embeddings": []}
        began = time.perf_counter_ns()
        told = await upstream.client.embed(name, texts, dimensions=body.dimensions)
        figures = {
            "total_duration": time.perf_counter_ns() - began,
            **_filled(prompt_eval_count=told.prompt_eval_count),
        }
        return {"model": name, "embeddings": told.embeddings, **figures}

    async def first() -> dict[str, Any]:
        return await first_of(await context.upstreams.choose(name), ask)

    return await unless_left(request, first(), to_problem(body.model, missing=_MISSING))


ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "POST",
            "/api/chat",
            chat,
            "Answer a chat as Ollama does.",
            takes=ChatBody,
            gives=dict,
            streams=STREAM,
            errors=FAULTS,
        ),
        Endpoint(
            "POST",
            "/api/generate",
            generate,
            "Complete a prompt as Ollama does.",
            takes=GenerateBody,
            gives=dict,
            streams=STREAM,
            errors=FAULTS,
        ),
        Endpoint(
            "POST", "/api/embed", embed, "Embed texts as Ollama does.", takes=EmbedBody, gives=dict, errors=FAULTS
        ),
        Endpoint(
            "POST",
            "/api/embeddings",
            embeddings,
            "Embed a text as Ollama did.",
            takes=EmbedBody,
            gives=dict,
            errors=FAULTS,
        ),
    ),
    root="/api",
    error_form=ERRORS,
)
