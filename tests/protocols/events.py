"""Events of every kind, for the encoders: golden ones, and hypothesis's."""

from __future__ import annotations

from hypothesis import strategies as st

from tailrace.events import (
    Ended,
    Event,
    Fault,
    Loading,
    Outcome,
    Prefill,
    Progress,
    Queued,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    Usage,
)

TAG = "3fa9c2d1"
METRICS = {"tokens_per_second": 20.0}

BEFORE: list[Event] = [
    Queued(position=2),
    Loading(model="m"),
    Prefill(processed=128, total=512),
    ThinkingDelta("Hm."),
    TextDelta("Hel"),
    TextDelta("lo"),
    ToolCall("add", {"a": 1}, id="c1"),
]
COMPLETE = Ended(Outcome.COMPLETE, reason="stop", usage=Usage(prompt_tokens=4, output_tokens=2))

hostile = st.text(st.sampled_from("a \r\n\0:\u2028\x85\ufeff水👩{}\"'<\\")) | st.text()
"""Text that would be several fields, lines or events if it were not encoded with care."""

_json = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | hostile, lambda inner: st.lists(inner), max_leaves=5
)
_number = st.none() | st.integers(0, 2**53)

before: st.SearchStrategy[Event] = st.one_of(
    st.builds(Queued, position=_number, retry_in=st.none() | st.floats(0, 1e6)),
    st.builds(Loading, model=hostile),
    st.builds(Prefill, processed=_number, total=_number),
    st.builds(TextDelta, text=hostile, logprobs=st.none() | st.lists(_json, min_size=1, max_size=3)),
    st.builds(ThinkingDelta, text=hostile),
    st.builds(
        ToolCall,
        name=hostile,
        arguments=st.dictionaries(hostile, _json, max_size=3),
        id=st.none() | hostile,
        index=st.none() | st.integers(0, 9),
        invalid=st.none() | hostile,
    ),
    st.builds(Progress, status=st.none() | hostile, digest=st.none() | hostile, total=_number, completed=_number),
)
endings: st.SearchStrategy[Ended] = st.builds(
    Ended,
    outcome=st.sampled_from(Outcome),
    reason=hostile,
    fault=st.none() | st.builds(Fault, kind=hostile, message=hostile, status_code=st.integers(-1, 599), hint=hostile),
    usage=st.none() | st.builds(Usage, prompt_tokens=st.integers(0, 9)),
    warnings=st.lists(hostile, max_size=2).map(tuple),
    context=st.none() | st.lists(st.integers(0, 9), max_size=3),
)
