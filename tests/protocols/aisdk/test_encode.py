"""The AI SDK's wire: golden transcripts, and what holds of any run's: order, ids, and no member that 5.0 refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.answers import OUT, RUN, RUNS, batched, golden, runs, transcript
from tests.protocols.decoding import patient

from tailrace.events import Ended, Event, Outcome, Progress, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.protocols.aisdk.encode import UIWire
from tailrace.protocols.sse import SSEDecoder

MEMBERS = {  # of each part, as the strict schemas of 5.0 have them
    "start": {"messageId", "messageMetadata"},
    "start-step": set(),
    "text-start": {"id"},
    "text-delta": {"id", "delta"},
    "text-end": {"id"},
    "reasoning-start": {"id"},
    "reasoning-delta": {"id", "delta"},
    "reasoning-end": {"id"},
    "tool-input-start": {"toolCallId", "toolName"},
    "tool-input-delta": {"toolCallId", "inputTextDelta"},
    "tool-input-available": {"toolCallId", "toolName", "input"},
    "tool-output-error": {"toolCallId", "errorText"},
    "data-status": {"data", "transient"},
    "finish-step": set(),
    "finish": {"messageMetadata"},
    "error": {"errorText"},
    "abort": set(),
}
DONE = "[DONE]"


def message() -> UIWire:
    return UIWire(RUN, "llama3.2", "msg-7")


@pytest.mark.parametrize("name", RUNS)
def test_transcript(name: str) -> None:
    """Each kind of run has the transcript that is written down, in whatever batches its events come."""
    assert golden(f"ui_{name}.sse") == transcript(message, RUNS[name])


def test_nothing_else_is_written_down() -> None:
    """Each golden transcript of this wire is held against."""
    assert {f"ui_{name}.sse" for name in RUNS} == {path.name for path in OUT.glob("ui_*")}


def test_a_reader_that_is_too_slow() -> None:
    """It is told by an error part, which a client shows."""
    expected = [{"type": "error", "errorText": "this reader was too slow and is let go"}]

    assert expected == parts(message().lagged())
    assert message().reset() == b""


def test_a_call_in_pieces_that_is_no_json() -> None:
    """Its pieces are told as they come, and in the end that no tool can be called with them."""
    pieces = [ToolCallDelta('{"city"', 0, "weather", "call_a"), ToolCallDelta(": Oslo", 0)]
    broken = ToolCall("weather", {}, "call_a", 0, invalid='{"city": Oslo')

    told = parts(message().encode([*pieces, broken], 0))

    assert [part["type"] for part in told] == [
        *("start", "start-step", "tool-input-start", "tool-input-delta", "tool-input-delta", "tool-output-error"),
    ]
    assert told[-1]["toolCallId"] == "call_a"


def test_events_that_it_has_no_part_for() -> None:
    """How far the fetching of a model is has no place in a message."""
    assert message().encode([Progress("pulling")], 0) == b""


@patient
@given(runs(), st.lists(st.integers(0, 1000), max_size=5))
def test_batches_do_not_matter(events: list[Event], cuts: list[int]) -> None:
    """However the events of a run come, the bytes are the same."""
    assert batched(message, events, []) == batched(message, events, cuts)


@patient
@given(runs())
def test_a_client_reads_what_was_said(events: list[Event]) -> None:
    """A client of 5.0 takes every part, and has all text, reasoning and calls in the end."""
    client = Client()
    for part in parts(transcript(message, events)):
        client.take(part)

    ended = events[-1]
    assert isinstance(ended, Ended)
    assert whole(events, TextDelta) == client.said["text"]
    assert whole(events, ThinkingDelta) == client.said["reasoning"]
    assert sorted(json.dumps([e.name, e.arguments]) for e in events if isinstance(e, ToolCall)) == sorted(client.calls)
    assert client.end == (DONE if ended.outcome.finished or ended.outcome is Outcome.CANCELLED else "error")
    assert not client.open


def parts(data: bytes) -> list[Any]:
    events = SSEDecoder().feed(data)
    return [DONE if event.data == b"[DONE]" else json.loads(event.data) for event in events]


def whole(events: list[Event], kind: type) -> str:
    texts = [event.text for event in events if isinstance(event, kind)]  # type: ignore[union-attr]
    return "".join(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for text in texts)


class Client:
    """Reads parts as strictly as the client does, and a little more."""

    def __init__(self) -> None:
        self.said = {"text": "", "reasoning": ""}
        self.calls: list[str] = []
        self.open: set[str] = set()
        self.end = ""
        self._begun = False
        self._ids: set[str] = set()
        self._inputs: dict[str, str] = {}

    def take(self, part: Any) -> None:
        assert not self.end, "nothing comes after the end"
        if part == DONE:
            self.end = DONE
            return
        kind = part.pop("type")
        assert set(part) <= MEMBERS[kind]
        if kind == "start":
            assert not self._begun
            self._begun = True
        elif kind not in ("data-status", "error", "abort"):
            assert self._begun, "all of a message comes after its start"
        block, _, what = kind.rpartition("-")
        if block in self.said:
            self._block(block, what, part)
        elif kind.startswith("tool-input-"):
            self._call(what, part)
        elif kind == "error":
            self.end = "error"

    def _block(self, block: str, what: str, part: Any) -> None:
        if what == "start":
            assert part["id"] not in self._ids
            assert not self.open, "one block at a time"
            self._ids.add(part["id"])
            self.open.add(part["id"])
        assert part["id"] in self.open
        if what == "delta":
            self.said[block] += part["delta"]
        elif what == "end":
            self.open.remove(part["id"])

    def _call(self, what: str, part: Any) -> None:
        id = part["toolCallId"]
        if what == "start":
            self._inputs[id] = ""
        elif what == "delta":
            self._inputs[id] += part["inputTextDelta"]
        else:
            streamed = self._inputs.pop(id, "")
            assert streamed == "" or json.loads(streamed) == part["input"]
            self.calls.append(json.dumps([part["toolName"], part["input"]]))
