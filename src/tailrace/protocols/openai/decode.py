"""OpenAI's wire: the server-sent chunks of `/v1/chat/completions` and `/v1/completions`, in all their dialects.

One decoder for all, the embedded engine included: ``content`` may be null; reasoning is ``reasoning_content``
(llama.cpp) or ``reasoning`` (vLLM); tool calls come as fragments by ``index``; usage comes on a chunk without choices;
llama.cpp adds ``prompt_progress`` and ``timings`` (`tools/server/README.md` of ggml-org/llama.cpp); an error is an
object in the stream; and the end is ``[DONE]``. The form of a chunk is that of
`types/chat/chat_completion_chunk.py` in openai/openai-python. Ollama's `/v1` hides an error of the model as an empty
chunk and a plain end of file.
"""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from tailrace.events import Ended, Event, Prefill, TextDelta, ThinkingDelta, Usage
from tailrace.protocols import faults
from tailrace.protocols.decoder_base import AnswerDecoderBase
from tailrace.protocols.error_words import error_in
from tailrace.protocols.lines import MAX_LINE
from tailrace.protocols.openai.calls import Calls, Fragment, older_form
from tailrace.protocols.reasons import ended_for, graver, reason_of
from tailrace.protocols.sse import STRAY, ServerSentEvent, SSEDecoder

__all__ = ["ChunkDecoder"]


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Fragment] | None = None
    refusal: str | None = None
    function_call: Any = None  # the older form of a call


class _Choice(msgspec.Struct, gc=False):
    delta: _Delta | None = None
    index: Any = 0
    finish_reason: Any = None
    text: str | None = None
    logprobs: Any = None
    message: _Delta | None = None
    error: Any = None  # OpenRouter's place for it


class _Chunk(msgspec.Struct, gc=False):
    """What is merely reported may have any type: it must not cost the text beside it."""

    choices: list[_Choice] | None = None
    error: Any = None
    usage: Any = None
    timings: Any = None
    prompt_progress: Any = None
    model: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode
_BLANKS = b"\xef\xbb\xbf \t\r\n"  # what may be in front of an answer, with a byte order mark
_DELTAS = frozenset(("content", "reasoning_content", "reasoning", "refusal", "text", "arguments"))


