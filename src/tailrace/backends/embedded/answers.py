"""The engine's chunks turned into Ollama's lines; no input or output.

`tailrace.protocols.ollama.encode` knows Ollama's side; C3, C4 and C6 of the design notes' `wire.md` tell the engine's.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from tailrace.events import Usage
from tailrace.protocols.ollama import encode as ollama_encode
from tailrace.protocols.ollama.encode import Lines, logprobs_of
from tailrace.protocols.ollama.requests import OllamaAPIError

__all__ = ["Answer", "status_line"]


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


def status_line(status: str, **more: int) -> bytes:
    """Returns a line that says what a run waits for; only our own client understands it."""
    return msgspec.json.encode({"status": status, **more}) + b"\n"


class Answer:
    """Folds the engine's chunks into Ollama's lines.

    Attributes:
        error: what the engine refused or failed with, as status and text; nothing follows it.
        spoken: a token has been passed on, so statuses of errors no longer matter.
        finished: the last record has come.
        processed: tokens of the prompt that have been evaluated.
        total: tokens of the prompt.
        pieces: pieces of text that have come out.
    """

    def __init__(self, model: str, *, chat: bool, load_ns: int, started_ns: int) -> None:
        self.error: OllamaAPIError | None = None
        self.spoken = False
        self.finished = False
        self.processed = 0
        self.total = 0
        self.pieces = 0
        self._lines = Lines(model, chat=chat, clock=time.time_ns)
        self._text: list[str] = []  # and all else that was said, for an answer that is not streamed
        self._thinking: list[str] = []
        self._logprobs: list[Any] = []
        self._whole_calls: list[Any] = []
        self._usage = Usage()
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

    def whole(self) -> dict[str, Any]:
        """Returns a finished answer as the one record of ``stream: false``."""
        return self._lines.last(
            self._reason,
            self._usage,
            text="".join(self._text),
            thinking="".join(self._thinking),
            calls=self._whole_calls,
            logprobs=self._logprobs,
        )

    def _take(self, choice: _Choice, out: list[dict[str, Any]]) -> None:
        text, thinking = choice.text or "", ""
        delta = choice.delta
        if delta is not None:
            text, thinking = delta.content or "", delta.reasoning_content or ""
            for part in delta.tool_calls or ():
                self._collect(part)
        logprobs = logprobs_of((choice.logprobs or {}).get("content"))
        if text or thinking or logprobs:
            self.pieces += 1
            out.append(self._part(text, thinking, logprobs=logprobs))
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
            out.append(self._part(rest))
        if calls:
            out.append(self._part(calls=calls))
        self._usage = Usage(
            prompt_tokens=timings.cache_n + timings.prompt_n,
            output_tokens=timings.predicted_n,
            total_duration=time.perf_counter_ns() - self._started_ns,
            load_duration=self._load_ns,
            prompt_duration=int(timings.prompt_ms * 1e6),
            output_duration=int(timings.predicted_ms * 1e6),
        )
        self.finished = True
        out.append(self._lines.last(self._reason, self._usage))

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
            identity = (call.id or "").removeprefix("call_")[:8] or str(len(calls))
            calls.append(ollama_encode.call(call.function["name"], arguments, len(calls), f"call_{identity}"))
        return calls, "\n".join(rest)

    def _part(
        self, text: str = "", thinking: str = "", *, calls: list[Any] | None = None, logprobs: list[Any] | None = None
    ) -> dict[str, Any]:
        self.spoken = True
        self._text.append(text)
        self._thinking.append(thinking)
        self._whole_calls += calls or ()
        self._logprobs += logprobs or ()
        return self._lines.part(text, thinking, calls=calls or (), logprobs=logprobs or ())


def _engine_fault(error: dict[str, Any] | str) -> OllamaAPIError:
    if isinstance(error, str):
        return OllamaAPIError(500, error)
    code = error.get("code")
    if error.get("type") == "exceed_context_size_error":
        text = (
            f"the prompt has {error.get('n_prompt_tokens')} tokens and the context holds {error.get('n_ctx')}; "
            "shorten it, or ask for more with the option num_ctx"
        )
        return OllamaAPIError(400, text)
    return OllamaAPIError(
        code if isinstance(code, int) and 400 <= code < 600 else 500, str(error.get("message") or error)
    )
