"""Runs to be told on the wires that we write: one of each kind for the golden transcripts, and any for hypothesis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from hypothesis import strategies as st

from tailrace.events import (
    Ended,
    Event,
    Fault,
    Loading,
    Outcome,
    Prefill,
    Queued,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)

OUT = Path(__file__).parent / "fixtures" / "out"
RUN = "run_3fa9c2d1000102030405060708090a0b"

TOKEN = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": [{"token": "Ho", "logprob": -1.5}]}
COUNTED = Usage(12, 2, total_duration=210000000, prompt_duration=80000000, output_duration=40000000)
BROKE_OFF = Fault("TruncatedError", "the server closed the stream without its final record")
CRASHED = Fault("ResponseError", "an error was encountered while running the model", 500, "try a smaller model")

RUNS: dict[str, list[Event]] = {
    "answer": [
        TextDelta("Hel"),
        TextDelta(""),
        TextDelta("lo\u2028春"),
        Ended(Outcome.COMPLETE, "stop", usage=COUNTED),
    ],
    "waiting": [
        Queued(3),
        Queued(),
        Loading("m"),
        Prefill(),
        Prefill(128, 512),
        TextDelta("Yes"),
        Ended(Outcome.COMPLETE, "stop", usage=COUNTED),
    ],
    "thinking": [
        ThinkingDelta("Hm"),
        ThinkingDelta("."),
        TextDelta("Yes"),
        ThinkingDelta("or"),
        TextDelta("no"),
        Ended(Outcome.COMPLETE, "stop", usage=COUNTED),
    ],
    "tools": [
        TextDelta("Let me look."),
        ToolCall("weather", {"city": "苏州"}, "call_a", 0),
        ToolCall("time", {}),
        ToolCall("broken", {}, "call_c", 2, invalid='{"city": Oslo'),
        Ended(Outcome.COMPLETE, "stop", usage=COUNTED),
    ],
    "pieces": [
        ToolCallDelta('{"ci', 0, "weather", "call_a"),
        ToolCallDelta("", 1, "time"),
        ToolCallDelta('ty": "Oslo"}', 0),
        ToolCallDelta("{}", 1),
        ToolCallDelta("{}", 2),
        ToolCall("weather", {"city": "Oslo"}, "call_a", 0),
        ToolCall("time", {}, None, 1),
        ToolCall("unnamed", {}, "call_c", 2),
        Ended(Outcome.COMPLETE, "tool_calls", usage=COUNTED),
    ],
    "logprobs": [TextDelta("Hi", [TOKEN]), TextDelta("", [{"token": ""}]), Ended(Outcome.COMPLETE, "stop")],
    "length": [TextDelta("Once"), Ended(Outcome.LENGTH, "length", usage=Usage(12, 1))],
    "filtered": [TextDelta("I"), Ended(Outcome.COMPLETE, "content_filter", usage=Usage(12))],
    "nothing": [Ended(Outcome.COMPLETE, "stop", usage=Usage(12))],
    "cut": [TextDelta("Hel"), Ended(Outcome.TRUNCATED, fault=BROKE_OFF)],
    "crashed": [ThinkingDelta("Hm"), Ended(Outcome.FAILED, fault=CRASHED)],
    "stopped": [TextDelta("Hel"), Ended(Outcome.CANCELLED)],
    "abandoned": [TextDelta("Hel"), Ended(Outcome.ABANDONED, "no reader for 30 s")],
    "late": [Ended(Outcome.TIMED_OUT, "first_token", fault=Fault("TimedOutError", "no first token within 5 s"))],
}
"""One run for each thing that a wire may have to tell."""

FINISHED = [name for name, events in RUNS.items() if isinstance(end := events[-1], Ended) and end.outcome.finished]
"""Those that came to their end."""


class Encoder(Protocol):
    """What every encoder of a wire is."""

    def encode(self, events: Sequence[Event], after: int) -> bytes: ...


def batched(make: Callable[[], Encoder], events: Sequence[Event], cuts: Sequence[int]) -> bytes:
    """Encodes events that come in batches, cut at these places."""
    encoder = make()
    edges = [0, *sorted(cut % (len(events) + 1) for cut in cuts), len(events)]
    return b"".join(encoder.encode(events[a:b], a) for a, b in itertools.pairwise(edges))


def transcript(make: Callable[[], Encoder], events: Sequence[Event]) -> bytes:
    """Encodes events at once, and checks that one at a time they come to the same."""
    whole = batched(make, events, [])
    assert whole == batched(make, events, range(len(events)))
    return whole


def golden(name: str) -> bytes:
    """The transcript that a wire is to write."""
    return (OUT / name).read_bytes()


# -- any run -----------------------------------------------------------------------------------------------------------

_texts = st.text(st.characters(exclude_categories=()), max_size=20)  # halves of surrogate pairs too
_waits = st.one_of(
    st.builds(Queued, st.none() | st.integers(1, 9)),
    st.builds(Loading, st.just("m")),
    st.builds(Prefill, st.none() | st.integers(0, 9), st.none() | st.integers(1, 9)),
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5), st.lists, max_leaves=4
)
_objects = st.dictionaries(st.text(max_size=5), _json, max_size=3)


@st.composite
def _calls(draw: st.DrawFn) -> list[Event]:
    """A tool call, whole or in pieces."""
    index = draw(st.integers(0, 10**6))
    name, id = draw(st.text(min_size=1, max_size=5)), draw(st.none() | st.text(min_size=1, max_size=5))
    arguments = draw(_objects)
    call = ToolCall(name, arguments, id, index)
    if draw(st.booleans()):
        return [call]
    text = msgspec.json.encode(arguments).decode()
    cut = draw(st.integers(0, len(text)))
    return [ToolCallDelta(text[:cut], index, name, id), ToolCallDelta(text[cut:], index), call]


_said = st.one_of(
    st.builds(TextDelta, _texts).map(lambda event: [event]),
    st.builds(ThinkingDelta, _texts).map(lambda event: [event]),
    _calls(),
)
_counts = st.none() | st.builds(Usage, st.integers(0, 99), st.integers(0, 99))
_endings = st.one_of(
    st.builds(Ended, st.just(Outcome.COMPLETE), st.just("stop"), st.none(), _counts),
    st.builds(Ended, st.just(Outcome.LENGTH), st.just("length"), st.none(), _counts),
    st.builds(Ended, st.just(Outcome.CANCELLED)),
    st.builds(
        Ended,
        st.sampled_from([Outcome.FAILED, Outcome.TRUNCATED, Outcome.OWNER_LOST, Outcome.TIMED_OUT]),
        st.just(""),
        st.builds(Fault, st.just("ResponseError"), st.text(min_size=1, max_size=20), st.sampled_from([-1, 400, 500])),
    ),
)


@st.composite
def runs(draw: st.DrawFn) -> list[Event]:
    """Any run: what it waits for, what it says, and how it ends."""
    said = [event for events in draw(st.lists(_said, max_size=12)) for event in events]
    return [*draw(st.lists(_waits, max_size=3)), *said, draw(_endings)]
