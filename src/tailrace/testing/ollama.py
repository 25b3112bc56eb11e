"""A fake Ollama server."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tailrace.testing import steps
from tailrace.testing.catalogue import Catalogue, FakeModel, embedding, full_name
from tailrace.testing.encoding import NO_FIELDS, JSONLines, dump
from tailrace.testing.openai import OpenAIRoutes
from tailrace.testing.records import Record
from tailrace.testing.server import FakeServer, Plan, refuse

__all__ = ["FakeOllama"]

_GREETING = ("Hello", "!", " I", " am", " a", " fake", " model", ".")
_GENERATING = {None, "/api/chat", "/api/generate", "/v1/chat/completions", "/v1/completions"}
_LEVELS = {"low", "medium", "high", "max"}
_NUMBERS = {"temperature", "top_p", "min_p", "top_k", "num_ctx", "num_predict", "seed", "repeat_penalty", "num_batch"}


class OllamaEncoder(JSONLines):
    """Chunks of `/api/chat` and `/api/generate`."""

    def __init__(self, model: str, *, stream: bool, chat: bool, prompt_tokens: int) -> None:
        super().__init__(stream=stream)
        self._model = model
        self._chat = chat
        self._prompt_tokens = prompt_tokens
        self._began = time.monotonic_ns()
        self._first: int | None = None
        self._count = 0
        self._indices = itertools.count()
        self._calls: list[dict[str, Any]] = []  # of all the answer, to be sent at its end where the wire asks for that
        self._text: list[str] = []
        self._thinking: list[str] = []

    def say(self, text: str, *, thinking: bool, fields: Mapping[str, Any] = NO_FIELDS) -> bytes:
        """Encode a fragment."""
        self._first = self._first or time.monotonic_ns()
        self._count += 1
        if not self.stream:
            (self._thinking if thinking else self._text).append(text)
            return b""
        return self._line({**self._part("" if thinking else text, text if thinking else "", []), **fields})

    def tool_call(self, step: steps.ToolCall) -> list[bytes]:
        """Encode a whole call; `/api/generate` has calls only on its final line."""
        self._first = self._first or time.monotonic_ns()
        self._count += 1
        call = self._call(step)
        if not self.stream or not self._chat:
            self._calls.append(call)
            return []
        return [self._line(self._part("", "", [call]))]

    def done(self, step: steps.Done) -> list[bytes]:
        """Encode the final line, or the whole answer."""
        calls = self._calls + [self._call(call) for call in step.tool_calls]
        text = "".join(self._text) + step.text
        value = self._part(text, "".join(self._thinking) + step.thinking, calls, done=True)
        if not step.marker:
            del value["done"]
        if step.reason is not None:
            value["done_reason"] = step.reason
        if not self._chat and "context" not in step.metrics:
            value["context"] = [1, 2, 3]
        value |= self._metrics()
        value |= step.metrics
        value = {key: item for key, item in value.items() if item is not None}
        return [dump(value) + b"\n" if self.stream else dump(value, self.indent)]

    def end(self) -> bytes:
        """Encode an answer whose final line never came."""
        return dump(self._part("".join(self._text), "".join(self._thinking), self._calls), self.indent)

    def _metrics(self) -> dict[str, int]:
        now = time.monotonic_ns()
        first = self._first or now
        values = {
            "total_duration": now - self._began,
            "load_duration": 0,
            "prompt_eval_count": self._prompt_tokens,
            "prompt_eval_duration": first - self._began,
            "eval_count": self._count,
            "eval_duration": now - first,
        }
        return {key: value for key, value in values.items() if value}  # Ollama leaves zeros out

    def _call(self, step: steps.ToolCall) -> dict[str, Any]:
        index = next(self._indices) if step.index is None else step.index
        call_id = (
            step.id or "call_" + hashlib.md5(f"{step.name}{index}".encode(), usedforsecurity=False).hexdigest()[:8]
        )
        return {"id": call_id, "function": {"index": index, "name": step.name, "arguments": step.arguments}}

    def _part(self, text: str, thinking: str, calls: Sequence[Any], *, done: bool = False) -> dict[str, Any]:
        rest = ({"thinking": thinking} if thinking else {}) | ({"tool_calls": calls} if calls else {})
        value: dict[str, Any] = {"model": self._model, "created_at": _now()}
        if self._chat:
            value["message"] = {"role": "assistant", "content": text, **rest}
        else:
            value |= {"response": text, **rest}
        return value | {"done": done}

    def _line(self, value: Any) -> bytes:
        return dump(value) + b"\n"


class FakeOllama(FakeServer):
    """An Ollama server whose answers a test scripts.

    Without a script it greets. It knows every endpoint of the REST API.

    Args:
        models: The models it has, by name or as `FakeModel`; others are refused with 404. None has every model.
        parallel: Like `OLLAMA_NUM_PARALLEL`: how many generations run at once; the others wait in silence. None is no
            limit.
        version: What `/api/version` says.
        unix_path: Listen on a Unix socket at this path too.
        port: The port; 0 lets the system choose.
    """

    def __init__(
        self,
        *,
        models: Iterable[str | FakeModel] | None = None,
        parallel: int | None = None,
        version: str = "0.31.1",
        unix_path: str | Path | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(parallel=parallel, unix_path=unix_path, port=port)
        self.catalogue = Catalogue(models)
        self.version = version
        self._loaded: dict[str, FakeModel] = {}
        self._blobs: set[str] = set()
        self._openai = OpenAIRoutes("ollama", self.catalogue)
        self._routes: dict[tuple[str, str], Callable[[Record], Plan]] = {
            ("GET", "/"): self._root,
            ("HEAD", "/"): self._root,
            ("GET", "/api/version"): lambda _: _answer({"version": self.version}),
            ("GET", "/api/tags"): lambda _: _answer({"models": [model.listed() for model in self.catalogue]}),
            ("GET", "/api/ps"): lambda _: _answer({"models": [model.running() for model in self._loaded.values()]}),
            ("POST", "/api/show"): self._show,
            ("POST", "/api/chat"): self._generation,
            ("POST", "/api/generate"): self._generation,
            ("POST", "/api/embed"): self._embed,
            ("POST", "/api/embeddings"): self._embeddings,
            ("POST", "/api/pull"): self._pull,
            ("POST", "/api/push"): self._push,
            ("POST", "/api/create"): self._create,
            ("POST", "/api/copy"): self._copy,
            ("DELETE", "/api/delete"): self._delete,
        }

    @property
    def loaded(self) -> list[str]:
        """The names of the models that are loaded now."""
        return list(self._loaded)

    def _checked(self, script: Sequence[steps.Step], path: str | None) -> tuple[steps.Step, ...]:
        if not (path or "").startswith("/v1/"):
            for step in script:
                if isinstance(step, steps.Ping | steps.ToolFragment | steps.Progress):
                    what = type(step).__name__
                    raise ValueError(
                        f"Ollama's wire has no {what}: use FakeOpenAI, or chunk({{...}}) for a line of your own"
                    )
                if isinstance(step, steps.Error) and step.form is not None:
                    raise ValueError(f"Ollama's wire has one form of error: use FakeOpenAI for error_as({step.form!r})")
        if path not in _GENERATING and any(isinstance(step, steps.Say | steps.ToolCall) for step in script):
            raise ValueError(
                f"{path} sends no text of a model: use chunk({{...}}) for its lines, or status(200, {{...}})"
            )
        return super()._checked(script, path)

    # Routes

    def _plan(self, record: Record) -> Plan:
        if record.path.startswith("/v1/"):
            return self._openai.plan(record)
        if record.path.startswith("/api/blobs/"):
            return self._blob(record)
        route = self._routes.get((record.method, record.path))
        if route is not None:
            return route(record)
        if any(path == record.path for _, path in self._routes):
            return refuse(405, "405 method not allowed")
        return Plan([steps.status(404, "404 page not found")])

    def _root(self, record: Record) -> Plan:
        return Plan([steps.status(200, "Ollama is running")])

    def _generation(self, record: Record) -> Plan:
        body = _body(record)
        if isinstance(body, Plan):
            return body
        chat = record.path == "/api/chat"
        name = body.get("model") or ""
        if chat and not name:
            return refuse(400, {"error": "model is required"})
        model = self.catalogue.find(name)
        if model is None:
            return refuse(404, {"error": f"model '{name}' not found"})
        if (problem := _problem(body, model)) is not None:
            return refuse(*problem)
        prompt = body.get("messages") if chat else body.get("prompt")
        encoder = OllamaEncoder(
            name, stream=body.get("stream") is not False, chat=chat, prompt_tokens=len(json.dumps(prompt).split())
        )
        if not prompt:
            return self._load(body, model, encoder)
        return Plan(
            [steps.say(*_GREETING), steps.done()],
            encoder,
            generates=True,
            started=lambda: self._loaded.update({full_name(name): model}),
        )

    def _load(self, body: dict[str, Any], model: FakeModel, encoder: OllamaEncoder) -> Plan:
        """A request without a prompt only loads or unloads the model: one object, and no newline after it."""
        unload = body.get("keep_alive") in {0, "0", "0s"}
        if unload:
            self._loaded.pop(full_name(model.name), None)
        else:
            self._loaded[full_name(model.name)] = model
        value = encoder._part("", "", [], done=True) | {"done_reason": "unload" if unload else "load"}
        return Plan([steps.status(200, value)])

    def _show(self, record: Record) -> Plan:
        model = self._named(record)
        return model if isinstance(model, Plan) else _answer(model.shown())

    def _embed(self, record: Record) -> Plan:
        body = _body(record)
        if isinstance(body, Plan):
            return body
        if self.catalogue.find(body.get("model", "")) is None:
            return _not_pulled(body)
        texts = body.get("input") or ""
        texts = ([texts] if texts else []) if isinstance(texts, str) else texts
        vectors = [embedding(text, body.get("dimensions") or 8) for text in texts]
        counts = {"total_duration": 1_000_000, "load_duration": 100_000, "prompt_eval_count": len(texts)}
        return _answer({"model": body["model"], "embeddings": vectors, **counts})

    def _embeddings(self, record: Record) -> Plan:
        body = _body(record)
        if isinstance(body, Plan):
            return body
        if self.catalogue.find(body.get("model", "")) is None:
            return _not_pulled(body)
        return _answer({"embedding": embedding(body["prompt"]) if body.get("prompt") else []})

    def _pull(self, record: Record) -> Plan:
        body = _body(record)
        if isinstance(body, Plan):
            return body
        name = body.get("model") or body.get("name") or ""
        model = FakeModel(name)
        pulling = {"status": f"pulling {model.digest[:12]}", "digest": f"sha256:{model.digest}", "total": model.size}
        lines = [
            {"status": "pulling manifest"},
            pulling,
            *({**pulling, "completed": model.size * part // 4} for part in range(1, 5)),
            {"status": "verifying sha256 digest"},
            {"status": "writing manifest"},
            {"status": "success"},
        ]
        return _progress(body, lines, started=lambda: self.catalogue.add(name))

    def _push(self, record: Record) -> Plan:
        model = self._named(record)
        if isinstance(model, Plan):
            return model
        pushing = {"status": f"pushing {model.digest[:12]}", "digest": f"sha256:{model.digest}", "total": model.size}
        lines = [
            {"status": "retrieving manifest"},
            pushing,
            {**pushing, "completed": model.size},
            {"status": "pushing manifest"},
            {"status": "success"},
        ]
        return _progress(record.json, lines)

    def _create(self, record: Record) -> Plan:
        body = _body(record)
        if isinstance(body, Plan):
            return body
        name = body.get("model") or ""
        digest = FakeModel(name).digest
        lines = [
            {"status": "parsing GGUF"},
            {"status": f"creating new layer sha256:{digest}"},
            {"status": "writing manifest"},
            {"status": "success"},
        ]
        return _progress(body, lines, started=lambda: self.catalogue.add(name))

    def _copy(self, record: Record) -> Plan:
        body = _body(record)
        if isinstance(body, Plan):
            return body
        if self.catalogue.find(body.get("source", "")) is None:
            return refuse(404, {"error": f'model "{body.get("source", "")}" not found'})
        self.catalogue.add(body["destination"])
        return Plan([steps.status(200)])

    def _delete(self, record: Record) -> Plan:
        model = self._named(record)
        if isinstance(model, Plan):
            return model
        self.catalogue.remove(model.name)
        self._loaded.pop(full_name(model.name), None)
        return Plan([steps.status(200)])

    def _blob(self, record: Record) -> Plan:
        digest = record.path.removeprefix("/api/blobs/sha256:")
        if record.method == "HEAD":
            return Plan([steps.status(200 if digest in self._blobs else 404)])
        if hashlib.sha256(record.body).hexdigest() != digest:
            return refuse(400, {"error": "digest mismatch"})
        known = digest in self._blobs
        self._blobs.add(digest)
        return Plan([steps.status(200 if known else 201)])

    def _named(self, record: Record) -> FakeModel | Plan:
        body = _body(record)
        if isinstance(body, Plan):
            return body
        name = body.get("model") or body.get("name") or ""
        model = self.catalogue.find(name)
        return refuse(404, {"error": f"model '{name}' not found"}) if model is None else model


def _answer(value: Any) -> Plan:
    return Plan([steps.status(200, value)])


def _progress(body: dict[str, Any], lines: list[Any], started: Callable[[], Any] = lambda: None) -> Plan:
    script = [*map(steps.chunk, lines), steps.done()]
    return Plan(script, JSONLines(stream=body.get("stream") is not False), started=started)


def _not_pulled(body: dict[str, Any]) -> Plan:
    return refuse(404, {"error": f'model "{body.get("model", "")}" not found, try pulling it first'})


def _body(record: Record) -> dict[str, Any] | Plan:
    if not record.body:
        return refuse(400, {"error": "missing request body"})
    try:
        body = record.json
    except ValueError as exc:
        return refuse(400, {"error": f"invalid character in JSON: {exc}"})
    if not isinstance(body, dict):
        kind = type(body).__name__
        return refuse(400, {"error": f"json: cannot unmarshal {kind} into Go value of type api.ChatRequest"})
    return body


def _problem(body: dict[str, Any], model: FakeModel) -> tuple[int, Any] | None:
    """What Ollama refuses in a request for a model it has."""
    for message in body.get("messages") or []:
        if not isinstance(message.get("content", ""), str | None):
            text = "json: cannot unmarshal array into Go struct field ChatRequest.messages.content of type string"
            return 400, {"error": text}
        for call in message.get("tool_calls") or []:
            if isinstance(call.get("function", {}).get("arguments"), str):
                text = "json: cannot unmarshal string into Go struct field .messages.tool_calls.function.arguments"
                return 400, {"error": text}
    think = body.get("think")
    if isinstance(think, str) and think not in _LEVELS:
        text = f'invalid think value: "{think}" (must be "high", "medium", "low", "max", true, or false)'
        return 400, {"error": text}
    if think and "thinking" not in model.capabilities:
        return 400, {"error": f'"{body["model"]}" does not support thinking'}
    if body.get("tools") and "tools" not in model.capabilities:
        return 400, {"error": f"registry.ollama.ai/library/{full_name(model.name)} does not support tools"}
    return _bad_option(body.get("options") or {})


def _bad_option(options: dict[str, Any]) -> tuple[int, Any] | None:
    for name, value in options.items():
        if name == "stop" and not isinstance(value, list | None):
            return 500, {"error": 'option "stop" must be of type array'}
        if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float | None)):
            return 500, {"error": f'option "{name}" must be of type float32'}
    return None


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
