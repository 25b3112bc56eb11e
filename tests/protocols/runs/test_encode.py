"""The wire of ``/runs/{id}/events``: each event of the log by its own name."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.decoding import patient
from tests.protocols.events import BEFORE, COMPLETE, METRICS, TAG, before, endings
from tests.protocols.test_sse_encode import decoded

from tailrace.events import Ended, Event, Fault, Outcome, Progress, TextDelta
from tailrace.protocols.event_json import fields_of, name_of
from tailrace.protocols.runs.encode import RunsWire

GOLDEN = b"""\
id: 1-3fa9c2d1
event: queued
data: {"position":2}

id: 2-3fa9c2d1
event: loading
data: {"model":"m"}

id: 3-3fa9c2d1
event: prefill
data: {"processed":128,"total":512}

id: 4-3fa9c2d1
event: thinking_delta
data: {"text":"Hm."}

id: 5-3fa9c2d1
event: text_delta
data: {"text":"Hel"}

id: 6-3fa9c2d1
event: text_delta
data: {"text":"lo"}

id: 7-3fa9c2d1
event: tool_call
data: {"name":"add","arguments":{"a":1},"id":"c1"}

id: 8-3fa9c2d1
event: ended
data: {"outcome":"complete","reason":"stop","usage":{"prompt_tokens":4,"output_tokens":2},\
"metrics":{"tokens_per_second":20.0}}

"""


def wire() -> RunsWire:
    return RunsWire(TAG, lambda: METRICS)


def test_golden() -> None:
    """Every kind of event, in the bytes that the documentation shows; cut into batches anywhere, they are the same."""
    events = [*BEFORE, COMPLETE]

    for cut in range(len(events) + 1):
        assert wire().encode(events[:cut], 0) + wire().encode(events[cut:], cut) == GOLDEN


def test_what_only_some_events_have() -> None:
    """Probabilities and the lines of a pull are there; an ending says what went wrong as ``error``."""
    fault = Fault("TimedOutError", "no first token within 1 s", hint="wait longer")
    ended = Ended(Outcome.TIMED_OUT, reason="first_token", fault=fault, warnings=("odd",), context=[1, 2])
    data = wire().encode([TextDelta("a", [{"token": "a"}]), Progress(status="pulling", total=9), ended], 41)
    error = {"message": "no first token within 1 s", "type": "TimedOutError", "hint": "wait longer"}
    end = {"outcome": "timed_out", "reason": "first_token", "warnings": ["odd"], "metrics": METRICS, "error": error}

    assert [
        ("text_delta", "42-3fa9c2d1", {"text": "a", "logprobs": [{"token": "a"}]}),
        ("progress", "43-3fa9c2d1", {"status": "pulling", "total": 9}),
        ("ended", "44-3fa9c2d1", end),
    ] == [(event.type, event.id, json.loads(event.data)) for event in decoded(data)]


def test_reset_and_lagged() -> None:
    """A reset has an id before all others, so that a reader cut off after it gets everything; lagged moves nothing."""
    reset, lagged = decoded(wire().reset() + wire().lagged())

    assert (reset.type, reset.id, json.loads(reset.data)) == ("reset", "0-3fa9c2d1", {"after": 0})
    assert (lagged.type, lagged.id, json.loads(lagged.data)) == ("lagged", "0-3fa9c2d1", {})


def test_half_a_surrogate_pair() -> None:
    """A piece of text that UTF-8 has no bytes for is replaced, and the rest of it stays."""
    assert [json.loads(event.data) for event in decoded(wire().encode([TextDelta("a\ud83db")], 0))] == [
        {"text": "a\ufffdb"}
    ]


@patient
@given(st.lists(before, max_size=8), endings, st.integers(0, 10**9))
def test_x2_whatever_the_model_says(events: list[Event], ended: Ended, after: int) -> None:
    """One event in, one event out, with its name, its own id and its fields."""
    out = decoded(wire().encode([*events, ended], after))

    assert [f"{number}-{TAG}" for number in range(after + 1, after + len(events) + 2)] == [event.id for event in out]
    assert [name_of(event) for event in [*events, ended]] == [event.type for event in out]
    assert list(map(fields_of, events)) == [json.loads(event.data) for event in out[:-1]]
    assert ended.outcome == _object(out[-1].data)["outcome"]


def _object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    assert isinstance(value, dict)
    return value
