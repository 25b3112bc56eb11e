"""Ollama's wire as the gateway and the engine write it: golden, as transcripts have it, and read back by ours."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.decoding import cut_at, decode, patient, recorded
from tests.protocols.events import BEFORE, before, hostile

from tailrace.events import (
    Ended,
    Event,
    Fault,
    Outcome,
    Progress,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from tailrace.protocols.event_json import call_id
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.ollama.encode import Lines, OllamaWire, ProgressWire, stamp, whole
from tailrace.protocols.ollama.progress import ProgressDecoder
from tailrace.run.reply import Reply, fold

RUN = "run_0123456789abcdef"
BEGIN = 1_767_323_045_000_456_789  # 2026-01-02T03:04:05.000456789Z
USAGE = Usage(
    prompt_tokens=12,
    output_tokens=2,
    total_duration=210_000_000,
    load_duration=9_000_000,
    prompt_duration=80_000_000,
    output_duration=40_000_000,
)
COMPLETE = Ended(Outcome.COMPLETE, reason="stop", usage=USAGE, context=[1, 2])
FIGURES = (
    '"total_duration":210000000,"load_duration":9000000,"prompt_eval_count":12,"prompt_eval_duration":80000000,'
    '"eval_count":2,"eval_duration":40000000'
)


def lines(*, chat: bool = True, model: str = "m", times: Iterator[int] | None = None) -> Lines:
    """Records whose times are a millisecond apart."""
    clock = times or itertools.count(BEGIN + 1_000_000, 1_000_000)
    return Lines(model, chat=chat, clock=lambda: next(clock))


def wire(*, chat: bool = True, **more: Any) -> OllamaWire:
    return OllamaWire(lines(chat=chat, **more), RUN, lambda usage: usage)


def at(number: int) -> str:
    return f'"created_at":"2026-01-02T03:04:05.{number:03d}456789Z"'


CHAT = f"""\
{{"model":"m",{at(1)},"message":{{"role":"assistant","content":"","thinking":"Hm."}},"done":false}}
{{"model":"m",{at(2)},"message":{{"role":"assistant","content":"Hel"}},"done":false}}
{{"model":"m",{at(3)},"message":{{"role":"assistant","content":"lo"}},"done":false}}
{{"model":"m",{at(4)},"message":{{"role":"assistant","content":"","tool_calls":\
[{{"id":"c1","function":{{"index":0,"name":"add","arguments":{{"a":1}}}}}}]}},"done":false}}
{{"model":"m",{at(5)},"message":{{"role":"assistant","content":""}},"done":true,"done_reason":"stop",{FIGURES}}}
""".encode()

GENERATE = f"""\
{{"model":"m",{at(1)},"response":"","thinking":"Hm.","done":false}}
{{"model":"m",{at(2)},"response":"Hel","done":false}}
{{"model":"m",{at(3)},"response":"lo","done":false}}
{{"model":"m",{at(4)},"response":"","done":true,"done_reason":"stop","context":[1,2],{FIGURES},"tool_calls":\
[{{"id":"c1","function":{{"index":0,"name":"add","arguments":{{"a":1}}}}}}]}}
""".encode()

WHOLE_CHAT = (
    f'{{"model":"m",{at(1)},"message":{{"role":"assistant","content":"Hello","thinking":"Hm.","tool_calls":'
    '[{"id":"c1","function":{"index":0,"name":"add","arguments":{"a":1}}}]},"done":true,"done_reason":"stop",'
    f"{FIGURES}}}"
).encode()

WHOLE_GENERATE = (
    f'{{"model":"m",{at(1)},"response":"Hello","thinking":"Hm.","done":true,"done_reason":"stop","context":[1,2],'
    f'{FIGURES},"tool_calls":[{{"id":"c1","function":{{"index":0,"name":"add","arguments":{{"a":1}}}}}}]}}'
).encode()


# -- golden ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("chat", "golden"), [(True, CHAT), (False, GENERATE)])
def test_golden(chat: bool, golden: bytes) -> None:
    """Every kind of event; what a run waits for is silence, and calls of a completion are on its last line."""
    assert golden == wire(chat=chat).encode([*BEFORE, COMPLETE], 0)


@pytest.mark.parametrize(("chat", "golden"), [(True, CHAT), (False, GENERATE)])
def test_cut_anywhere(chat: bool, golden: bytes) -> None:
    """Events encoded in two batches are the same bytes, wherever they are cut."""
    events = [*BEFORE, COMPLETE]
    for cut in range(len(events) + 1):
        one = wire(chat=chat)
        assert golden == one.encode(events[:cut], 0) + one.encode(events[cut:], cut)


@pytest.mark.parametrize(("chat", "golden"), [(True, WHOLE_CHAT), (False, WHOLE_GENERATE)])
def test_golden_whole(chat: bool, golden: bytes) -> None:
    """All that was said as one object, which no line end follows."""
    reply = fold([*BEFORE, COMPLETE], Reply())
    assert golden == whole(lines(chat=chat), RUN, reply, reply.usage)


@pytest.mark.parametrize(("name", "chat"), [("chat", True), ("logprobs", True), ("load", True), ("unload", False)])
def test_as_ollama_writes_it(name: str, chat: bool) -> None:
    """Transcripts of Ollama's wire, decoded and encoded again with the times they have, are the same bytes."""
    data = recorded(f"{name}.ndjson")
    records = [json.loads(line) for line in data.splitlines()]
    times = iter([nanoseconds(record["created_at"]) for record in records])
    encoded = wire(chat=chat, model=records[0]["model"], times=times).encode(decode(AnswerDecoder(), [data]), 0)

    assert data.rstrip(b"\n") == encoded.rstrip(b"\n")


