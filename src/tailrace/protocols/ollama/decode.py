"""Decodes Ollama's streams: NDJSON of `/api/chat`, `/api/generate` and the progress of pull, push and create.

Read from ollama/ollama, ``api/types.go`` and ``server/routes.go``. What matters most: the last line may lack its LF;
content may come on the ``done`` line; an error is a line ``{"error": …}``; and a stream that ends without
``done: true`` is not a success, although its HTTP status is 200.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.events import (
    Ended,
    Event,
    Loading,
    Outcome,
    Prefill,
    Progress,
    Queued,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from tailrace.protocols import faults
from tailrace.protocols.decoder_base import AnswerDecoderBase
from tailrace.protocols.lines import MAX_LINE, LineSplitter

__all__ = ["AnswerDecoder", "ProgressDecoder"]


class _Function(msgspec.Struct):
    name: str
    arguments: dict[str, Any] | None = None
    index: int | None = None


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct, gc=False):
    """Every member that any line of chat or generate may have; the common ones first."""

    message: _Message | None = None
    response: str | None = None
    done: bool | None = None
    error: Any = None
    logprobs: list[Any] | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None
    done_reason: str | None = None
    context: list[int] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    status_code: Any = msgspec.field(default=None, name="StatusCode")
    # The embedded engine's worker says on lines of their own what a run waits for, and pieces of tool calls.
    status: str | None = None
    position: int | None = None
    processed: int | None = None
    total: int | None = None
    tool_call: ToolCallDelta | None = None


class _TokenMessage(msgspec.Struct, gc=False):
    content: str
    thinking: None = None
    tool_calls: None = None


class _Token(msgspec.Struct, gc=False):
    """The line of nearly every token of a chat: what would make it more than that may only be null.

    Nothing is made of what we do not look at (the model, the time).
    """

    message: _TokenMessage
    done: bool
    done_reason: None = None
    error: None = None
    logprobs: None = None
    status: None = None


_decode = msgspec.json.Decoder(_Line).decode
_decode_tokens = msgspec.json.Decoder(_Token).decode_lines
_DELTAS = frozenset(("content", "response", "thinking"))
_PIECE = 16_384  # bytes decoded at a time: what is only made on the way to events then stays in the processor's cache


class AnswerDecoder(AnswerDecoderBase):
    """Decodes the answer of `/api/chat` or `/api/generate`, streamed or whole.

    Attributes:
        ended: True once the ending came out; what is fed later is only counted.
        surplus: lines after the ending.
    """

    __slots__ = ("_limit", "_lines", "_mending", "_reason")

    def __init__(self, max_line: int = MAX_LINE) -> None:
        super().__init__()
        self._lines = LineSplitter(max_line)
        self._limit = max_line
        self._mending = False  # half a character waits for its second half
        self._reason: str | None = None  # a done_reason seen on a line without done

    def feed(self, data: bytes) -> list[Event]:
        """Takes bytes as they came; returns the events they finish, `Ended` last if they hold the ending."""
        events: list[Event] = []
        if len(data) <= _PIECE:
            self._feed(data, events)
        else:
            for start in range(0, len(data), _PIECE):
                self._feed(data[start : start + _PIECE], events)
        if self._lines.overflow and not self.ended:
            self._end(faults.too_long(self._limit), events)
        if self.ended and self.surplus:
            self._note_surplus(events, "lines")
        return events

    def eof(self) -> list[Event]:
        """The server closed: returns the rest, and an ending if none had come."""
        events: list[Event] = []
        if self.ended:
            return events
        rest = self._lines.eof()
        if rest.strip():
            # A whole last line may lack its LF; half a line does not parse and is never shown.
            try:
                for record in self._records(rest):
                    self._on_record(record, events)
            except msgspec.ValidationError as error:
                self._end(self._bad(error, rest, self._lines.taken), events)
            except ValueError:
                self._end(faults.truncated("its final record", "the last line is cut in half"), events)
        if not self.ended:
            if self._reason is not None:
                warning = f'the server sent done_reason "{self._reason}" but never done: true'
                self._end(Ended(_outcome(self._reason), reason=self._reason, warnings=(warning,)), events)
            else:
                self._end(faults.truncated('"done": true'), events)
        return events

    def _feed(self, data: bytes, events: list[Event]) -> None:
        block = self._lines.feed_block(data)
        if not self.ended and not self._mending:
            # All of them are tokens nearly always, but for an ending; and tokens cost least when decoded together.
            last = block.rfind(b"\n", 0, -1) + 1
            cut = len(block) if block.find(b'"done":true', last) < 0 else last
            tokens = _tokens(block[:cut])
            if tokens is not None:
                events += tokens
                block = block[cut:]
        if block:
            self._line_by_line(block, events)

    def _on_record(self, record: _Line, events: list[Event]) -> None:
        if self.ended:
            self.surplus += 1
            return
        if record.error:
            self._end(faults.from_error(record.error, record.status_code), events)
            return
        if record.status is not None:
            self._phase(record, events)
            return
        message = record.message
        if message is not None:
            self._content(message.thinking, message.content, record.logprobs, message.tool_calls, events)
        else:
            self._content(record.thinking, record.response, record.logprobs, record.tool_calls, events)
        if record.done:
            reason = record.done_reason or ""
            ended = Ended(_outcome(reason), reason=reason, usage=_usage(record), context=record.context)
            self._end(ended, events)
        elif record.done_reason:
            self._reason = record.done_reason

    def _content(
        self,
        thinking: str | None,
        text: str | None,
        logprobs: list[Any] | None,
        calls: list[_Call] | None,
        events: list[Event],
    ) -> None:
        if thinking:
            events.append(ThinkingDelta(thinking))
        if text or logprobs:
            events.append(TextDelta(text or "", logprobs))
        for call in calls or ():
            function = call.function
            events.append(ToolCall(function.name, function.arguments or {}, call.id, function.index))

    def _phase(self, record: _Line, events: list[Event]) -> None:
        if record.status == "queued":
            events.append(Queued(record.position))
        elif record.status == "loading":
            events.append(Loading())
        elif record.status == "prefill":
            events.append(Prefill(record.processed, record.total))
        elif record.tool_call is not None:
            events.append(record.tool_call)

    def _line_by_line(self, block: bytes, events: list[Event]) -> None:
        lines = block.split(b"\n")
        lines.pop()
        for index, line in enumerate(lines):
            if self.ended:
                self.surplus += sum(1 for rest in lines[index:] if rest.strip())
                break
            try:
                record = _decode(line)
            except (ValueError, RecursionError):
                self._salvage(line, lines, index, events)
            else:
                if self._mending:
                    self._mend(record)
                self._on_record(record, events)

    def _salvage(self, line: bytes, lines: list[bytes], index: int, events: list[Event]) -> None:
        """A line the fast decoder refused: blank, mendable, or wrong."""
        try:
            for record in self._records(line):
                self._on_record(record, events)
        except ValueError as error:
            offset = self._lines.taken - sum(len(later) + 1 for later in lines[index:])
            self._end(self._bad(error, line, offset), events)

    def _bad(self, error: Exception, line: bytes, offset: int) -> Ended:
        return faults.bad_data(f"not a line of Ollama's protocol ({error})", line, f"at byte {offset}")

    def _records(self, line: bytes) -> list[_Line]:
        values, replaced = faults.loads(line, _DELTAS, 2)
        self._replaced += replaced
        records = [msgspec.convert(value, _Line) for value in values]  # raises ValidationError, a ValueError
        for record in records:
            self._mend(record)
        return records

    def _mend(self, record: _Line) -> None:
        """Halves of characters only get through the slow decoder, so only its records, and the next, need mending."""
        for part in (record.message, record):
            if part is not None and part.thinking:
                part.thinking = self._thinking.mend(part.thinking)
        if record.message is not None and record.message.content:
            record.message.content = self._text.mend(record.message.content)
        if record.response:
            record.response = self._text.mend(record.response)
        self._mending = self._text.waiting or self._thinking.waiting


def _tokens(block: bytes) -> list[Event] | None:
    """The events of lines that each hold a token and nothing else; None if one of them does not."""
    try:
        lines = _decode_tokens(block)
    except (ValueError, RecursionError):
        return None
    # The decoder passes over blank lines, over a line end inside of a value, and over none at all: so we look ourselves
    # whether each line is one value.
    if len(lines) != block.count(b"\n") or len(lines) > block.count(b"}\n{") + 1:
        return None
    events: list[Event] = []
    for line in lines:
        if line.done:
            return None
        text = line.message.content
        if text:
            events.append(TextDelta(text))
    return events


def _outcome(reason: str) -> Outcome:
    return Outcome.LENGTH if reason == "length" else Outcome.COMPLETE


def _usage(record: _Line) -> Usage:
    return Usage(
        prompt_tokens=faults.count(record.prompt_eval_count),
        output_tokens=faults.count(record.eval_count),
        total_duration=faults.count(record.total_duration),
        load_duration=faults.count(record.load_duration),
        prompt_duration=faults.count(record.prompt_eval_duration),
        output_duration=faults.count(record.eval_duration),
    )


class _Progress(msgspec.Struct):
    status: str | None = None
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    error: Any = None


class ProgressDecoder:
    """Decodes the progress lines of pull, push and create (A11), streamed or whole.

    Attributes:
        ended: True once the ending came out: complete after ``success``, else failed or truncated.
    """

    def __init__(self, max_line: int = MAX_LINE) -> None:
        self.ended = False
        self._lines = LineSplitter(max_line)
        self._limit = max_line

    def feed(self, data: bytes) -> list[Event]:
        """Takes bytes as they came; returns the events they finish."""
        events: list[Event] = []
        offset = self._lines.taken
        for line in self._lines.feed(data):
            if self.ended:
                break
            try:
                self._on_line(line, events)
            except ValueError as error:
                self._end(self._bad(error, line, offset), events)
            offset += len(line) + 1
        if self._lines.overflow and not self.ended:
            self._end(faults.too_long(self._limit), events)
        return events

    def eof(self) -> list[Event]:
        """The server closed: returns the rest, and an ending if none had come."""
        events: list[Event] = []
        rest = self._lines.eof()
        if rest.strip() and not self.ended:
            try:
                self._on_line(rest, events)
            except msgspec.ValidationError as error:
                self._end(self._bad(error, rest, self._lines.taken), events)
            except ValueError:
                self._end(faults.truncated('"success"', "the last line is cut in half"), events)
        if not self.ended:
            self._end(faults.truncated('"success"'), events)
        return events

    def _on_line(self, line: bytes, events: list[Event]) -> None:
        values, _ = faults.loads(line)
        for record in [msgspec.convert(value, _Progress) for value in values]:
            if record.error:
                self._end(faults.from_error(record.error), events)
                break
            events.append(Progress(record.status, record.digest, record.total, record.completed))
            if record.status == "success":
                self._end(Ended(Outcome.COMPLETE, reason="success"), events)
                break

    def _bad(self, error: Exception, line: bytes, offset: int) -> Ended:
        return faults.bad_data(f"not a line of progress ({error})", line, f"at byte {offset}")

    def _end(self, ended: Ended, events: list[Event]) -> None:
        self.ended = True
        events.append(ended)
