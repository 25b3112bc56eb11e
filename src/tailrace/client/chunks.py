"""Chunks and responses: events and replies in ollama-python's shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from tailrace.events import Ended, Event, Progress, TextDelta, ThinkingDelta, ToolCall, Usage
from tailrace.run.reply import Reply, calls_of
from tailrace.types import ChatResponse, GenerateResponse, Logprob, Message, ProgressResponse
from tailrace.types.record import construct

__all__ = [
    "Chunks",
    "chat_chunks",
    "chat_response",
    "generate_chunks",
    "generate_response",
    "progress_chunks",
]

C = TypeVar("C")

Chunks = Callable[[Sequence[Event], str, str], Iterable[C]]
"""Events, model and time stamp to chunks."""


_Count = int | None
_Counts = tuple[_Count, _Count, _Count, _Count, _Count, _Count]


def _counts(usage: Usage | None) -> _Counts:
    """The six figures of a final chunk, in the order of its fields; what was not told is not set."""
    if usage is None:
        return None, None, None, None, None, None
    return (
        usage.total_duration or None,
        usage.load_duration or None,
        usage.prompt_tokens or None,
        usage.prompt_duration or None,
        usage.output_tokens or None,
        usage.output_duration or None,
    )


# A record that is copied is made several times as quickly as one of arguments, which are looked at.
def _copying(record: C) -> Callable[[], C]:
    made: Callable[[], C] = record.__copy__  # type: ignore[attr-defined]  # msgspec's stubs have none
    return made


_new_message = _copying(Message("assistant", ""))
_new_chunk = _copying(ChatResponse(Message("assistant", ""), done=False))
_new_piece = _copying(GenerateResponse("", done=False))


def chat_chunks(events: Sequence[Event], model: str, stamp: str) -> list[ChatResponse]:
    """Returns the chunks that `events` are on a chat stream."""
    first = _new_chunk()
    first.model, first.created_at = model, stamp
    new_chunk = _copying(first) if len(events) > 1 else [first].pop  # one alone needs no copy
    chunks: list[ChatResponse] = []
    for event in events:
        if type(event) is TextDelta:
            message = _new_message()
            message.content = event.text
            chunk = new_chunk()
            chunk.message = message
            if event.logprobs is not None:
                chunk.logprobs = _logprobs(event.logprobs)
            chunks.append(chunk)
        elif type(event) is ThinkingDelta:
            message = _new_message()
            message.thinking = event.text
            chunk = new_chunk()
            chunk.message = message
            chunks.append(chunk)
        elif isinstance(event, ToolCall):
            message = Message("assistant", "", tool_calls=calls_of([event]))
            chunks.append(ChatResponse(message, model, stamp, False))
        elif isinstance(event, Ended) and event.outcome.finished:
            counts = _counts(event.usage)
            chunks.append(ChatResponse(_new_message(), model, stamp, True, event.reason or None, *counts))
    return chunks


def generate_chunks(events: Sequence[Event], model: str, stamp: str) -> list[GenerateResponse]:
    """Returns the chunks that `events` are on a generate stream."""
    chunks: list[GenerateResponse] = []
    for event in events:
        if type(event) is TextDelta:
            chunk = _new_piece()
            chunk.response, chunk.model, chunk.created_at = event.text, model, stamp
            if event.logprobs is not None:
                chunk.logprobs = _logprobs(event.logprobs)
            chunks.append(chunk)
        elif type(event) is ThinkingDelta:
            chunk = _new_piece()
            chunk.thinking, chunk.model, chunk.created_at = event.text, model, stamp
            chunks.append(chunk)
        elif isinstance(event, ToolCall):
            chunks.append(GenerateResponse("", model, stamp, False, tool_calls=calls_of([event])))
        elif isinstance(event, Ended) and event.outcome.finished:
            counts = _counts(event.usage)
            chunk = GenerateResponse("", model, stamp, True, event.reason or None, *counts, context=event.context)
            chunk.image = event.image
            chunks.append(chunk)
        elif isinstance(event, Progress):
            chunk = GenerateResponse("", model, stamp, False, completed=event.completed, total=event.total)
            chunks.append(chunk)
    return chunks


def _logprobs(given: Sequence[Any]) -> Sequence[Logprob]:
    """Returns records of what the server told of its tokens; what has another form is handed on as it came."""
    try:
        return msgspec.convert(given, list[Logprob], strict=False)
    except msgspec.ValidationError:
        return given


def _told(reply: Reply) -> Sequence[Logprob] | None:
    return _logprobs(reply.logprobs) if reply.logprobs is not None else None


def progress_chunks(events: Sequence[Event], model: str, stamp: str) -> list[ProgressResponse]:
    """Returns the lines that `events` are on a pull, push or create."""
    return [
        construct(ProgressResponse, event.status, event.completed, event.total, event.digest)
        for event in events
        if isinstance(event, Progress)
    ]


def chat_response(reply: Reply, stamp: str) -> ChatResponse:
    """Returns the whole answer of a chat."""
    counts = _counts(reply.usage)
    return ChatResponse(reply.message, reply.model, stamp, True, reply.reason or None, *counts, logprobs=_told(reply))


def generate_response(reply: Reply, stamp: str) -> GenerateResponse:
    """Returns the whole answer of a completion."""
    return GenerateResponse(
        reply.text,
        reply.model,
        stamp,
        True,
        reply.reason or None,
        *_counts(reply.usage),
        thinking=reply.thinking or None,
        context=reply.context,
        image=reply.image,
        logprobs=_told(reply),
        tool_calls=calls_of(reply.tool_calls) or None,
    )
