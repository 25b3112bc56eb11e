"""The Vercel AI SDK's protocol: a run as a UI message stream (version 1).

The parts are those of vercel/ai, ``packages/ai/src/ui-message-stream/ui-message-chunks.ts``. Clients of the SDK up to
early 7.0 reject a part with an unknown member, so only the members of 5.0 are sent; the reason of the ending and the
counts go into ``messageMetadata``, whose shape is free. What a run waits for is sent as a transient ``data-status``
part before ``start``: clients pass it to ``onData``, do not store it, and go on showing that they wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tailrace.events import (
    Ended,
    Event,
    Loading,
    Outcome,
    Prefill,
    Queued,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
)
from tailrace.protocols.event_json import call_id, counts_of, ending_text, fields_of, json_bytes, name_of, text_json

__all__ = ["HEADERS", "UIWire"]

HEADERS = (("x-vercel-ai-ui-message-stream", "v1"),)
"""What a response has besides the headers of server-sent events."""

_DONE = b"data: [DONE]\n\n"
_INVALID = "the model wrote arguments that are not the JSON of an object"
_STOPPED = (Outcome.CANCELLED, Outcome.ABANDONED)


class UIWire:
    """Encodes one run's events as a message. One instance serves one reader, from the first event on.

    Args:
        run: the run's id.
        model: the model's name.
        message: the id of the message that the run writes.
    """

    def __init__(self, run: str, model: str, message: str) -> None:
        self._run = run
        self._model = model
        self._message = message
        self._begun = False
        self._block = ""  # what is open: text or reasoning
        self._id = b""  # its id
        self._blocks = 0
        self._calls = 0
        self._pieces: dict[int | None, str] = {}  # calls that come in pieces: the server's index to the call's id

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        """Returns the events as bytes; `after` is the number of the one before the first."""
        out = []
        for event in events:
            if type(event) is TextDelta:
                out.append(self._delta("text", event.text))
            else:
                out.append(self._event(event))
        return b"".join(out)

    def reset(self) -> bytes:
        """Returns nothing: its readers begin at the start."""
        return b""

    def lagged(self) -> bytes:
        """Returns the error that tells a reader that it was too slow and is let go; it may come back."""
        return _part("error", errorText="this reader was too slow and is let go")

    def _event(self, event: Event) -> bytes:
        if isinstance(event, Ended):
            return self._ending(event)
        if isinstance(event, ThinkingDelta):
            return self._delta("reasoning", event.text)
        if isinstance(event, ToolCallDelta):
            return self._piece(event)
        if isinstance(event, ToolCall):
            return self._call(event)
        if isinstance(event, (Queued, Loading, Prefill)):
            return _part("data-status", data={"state": name_of(event), **fields_of(event)}, transient=True)
        return b""

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return _part("start", messageId=self._message) + _part("start-step")

    # -- text and reasoning ------------------------------------------------------------------------------------------

    def _delta(self, block: str, text: str) -> bytes:
        if not text:
            return b""
        head = b"" if block == self._block else self._begin() + self._close() + self._open(block)
        return b'%bdata: {"type":"%b-delta","id":"%b","delta":%b}\n\n' % (
            head,
            block.encode(),
            self._id,
            text_json(text),
        )

    def _open(self, block: str) -> bytes:
        self._blocks += 1
        id = f"{block}-{self._blocks}"
        self._block, self._id = block, id.encode()
        return _part(f"{block}-start", id=id)

    def _close(self) -> bytes:
        if not self._block:
            return b""
        block, self._block = self._block, ""
        return _part(f"{block}-end", id=self._id.decode())

    # -- tools -------------------------------------------------------------------------------------------------------

    def _piece(self, delta: ToolCallDelta) -> bytes:
        if delta.index in self._pieces:
            return self._input(self._pieces[delta.index], delta.text)
        if not delta.name:
            return b""  # its first piece did not say what is called: it comes when it is whole
        id = self._pieces[delta.index] = self._called(delta.id)
        return self._start(id, delta.name) + self._input(id, delta.text)

    def _call(self, call: ToolCall) -> bytes:
        id = self._pieces.pop(call.index, "")
        if call.invalid is None:
            told = {"toolCallId": id or self._called(call.id), "toolName": call.name, "input": call.arguments}
            return self._begin() + self._close() + _part("tool-input-available", **told)
        out = b""
        if not id:
            id = self._called(call.id)
            out = self._start(id, call.name) + self._input(id, call.invalid)
        # 5.0 does not know `tool-input-error`; and no client is to run a tool with this input.
        return out + _part("tool-output-error", toolCallId=id, errorText=_INVALID)

    def _start(self, id: str, name: str) -> bytes:
        return self._begin() + self._close() + _part("tool-input-start", toolCallId=id, toolName=name)

    @staticmethod
    def _input(id: str, text: str) -> bytes:
        return _part("tool-input-delta", toolCallId=id, inputTextDelta=text) if text else b""

    def _called(self, id: str | None) -> str:
        self._calls += 1
        return id or call_id(self._run, self._calls - 1)

    # -- the ending --------------------------------------------------------------------------------------------------

    def _ending(self, ended: Ended) -> bytes:
        if ended.outcome.finished:
            finish = _part("finish", messageMetadata=self._metadata(ended))
            return self._begin() + self._close() + _part("finish-step") + finish + _DONE
        if ended.outcome in _STOPPED:
            return self._close() + _part("abort") + _DONE
        return self._close() + _part("error", errorText=ending_text(ended))

    def _metadata(self, ended: Ended) -> dict[str, Any]:
        told: dict[str, Any] = {"runId": self._run, "model": self._model, "finishReason": self._reason(ended)}
        counts = counts_of(ended.usage, bool(self._blocks or self._calls))
        if counts is not None:
            told["usage"] = {"inputTokens": counts[0], "outputTokens": counts[1], "totalTokens": sum(counts)}
        return told

    def _reason(self, ended: Ended) -> str:
        if ended.outcome is Outcome.LENGTH:
            return "length"
        if ended.reason == "content_filter":
            return "content-filter"
        return "tool-calls" if self._calls else "stop"


def _part(type: str, **members: Any) -> bytes:
    return b"data: %b\n\n" % json_bytes({"type": type, **members})
