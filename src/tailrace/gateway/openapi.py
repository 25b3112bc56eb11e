"""``/openapi.json``: the interface, generated from the types that the routes take and give."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tailrace._version import __version__
from tailrace.gateway.conversations.service import Turn
from tailrace.gateway.conversations.values import Conversation
from tailrace.gateway.endpoints.conversations import Change, Listed, Turned
from tailrace.gateway.endpoints.models import Models
from tailrace.gateway.endpoints.queue import Queues
from tailrace.gateway.endpoints.render import Rendered, Texts
from tailrace.gateway.endpoints.runs import Described, RunList
from tailrace.protocols.aisdk import requests as aisdk_requests
from tailrace.protocols.ollama import requests as ollama_requests
from tailrace.protocols.openai import requests as openai_requests
from tailrace.protocols.problems import MEDIA_TYPE, Problem
from tailrace.protocols.runs.requests import RunRequest
from tailrace.web.stopping import Stopped

__all__ = ["document", "openapi_route"]


class Health(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All is well."""

    status: str
    upstream: str = ""
    version: str = ""


class OpenAIFault(msgspec.Struct, kw_only=True):
    """What went wrong, as OpenAI's clients have it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(msgspec.Struct, kw_only=True):
    """An error of OpenAI's API."""

    error: OpenAIFault


class OllamaError(msgspec.Struct, kw_only=True):
    """An error of Ollama's API."""

    error: str


class _Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path.

    Attributes:
        takes: the type of its JSON body.
        gives: the type of its JSON answer; a media type for another one; None for an empty one.
        query: its query parameters.
        headers: its header parameters.
        problems: the statuses of its problems.
        refusal: what a problem is there: a type of JSON, or a media type.
        optional: its body may be left out.
        streams: the media type of its streamed answer, if it may be streamed.
    """

    method: str
    path: str
    does: str
    status: int = 200
    gives: Any = None
    takes: Any = None
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    problems: tuple[int, ...] = ()
    refusal: Any = Problem
    also: tuple[int, ...] = ()
    optional: bool = False
    streams: str = ""


_EVENTS = "text/event-stream"
_UPSTREAM = (400, 404, 413, 501, 502, 503, 504)
_KEPT = (404, 503)
_RUNS = (*_UPSTREAM, 429, 499)
_TEXT = "text/plain"
_LINES = "application/x-ndjson"
_DOOR = (400, 401, 403)  # what any request may be told before a route sees it


def _ollama(method: str, path: str, does: str, takes: Any = None, **rest: Any) -> _Operation:
    """An operation of Ollama's API; a wrong option is a 500 there."""
    answer = {"gives": dict, "refusal": OllamaError, **rest}
    return _Operation(method=method, path=path, does=does, takes=takes, problems=(*_RUNS, 500), **answer)


_OLLAMA = (
    _ollama("post", "/api/chat", "Answer a chat as Ollama does.", ollama_requests.ChatBody, streams=_LINES),
    _ollama("post", "/api/generate", "Complete a prompt as Ollama does.", ollama_requests.GenerateBody, streams=_LINES),
    _ollama("post", "/api/embed", "Embed texts as Ollama does.", ollama_requests.EmbedBody),
    _ollama("post", "/api/embeddings", "Embed a text as Ollama did.", ollama_requests.EmbedBody),
    _ollama("get", "/api/tags", "List the models of all upstreams as Ollama does."),
    _ollama("get", "/api/ps", "List the models that are loaded as Ollama does."),
    _ollama("get", "/api/version", "Tell the version of Ollama's API."),
    _ollama("post", "/api/show", "Show a model as Ollama does.", ollama_requests.NamedBody),
    _ollama("post", "/v1/systemone", "Judge a state as Ollama does.", ollama_requests.NamedBody, refusal=OpenAIError),
    _ollama("post", "/api/pull", "Have an Ollama upstream pull a model.", ollama_requests.NamedBody, streams=_LINES),
    _ollama("post", "/api/push", "Have an Ollama upstream push a model.", ollama_requests.NamedBody, streams=_LINES),
    _ollama("post", "/api/create", "Have an Ollama upstream make a model.", ollama_requests.NamedBody, streams=_LINES),
    _ollama("post", "/api/copy", "Have an Ollama upstream copy a model.", ollama_requests.CopyBody, gives=None),
    _ollama("delete", "/api/delete", "Have an Ollama upstream delete a model.", ollama_requests.NamedBody, gives=None),
)

