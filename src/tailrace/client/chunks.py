"""Chunks and responses: events and replies in ollama-python's shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tailrace.events import Ended, Event, Progress, TextDelta, ThinkingDelta, ToolCall, Usage
from tailrace.run.reply import Reply, calls_of
from tailrace.types import ChatResponse, GenerateResponse, Message, ProgressResponse

__all__ = [
    "Chunks",
    "chat_chunks",
    "chat_response",
    "generate_chunks",
    "generate_response",
    "progress_chunks",
]

C = TypeVar("C")

Chunks = Callable[[Sequence[Event], str, str], Iterator[C]]
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


def chat_chunks(events: Sequence[Event], model: str, stamp: str) -> Iterator[ChatResponse]:
    """Yields the chunks that `events` are on a chat stream."""
    for event in events:
        kind = type(event)
        if kind is TextDelta:
            message = Message("assistant", event.text)  # type: ignore[union-attr]
            chunk = ChatResponse(message, model, stamp, False)
            if event.logprobs is not None:  # type: ignore[union-attr]
                chunk.logprobs = event.logprobs  # type: ignore[union-attr]
            yield chunk
        elif kind is ThinkingDelta:
            yield ChatResponse(Message("assistant", "", event.text), model, stamp, False)  # type: ignore[union-attr]
        elif isinstance(event, ToolCall):
            yield ChatResponse(Message("assistant", "", tool_calls=calls_of([event])), model, stamp, False)
        elif isinstance(event, Ended) and event.outcome.finished:
            yield ChatResponse(
                Message("assistant", ""), model, stamp, True, event.reason or None, *_counts(event.usage)
            )


def generate_chunks(events: Sequence[Event], model: str, stamp: str) -> Iterator[GenerateResponse]:
    """Yields the chunks that `events` are on a generate stream."""
    for event in events:
        kind = type(event)
        if kind is TextDelta:
            chunk = GenerateResponse(event.text, model, stamp, False)  # type: ignore[union-attr]
            if event.logprobs is not None:  # type: ignore[union-attr]
                chunk.logprobs = event.logprobs  # type: ignore[union-attr]
            yield chunk
        elif kind is ThinkingDelta:
            yield GenerateResponse("", model, stamp, False, thinking=event.text)  # type: ignore[union-attr]
        elif isinstance(event, ToolCall):
            yield GenerateResponse("", model, stamp, False, tool_calls=calls_of([event]))
        elif isinstance(event, Ended) and event.outcome.finished:
            counts = _counts(event.usage)
            yield GenerateResponse("", model, stamp, True, event.reason or None, *counts, context=event.context)


def progress_chunks(events: Sequence[Event], model: str, stamp: str) -> Iterator[ProgressResponse]:
    """Yields the lines that `events` are on a pull, push or create."""
    for event in events:
        if isinstance(event, Progress):
            yield ProgressResponse(event.status, event.completed, event.total, event.digest)


def chat_response(reply: Reply, stamp: str) -> ChatResponse:
    """Returns the whole answer of a chat."""
    counts = _counts(reply.usage)
    return ChatResponse(reply.message, reply.model, stamp, True, reply.reason or None, *counts, logprobs=reply.logprobs)


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
        logprobs=reply.logprobs,
        tool_calls=calls_of(reply.tool_calls) or None,
    )
