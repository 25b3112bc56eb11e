"""The tutorial's wire: old readers read the answer and nothing else, new ones read everything."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.decoding import patient
from tests.protocols.events import BEFORE, COMPLETE, METRICS, TAG, before, endings
from tests.protocols.test_sse_encode import decoded

from tailrace.events import Ended, Event, Fault, Outcome, Progress, TextDelta, ThinkingDelta
from tailrace.protocols.event_json import fields_of, name_of
from tailrace.protocols.sse import ServerSentEvent
from tailrace.protocols.tutorial.encode import PlainWire

GOLDEN = b"""\
id: 1-3fa9c2d1
event: queued
data: {"content":"","position":2}

id: 2-3fa9c2d1
event: loading
data: {"content":"","model":"m"}

id: 3-3fa9c2d1
event: prefill
data: {"content":"","processed":128,"total":512}

id: 4-3fa9c2d1
event: thinking
data: {"content":"","thinking":"Hm."}

id: 5-3fa9c2d1
data: {"content":"Hel"}

id: 6-3fa9c2d1
data: {"content":"lo"}

id: 7-3fa9c2d1
event: tool_call
data: {"content":"","name":"add","arguments":{"a":1},"id":"c1"}

id: 8-3fa9c2d1
event: ended
data: {"content":"","outcome":"complete","reason":"stop","usage":{"prompt_tokens":4,"output_tokens":2},\
"metrics":{"tokens_per_second":20.0}}

id: 8-3fa9c2d1
data: [DONE]

"""


def wire() -> PlainWire:
    return PlainWire(TAG, lambda: METRICS)


def naive(data: bytes) -> tuple[str, bool]:
    """The tutorial's reader: takes lines that begin with ``data: ``; returns the answer, and whether it was done."""
    answer = ""
    for line in data.decode().split("\n"):
        if line == "data: [DONE]":
            return answer, True
        if line.startswith("data: "):
            answer += json.loads(line.removeprefix("data: "))["content"]
    return answer, False


def named(kind: str, data: bytes) -> list[Any]:
    """What the events of a name say."""
    return [json.loads(event.data) for event in decoded(data) if event.type == kind]


def test_golden() -> None:
    """Every kind of event, in the bytes that the documentation shows."""
    assert wire().encode([*BEFORE, COMPLETE], 0) == GOLDEN


def test_cut_anywhere() -> None:
    """Events encoded in two batches are the same bytes, wherever they are cut."""
    events = [*BEFORE, COMPLETE]

    for cut in range(len(events) + 1):
        assert wire().encode(events[:cut], 0) + wire().encode(events[cut:], cut) == GOLDEN


def test_old_readers() -> None:
    """A reader of lines prints the answer and stops at [DONE]; an EventSource that listens to message sees the same."""
    assert naive(GOLDEN) == ("Hello", True)
    assert [event.data for event in decoded(GOLDEN) if event.type == "message"] == [
        b'{"content":"Hel"}',
        b'{"content":"lo"}',
        b"[DONE]",
    ]


@pytest.mark.parametrize("outcome", Outcome)
def test_the_ending_of_each_outcome(outcome: Outcome) -> None:
    """[DONE] comes where a loop would just end; where it would raise there is an error, and no [DONE]."""
    shown = [_shown(event) for event in decoded(wire().encode([Ended(outcome)], 4))]

    if outcome in (Outcome.COMPLETE, Outcome.LENGTH, Outcome.CANCELLED):
        assert shown == [("ended", "5-3fa9c2d1"), ("done", "5-3fa9c2d1")]
    elif outcome is Outcome.ABANDONED:
        assert shown == [("ended", "5-3fa9c2d1")]
    else:
        assert shown == [("error", "4-3fa9c2d1"), ("ended", "5-3fa9c2d1")]


def _shown(event: ServerSentEvent) -> tuple[str, str]:
    if event.data == b"[DONE]":
        return "done", event.id
    kind = "error" if b'"error"' in event.data and event.type == "message" else event.type
    return kind, event.id


def test_an_error_in_band() -> None:
    """The error says what happened and what to do, unnamed and in the ending; it prints as nothing."""
    ended = Ended(Outcome.FAILED, fault=Fault("BusyError", "full", 503, "wait"))
    data = wire().encode([TextDelta("a"), ended], 0)
    error = {"message": "full", "type": "BusyError", "status": 503, "hint": "wait"}

    assert [{"content": "a"}, {"content": "", "error": error}] == named("message", data)
    assert [{"content": "", "outcome": "failed", "metrics": METRICS, "error": error}] == named("ended", data)
    assert naive(data) == ("a", False)


def test_reset_and_lagged() -> None:
    """A reset has an id before all others, so that a reader cut off after it gets everything; lagged moves nothing."""
    reset, lagged = decoded(wire().reset() + wire().lagged())

    assert (reset.type, reset.id, json.loads(reset.data)) == ("reset", "0-3fa9c2d1", {"content": "", "after": 0})
    assert (lagged.type, lagged.id, json.loads(lagged.data)) == ("lagged", "0-3fa9c2d1", {"content": ""})


def test_half_a_surrogate_pair() -> None:
    """A piece of text that UTF-8 has no bytes for is replaced, and the rest of it stays."""
    assert named("message", wire().encode([TextDelta("a\ud83db")], 0)) == [{"content": "a\ufffdb"}]


@patient
@given(st.lists(before, max_size=8), endings, st.integers(0, 10**9))
def test_x2_whatever_the_model_says(events: list[Event], ended: Ended, after: int) -> None:
    """One event in, one event out, with its own id; the ending is one more at most. The text is the text."""
    told = [event for event in events if not isinstance(event, Progress)]
    data = wire().encode([*events, ended], after)
    out = decoded(data)

    assert len(told) + 1 <= len(out) <= len(told) + 2
    numbers = [after + place for place, event in enumerate(events, 1) if not isinstance(event, Progress)]
    assert [f"{number}-{TAG}" for number in numbers] == [event.id for event in out[: len(told)]]
    assert list(map(_type, told)) == [event.type for event in out[: len(told)]]
    assert list(map(_fields, told)) == [json.loads(event.data) for event in out[: len(told)]]
    assert "".join(event.text for event in told if type(event) is TextDelta) == naive(data)[0]


def _type(event: Event) -> str:
    if type(event) is TextDelta:
        return "message"
    return "thinking" if type(event) is ThinkingDelta else name_of(event)


def _fields(event: Event) -> dict[str, Any]:
    if isinstance(event, TextDelta):
        return {"content": event.text}
    if isinstance(event, ThinkingDelta):
        return {"content": "", "thinking": event.text}
    return {"content": "", **fields_of(event)}