def nanoseconds(text: str) -> int:
    head, _, fraction = text.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(f"{head}+00:00").timestamp())
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0"))


@pytest.mark.parametrize("name", ["pull", "push", "create", "pull_unknown"])
def test_progress_as_ollama_writes_it(name: str) -> None:
    """Transcripts of progress are the same bytes again, and an error is the last line."""
    data = recorded(f"{name}.ndjson")
    assert data == ProgressWire().encode(decode(ProgressDecoder(), [data]), 0)


def test_the_official_client_reads_it() -> None:
    """Each line of the golden transcripts is a response to ollama-python."""
    chats = [ollama.ChatResponse.model_validate_json(line) for line in CHAT.splitlines()]
    completions = [ollama.GenerateResponse.model_validate_json(line) for line in GENERATE.splitlines()]

    assert "".join(chunk.message.content or "" for chunk in chats) == "Hello"
    assert "".join(chunk.response or "" for chunk in completions) == "Hello"
    assert (chats[0].message.thinking, completions[0].thinking) == ("Hm.", "Hm.")
    assert chats[3].message.tool_calls is not None
    assert dict(chats[3].message.tool_calls[0].function.arguments) == {"a": 1}
    assert (chats[-1].done_reason, chats[-1].eval_count, completions[-1].context) == ("stop", 2, [1, 2])


# -- what is special ---------------------------------------------------------------------------------------------------


def test_figures_that_are_zero_are_left_out() -> None:
    """As Ollama does; and of counts that nobody told there is none."""
    for usage, told in ((Usage(output_tokens=3), {"eval_count": 3}), (None, {})):
        record = lines().last("stop", usage)
        assert {"model", "created_at", "message", "done", "done_reason", *told} == set(record)
        assert told.items() <= record.items()


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if not outcome.finished])
def test_what_did_not_finish_is_an_error(outcome: Outcome) -> None:
    """One line that says why, also of a stop that came from elsewhere, and without a word of its own."""
    for ended in (Ended(outcome), Ended(outcome, fault=Fault("TruncatedError", "it broke", hint="try again"))):
        (line,) = wire().encode([ended], 3).splitlines()
        assert list(json.loads(line)) == ["error"]
        assert json.loads(line)["error"]
    assert json.loads(wire().encode([ended], 3)) == {"error": "it broke; try again"}
    assert json.loads(wire().encode([Ended(outcome, fault=Fault("X", ""))], 3)) == {"error": outcome.value}


