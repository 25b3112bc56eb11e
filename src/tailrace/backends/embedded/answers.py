"""The engine's chunks turned into Ollama's lines; pure, no input or output.

`wire.md` A5 to A9 of the design notes tell Ollama's side, C3, C4 and C6 the engine's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from tailrace.backends.embedded.http1 import Fault

__all__ = ["Answer", "now", "status_line"]


class _CallPart(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: dict[str, Any] = {}


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_CallPart] | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: dict[str, Any] | None = None


class _Progress(msgspec.Struct):
    total: int = 0
    processed: int = 0


class _Timings(msgspec.Struct):
    cache_n: int = 0
    prompt_n: int = 0
    prompt_ms: float = 0.0
    predicted_n: int = 0
    predicted_ms: float = 0.0


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] = []
    prompt_progress: _Progress | None = None
    timings: _Timings | None = None
    error: dict[str, Any] | str | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def now() -> str:
    """Returns the time as Ollama writes it: RFC 3339, UTC, nanoseconds."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:09d}Z"


def status_line(status: str, **more: int) -> bytes:
    """Returns a line that says what a run waits for; only our own client understands it."""
    return msgspec.json.encode({"status": status, **more}) + b"\n"


class Answer:
    """Folds the engine's chunks into Ollama's lines.

    Attributes:
        error: what the engine refused or failed with, as status and text; nothing follows it.
        spoken: a token has been passed on, so statuses of errors no longer matter.
        final: the last record, once it has come.
        processed: tokens of the prompt that have been evaluated.
        total: tokens of the prompt.
        pieces: pieces of text that have come out.
    """

    def __init__(self, model: str, *, chat: bool, load_ns: int, started_ns: int) -> None:
        self.error: Fault | None = None
        self.spoken = False
        self.final: dict[str, Any] | None = None
        self.processed = 0
        self.total = 0
        self.pieces = 0
        self._model = model
        self._chat = chat
        self._load_ns = load_ns
        self._started_ns = started_ns
        self._reason = ""
        self._calls: list[_CallPart] = []

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Takes one chunk of the engine's; returns the records it makes, the final one last."""
        record = _decode_chunk(chunk)
        if record.error is not None:
            self.error = _engine_fault(record.error)
            return []
        if record.prompt_progress is not None:
            self.processed, self.total = record.prompt_progress.processed, record.prompt_progress.total
            return [{"status": "prefill", "processed": self.processed, "total": self.total}]
        out: list[dict[str, Any]] = []
        for choice in record.choices:
            self._take(choice, out)
        if record.timings is not None and self._reason:
            self._finish(record.timings, out)
        return out

    def whole(self, records: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Folds a finished answer into the one record of ``stream: false``."""
        if self.final is None:
            raise ValueError("not finished")
        if not self._chat:
            return {**self.final, **_joined(records, "response")}
        messages = [record["message"] for record in records if "message" in record]
        folded = {"role": "assistant", **_joined(messages, "content")}
        return {**self.final, "message": folded, **_listed(records, "logprobs")}

    def _take(self, choice: _Choice, out: list[dict[str, Any]]) -> None:
        text, thinking = choice.text or "", ""
        delta = choice.delta
        if delta is not None:
            text, thinking = delta.content or "", delta.reasoning_content or ""
            for part in delta.tool_calls or ():
                self._collect(part)
        logprobs = _logprobs(choice.logprobs)
        if text or thinking or logprobs:
            self.pieces += 1
            out.append(self._record(text, thinking, logprobs=logprobs))
        if choice.finish_reason:
            self._reason = "length" if choice.finish_reason == "length" else "stop"

    def _collect(self, part: _CallPart) -> None:
        if not self._calls or self._calls[-1].index != part.index:
            self._calls.append(_CallPart(part.index, part.id, {"name": "", "arguments": ""}))
        call = self._calls[-1]
        call.id = call.id or part.id
        for key in ("name", "arguments"):
            call.function[key] += part.function.get(key) or ""

    def _finish(self, timings: _Timings, out: list[dict[str, Any]]) -> None:
        calls, rest = self._folded_calls()
        if rest:
            out.append(self._record(rest, ""))
        if calls:
            out.append(self._record("", "", calls=calls))
        metrics = {
            "total_duration": time.perf_counter_ns() - self._started_ns,
            "load_duration": self._load_ns,
            "prompt_eval_count": timings.cache_n + timings.prompt_n,
            "prompt_eval_duration": int(timings.prompt_ms * 1e6),
            "eval_count": timings.predicted_n,
            "eval_duration": int(timings.predicted_ms * 1e6),
        }
        self.final = {**self._record("", ""), "done": True, "done_reason": self._reason, **metrics}
        out.append(self.final)

    def _folded_calls(self) -> tuple[list[dict[str, Any]], str]:
        """Complete calls, and as text what is none because its arguments do not parse."""
        calls: list[dict[str, Any]] = []
        rest: list[str] = []
        for call in self._calls:
            try:
                arguments = msgspec.json.decode(call.function["arguments"] or "{}", type=dict[str, Any])
            except msgspec.MsgspecError:
                rest.append(f"{call.function['name']}({call.function['arguments']}")
                continue
            identity = (call.id or "").removeprefix("call_")[:8]
            function = {"index": len(calls), "name": call.function["name"], "arguments": arguments}
            calls.append({"id": f"call_{identity or len(calls)}", "function": function})
        return calls, "\n".join(rest)

    def _record(
        self, text: str, thinking: str, *, calls: list[Any] | None = None, logprobs: list[Any] | None = None
    ) -> dict[str, Any]:
        self.spoken = True
        record: dict[str, Any] = {"model": self._model, "created_at": now()}
        place: dict[str, Any] = record
        if self._chat:
            place = record["message"] = {"role": "assistant", "content": text}
        else:
            record["response"] = text
        if thinking:
            place["thinking"] = thinking
        if calls:
            place["tool_calls"] = calls
        record["done"] = False
        if logprobs:
            record["logprobs"] = logprobs
        return record


def _joined(parts: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    out: dict[str, Any] = {name: "".join(part.get(name, "") for part in parts)}
    thinking = "".join(part.get("thinking", "") for part in parts)
    if thinking:
        out["thinking"] = thinking
    return {**out, **_listed(parts, "tool_calls"), **_listed(parts, "logprobs")}


def _listed(parts: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    items = [item for part in parts for item in part.get(name, ())]
    return {name: items} if items else {}


def _logprobs(given: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [_logprob(item) for item in (given or {}).get("content") or ()]


def _logprob(item: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {name: item[name] for name in ("token", "logprob", "bytes") if name in item}
    if item.get("top_logprobs"):
        out["top_logprobs"] = [_logprob(other) for other in item["top_logprobs"]]
    return out


def _engine_fault(error: dict[str, Any] | str) -> Fault:
    if isinstance(error, str):
        return Fault(500, error)
    code = error.get("code")
    if error.get("type") == "exceed_context_size_error":
        text = (
            f"the prompt has {error.get('n_prompt_tokens')} tokens and the context holds {error.get('n_ctx')}; "
            "shorten it, or ask for more with the option num_ctx"
        )
        return Fault(400, text)
    return Fault(code if isinstance(code, int) and 400 <= code < 600 else 500, str(error.get("message") or error))
