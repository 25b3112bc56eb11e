"""Encoders: any run as each protocol writes it, whichever of them started it."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from tailrace.errors import EvictedError
from tailrace.events import Event, TextDelta, ThinkingDelta, Usage
from tailrace.protocols.aisdk import encode as aisdk_encode
from tailrace.protocols.aisdk.encode import UIWire
from tailrace.protocols.ollama.encode import Lines, OllamaWire
from tailrace.protocols.openai.encode import Answer, ChatWire
from tailrace.run.run import Run
from tailrace.web.source import Feed, Source, Wire
from tailrace.web.stream_settings import HEADERS, Medium

__all__ = ["CHUNKS", "LINES", "PARTS", "WIRES", "message_of", "on_ollama", "source_of", "timed"]

CHUNKS = Medium(opening=b"")
"""OpenAI's: nobody comes back with a cursor, so nobody is told when to."""

PARTS = Medium(headers=(*HEADERS, *aisdk_encode.HEADERS), opening=b"")
"""The AI SDK's."""

LINES = Medium(headers=(("Content-Type", "application/x-ndjson"), *HEADERS[1:]), opening=b"", ping=b"")
"""Ollama's, which has nothing to say in a silence."""


def source_of(run: Run, wire: Wire) -> Source:
    """Returns a reader at the start; what the log no longer keeps one by one comes as one piece."""
    feed = Feed(run.log, wire)
    try:
        return Source(feed)
    except EvictedError:
        reply, last = run.log.so_far()
        said: list[Event] = [ThinkingDelta(reply.thinking), TextDelta(reply.text), *reply.tool_calls]
        if run.log.sealed and run.ended is not None:
            said.append(run.ended)
        return Source(feed, last, wire.encode(said, 0))


def message_of(run: Run) -> str:
    """Returns the id of the message that a run writes, on the AI SDK's wire."""
    return f"msg-{run.id.removeprefix('run_')}"


def on_ollama(run: Run, *, chat: bool = True) -> OllamaWire:
    """Returns a run's encoder for one reader of Ollama's wire."""
    lines = Lines(run.model, chat=chat, clock=time.time_ns)
    return OllamaWire(lines, run.id, lambda usage: timed(run, usage))


def timed(run: Run, usage: Usage | None) -> Usage:
    """Returns the server's counts, and times of ours if it told none: Ollama's clients compute tokens a second."""
    if usage is not None and usage.total_duration:
        return usage
    usage = usage or Usage()
    metrics = run.metrics()
    waited = (metrics.queued or 0.0) + (metrics.connecting or 0.0)
    first = metrics.elapsed if metrics.time_to_first_token is None else metrics.time_to_first_token
    return msgspec.structs.replace(
        usage,
        total_duration=usage.total_duration or _nanoseconds(metrics.elapsed),
        prompt_duration=usage.prompt_duration or _nanoseconds(first - waited),
        output_duration=usage.output_duration or _nanoseconds(metrics.elapsed - first),
    )


def _nanoseconds(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def _openai(run: Run, created: int) -> ChatWire:
    return ChatWire(Answer(run=run.id, created=created, model=run.model), usage=True)


WIRES: dict[str, tuple[Callable[[Run, int], Wire], Medium]] = {
    "ollama": (lambda run, _created: on_ollama(run), LINES),
    "openai": (_openai, CHUNKS),
    "ai": (lambda run, _created: UIWire(run.id, run.model, message_of(run)), PARTS),
}
"""By name: what encodes a run that was started at a time, for a reader from the start; and how that is carried."""
