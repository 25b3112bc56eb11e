"""OpenAI's wire, written: golden transcripts, and what our own decoder makes of any run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.protocols.answers import FINISHED, OUT, RUN, RUNS, batched, golden, runs, transcript
from tests.protocols.decoding import patient

from tailrace.events import (
    Ended,
    Event,
    Fault,
    Outcome,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from tailrace.protocols.openai.decode import ChunkDecoder
from tailrace.protocols.openai.encode import Answer, ChatWire, CompletionWire, error_json, whole_chat, whole_completion
from tailrace.protocols.sse import SSEDecoder
from tailrace.run.reply import Reply, fold

ANSWER = Answer(run=RUN, created=1767323045, model="llama3.2")


def counted_chat() -> ChatWire:
    return ChatWire(ANSWER, usage=True)


def completion() -> CompletionWire:
    return CompletionWire(ANSWER)


@pytest.mark.parametrize("name", RUNS)
def test_transcript(name: str) -> None:
    """Each kind of run has the transcripts that are written down, in whatever batches its events come."""
    assert golden(f"chat_{name}.sse") == transcript(counted_chat, RUNS[name])
    assert golden(f"completion_{name}.sse") == transcript(completion, RUNS[name])


@pytest.mark.parametrize("name", FINISHED)
def test_whole(name: str) -> None:
    """A run that came to its end is one object, which is written down too."""
    reply = fold(RUNS[name], Reply())

    assert golden(f"chat_{name}.json") == whole_chat(ANSWER, reply)
    assert golden(f"completion_{name}.json") == whole_completion(ANSWER, reply)


@pytest.mark.parametrize("name", RUNS)
def test_the_official_types_take_it(name: str) -> None:
    """Every chunk and every whole answer is what the official client's types say, to the letter."""
    for chunk in events_of(golden(f"chat_{name}.sse")):
        ChatCompletionChunk.model_validate_json(chunk, strict=True)
    for chunk in events_of(golden(f"completion_{name}.sse")):
        chunk = chunk.replace(
            b'"finish_reason":null', b'"finish_reason":"stop"'
        )  # what OpenAI sends, and does not type
        Completion.model_validate_json(chunk, strict=True)
    if name in FINISHED:
        ChatCompletion.model_validate_json(golden(f"chat_{name}.json"), strict=True)
        Completion.model_validate_json(golden(f"completion_{name}.json"), strict=True)


def events_of(data: bytes) -> list[bytes]:
    """The data of the events, but for errors and the end."""
    found = [event.data for event in SSEDecoder().feed(data)]
    return [each for each in found if each != b"[DONE]" and not each.startswith(b'{"error"')]


def test_nothing_else_is_written_down() -> None:
    """Each golden transcript of these wires is held against."""
    expected = {f"{wire}_{name}.sse" for wire in ("chat", "completion") for name in RUNS}
    expected |= {f"{wire}_{name}.json" for wire in ("chat", "completion") for name in FINISHED}

    assert expected == {path.name for path in OUT.iterdir() if path.name.startswith(("chat_", "completion_"))}


def test_usage_is_absent_unless_asked_for() -> None:
    """Without include_usage no chunk has a member of that name."""
    assert b"usage" not in transcript(lambda: ChatWire(ANSWER), RUNS["answer"])


@pytest.mark.parametrize("make", [counted_chat, completion])
def test_a_reader_that_is_too_slow(make: Callable[[], ChatWire | CompletionWire]) -> None:
    """It is told by an error, and one that comes back is told nothing before the start."""
    error = {"message": "this reader was too slow and is let go", "type": "api_error", "param": None, "code": "lagged"}

    assert [json.loads(event.data) for event in SSEDecoder().feed(make().lagged())] == [{"error": error}]
    assert make().reset() == b""


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "invalid_request_error"),
        (429, "rate_limit_error"),
        (499, "api_error"),
        (503, "api_error"),
    ],
)
def test_error(status: int, kind: str) -> None:
    """An error says its kind by its status, and always has all four members."""
    expected = {"error": {"message": "no\ufffd", "type": kind, "param": "n", "code": None}}

    assert expected == json.loads(error_json("no\ud800", status, param="n"))


# -- any run -----------------------------------------------------------------------------------------------------------


@patient
@given(runs(), st.lists(st.integers(0, 1000), max_size=5))
def test_batches_do_not_matter(events: list[Event], cuts: list[int]) -> None:
    """However the events of a run come, the bytes are the same."""
    for make in (counted_chat, completion):
        assert batched(make, events, []) == batched(make, events, cuts)


@patient
@given(runs())
def test_our_decoder_reads_what_we_write(events: list[Event]) -> None:
    """What is written and read again is the same run: text, reasoning, calls, counts and the ending."""
    decoder = ChunkDecoder()
    ended = events[-1]
    assert isinstance(ended, Ended)

    read = decoder.feed(transcript(counted_chat, events)) + decoder.eof()

    assert said(events) == said(read)
    if ended.outcome.finished:  # of an answer that broke off the decoder tells no calls
        assert calls(events) == calls(read)
    assert as_read(ended, spoken=bool(said(events)), called=bool(calls(events))) == read[-1]


@patient
@given(runs())
def test_our_decoder_reads_completions(events: list[Event]) -> None:
    """The same for completions, which have text only."""
    decoder = ChunkDecoder()
    ended = events[-1]
    assert isinstance(ended, Ended)

    read = decoder.feed(transcript(lambda: CompletionWire(ANSWER, usage=True), events)) + decoder.eof()

    text = said(events, TextDelta)
    assert text == said(read)
    assert as_read(ended, spoken=bool(text), called=False) == read[-1]


def said(events: list[Event], *kinds: type) -> list[tuple[str, str]]:
    """The text and the reasoning, in order; pieces of one kind together."""
    out: list[tuple[str, str]] = []
    for event in events:
        if isinstance(event, kinds or (TextDelta, ThinkingDelta)) and (piece := whole_characters(event)):
            kind = type(event).__name__
            before = out.pop()[1] if out and out[-1][0] == kind else ""
            out.append((kind, before + piece))
    return out


def whole_characters(event: Any) -> str:
    text: str = event.text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def calls(events: list[Event]) -> list[tuple[str, str | None, dict[str, Any]]]:
    """The calls in the order in which they began; without the ids that were made up."""
    begun: dict[int | None, int] = {}
    out: list[Any] = []
    for event in events:
        if isinstance(event, ToolCallDelta) and event.index not in begun:
            begun[event.index] = len(out)
            out.append(None)
        elif isinstance(event, ToolCall):
            id = None if (event.id or "").startswith("call_3fa9c2d1_") else event.id
            place = begun.pop(event.index, len(out))
            out[place : place + 1] = [(event.name, id, event.arguments)]
    return out


def as_read(ended: Ended, *, spoken: bool, called: bool) -> Ended:
    """What the ending is to somebody who has it from the wire."""
    if not ended.outcome.finished:
        text = ended.fault.message if ended.fault is not None else "the answer was stopped"
        return Ended(Outcome.FAILED, fault=Fault("ResponseError", text))
    counts, usage = ended.usage, None
    if counts is not None and counts.prompt_tokens and (counts.output_tokens or not (spoken or called)):
        usage = Usage(counts.prompt_tokens, counts.output_tokens)
    reason = "length" if ended.outcome is Outcome.LENGTH else "tool_calls" if called else "stop"
    return Ended(ended.outcome, reason, usage=usage)