_OPERATIONS = (
    *_OLLAMA,
    _Operation(
        method="post",
        path="/chat/stream",
        does="Answer a message as the tutorial's server-sent events.",
        takes=RunRequest,
        optional=True,
        query=("message", "model", "system"),
        gives=_EVENTS,
        problems=_UPSTREAM,
    ),
    _Operation(
        method="post",
        path="/runs",
        does="Start a run.",
        takes=RunRequest,
        optional=True,
        query=("message", "model", "system"),
        headers=("Idempotency-Key",),
        status=201,
        also=(200,),
        gives=Described,
        problems=(*_UPSTREAM, 422),
    ),
    _Operation(
        method="get",
        path="/runs",
        does="List the runs, the newest first.",
        query=("state", "limit"),
        gives=RunList,
        problems=(400,),
    ),
    _Operation(method="get", path="/runs/{id}", does="Show a run.", gives=Described, problems=(404,)),
    _Operation(
        method="delete",
        path="/runs/{id}",
        does="Stop a run; answers when the backend has let go.",
        gives=Stopped,
        problems=(404,),
    ),
    _Operation(
        method="get",
        path="/runs/{id}/events",
        does="Read a run: what it has said after the cursor, then what it says.",
        query=("after", "follow", "render", "wire"),
        headers=("Last-Event-ID",),
        gives=_EVENTS,
        also=(204,),
        problems=(400, 404, 410),
    ),
    _Operation(
        method="get",
        path="/models",
        does="List the upstream's models.",
        gives=Models,
        problems=(400, 404, 413, 422, 501, 502, 503, 504),
    ),
    _Operation(
        method="post",
        path="/v1/chat/completions",
        does="Answer a chat as OpenAI's API does.",
        takes=openai_requests.ChatBody,
        gives=dict,
        streams=_EVENTS,
        problems=_RUNS,
        refusal=OpenAIError,
    ),
    _Operation(
        method="get",
        path="/v1/chat/completions/{id}",
        does="Show the answer of a run that has ended, or wait for its end.",
        gives=dict,
        problems=_RUNS,
        refusal=OpenAIError,
    ),
    _Operation(
        method="post",
        path="/v1/completions",
        does="Complete a text as OpenAI's API does.",
        takes=openai_requests.CompletionBody,
        gives=dict,
        streams=_EVENTS,
        problems=_RUNS,
        refusal=OpenAIError,
    ),
    _Operation(
        method="post",
        path="/v1/embeddings",
        does="Embed texts as OpenAI's API does.",
        takes=openai_requests.EmbeddingsBody,
        gives=dict,
        problems=_RUNS,
        refusal=OpenAIError,
    ),
    _Operation(
        method="get",
        path="/v1/models",
        does="List the models as OpenAI's API does.",
        gives=dict,
        problems=_RUNS,
        refusal=OpenAIError,
    ),
    _Operation(
        method="get",
        path="/v1/models/{id}",
        does="Show a model as OpenAI's API does.",
        gives=dict,
        problems=_RUNS,
        refusal=OpenAIError,
    ),
    _Operation(
        method="post",
        path="/ai/chat",
        does="Answer a chat as the AI SDK's UI message stream.",
        takes=aisdk_requests.ChatBody,
        gives=_EVENTS,
        problems=_RUNS,
        refusal=_TEXT,
    ),
    _Operation(
        method="get",
        path="/ai/chat/{id}/stream",
        does="Read the message under way from its start.",
        gives=_EVENTS,
        also=(204,),
    ),
    _Operation(
        method="delete",
        path="/ai/chat/{id}/stream",
        does="Stop the message under way; answers when the backend has let go.",
        gives=Stopped,
        problems=(404,),
        refusal=_TEXT,
    ),
    _Operation(
        method="post",
        path="/ai/chat/{id}/stop",
        does="Stop the message under way; answers when the backend has let go.",
        gives=Stopped,
        problems=(404,),
        refusal=_TEXT,
    ),
    _Operation(
        method="get",
        path="/conversations",
        does="List or search conversations, the one changed last first.",
        query=("q", "limit", "before"),
        gives=Listed,
        problems=(400, 503),
    ),
    _Operation(
        method="post",
        path="/conversations",
        does="Begin a conversation.",
        takes=Change,
        optional=True,
        status=201,
        gives=Conversation,
        problems=(400, 413, 503),
    ),
    _Operation(
        method="get", path="/conversations/{id}", does="Show a conversation.", gives=Conversation, problems=_KEPT
    ),
    _Operation(
        method="patch",
        path="/conversations/{id}",
        does="Change a conversation.",
        takes=Change,
        optional=True,
        gives=Conversation,
        problems=(400, 413, *_KEPT),
    ),
    _Operation(
        method="delete",
        path="/conversations/{id}",
        does="Delete a conversation; its runs are stopped.",
        status=204,
        problems=_KEPT,
    ),
    _Operation(
        method="get",
        path="/conversations/{id}/export",
        does="Take a conversation along, as Markdown or JSON.",
        query=("format",),
        gives="application/octet-stream",
        problems=(400, *_KEPT),
    ),
    _Operation(
        method="post",
        path="/conversations/{id}/turns",
        does="Ask, ask again, or have an interrupted answer go on.",
        takes=Turn,
        headers=("Idempotency-Key",),
        status=201,
        also=(200,),
        gives=Turned,
        problems=(*_UPSTREAM, 409, 422),
    ),
    _Operation(
        method="post",
        path="/render",
        does="Make safe HTML of Markdown.",
        takes=Texts,
        optional=True,
        gives=Rendered,
        problems=(400, 413),
    ),
    _Operation(method="get", path="/queue", does="Show what waits, for each upstream.", gives=Queues),
    _Operation(method="get", path="/healthz", does="Does the process live?", gives=Health),
    _Operation(method="get", path="/readyz", does="Are new runs taken?", gives=Health, problems=(503,)),
    _Operation(method="get", path="/metrics", does="Figures for Prometheus.", gives="text/plain"),
)


