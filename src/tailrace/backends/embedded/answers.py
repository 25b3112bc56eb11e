"""The engine's chunks turned into Ollama's lines; no input or output.

The engine speaks OpenAI's protocol, one chunk at a time; our client, this process's parent, reads Ollama's. For what
Ollama's has no line for there are lines ``{"tailrace": {"status": …}}``, which only our own client understands, and
from nobody but this process: what a run waits for (``queued``, ``loading``, ``prefill``), and the pieces of a tool call
(``tool_call``), which follows as a whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from tailrace.backends.embedded.forced import ForcedCall
from tailrace.events import Ended, Event, Prefill, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta, Usage
from tailrace.protocols.ollama.encode import Lines, OllamaWire, whole
from tailrace.protocols.ollama.requests import OllamaAPIError
from tailrace.protocols.openai.decode import ChunkDecoder
from tailrace.run.reply import Reply, fold

__all__ = ["Answer", "status_line"]

_DONE = b"[DONE]"


def status_line(status: str, **more: Any) -> bytes:
    """Returns a line that only our own client understands."""
    return msgspec.json.encode({"tailrace": {"status": status, **more}}) + b"\n"


class Answer:
    """One answer of the engine's.

    Args:
        model: the model, as it was asked for.
        chat: it is the answer to a chat, else to a prompt.
        load_ns: how long the model took to load.
        started_ns: when the request came.
        call: what takes the answer for a tool call, if it must be one.

    Attributes:
        error: what the engine refused or failed with, as status and text; nothing follows it.
        spoken: a token has been passed on, so statuses of errors no longer matter.
        finished: the last event has come.
        processed: tokens of the prompt that have been evaluated.
        total: tokens of the prompt.
        pieces: pieces of text that have come out.
    """

    def __init__(
        self, model: str, *, chat: bool, load_ns: int, started_ns: int, call: ForcedCall | None = None
    ) -> None:
        self.error: OllamaAPIError | None = None
        self.spoken = False
        self.finished = False
        self.processed = 0
        self.total = 0
        self.pieces = 0
        self._decoder = ChunkDecoder()
        self._call = call
        self._lines = Lines(model, chat=chat, clock=time.time_ns)
        self._wire = OllamaWire(self._lines, "", self._timed)
        self._load_ns = load_ns
        self._started_ns = started_ns

    def feed(self, chunk: bytes) -> list[Event]:
        """Takes one chunk of the engine's; returns its events, the ending last."""
        came = self._decoder.feed_chunk(chunk)
        if self._decoder.complete and not self._decoder.ended:
            came += self._decoder.feed_chunk(_DONE)  # the engine does not say it
        if self._call is not None:
            came = self._call.events(came)
        events: list[Event] = []
        for event in came:
            if isinstance(event, Ended) and not event.outcome.finished:
                self.error = _error(event)
                return events
            events.append(self._noted(event))
        return events

    def lines(self, events: Sequence[Event]) -> bytes:
        """Returns events as lines."""
        return b"".join(map(self._line, events))

    def whole(self, events: Sequence[Event]) -> bytes:
        """Returns all events of a finished answer as the one record of ``stream: false``."""
        reply = fold(events, Reply())
        return whole(self._lines, "", reply, self._timed(reply.usage))

    def _noted(self, event: Event) -> Event:
        """Takes note of what an event says, and returns it with Ollama's id of a tool call."""
        if isinstance(event, Ended):
            self.finished = True
        elif isinstance(event, Prefill):
            self.processed, self.total = event.processed or 0, event.total or 0
        else:
            self.spoken = True
        if isinstance(event, (TextDelta, ThinkingDelta)):
            self.pieces += bool(event.text)
        elif isinstance(event, ToolCall):
            return msgspec.structs.replace(event, id=_call_id(event.id or str(event.index)))
        elif isinstance(event, ToolCallDelta) and event.id:
            return msgspec.structs.replace(event, id=_call_id(event.id))
        return event

    def _line(self, event: Event) -> bytes:
        if isinstance(event, Prefill):
            return status_line("prefill", processed=event.processed, total=event.total)
        if isinstance(event, ToolCallDelta):
            return status_line("tool_call", tool_call=event)
        return self._wire.encode((event,), 0)

    def _timed(self, usage: Usage | None) -> Usage:
        """Returns the engine's counts with the times that only we know."""
        return msgspec.structs.replace(
            usage or Usage(),
            total_duration=time.perf_counter_ns() - self._started_ns,
            load_duration=self._load_ns,
        )


def _call_id(id: str) -> str:
    """Returns the id of a tool call in the form that Ollama's have."""
    return f"call_{id.removeprefix('call_')[:8]}"


def _error(ended: Ended) -> OllamaAPIError:
    fault = ended.fault
    assert fault is not None  # what is not finished here has failed
    text = fault.message
    if "the context holds" in text:  # so `error_words.error_text` words llama.cpp's exceed_context_size_error
        text += "; shorten it, or ask for more with the option num_ctx"
    return OllamaAPIError(fault.status_code if 400 <= fault.status_code < 600 else 500, text)
