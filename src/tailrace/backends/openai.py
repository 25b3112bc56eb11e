"""The OpenAI-compatible backend: vLLM, llama-server, LM Studio, and whatever else serves `/v1/chat/completions`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from tailrace import errors
from tailrace.backends.base import WireExchange, open_patiently, raise_for_status
from tailrace.backends.openai_continuing import continued
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

# Ollama's option names that this protocol has too; the second group is what vLLM and llama.cpp take beyond OpenAI's.
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
    "repeat_penalty": "repeat_penalty",
}
# Options that mean a way of loading a model; there is nothing to pass on.
_LOAD_OPTIONS = {"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "num_keep", "repeat_last_n"}


class _Model(msgspec.Struct):
    id: str = ""
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model] = []


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
        if request.logprobs:
            body["logprobs"] = True
            if request.top_logprobs:
                body["top_logprobs"] = request.top_logprobs
        body |= _think(request.think) | _format(request.format) | _options(request.options)
        return self._opener("/chat/completions", body | more)

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
            self._owner = next((model.owned_by for model in models if model.owned_by), "")
        return self._owner.lower()

    def generate(self, request: GenerateRequest) -> Opener:
        """Returns what opens a completion. With a system prompt or images it is a chat of one message."""
        if request.images or request.system:
            messages: list[dict[str, Any]] = [{"role": "system", "content": request.system}] if request.system else []
            messages.append({"role": "user", "content": request.prompt or "", "images": request.images})
            body: dict[str, Any] = {"model": request.model, "messages": messages_from_ollama(messages)}
            body |= _think(request.think) | _format(request.format) | _options(request.options)
            return self._opener("/chat/completions", body)
        body = {"model": request.model, "prompt": request.prompt or ""}
        if request.suffix:
            body["suffix"] = request.suffix
        body |= _format(request.format) | _options(request.options)
        return self._opener("/completions", body)

    def progress(self, operation: str, body: dict[str, Any]) -> Opener:
        """This protocol has no such thing."""

        async def open(report: Report) -> Exchange:
            raise self._cannot(operation)

        return open

    def _opener(self, path: str, body: dict[str, Any]) -> Opener:
        payload = _encode({**body, "stream": True, "stream_options": {"include_usage": True}})

        async def open(report: Report) -> Exchange:
            async def send() -> HttpExchange:
                report.way = self._http.way
                report(Signal.CONNECT)
                return await self._http.open(
                    "POST", path, payload, headers=report.headers, connected=lambda: report(Signal.SENT)
                )

            return WireExchange(await open_patiently(send, report), ChunkDecoder(), "text/event-stream")

        return open

    async def list(self) -> ListResponse:
        """Returns the models that the server has."""
        models = (await self._json("GET", "/models", _Models)).data
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
        request = {name: body[name] for name in ("model", "input", "dimensions") if body.get(name) is not None}
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


def _think(think: bool | str | None) -> dict[str, Any]:
    if think is None:
        return {}
    if isinstance(think, str):
        return {"reasoning_effort": think}
    return {"chat_template_kwargs": {"enable_thinking": think}}


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
