"""A fake server that speaks OpenAI's protocol, in the dialects of those that people run."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from tailrace.testing import steps
from tailrace.testing.catalogue import Catalogue, FakeModel, embedding, full_name
from tailrace.testing.encoding import NO_FIELDS, dump
from tailrace.testing.records import Record
from tailrace.testing.server import FakeServer, Plan, refuse

__all__ = ["Dialect", "FakeOpenAI", "OpenAIRoutes"]

Dialect = Literal[
    "openai", "llamacpp", "ollama", "vllm", "sglang", "lmstudio", "localai", "textgen", "jan", "mlx", "koboldcpp"
]

# What `owned_by` says in each one's list of models; those that are missing here do not say it.
_OWNERS: dict[Dialect, str] = {
    "openai": "openai",
    "llamacpp": "llamacpp",
    "ollama": "library",
    "vllm": "vllm",
    "sglang": "sglang",
    "lmstudio": "organization_owner",
    "textgen": "user",
    "koboldcpp": "koboldcpp",
}

_GREETING = ("Hello", "!", " I", " am", " a", " fake", " model", ".")
_CREATED = 1_767_322_245


class OpenAIEncoder:
    """Chunks of `/v1/chat/completions` and `/v1/completions`."""

    def __init__(self, body: dict[str, Any], model: str, *, dialect: Dialect, chat: bool) -> None:
        self.stream = body.get("stream") is True
        self.content_type = "text/event-stream" if self.stream else "application/json"
        # llama.cpp sends its head once a slot is free; the others only with their first chunk.
        self.early_head = dialect == "llamacpp" and self.stream
        self.headers: tuple[tuple[str, str], ...] = ()
        if dialect == "llamacpp":
            self.headers = (("Server", "llama.cpp"), *((("X-Accel-Buffering", "no"),) if self.stream else ()))
        self._dialect = dialect
        self._chat = chat
        self._model = model
        self._id = {"llamacpp": "chatcmpl-" + "Ab3" * 10 + "Zz", "ollama": "chatcmpl-417"}.get(dialect, "chatcmpl-fake")
        self._usage_wanted = bool((body.get("stream_options") or {}).get("include_usage"))
        self._progress_wanted = dialect == "llamacpp" and body.get("return_progress") is True
        self._thinks = not _switched_off(dialect, body)
        self._prompt_tokens = len(json.dumps(body.get("messages") or body.get("prompt")).split())
        self._began = time.monotonic()
        self._first: float | None = None
        self._count = 0
        self._role_sent = False
        self._indices = itertools.count()
        self._called = False
        self._text: list[str] = []  # what a request without a stream collects
        self._thinking: list[str] = []
        self._calls: list[Any] = []
        self.indent: int | None = None

    # What the model says

    def say(self, text: str, *, thinking: bool, fields: Mapping[str, Any] = NO_FIELDS) -> bytes:
        """Encode a fragment, with the role chunk ahead of the first; no thinking where it was switched off."""
        if thinking and not self._thinks:
            return b""
        self._token()
        if not self.stream:
            (self._thinking if thinking else self._text).append(text)
            return b""
        if not self._chat:
            return self._event({**self._chunk({"text": text}), **fields})
        if not thinking:
            return self._delta({"content": text}, fields)
        if self._dialect == "ollama":
            return self._delta({"content": "", "reasoning": text}, fields)
        return self._delta({"reasoning_content": text}, fields)

    def tool_call(self, step: steps.ToolCall) -> list[bytes]:
        """Encode a call: whole as Ollama sends it, else its head and then its arguments in fragments."""
        self._token()
        self._called = True
        index = next(self._indices) if step.index is None else step.index
        text = step.arguments if isinstance(step.arguments, str) else dump(step.arguments).decode()
        call_id = step.id or self._call_id(f"{step.name}{index}")
        whole = {
            "index": index,
            "id": call_id,
            "type": "function",
            "function": {"name": step.name, "arguments": text},
        }
        if not self.stream:
            self._calls.append({key: value for key, value in whole.items() if key != "index"})
            return []
        if self._dialect == "ollama":
            return [self._delta({"content": "", "tool_calls": [whole]})]
        pieces = _cut(text, step.fragments)
        first = pieces.pop(0) if self._dialect == "llamacpp" else ""
        start = {**whole, "function": {"name": step.name, "arguments": first}}
        rest = ({"index": index, "function": {"arguments": piece}} for piece in pieces)
        return [self._delta({"tool_calls": [piece]}) for piece in (start, *rest)]

    def tool_fragment(self, step: steps.ToolFragment) -> bytes:
        """Encode a fragment as the test gives it."""
        self._called = True
        function = ({"name": step.name} if step.name is not None else {}) | {"arguments": step.arguments}
        value: dict[str, Any] = {} if step.index is None else {"index": step.index}
        if step.id is not None:
            value |= {"id": step.id, "type": "function"}
        return self._delta({"tool_calls": [value | {"function": function}]}) if self.stream else b""

    def chunk(self, value: Any) -> bytes:
        """Encode an event, or, without a stream, the whole answer."""
        return self._event(value) if self.stream else dump(value, self.indent)

    def progress(self, step: steps.Progress) -> bytes:
        """Encode the progress of the prompt, if the request asked for it."""
        if not (self.stream and self._progress_wanted):
            return b""
        passed = int((time.monotonic() - self._began) * 1000)
        numbers = {"total": step.total, "cache": step.cache, "processed": step.processed, "time_ms": passed}
        return self._event(
            self._chunk({"delta": {"role": "assistant", "content": None}}) | {"prompt_progress": numbers}
        )

    def ping(self, step: steps.Ping) -> bytes:
        """Encode a comment."""
        if not self.stream:
            return b""
        return f": {step.text}\n\n".encode() if step.text else b":\n\n"

    # How it ends

    def error(self, step: steps.Error) -> list[bytes]:
        """Encode an error event; Ollama swallows errors here, and so do we."""
        if self._dialect == "ollama" and self.stream:
            return [self._event(self._chunk({"delta": {"role": "assistant", "content": ""}}) | {"model": ""})]
        value: dict[str, Any] = {"error": {**_error(self._dialect, 500, step.message), **step.fields}}
        if not isinstance(step.message, str):
            value = {"error": step.message, **step.fields}
        value = {
            "object": {"object": "error", **value["error"]} if isinstance(step.message, str) else value,
            "code": {"text": step.message, "error_code": 50001, **step.fields},
            "detail": {"detail": step.message, **step.fields},
        }.get(step.form or "", value)
        if not self.stream:
            return [dump(value, self.indent)]
        if step.form in ("field", "bare"):
            return [(b"error: " if step.form == "field" else b"") + dump(value.get("error", value)) + b"\n\n"]
        return [(b"event: error\n" if step.form == "event" else b"") + self._event(value)]

    def done(self, step: steps.Done) -> list[bytes]:
        """Encode finish chunk, usage and `[DONE]`; or the whole answer."""
        parts = [self.say(step.thinking, thinking=True)] if step.thinking else []
        parts += [self.say(step.text, thinking=False)] if step.text else []
        for call in step.tool_calls:
            parts += self.tool_call(call)
        metrics = dict(step.metrics)
        usage = self._usage(metrics)
        reason = "tool_calls" if step.reason == "stop" and self._called else step.reason
        timings = {"timings": self._timings(usage)} if self._dialect == "llamacpp" else {}
        if not self.stream:
            return [dump(self._whole(reason) | {"usage": usage} | timings | metrics, self.indent)]
        last = self._chunk({"delta": {}} if self._chat else {"text": ""}, reason)
        if reason is not None:
            parts.append(self._event(last | ({} if self._usage_wanted else timings) | metrics))
        if self._usage_wanted:
            parts.append(self._event({**self._chunk({}), "choices": [], "usage": usage, **timings}))
        return [*parts, b"data: [DONE]\n\n"] if step.marker else parts

    def end(self) -> bytes:
        """Encode an answer that lost its ending."""
        return dump(self._whole(None), self.indent)

    # The pieces

    def _token(self) -> None:
        self._first = self._first or time.monotonic()
        self._count += 1

    def _delta(self, delta: dict[str, Any], fields: Mapping[str, Any] = NO_FIELDS) -> bytes:
        role = b""
        if not self._role_sent:
            self._role_sent = True
            if self._dialect == "ollama":
                delta = {"role": "assistant", **delta}
            else:
                content = None if self._dialect == "llamacpp" else ""
                role = self._event(self._chunk({"delta": {"role": "assistant", "content": content}}))
        return role + self._event({**self._chunk({"delta": delta}), **fields})

    def _chunk(self, choice: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        choices = [{"index": 0, **choice, "finish_reason": reason}]
        value = {"id": self._id, "object": kind, "created": _CREATED, "model": self._model, "choices": choices}
        if self._dialect != "vllm":
            value["system_fingerprint"] = "fp_ollama" if self._dialect == "ollama" else "fp_fake"
        if self._dialect == "openai" and self._usage_wanted:
            value["usage"] = None
        return value

    def _whole(self, reason: str | None) -> dict[str, Any]:
        text, thinking = "".join(self._text), "".join(self._thinking)
        value = self._chunk({}, reason)
        value.pop("usage", None)
        choice = value["choices"][0]
        if not self._chat:
            choice["text"] = text
            return value
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thinking:
            message["reasoning" if self._dialect == "ollama" else "reasoning_content"] = thinking
        if self._calls:
            message["tool_calls"] = self._calls
        choice["message"] = message
        return value | {"object": "chat.completion"}

    def _usage(self, metrics: dict[str, Any]) -> Any:
        prompt = metrics.pop("prompt_eval_count", self._prompt_tokens)
        completion = metrics.pop("eval_count", self._count)
        usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion}
        if isinstance(prompt, int) and isinstance(completion, int):
            usage["total_tokens"] = prompt + completion
        if self._dialect == "llamacpp":
            usage["prompt_tokens_details"] = {"cached_tokens": 0}
        return metrics.pop("usage", usage)

    def _timings(self, usage: Any) -> dict[str, Any]:
        counts = usage if isinstance(usage, dict) else {}
        prompt, predicted = (_int(counts.get(name)) for name in ("prompt_tokens", "completion_tokens"))
        first = self._first or time.monotonic()
        prompt_ms, predicted_ms = (first - self._began) * 1000 + 0.001, (time.monotonic() - first) * 1000 + 0.001
        return {
            "cache_n": 0,
            "prompt_n": prompt,
            "prompt_ms": prompt_ms,
            "prompt_per_token_ms": prompt_ms / max(prompt, 1),
            "prompt_per_second": prompt / prompt_ms * 1000,
            "predicted_n": predicted,
            "predicted_ms": predicted_ms,
            "predicted_per_token_ms": predicted_ms / max(predicted, 1),
            "predicted_per_second": predicted / predicted_ms * 1000,
        }

    def _call_id(self, seed: str) -> str:
        digest = hashlib.sha256(seed.encode()).hexdigest()
        lengths = {"llamacpp": ("", 32), "ollama": ("call_", 8), "vllm": ("chatcmpl-tool-", 32)}
        prefix, length = lengths.get(self._dialect, ("call_", 24))
        return prefix + digest[:length]

    def _event(self, value: Any) -> bytes:
        return b"data: " + dump(value) + b"\n\n"


class OpenAIRoutes:
    """The `/v1` endpoints; `FakeOllama` has them too."""

    def __init__(self, dialect: Dialect, catalogue: Catalogue, refuses: Iterable[str] = ()) -> None:
        self.dialect: Dialect = dialect
        self._catalogue = catalogue
        self._refuses = frozenset(refuses)

    def plan(self, record: Record) -> Plan:
        """Decide what to do about a request."""
        match record.method, record.path:
            case "POST", "/v1/chat/completions":
                return self._generation(record, chat=True)
            case "POST", "/v1/completions":
                return self._generation(record, chat=False)
            case "POST", "/v1/embeddings":
                return self._embeddings(record)
            case "GET", "/v1/models":
                return _answer({"object": "list", "data": [self._model(model) for model in self._catalogue]})
            case "GET", path if path.startswith("/v1/models/"):
                name = path.removeprefix("/v1/models/")
                model = self._catalogue.find(name)
                return self._unknown(name) if model is None else _answer(self._model(model))
            case "GET", "/health" | "/v1/health" if self.dialect == "llamacpp":
                return _answer({"status": "ok"})
            case "GET", "/health" if self.dialect == "vllm":
                return Plan([steps.status(200)])
        return Plan([steps.status(404, {"error": _error(self.dialect, 404, f"Not Found: {record.path}")})])

    def _generation(self, record: Record, *, chat: bool) -> Plan:
        body = self._body(record)
        if isinstance(body, Plan):
            return body
        if (refusal := self._refusal(body)) is not None:
            return refusal
        wanted = "messages" if chat else "prompt"
        if wanted not in body:
            return self._refuse(400, f"'{wanted}' is required")
        name = body.get("model") or ""
        model = self._catalogue.find(name)
        if self.dialect == "llamacpp":
            model = next(iter(self._catalogue))  # it has one model, and takes no notice of the name asked for
            name = model.name
        if model is None:
            return self._unknown(name)
        encoder = OpenAIEncoder(body, name, dialect=self.dialect, chat=chat)
        return Plan([steps.say(*_GREETING), steps.done()], encoder, generates=True)

    def _refusal(self, body: dict[str, Any]) -> Plan | None:
        """Refuse members that this server does not take; real ones pass over most of what they do not know."""
        if (name := next((name for name in body if name in self._refuses), None)) is not None:
            return self._refuse(400, f"Unrecognized request argument supplied: {name}")
        asked = body.get("response_format") or {}
        if self.dialect == "lmstudio" and asked.get("type") not in (None, "text", "json_schema"):
            text = "'response_format.type' must be 'json_schema' or 'text'"
            return refuse(400, {"error": text})
        return None

    def _embeddings(self, record: Record) -> Plan:
        body = self._body(record)
        if isinstance(body, Plan):
            return body
        name = body.get("model") or ""
        if self._catalogue.find(name) is None:
            return self._unknown(name)
        texts = body.get("input") or []
        texts = [texts] if isinstance(texts, str) else texts
        packed = body.get("encoding_format") == "base64"
        data = []
        for index, text in enumerate(texts):
            vector: Any = embedding(str(text), body.get("dimensions") or 8)
            vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode() if packed else vector
            data.append({"object": "embedding", "index": index, "embedding": vector})
        usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
        return _answer({"object": "list", "data": data, "model": name, "usage": usage})

    def _model(self, model: FakeModel) -> dict[str, Any]:
        name = full_name(model.name) if self.dialect == "ollama" else model.name
        owner = {"owned_by": _OWNERS[self.dialect]} if self.dialect in _OWNERS else {}
        return {"id": name, "object": "model", "created": _CREATED, **owner}

    def _body(self, record: Record) -> dict[str, Any] | Plan:
        try:
            body = record.json
        except ValueError as exc:
            return self._refuse(400, f"cannot parse the request body: {exc}")
        return body if isinstance(body, dict) else self._refuse(400, "the request body must be an object")

    def _refuse(self, code: int, message: str) -> Plan:
        return refuse(code, {"error": _error(self.dialect, code, message)})

    def _unknown(self, name: str) -> Plan:
        texts = {
            "openai": f"The model `{name}` does not exist or you do not have access to it.",
            "vllm": f"The model `{name}` does not exist.",
        }
        return self._refuse(404, texts.get(self.dialect, f"model '{name}' not found"))

    def unauthorized(self) -> Plan:
        """Refuse a request without the right key."""
        return self._refuse(401, "Invalid API Key" if self.dialect == "llamacpp" else "Incorrect API key provided.")


class FakeOpenAI(FakeServer):
    """An OpenAI-compatible server whose answers a test scripts.

    Without a script it greets.

    Args:
        dialect: Which server it imitates: `openai`, `llamacpp`, `ollama` (its `/v1`), `vllm`, `sglang`, `lmstudio`,
            `localai`, `textgen` (text-generation-webui), `jan`, `mlx` (mlx-lm) or `koboldcpp`. Each stops thinking if
            it is told so in its own way.
        models: The models it has; others are refused with 404. None has every model. (llama.cpp has one, and takes no
            notice of the name in the request.)
        api_key: If given, requests need it as their bearer token.
        refuses: Names of members for which a request is refused, as strict servers do with what they do not know.
        parallel: How many generations run at once; the others wait in silence. None is no limit.
        unix_path: Listen on a Unix socket at this path too.
        port: The port; 0 lets the system choose.
    """

    def __init__(
        self,
        dialect: Dialect = "openai",
        *,
        models: Iterable[str | FakeModel] | None = None,
        api_key: str | None = None,
        refuses: Iterable[str] = (),
        parallel: int | None = None,
        unix_path: str | Path | None = None,
        port: int = 0,
    ) -> None:
        if dialect not in get_args(Dialect):
            raise ValueError(f"no dialect {dialect!r}; there are {', '.join(get_args(Dialect))}")
        super().__init__(parallel=parallel, unix_path=unix_path, port=port)
        self.catalogue = Catalogue(models)
        self.api_key = api_key
        self._routes = OpenAIRoutes(dialect, self.catalogue, refuses)

    @property
    def dialect(self) -> Dialect:
        """Which server it imitates."""
        return self._routes.dialect

    @property
    def base_url(self) -> str:
        """What OpenAI's clients want as their `base_url`: the address with `/v1`."""
        return f"{self.url}/v1"

    def _plan(self, record: Record) -> Plan:
        locked = self.api_key is not None and not record.path.endswith("/health")
        if locked and record.header("authorization") != f"Bearer {self.api_key}":
            return self._routes.unauthorized()
        if self.dialect == "llamacpp" and (record.method, record.path) == ("GET", "/slots"):
            busy = self._slots is not None and self._slots.locked()
            return _answer([{"id": number, "is_processing": busy} for number in range(self.parallel or 1)])
        return self._routes.plan(record)


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _switched_off(dialect: Dialect, body: dict[str, Any]) -> bool:
    """Whether a request says that the model is not to think, in the way that this server understands."""
    if dialect in ("openai", "ollama"):
        return body.get("reasoning_effort") == "none"
    if dialect == "textgen":
        return body.get("enable_thinking") is False
    if dialect == "localai":
        return body.get("reasoning_effort") == "none" or (body.get("metadata") or {}).get("enable_thinking") == "false"
    return (body.get("chat_template_kwargs") or {}).get("enable_thinking") is False