@pytest.mark.parametrize(
    ("outcome", "given", "told"),
    [
        (Outcome.COMPLETE, "stop", "stop"),
        (Outcome.COMPLETE, "tool_calls", "stop"),
        (Outcome.COMPLETE, "function_call", "stop"),
        (Outcome.COMPLETE, "load", "load"),
        (Outcome.COMPLETE, "", None),
        (Outcome.LENGTH, "length", "length"),
        (Outcome.LENGTH, "max_tokens", "length"),
    ],
)
def test_reasons(outcome: Outcome, given: str, told: str | None) -> None:
    """Other servers' words become Ollama's; where there is none, none is made up."""
    assert told == json.loads(wire().encode([Ended(outcome, reason=given)], 0)).get("done_reason")


def test_half_a_call_is_text() -> None:
    """Arguments that are no object have no place on this wire: the client would call the tool without any."""
    events: list[Event] = [TextDelta("So: "), ToolCall("add", invalid='{"a":'), ToolCall("sub", {"b": 2})]
    records = [json.loads(line) for line in wire().encode([*events, COMPLETE], 0).splitlines()]
    reply = fold([*events, COMPLETE], Reply())
    message = json.loads(whole(lines(), RUN, reply, None))["message"]

    assert [record["message"]["content"] for record in records] == ["So: ", 'add({"a":', "", ""]
    called = [{"id": call_id(RUN, 0), "function": {"index": 0, "name": "sub", "arguments": {"b": 2}}}]
    assert called == records[2]["message"]["tool_calls"]
    assert message == {"role": "assistant", "content": 'So: add({"a":', "tool_calls": called}


def test_logprobs_of_another_server() -> None:
    """OpenAI's list and Ollama's differ by what is empty."""
    token = {"token": "Hi", "logprob": -0.25, "bytes": [72, 105], "top_logprobs": [{"token": "Yo", "logprob": -1.5}]}
    other = {"token": "!", "logprob": -2.0, "bytes": None, "top_logprobs": []}
    record = json.loads(wire().encode([TextDelta("Hi!", [token, other, "odd"])], 0))

    assert record["logprobs"] == [token, {"token": "!", "logprob": -2.0}]


def test_half_a_surrogate_pair() -> None:
    """A piece of text that UTF-8 has no bytes for is replaced, wherever it is, and the rest of it stays."""
    half = "a\ud83db"
    events: list[Event] = [TextDelta(half), ThinkingDelta(half), ToolCall(half, {half: half}), TextDelta(half, [{}])]
    text = wire().encode([*events, Ended(Outcome.FAILED, fault=Fault("X", half))], 0).decode()

    assert text.count("a\ufffdb") == 7
    assert len(text.splitlines()) == 5


def test_a_reader_that_is_too_slow() -> None:
    """It is told so by an error line; nobody comes back to this wire, so nothing tells to begin again."""
    for each in (wire(), ProgressWire()):
        assert list(json.loads(each.lagged())) == ["error"]
        assert each.reset() == b""


def test_times() -> None:
    """RFC 3339 in UTC with nanoseconds, each line with its own, over the turn of a second too."""
    times = iter([999_999_999, 1_000_000_000, 1_767_323_045_123_456_789])
    one = wire(times=times)
    stamps = [json.loads(one.encode([TextDelta("x")], 0))["created_at"] for _ in range(3)]

    assert stamps == [
        "1970-01-01T00:00:00.999999999Z",
        "1970-01-01T00:00:01.000000000Z",
        "2026-01-02T03:04:05.123456789Z",
    ]
    assert stamp(0) == "1970-01-01T00:00:00.000000000Z"


# -- what we write, we read --------------------------------------------------------------------------------------------