class ChunkDecoder(AnswerDecoderBase):
    """Decodes a chat or text completion, streamed (SSE) or whole (JSON, when a server ignores ``stream``).

    Attributes:
        ended: True once the ending came out.
        surplus: events after the ending.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        super().__init__()
        self._sse = SSEDecoder(max_line, lenient=True)
        self._limit = max_line
        self._seen = 0
        self._raw = bytearray()  # what came while it may still be a whole JSON answer instead of a stream
        self._sniffing = True
        self._is_json = False
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._calls = Calls()
        self._hidden_error = False

    def feed(self, data: bytes) -> list[Event]:
        """Takes bytes as they came; returns the events they finish, `Ended` last if they hold the ending."""
        events: list[Event] = []
        if self._sniffing:
            if self.ended:
                return events
            self._raw += data  # of which no copy is made: a whole answer may come in many reads
            start = data.lstrip(_BLANKS)
            self._is_json = self._is_json or start.startswith(b"{")
            if self._is_json or not start:
                if len(self._raw) > self._limit:
                    self._end(faults.too_long(self._limit), events)
                return events
            data, self._sniffing = bytes(self._raw), False
            self._raw.clear()
        for event in self._sse.feed(data):
            if event.type == "message":
                self._chunk(event.data, events)
            else:
                self._typed(event, events)
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

    @property
    def settling(self) -> bool:
        """True while what came may be the whole answer, though nothing says that it is."""
        return not self.ended and (self._reason is not None or self._is_json)

    def settle(self) -> list[Event]:
        """The server says nothing more: returns the rest and the ending if the answer is whole, else nothing."""
        events: list[Event] = []
        if self.ended:
            return events
        if self._raw:
            if not faults.is_cut(self._raw.decode("utf-8", "replace")):
                self._whole(bytes(self._raw), events)
        elif self._reason is not None:
            self._finish(events, "the server fell silent without [DONE]")
        return events

    def eof(self) -> list[Event]:
        """The server closed: returns the rest, and an ending if none had come."""
        events: list[Event] = []
        if self.ended:
            return events
        if self._raw.strip(_BLANKS):
            self._whole(bytes(self._raw), events)
            return events
        for event in self._sse.unfinished():  # half an event is none, but it may say what went wrong
            if event.type == STRAY:
                self._typed(event, events)
            elif not self.ended:
                self._fail_for(event, events)
        if not self.ended:
            self._end_at_eof(events)
        return events

    def _end_at_eof(self, events: list[Event]) -> None:
        if self._reason is not None:
            self._finish(events, "the server closed the stream without [DONE]")
        elif self._is_all_strange(self._seen):
            self._end(self._not_the_protocol(), events)
        else:
            self._end(faults.truncated("a finish_reason or [DONE]", self._why_truncated()), events)

    def _why_truncated(self) -> str:
        if self._hidden_error:
            return "Ollama's /v1 hides an error of the model this way; its log has the cause"
        return f"it sent something unknown: {faults.shown(self._passed_over)}" if self._passed_over else ""

    def _typed(self, event: ServerSentEvent, events: list[Event]) -> None:
        """Takes an event that has a type, or a line that is none: servers write errors so."""
        if event.type == STRAY:
            self._seen += 1
            if not self.ended and not (event.data.startswith(b"{") and self._fail_for(event, events)):
                self._pass_over(event.data, events)
        elif event.type == "error" and not self.ended:
            self._seen += 1
            self._fail_for(event, events)
        else:
            self._chunk(event.data, events)

    def _fail_for(self, event: ServerSentEvent, events: list[Event]) -> bool:
        """Ends the answer if this event says that it failed, in whatever form it says it; returns whether it does."""
        try:
            values, replaced = faults.loads(event.data, blanks=" \t\r\n")
        except ValueError:
            values, replaced = [], 0
        self._replaced += replaced
        found = next(filter(None, map(error_in, values)), None)
        if found is not None:
            self._end(faults.from_error(*found, self._usage), events)
        elif event.type == "error":
            words = values[0] if values else event.data.decode("utf-8", "replace").strip()
            self._end(faults.from_error(words or "the server sent an error without a word", None, self._usage), events)
        else:
            return False
        return True

    def _chunk(self, payload: bytes, events: list[Event]) -> None:
        self._seen += 1
        if self.ended:
            self.surplus += 1
            return
        if payload.startswith(b"[DONE]"):
            if self._is_all_strange(self._seen - 1):
                self._end(self._not_the_protocol(), events)
            else:
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
        if chunk.choices:
            self._take(chunk, events)
        else:
            self._without_choices(chunk, _loaded(payload), payload, events)

    def _without_choices(self, chunk: _Chunk, value: Any, payload: bytes, events: list[Event]) -> None:
        """Takes a chunk without choices: counts, progress, an error in whatever form, or something unknown."""
        found = error_in(value)
        if found is not None:
            self._end(faults.from_error(*found, self._usage), events)
            return
        known = (chunk.choices, chunk.usage, chunk.timings, chunk.prompt_progress)
        says = not isinstance(value, dict) or any(each is not None for each in value.values())
        if says and not chunk.error and all(each is None for each in known):
            self._pass_over(payload, events)
        if not self.ended:
            self._take(chunk, events)

    def _is_all_strange(self, seen: int) -> bool:
        """Returns whether something came, and nothing of it was of the protocol."""
        return 0 < self._strange == seen

    def _not_the_protocol(self) -> Ended:
        what = "not OpenAI's protocol, whose answers are server-sent events or one JSON object,"
        return faults.bad_data(what, self._passed_over, "at the beginning")

    def _whole(self, answer: bytes, events: list[Event]) -> None:
        """A server that ignored ``stream`` answered with one JSON object."""
        try:
            (value, *more), replaced = faults.loads(answer, _DELTAS, 5, " \t\r\n")
        except faults.CutError:
            self._end(faults.truncated("the rest of its JSON"), events)
            return
        except ValueError as error:
            self._end(faults.bad_data(f"not OpenAI's protocol ({error})", answer, "at byte 0"), events)
            return
        self._replaced += replaced
        found = error_in(value)
        if found is not None and not value.get("choices"):
            self._end(faults.from_error(*found), events)
        elif more:
            what = "not OpenAI's protocol, whose streams are server-sent events, but lines of JSON,"
            self._end(faults.bad_data(what, answer, "at byte 0"), events)
        elif not value.get("choices"):
            self._end(faults.bad_data("not OpenAI's protocol (without choices)", answer, "at byte 0"), events)
        else:
            self._values([value], answer, "at byte 0", events)
            if not self.ended:
                self._finish(events)

    def _take(self, chunk: _Chunk, events: list[Event]) -> None:
        if chunk.error:
            code = chunk.error.get("code") if isinstance(chunk.error, dict) else None
            self._end(faults.from_error(chunk.error, code, self._usage), events)
            return
        if chunk.prompt_progress is not None:
            progress = _object(chunk.prompt_progress)
            events.append(Prefill(faults.figure(progress.get("processed")), faults.figure(progress.get("total"))))
        if chunk.usage is not None or chunk.timings is not None:
            self._count(_object(chunk.usage), _object(chunk.timings))
        for choice in chunk.choices or ():
            if choice.index != 0 and faults.count(choice.index):
                continue
            delta = choice.delta or choice.message
            if delta is not None:
                self._delta(delta, choice, events)
                if chunk.model == "" and not delta.content:
                    self._hidden_error = True
            if choice.text or (delta is None and choice.logprobs):
                events.append(TextDelta(choice.text or "", _tokens(choice.logprobs)))
            if choice.error:
                error, code = error_in({"error": choice.error}) or (choice.error, None)
                self._end(faults.from_error(error, code, self._usage), events)
                return
            if choice.finish_reason:
                self._reason = graver(self._reason, reason_of(choice.finish_reason))
                events += self._calls.close()

    def _delta(self, delta: _Delta, choice: _Choice, events: list[Event]) -> None:
        thinking = delta.reasoning_content or delta.reasoning
        if thinking:
            events.append(ThinkingDelta(thinking))
        if delta.content or choice.logprobs:
            events.append(TextDelta(delta.content or "", _tokens(choice.logprobs)))
        if delta.refusal:
            events.append(TextDelta(delta.refusal))
        if delta.tool_calls or delta.function_call:
            whole = delta is choice.message
            fragments = delta.tool_calls or older_form(delta.function_call)
            events.extend(self._calls.add(fragment, whole=whole) for fragment in fragments)

    def _count(self, usage: dict[str, Any], timings: dict[str, Any]) -> None:
        before = self._usage or Usage()
        count = faults.count
        self._usage = Usage(
            prompt_tokens=count(usage.get("prompt_tokens"))
            or before.prompt_tokens
            or count(timings.get("cache_n")) + count(timings.get("prompt_n")),
            output_tokens=count(usage.get("completion_tokens"))
            or before.output_tokens
            or count(timings.get("predicted_n")),
            total_duration=before.total_duration,
            load_duration=before.load_duration,
            prompt_duration=_ns(timings.get("prompt_ms")) or before.prompt_duration,
            output_duration=_ns(timings.get("predicted_ms")) or before.output_duration,
        )

    def _finish(self, events: list[Event], warning: str = "") -> None:
        events += self._calls.close()
        if self._reason is None:
            warning = "the server ended the stream without a finish_reason"
        self._end(ended_for(self._reason or "", usage=self._usage, warnings=(warning,) if warning else ()), events)

    def _salvage(self, payload: bytes, events: list[Event]) -> None:
        """Takes an event that the fast decoder refused: mendable, an error of another form, or wrong."""
        where = f"in event {self._seen}"
        try:
            values, replaced = faults.loads(payload, _DELTAS, 5)
        except ValueError as error:
            self._end(_bad(error, payload, where), events)
            return
        self._replaced += replaced
        self._values(values, payload, where, events)

    def _values(self, values: list[Any], payload: bytes, where: str, events: list[Event]) -> None:
        for value in values:
            if self.ended:
                return
            try:
                chunk = msgspec.convert(value, _Chunk)
            except ValueError as error:
                found = error_in(value)
                self._end(_bad(error, payload, where) if found is None else faults.from_error(*found), events)
                return
            self._mend(chunk)
            if chunk.choices:
                self._take(chunk, events)
            else:
                self._without_choices(chunk, value, payload, events)

    def _mend(self, chunk: _Chunk) -> None:
        """Halves of characters only get through the slow decoder, so only its chunks, and the next, need mending."""
        for choice in chunk.choices or ():
            if faults.count(choice.index):
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


def _bad(error: Exception, payload: bytes, where: str) -> Ended:
    return faults.bad_data(f"not a chunk of OpenAI's protocol ({error})", payload, where)


def _loaded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _ns(milliseconds: Any) -> int:
    if type(milliseconds) is str:
        milliseconds = faults.figure(milliseconds)
    known = type(milliseconds) in (int, float) and 0 < milliseconds < 1e12
    return int(milliseconds * 1e6) if known else 0


def _tokens(logprobs: Any) -> list[Any] | None:
    """The list of tokens inside OpenAI's ``logprobs`` object, in the form of chats; None where there is none."""
    if not isinstance(logprobs, dict):
        return None
    content = logprobs.get("content")
    if content is None and isinstance(logprobs.get("tokens"), list):
        content = _older_tokens(logprobs)
    return content if isinstance(content, list) and content else None


def _older_tokens(logprobs: dict[str, Any]) -> list[Any]:
    """Completions have a list for each thing that is told of a token."""
    lists = [
        each if isinstance(each := logprobs.get(name), list) else [] for name in ("token_logprobs", "top_logprobs")
    ]
    told = zip(logprobs["tokens"], *(itertools.chain(each, itertools.repeat(None)) for each in lists), strict=False)
    return [{"token": token, "logprob": value, "top_logprobs": _others(top)} for token, value, top in told]


def _others(top: Any) -> list[Any]:
    return [{"token": token, "logprob": value} for token, value in top.items()] if isinstance(top, dict) else []