@functools.cache
def document() -> dict[str, Any]:
    """Returns the OpenAPI document, as JSON types."""
    told = (kind for each in _OPERATIONS for kind in (each.gives, each.takes, each.refusal))
    ordered = sorted(
        {kind for kind in told if isinstance(kind, type)}, key=lambda kind: (kind.__name__, kind.__module__)
    )
    schemas, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    by_kind = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, Any] = {}
    for each in _OPERATIONS:
        paths.setdefault(each.path, {})[each.method] = _described(each, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {"title": "tailrace", "version": __version__, "description": "The streaming layer for local models."},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],  # where the server has keys
    }


def _described(each: _Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"summary": each.does, "responses": {}}
    parameters = [_parameter("query", name) for name in each.query]
    parameters += [_parameter("header", name) for name in each.headers]
    if 429 in each.problems:
        parameters.append({**_parameter("header", "X-Priority"), "schema": {"enum": ["interactive", "batch"]}})
    if "{id}" in each.path:
        parameters.append({**_parameter("path", "id"), "required": True})
    if parameters:
        told["parameters"] = parameters
    if each.takes is not None:
        content = {"application/json": {"schema": schemas[each.takes]}}
        told["requestBody"] = {"required": not each.optional, "content": content}
    for status in (each.status, *each.also):
        told["responses"][str(status)] = _response(each, schemas, empty=status == 204)
    for status in sorted({*each.problems, *_DOOR}):
        told["responses"][str(status)] = {"description": "A problem.", "content": _refusal(each, schemas)}
    return told


def _refusal(each: _Operation, schemas: dict[Any, Any]) -> dict[str, Any]:
    if isinstance(each.refusal, str):
        return {each.refusal: {"schema": {"type": "string"}}}
    return {MEDIA_TYPE if each.refusal is Problem else "application/json": {"schema": schemas[each.refusal]}}


def _parameter(where: str, name: str) -> dict[str, Any]:
    return {"name": name, "in": where, "schema": {"type": "string"}}


def _response(each: _Operation, schemas: dict[Any, Any], *, empty: bool) -> dict[str, Any]:
    if empty or each.gives is None:
        return {"description": "Done."}
    if isinstance(each.gives, str):
        # Of a stream of events this version of OpenAPI has no schema.
        told: dict[str, Any] = {} if each.gives == _EVENTS else {"schema": {"type": "string"}}
        return {"description": "Done.", "content": {each.gives: told}}
    content: dict[str, Any] = {"application/json": {"schema": schemas[each.gives]}}
    if each.streams:
        content[each.streams] = {}
    return {"description": "Done.", "content": content}


async def _serve(_request: Request) -> Response:
    return Response(msgspec.json.encode(document()), media_type="application/json")


def openapi_route() -> Route:
    """Returns the route."""
    return Route("/openapi.json", _serve)