_tokens = st.lists(
    st.fixed_dictionaries({"token": hostile, "logprob": st.floats(-99, 0)}, optional={"bytes": st.just([1])}),
    min_size=1,
    max_size=3,
)
_event = before | st.builds(TextDelta, text=hostile, logprobs=_tokens) | st.builds(ToolCallDelta, text=hostile)
_number = st.integers(0, 2**53)
_usage = st.none() | st.builds(
    Usage,
    prompt_tokens=_number,
    output_tokens=_number,
    total_duration=_number,
    load_duration=_number,
    prompt_duration=_number,
    output_duration=_number,
)
_finished = st.one_of(
    st.builds(
        Ended,
        outcome=st.just(Outcome.COMPLETE),
        reason=st.sampled_from(("", "stop", "load", "unload")),
        usage=_usage,
        context=st.none() | st.lists(st.integers(0, 9), min_size=1, max_size=3),
    ),
    st.builds(Ended, outcome=st.just(Outcome.LENGTH), reason=st.just("length"), usage=_usage),
)


def read_back(events: Sequence[Event], *, chat: bool) -> list[Event]:
    """What a reader of this wire is to see of the events."""
    out: list[Event] = []
    calls: list[Event] = []
    for event in events:
        if isinstance(event, TextDelta):
            known = [token for token in event.logprobs or () if isinstance(token, dict)]
            out += [TextDelta(event.text, known or None)] if event.text or known else []
        elif isinstance(event, ThinkingDelta):
            out += [event] if event.text else []
        elif isinstance(event, ToolCall):
            if event.invalid is not None:
                out.append(TextDelta(f"{event.name}({event.invalid}"))
                continue
            number = len(calls)
            calls.append(ToolCall(event.name, event.arguments, event.id or call_id(RUN, number), number))
            out += calls[-1:] if chat else []
        elif isinstance(event, Ended):
            context = None if chat else event.context
            out += [] if chat else calls
            out.append(Ended(event.outcome, event.reason, usage=event.usage or Usage(), context=context))
    return out


@patient
@given(st.lists(_event, max_size=8), _finished, st.booleans(), st.lists(st.integers(0)), st.lists(st.integers(0)))
def test_x2_our_decoder_gets_the_same_events_back(
    events: list[Event], ended: Ended, chat: bool, batches: list[int], cuts: list[int]
) -> None:
    """Whatever the model says, however it is batched and wherever the network cuts it: the events are the events."""
    told = [*events, ended]
    encoder, data, start = wire(chat=chat), b"", 0
    for end in sorted({*(place % len(told) for place in batches), len(told)}):
        data += encoder.encode(told[start:end], start)
        start = end

    assert read_back(told, chat=chat) == decode(AnswerDecoder(), cut_at(data, cuts))


@patient
@given(st.lists(_event, max_size=8), _finished, st.booleans())
def test_the_whole_is_the_sum_of_its_pieces(events: list[Event], ended: Ended, chat: bool) -> None:
    """One object says what all lines say."""
    folded = fold([*events, ended], Reply())
    data = whole(lines(chat=chat), RUN, folded, folded.usage)
    pieces = fold(decode(AnswerDecoder(), [wire(chat=chat).encode([*events, ended], 0)]), Reply())
    single = fold(decode(AnswerDecoder(), [data]), Reply())

    assert pieces.thinking == single.thinking
    assert pieces.tool_calls == single.tool_calls
    assert sorted(pieces.text) == sorted(single.text)  # half a call comes last here
    assert (pieces.outcome, pieces.reason, pieces.usage) == (single.outcome, single.reason, single.usage)


@patient
@given(st.lists(st.builds(Progress, status=hostile, digest=hostile | st.none(), total=_number, completed=_number)))
def test_progress_gets_back(events: list[Progress]) -> None:
    """Sizes that are zero are left out; the rest comes back until the server's own success."""
    told = [event for event in events if event.status != "success"]
    data = ProgressWire().encode([*told, Progress("success"), Ended(Outcome.COMPLETE, reason="success")], 0)
    expected = [Progress(each.status, each.digest or None, each.total or None, each.completed or None) for each in told]

    assert decode(ProgressDecoder(), [data]) == [
        *expected,
        Progress("success"),
        Ended(Outcome.COMPLETE, reason="success"),
    ]
