"""Records: the lines of Ollama's answers as values, and the events that they hold.

Read from ollama/ollama, ``api/types.go``. What is merely reported may have any type: it must not cost the text beside
it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.events import (
    Event,
    Loading,
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
from tailrace.protocols.arguments import arguments_of
from tailrace.protocols.error_words import error_in

__all__ = [
    "Line",
    "ReportedLine",
    "ToldError",
    "UnknownError",
    "content_of",
    "context_of",
    "image_of",
    "look_at",
    "report_of",
    "steps_of",
    "tokens_of",
    "usage_of",
]


class _Function(msgspec.Struct):
    name: str
    arguments: Any = None  # an object by the book; some servers send its text, as OpenAI's do
    index: Any = None


class _Call(msgspec.Struct):
    function: _Function
    id: Any = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class Line(msgspec.Struct, gc=False):
    """Every member that any line of chat or generate may have; the common ones first.

    What is merely reported may have any type: it must not cost the text beside it.
    """

    message: _Message | None = None
    response: Any = None
    done: bool | None = None
    error: Any = None
    logprobs: Any = None
    thinking: Any = None
    tool_calls: Any = None
    done_reason: Any = None
    context: Any = None
    total_duration: Any = None
    load_duration: Any = None
    prompt_eval_count: Any = None
    prompt_eval_duration: Any = None
    eval_count: Any = None
    eval_duration: Any = None
    image: Any = None
    completed: Any = None
    total: Any = None
    status_code: Any = msgspec.field(default=None, name="StatusCode")


class _Generated(msgspec.Struct):
    """What `/api/generate` says on the line itself; beside a message it is not ours."""

    response: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Report(msgspec.Struct):
    """What the embedded engine's worker adds: what a run waits for, and the pieces of tool calls."""

    status: str = ""
    position: int | None = None
    processed: int | None = None
    total: int | None = None
    tool_call: ToolCallDelta | None = None


class ReportedLine(Line, gc=False):
    """A line of the embedded engine's worker."""

    tailrace: _Report | None = None


class _TokenMessage(msgspec.Struct, gc=False):
    content: str
    thinking: None = None
    tool_calls: None = None


class Token(msgspec.Struct, gc=False):
    """The line of nearly every token of a chat: what would make it more than that may only be null.

    Nothing is made of what we do not look at (the model, the time).
    """

    message: _TokenMessage
    done: bool
    done_reason: None = None
    error: None = None
    logprobs: None = None


_TEXT = (str, type(None))
_decode_tokens = msgspec.json.Decoder(Token).decode_lines


class UnknownError(ValueError):
    """A record is of no kind that we know."""


class ToldError(ValueError):
    """A record of no form that we know tells of an error."""

    def __init__(self, error: Any, code: Any) -> None:
        super().__init__("an error")
        self.error = error
        self.code = code


def look_at(record: Line, line: bytes) -> None:
    """Looks at a record that is no message: is it one of `/api/generate`, or another that we know?

    Raises:
        UnknownError: it is not.
        ToldError: it is not, and tells of an error.
        ValidationError: what it says has another type than it should.
    """
    text = record.response if record.thinking is None else record.thinking
    if record.tool_calls is None and type(text) is str and type(record.response) in _TEXT:
        return  # as nearly always
    given = {"response": record.response, "thinking": record.thinking, "tool_calls": record.tool_calls}
    record.tool_calls = msgspec.convert(given, _Generated).tool_calls
    known = (
        *given.values(),
        record.image,
        record.completed,
        record.done,
        record.done_reason,
        getattr(record, "tailrace", None),
    )
    if record.error or any(each is not None for each in known):
        return
    try:
        found = error_in(msgspec.json.decode(line))
    except (ValueError, RecursionError):
        found = None
    if found is not None:
        raise ToldError(*found)
    raise UnknownError


def tokens_of(block: bytes) -> list[Event] | None:
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


def content_of(
    thinking: str | None, text: str | None, logprobs: Any, calls: list[_Call] | None, events: list[Event]
) -> None:
    """Appends what a line says as events."""
    if thinking:
        events.append(ThinkingDelta(thinking))
    if text and logprobs is None:
        events.append(TextDelta(text))
    elif text or logprobs:
        events.append(TextDelta(text or "", logprobs if isinstance(logprobs, list) and logprobs else None))
    for call in calls or ():
        function, id = call.function, str(call.id) if call.id not in (None, "") else None
        arguments, invalid = _arguments(function.arguments)
        events.append(ToolCall(function.name, arguments, id, faults.figure(function.index), invalid))


def steps_of(record: Line, events: list[Event]) -> None:
    """How far an image is, which a model for images tells instead of text (ollama/ollama, ``api/types.go``)."""
    completed, total = faults.figure(record.completed), faults.figure(record.total)
    if not record.done and (completed is not None or total is not None):
        events.append(Progress(completed=completed, total=total))


def image_of(record: Line) -> str | None:
    """The image that a model for images made, in base64."""
    return record.image if isinstance(record.image, str) and record.image else None


def _arguments(arguments: Any) -> tuple[dict[str, Any], str | None]:
    if isinstance(arguments, dict) or arguments is None:
        return arguments or {}, None
    return arguments_of(arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode())


def report_of(report: _Report, events: list[Event]) -> None:
    """Appends a report of the embedded engine's worker as an event."""
    if report.status == "queued":
        events.append(Queued(report.position))
    elif report.status == "loading":
        events.append(Loading())
    elif report.status == "prefill":
        events.append(Prefill(report.processed, report.total))
    elif report.tool_call is not None:
        events.append(report.tool_call)


def context_of(value: Any) -> list[int] | None:
    """Returns the ids of tokens that a final line of `/api/generate` reports; None if they are none."""
    known = isinstance(value, list) and all(type(token) is int and 0 <= token < 1 << 63 for token in value)
    return value if known else None


def usage_of(record: Line) -> Usage:
    """Returns the figures of a final line."""
    return Usage(
        prompt_tokens=faults.count(record.prompt_eval_count),
        output_tokens=faults.count(record.eval_count),
        total_duration=faults.count(record.total_duration),
        load_duration=faults.count(record.load_duration),
        prompt_duration=faults.count(record.prompt_eval_duration),
        output_duration=faults.count(record.eval_duration),
    )
