"""The OpenAI-compatible backend: vLLM, llama-server, LM Studio, and whatever else serves `/v1/chat/completions`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from tailrace import errors
from tailrace.backends.base import WireExchange, open_patiently, raise_for_status
from tailrace.backends.openai_continuing import continued
from tailrace.backends.openai_dialects import LLAMA, Server
from tailrace.backends.silence import SilenceWatch
from tailrace.events import Queued
from tailrace.protocols.faults import figure
from tailrace.protocols.openai.decode import ChunkDecoder
from tailrace.protocols.openai.from_ollama import messages_from_ollama
from tailrace.run.exchange import Exchange, Opener, Report
from tailrace.run.state import Signal
from tailrace.transport.http_client import Http, HttpExchange
from tailrace.types import (
    ChatRequest,
    ContinueRequest,
    EmbedResponse,
    GenerateRequest,
    ListedModel,
    ListResponse,
    ProcessResponse,
    ShowResponse,
)

__all__ = ["OpenAIBackend"]

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

_ALWAYS: dict[str, Any] = {"stream_options": {"include_usage": True}}

# Ollama's option names that this protocol has too; the last ones are what local servers take beyond OpenAI's.
_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "num_predict": "max_tokens",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "top_k": "top_k",
    "min_p": "min_p",
    "typical_p": "typical_p",
}
# Options that mean a way of loading a model; there is nothing to pass on.
_LOAD_OPTIONS = {"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "num_keep", "repeat_last_n"}

_OLLAMAS = ("truncate", "options", "keep_alive")  # members of a request for embeddings that are Ollama's
_REFUSALS = (400, 422, 501)  # statuses of requests that may be taken in another form
_FORMS = 6  # in which a request is tried at most; a strict server names one member at a time
# Seconds between two looks at its slots: llama-server notices that a client has left in a second without requests only.
_SLOTS_EVERY = 3.0


class _Model(msgspec.Struct):
    id: str = ""
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


class _Slot(msgspec.Struct):
    is_processing: bool = False


class _Row(msgspec.Struct):
    embedding: list[float]
    index: Any = 0


class _Embeddings(msgspec.Struct):
    data: list[_Row]
    usage: Any = None


class OpenAIBackend:
    """Talks to an OpenAI-compatible server. Always streams on the wire, so that every answer can be stopped."""

    kind = "openai"

    def __init__(self, http: Http) -> None:
        self._http = http
        self._owner: str | None = None
        self._server = Server(f"{http.base}/")
        self.url = f"openai:{http.base}"

    def way(self) -> str:
        """Returns ``through the proxy …`` if one stands before the server, else nothing."""
        return self._http.way()

    def with_headers(self, headers: Mapping[str, str | None]) -> OpenAIBackend:
        """Returns one whose requests carry these headers too; None takes one away."""
        changed = copy.copy(self)
        changed._http = self._http.with_headers(headers)
        return changed

    def chat(self, request: ChatRequest, **more: Any) -> Opener:
        """Returns what opens a chat; `more` are members of the request that only some servers know."""
        body: dict[str, Any] = {"model": request.model, "messages": messages_from_ollama(request.messages or [])}
        if request.tools:
            body["tools"] = request.tools
        body |= _probabilities(request) | self._settings(request)
        return self._opener("/chat/completions", body, request, more)

    def continue_chat(self, request: ContinueRequest) -> Opener:
        """Returns what opens the rest of an answer."""
        return continued(self, request)

    async def server(self, report: Report) -> str:
        """Returns what the server is, by whom its models belong to; empty if it does not say."""
        if self._owner is None:
            try:
                models = (await self._json("GET", "/models", _Models, report=report)).data
            except (errors.ResponseError, errors.ProtocolError):
                return ""
            self._server.listed({model.owned_by or "" for model in models})
            self._owner = next((model.owned_by for model in models if model.owned_by), "")
        return self._owner.lower()

    def generate(self, request: GenerateRequest) -> Opener:
        """Returns what opens a completion. With a system prompt or images it is a chat of one message."""
        if request.images or request.system:
            messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
            messages.append({"role": "user", "content": request.prompt or "", "images": request.images})
            body: dict[str, Any] = {"model": request.model, "messages": messages_from_ollama(messages)}
            body |= _probabilities(request) | self._settings(request)
            return self._opener("/chat/completions", body, request)
        body = {"model": request.model, "prompt": request.prompt or ""}
        if request.suffix:
            body["suffix"] = request.suffix
        if request.logprobs:
            body["logprobs"] = request.top_logprobs or 1  # older than the chat's: the number of alternatives
        body |= self._settings(msgspec.structs.replace(request, think=None))
        return self._opener("/completions", body, request)

    def _settings(self, request: ChatRequest | GenerateRequest) -> dict[str, Any]:
        """Returns what chats and completions have in common."""
        settings = self._server.thinking(request.think) | _format(request.format) | _options(request.options)
        if "repeat_penalty" in settings:
            settings |= self._server.repeating(settings.pop("repeat_penalty"))
        return settings

    def progress(self, operation: str, body: dict[str, Any]) -> Opener:
        """This protocol has no such thing."""

        async def open(report: Report) -> Exchange:
            raise self._cannot(operation)

        return open

    def _opener(
        self,
        path: str,
        body: dict[str, Any],
        request: ChatRequest | GenerateRequest,
        more: dict[str, Any] | None = None,
    ) -> Opener:
        for given in (request.openai_body, request.extra_body, more):
            body = _joined(body, given or {})

        async def open(report: Report) -> Exchange:
            exchange = None
            try:
                async with SilenceWatch(self._queued, report, _SLOTS_EVERY):
                    exchange = await open_patiently(lambda: self._send(path, body, report), report)
            except BaseException:
                if exchange is not None:  # cancelled when it stood already, while the watch was ending
                    exchange.abort()
                raise
            return WireExchange(exchange, ChunkDecoder(), "text/event-stream")

        return open

    async def _send(self, path: str, body: dict[str, Any], report: Report) -> HttpExchange:
        """Sends a request in the form that the server takes, in another one if it refuses a member of it."""
        server = self._server
        asked = server.shaped(_joined(_ALWAYS, {**body, "stream": True}))
        changes: list[str] = []
        while True:
            report.way = self._http.way
            report(Signal.CONNECT)
            exchange = await self._http.open(
                "POST", path, _encode(asked), headers=report.headers, connected=lambda: report(Signal.SENT)
            )
            server.answered(exchange.headers)
            if exchange.status not in _REFUSALS:
                if exchange.status < 400:
                    server.refused(changes)
                return exchange
            other = server.otherwise(asked, await exchange.read_error()) if len(changes) < _FORMS else None
            if other is None:
                return exchange
            exchange.abort()
            change, asked = other
            changes.append(change)

    async def _queued(self) -> Queued | None:
        """Tells whether a server that is silent has too much to do, where it says so: llama-server sends no head."""
        if self._server.dialect.name == "":
            await self.list()
        if self._server.dialect is not LLAMA:
            return None
        slots = await self._json("GET", f"{self._http.base.removesuffix('/v1')}/slots", list[_Slot])
        return Queued() if slots and all(slot.is_processing for slot in slots) else None

    async def list(self) -> ListResponse:
        """Returns the models that the server has."""
        models = (await self._json("GET", "/models", _Models)).data
        self._server.listed({model.owned_by or "" for model in models})
        return ListResponse([ListedModel(model=model.id, name=model.id) for model in models if model.id])

    async def ps(self) -> ProcessResponse:
        """This protocol does not tell."""
        raise self._cannot("ps")

    async def show(self, model: str) -> ShowResponse:
        """This protocol does not tell."""
        raise self._cannot("show")

    async def version(self) -> str:
        """This protocol does not tell."""
        raise self._cannot("version")

    async def embed(self, body: dict[str, Any]) -> EmbedResponse:
        """Returns embeddings."""
        request = {name: value for name, value in body.items() if value is not None and name not in _OLLAMAS}
        parsed = await self._json("POST", "/embeddings", _Embeddings, request)
        return EmbedResponse(
            model=str(body.get("model", "")),
            embeddings=[row.embedding for row in sorted(parsed.data, key=lambda row: figure(row.index) or 0)],
            prompt_eval_count=figure(parsed.usage.get("prompt_tokens")) if isinstance(parsed.usage, dict) else None,
        )

    async def call(self, method: str, path: str, body: Any = None) -> bytes:
        """This protocol has none of Ollama's other calls."""
        raise self._cannot(path.rpartition("/")[2])

    async def _json(self, method: str, path: str, kind: type[T], body: Any = None, report: Report | None = None) -> T:
        payload = None if body is None else _encode(body)
        if report is None:
            exchange = await self._http.open(method, path, payload)
        else:  # it is asked in a run, which has its limits
            report.way = self._http.way
            report(Signal.CONNECT)
            exchange = await self._http.open(method, path, payload, connected=lambda: report(Signal.SENT))
        self._server.answered(exchange.headers)
        try:
            await raise_for_status(exchange)
            data = await exchange.read_all()
        finally:
            exchange.abort()
        try:
            return msgspec.json.decode(data, type=kind)
        except (ValueError, RecursionError) as error:
            shown = data[:200].decode("utf-8", "replace")
            message = f"{self.url} answered with something that is not OpenAI's protocol ({error}): {shown!r}"
            raise errors.ProtocolError(message) from error

    def _cannot(self, operation: str) -> errors.UnsupportedError:
        message = f"{self.url} speaks OpenAI's protocol, which has no {operation!r}"
        return errors.UnsupportedError(message, 501, hint="use the server's own tools, or an Ollama upstream")


def _probabilities(request: ChatRequest | GenerateRequest) -> dict[str, Any]:
    if not request.logprobs:
        return {}
    return {"logprobs": True, **({"top_logprobs": request.top_logprobs} if request.top_logprobs else {})}


def _joined(body: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Returns a body with other members; those that are sets of switches keep what the others do not set."""
    joined = {**body, **given}
    for name in ("chat_template_kwargs", "stream_options"):
        if isinstance(ours := body.get(name), dict) and isinstance(theirs := given.get(name), dict):
            joined[name] = {**ours, **theirs}
    return joined


def _format(format: Any) -> dict[str, Any]:
    if not format:
        return {}
    if format == "json":
        return {"response_format": {"type": "json_object"}}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": format}}}


def _options(options: dict[str, Any] | None) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name in _LOAD_OPTIONS or (name == "num_predict" and isinstance(value, int) and value < 0):
            continue
        out[_OPTIONS.get(name, name)] = value
    return out
