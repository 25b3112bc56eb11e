"""OpenAI's wire: the server-sent chunks of `/v1/chat/completions` and `/v1/completions`, in all their dialects.

One decoder for all, the embedded engine included: ``content`` may be null; reasoning is ``reasoning_content``
(llama.cpp) or ``reasoning`` (vLLM); tool calls come as fragments by ``index``; usage comes on a chunk without choices;
llama.cpp adds ``prompt_progress`` and ``timings`` (`tools/server/README.md` of ggml-org/llama.cpp); an error is an
object in the stream; and the end is ``[DONE]``. The form of a chunk is that of
`types/chat/chat_completion_chunk.py` in openai/openai-python. Ollama's `/v1` hides an error of the model as an empty
chunk and a plain end of file.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.events import Ended, Event, Outcome, Prefill, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta, Usage
from tailrace.protocols import faults
from tailrace.protocols.decoder_base import AnswerDecoderBase
from tailrace.protocols.lines import MAX_LINE
from tailrace.protocols.sse import SSEDecoder

__all__ = ["ChunkDecoder"]


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None  # a string by the book; some servers send the object


class _Fragment(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Fragment] | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    index: int = 0
    finish_reason: str | None = None
    text: str | None = None
    logprobs: Any = None
    message: _Delta | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Timings(msgspec.Struct):
    cache_n: int | None = None
    prompt_n: int | None = None
    prompt_ms: float | None = None
    predicted_n: int | None = None
    predicted_ms: float | None = None


class _PromptProgress(msgspec.Struct):
    total: int | None = None
    processed: int | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_Choice] | None = None
    error: Any = None
    usage: _Usage | None = None
    timings: _Timings | None = None
    prompt_progress: _PromptProgress | None = None
    model: str | None = None


_decode = msgspec.json.Decoder(_Chunk).decode
_DELTAS = frozenset(("content", "reasoning_content", "reasoning", "refusal", "text", "arguments"))


class ChunkDecoder(AnswerDecoderBase):
    """Decodes a chat or text completion, streamed (SSE) or whole (JSON, when a server ignores ``stream``).

    Attributes:
        ended: True once the ending came out.
        surplus: events after the ending.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        super().__init__()
        self._sse = SSEDecoder(max_line)
        self._limit = max_line
        self._seen = 0
        self._raw = bytearray()  # what came while it may still be a whole JSON answer instead of a stream
        self._sniffing = True
        self._is_json = False
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._calls: dict[int, _OpenCall] = {}
        self._hidden_error = False

    def feed(self, data: bytes) -> list[Event]:
        """Takes bytes as they came; returns the events they finish, `Ended` last if they hold the ending."""
        events: list[Event] = []
        if self._sniffing:
            if self.ended:
                return events
            self._raw += data  # of which no copy is made: a whole answer may come in many reads
            start = data.lstrip(b"\xef\xbb\xbf \t\r\n")
            self._is_json = self._is_json or start.startswith(b"{")
            if self._is_json or not start:
                if len(self._raw) > self._limit:
                    self._end(faults.too_long(self._limit), events)
                return events
            data, self._sniffing = bytes(self._raw), False
            self._raw.clear()
        for event in self._sse.feed(data):
            self._chunk(event.data, events)
        if self._sse.overflow and not self.ended:
            self._end(faults.too_long(self._limit), events)
        if self.ended and self.surplus:
            self._note_surplus(events, "events")
        return events

    def feed_chunk(self, chunk: bytes) -> list[Event]:
        """Takes one chunk, or ``[DONE]``, that came by itself; returns its events.

        For an engine in this process, which frames nothing; its chunks do not mix with what `feed` takes.
        """
        events: list[Event] = []
        self._sniffing = False
        self._chunk(chunk, events)
        return events

    @property
    def complete(self) -> bool:
        """True once the server has said why it stopped, and its counts: all that there is before ``[DONE]``."""
        return self._reason is not None and self._usage is not None

    def eof(self) -> list[Event]:
        """The server closed: returns the rest, and an ending if none had come."""
        events: list[Event] = []
        if self.ended:
            return events
        if self._raw.strip():
            self._whole(bytes(self._raw), events)
        elif self._reason is not None:
            self._flush_calls(events)
            warning = "the server closed the stream without [DONE]"
            self._end(Ended(_outcome(self._reason), self._reason, usage=self._usage, warnings=(warning,)), events)
        else:
            detail = (
                "Ollama's /v1 hides an error of the model this way; its log has the cause" if self._hidden_error else ""
            )
            self._end(faults.truncated("a finish_reason or [DONE]", detail), events)
        return events

    def _chunk(self, payload: bytes, events: list[Event]) -> None:
        self._seen += 1
        if self.ended:
            self.surplus += 1
            return
        if payload.startswith(b"[DONE]"):
            self._finish(events)
            return
        try:
            chunk = _decode(payload)
        except (ValueError, RecursionError):
            if payload.strip():
                self._salvage(payload, events)
            return
        if self._text.waiting or self._thinking.waiting:
            self._mend(chunk)
        self._take(chunk, events)

    def _whole(self, answer: bytes, events: list[Event]) -> None:
        """A server that ignored ``stream`` answered with one JSON object."""
        self._salvage(answer, events)
        if not self.ended:
            self._finish(events)

    def _take(self, chunk: _Chunk, events: list[Event]) -> None:
        if chunk.error:
            code = chunk.error.get("code") if isinstance(chunk.error, dict) else None
            self._end(faults.from_error(chunk.error, code, self._usage), events)
            return
        if chunk.prompt_progress is not None:
            events.append(Prefill(chunk.prompt_progress.processed, chunk.prompt_progress.total))
        if chunk.usage is not None or chunk.timings is not None:
            self._count(chunk)
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            delta = choice.delta or choice.message
            if delta is not None:
                self._delta(delta, choice.logprobs, events)
                if chunk.model == "" and not delta.content:
                    self._hidden_error = True
            if choice.text or (delta is None and choice.logprobs):
                events.append(TextDelta(choice.text or "", _tokens(choice.logprobs)))
            if choice.finish_reason:
                self._reason = choice.finish_reason
                self._flush_calls(events)

    def _delta(self, delta: _Delta, logprobs: Any, events: list[Event]) -> None:
        thinking = delta.reasoning_content or delta.reasoning
        if thinking:
            events.append(ThinkingDelta(thinking))
        if delta.content or logprobs:
            events.append(TextDelta(delta.content or "", _tokens(logprobs)))
        if delta.refusal:
            events.append(TextDelta(delta.refusal))
        events.extend(map(self._fragment, delta.tool_calls or ()))

    def _fragment(self, fragment: _Fragment) -> ToolCallDelta:
        index = fragment.index if fragment.index is not None else len(self._calls)
        call = self._calls.setdefault(index, _OpenCall(index))
        id, name, text = fragment.id if call.id is None else None, "", ""
        call.id = call.id or fragment.id
        if fragment.function is not None:
            if not call.name:
                call.name = fragment.function.name
                name = call.name or ""
            arguments = fragment.function.arguments
            if isinstance(arguments, str):
                text = arguments
            elif arguments is not None:
                text = msgspec.json.encode(arguments).decode()
            call.parts.append(text)
        # Half of a character here is half of one in the whole too, which is mended when the call is complete.
        return ToolCallDelta(str(faults.whole(text)), index, name, id)

    def _flush_calls(self, events: list[Event]) -> None:
        """Complete calls come out together, in the order of their index: fragments may interleave."""
        events.extend(self._calls[index].close() for index in sorted(self._calls))
        self._calls.clear()

    def _count(self, chunk: _Chunk) -> None:
        before = self._usage or Usage()
        usage, timings = chunk.usage or _Usage(), chunk.timings or _Timings()
        count = faults.count
        self._usage = Usage(
            prompt_tokens=count(usage.prompt_tokens)
            or before.prompt_tokens
            or count(timings.cache_n) + count(timings.prompt_n),
            output_tokens=count(usage.completion_tokens) or before.output_tokens or count(timings.predicted_n),
            total_duration=before.total_duration,
            load_duration=before.load_duration,
            prompt_duration=_ns(timings.prompt_ms) or before.prompt_duration,
            output_duration=_ns(timings.predicted_ms) or before.output_duration,
        )

    def _finish(self, events: list[Event]) -> None:
        self._flush_calls(events)
        reason = self._reason or ""
        warnings = () if self._reason else ("the server ended the stream without a finish_reason",)
        self._end(Ended(_outcome(reason), reason, usage=self._usage, warnings=warnings), events)

    def _salvage(self, payload: bytes, events: list[Event]) -> None:
        try:
            values, replaced = faults.loads(payload, _DELTAS, 5)
            chunks = [msgspec.convert(value, _Chunk) for value in values]
        except ValueError as error:
            if self._sniffing and not isinstance(error, msgspec.ValidationError):
                self._end(faults.truncated("the rest of its JSON"), events)
                return
            what = f"not a chunk of OpenAI's protocol ({error})"
            where = "at byte 0" if self._sniffing else f"in event {self._seen}"
            self._end(faults.bad_data(what, payload, where), events)
            return
        self._replaced += replaced
        for chunk in chunks:
            if self.ended:
                return
            self._mend(chunk)
            self._take(chunk, events)

    def _mend(self, chunk: _Chunk) -> None:
        """Halves of characters only get through the slow decoder, so only its chunks, and the next, need mending."""
        for choice in chunk.choices or ():
            if choice.index != 0:
                continue
            if choice.text:
                choice.text = self._text.mend(choice.text)
            delta = choice.delta or choice.message
            if delta is None:
                continue
            if delta.content:
                delta.content = self._text.mend(delta.content)
            if delta.refusal:
                delta.refusal = self._text.mend(delta.refusal)
            if thinking := delta.reasoning_content or delta.reasoning:
                delta.reasoning, delta.reasoning_content = self._thinking.mend(thinking), None


class _OpenCall:
    """A tool call whose arguments are still coming."""

    __slots__ = ("id", "index", "name", "parts")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id: str | None = None
        self.name: str | None = None
        self.parts: list[str] = []

    def close(self) -> ToolCall:
        text = str(faults.whole("".join(self.parts)))
        try:
            arguments = msgspec.json.decode(text) if text.strip() else {}
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            return ToolCall(self.name or "", {}, self.id, self.index, invalid=text)
        return ToolCall(self.name or "", arguments, self.id, self.index)


def _outcome(reason: str) -> Outcome:
    return Outcome.LENGTH if reason == "length" else Outcome.COMPLETE


def _ns(milliseconds: float | None) -> int:
    return int(milliseconds * 1e6) if milliseconds is not None and 0 < milliseconds < 1e12 else 0


def _tokens(logprobs: Any) -> list[Any] | None:
    """The list of tokens inside OpenAI's ``logprobs`` object; None where there is none."""
    if isinstance(logprobs, dict):
        content = logprobs.get("content")
        return content if isinstance(content, list) and content else None
    return None