def _answer(value: Any) -> Plan:
    return Plan([steps.status(200, value)])


def _error(dialect: Dialect, code: int, message: Any) -> dict[str, Any]:
    """The `error` object of each dialect."""
    if dialect == "llamacpp":
        kinds = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}
        return {"code": code, "message": message, "type": kinds.get(code, "server_error")}
    if dialect == "ollama":
        kinds = {400: "invalid_request_error", 404: "not_found_error"}
        return {"message": message, "type": kinds.get(code, "api_error"), "param": None, "code": None}
    if dialect == "vllm":
        kinds = {400: "BadRequestError", 401: "Unauthorized", 404: "NotFoundError"}
        return {"message": message, "type": kinds.get(code, "InternalServerError"), "param": None, "code": code}
    names = {401: "invalid_api_key", 404: "model_not_found"}
    kind = "server_error" if code >= 500 else "invalid_request_error"
    return {"message": message, "type": kind, "param": None, "code": names.get(code)}


def _cut(text: str, count: int) -> list[str]:
    """Cut text into `count` pieces, the first one character long as llama.cpp's is."""
    if count == 1 or len(text) < 2:
        return [text]
    size = max(1, -(-(len(text) - 1) // (count - 1)))
    rest: Sequence[str] = [text[start : start + size] for start in range(1, len(text), size)]
    return [text[0], *rest]
