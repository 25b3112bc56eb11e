"""OpenAI's wire when a server fails in its own way: errors of every form, odd figures, odd calls, silence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.protocols.decoding import decode, every_way, one_by_one, without_surplus

from tailrace.events import Ended, Event, Fault, Outcome, TextDelta, ToolCall, ToolCallDelta, Usage
from tailrace.protocols.openai.decode import ChunkDecoder

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def delta(reason: Any = None, **fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]})


STOP = delta("stop") + DONE


def answer(data: bytes) -> list[Event]:
    """What a reader gets, without the pieces of calls."""
    return [each for each in without_surplus(every_way(ChunkDecoder, data)) if not isinstance(each, ToolCallDelta)]


def failure(data: bytes) -> tuple[str, str, str, int]:
    """The text that came, and of what went wrong the kind, the words and the status."""
    *events, last = answer(data)
    assert isinstance(last, Ended)
    assert last.outcome is Outcome.FAILED
    assert last.fault is not None
    text = "".join(each.text for each in events if isinstance(each, TextDelta))
    return text, last.fault.kind, last.fault.message, last.fault.status_code


ERRORS: dict[str, tuple[bytes, str, int]] = {
    "event error": (b'event: error\ndata: {"error":{"message":"boom","code":503}}\n\n', "boom", 503),
    "event error, text": (b"event: error\ndata: it broke\n\n", "it broke", -1),
    "event error, bare object": (b'event: error\ndata: {"message":"boom"}\n\n', "boom", -1),
    "event error, string": (b'event: error\ndata: "boom"\n\n', "boom", -1),
    "event error, no data": (b"event: error\n\n", "the server sent an error without a word", -1),
    "event error, empty data": (b"event: error\ndata:\n\n", "the server sent an error without a word", -1),
    "object error": (
        event({"object": "error", "message": "boom", "type": "BadRequest", "code": 400}),
        "boom",
        400,
    ),
    "error_code": (event({"text": "boom", "error_code": 50001}), "boom", -1),
    "error_code and error_msg": (event({"error_code": 336003, "error_msg": "boom"}), "boom", -1),
    "detail": (event({"detail": "boom"}), "boom", -1),
    "detail, a list": (
        event({"detail": [{"loc": ["body", "model"], "msg": "Field required"}]}),
        "body.model: Field required",
        -1,
    ),
    "type error": (event({"type": "error", "message": "boom"}), "boom", -1),
    "status error": (event({"status": "error", "message": "boom"}), "boom", -1),
    "success false": (event({"success": False, "msg": "boom"}), "boom", -1),
    "code and message": (event({"code": 500, "message": "boom"}), "boom", 500),
    "errors": (event({"errors": [{"message": "boom"}]}), "[{'message': 'boom'}]", -1),
    "field": (b'error: {"code":500,"message":"boom"}\n\n', "boom", 500),
    "field, text": (b"error: boom\n\n", "boom", -1),
    "a line of JSON": (b'{"error":{"message":"boom"}}\n\n', "boom", -1),
    "a line of JSON, detail": (b'{"detail":"boom"}\n', "boom", -1),
    "status beyond HTTP": (event({"error": {"message": "boom", "code": 777}}), "boom", -1),
    "in the choice": (
        event({"choices": [{"index": 0, "error": {"message": "boom", "code": 502}, "finish_reason": "error"}]}),
        "boom",
        502,
    ),
    "with choices": (event({"error": "boom", "choices": []}), "boom", -1),
}


@pytest.mark.parametrize("name", ERRORS)
def test_u33_u34_errors_of_every_form(name: str) -> None:
    """Whatever form a server says its error in, the answer has failed with its words, and [DONE] changes nothing."""
    data, words, code = ERRORS[name]

    assert failure(delta(content="a") + data + DONE) == ("a", "ResponseError", words, code)
    assert failure(delta(content="a") + data) == ("a", "ResponseError", words, code)
    if not data.startswith(b"{"):
        assert failure(data + STOP) == ("", "ResponseError", words, code)


@pytest.mark.parametrize("name", ["event error", "object error", "error_code", "detail", "field"])
def test_u33_u34_an_error_that_no_blank_line_ends(name: str) -> None:
    """A server that closes right after its error has said it all the same."""
    data, words, code = ERRORS[name]

    assert failure(delta(content="a") + data.rstrip(b"\n")) == ("a", "ResponseError", words, code)


def test_u33_a_failure_says_nothing_of_what_follows() -> None:
    """What comes after a failure is not worth a remark."""
    (last,) = ChunkDecoder().feed(event({"error": "boom"}) + STOP)

    assert last == Ended(Outcome.FAILED, fault=Fault("ResponseError", "boom"))


def test_error_codes_of_successes() -> None:
    """FastChat's `error_code` of 0, and words beside a code that is none, are no errors."""
    fine: list[Any] = [{"error_code": 0, "text": ""}, {"code": 0, "message": "ok"}, {"type": "ping", "message": "x"}]

    *_, last = answer(b"".join(map(event, fine)) + delta(content="a") + STOP)

    assert isinstance(last, Ended)
    assert last.outcome is Outcome.COMPLETE


@pytest.mark.parametrize("reason", ["error", "abort", "banana", "insufficient_system_resource", 5, {"a": 1}, "x" * 500])
def test_u35_reasons_that_are_no_success(reason: Any) -> None:
    """A reason that is not known as a success is none; the text and the counts are kept."""
    counted = event({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})

    for data in (delta(content="a") + delta(reason) + counted + DONE, delta(content="a") + delta(reason) + counted):
        first, last = answer(data)
        assert first == TextDelta("a")
        assert isinstance(last, Ended)
        assert (last.outcome, last.usage) == (Outcome.FAILED, Usage(3, 1))
        assert last.fault is not None
        assert last.reason[:50] in last.fault.message
        assert len(last.fault.message) < 300


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        ("stop", "complete"),
        ("STOP", "complete"),
        ("eos_token", "complete"),
        ("function_call", "complete"),
        ("content_filter", "complete"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("model_length", "length"),
        ({"type": "length", "length": 5}, "length"),
    ],
)
def test_u35_reasons_that_are_known(reason: Any, outcome: str) -> None:
    """What servers call their endings is understood."""
    *_, last = answer(delta(content="a") + delta(reason) + DONE)

    assert isinstance(last, Ended)
    assert last.outcome.value == outcome


STRANGE = [
    b"Hello there, I am no model server",
    b"Hello there\n\nI am none\n",
    b"<html><body>Welcome</body></html>\n",
    b'["a"]\n',
    b'"text"',
    b'{"ok":true}',
    b'{"id":"x","choices":[]}',
    b'{"message":{"content":"a"},"done":false}\n{"message":{"content":"b"},"done":true}\n',
    b'{"choices":[{"delta":{"content":"a"}}]}\n{"choices":[{"delta":{"content":"b"}}]}\n',
    b"{not json}",
    event({"hello": 1}) + DONE,
    event({"hello": 1}),
]


@pytest.mark.parametrize("data", STRANGE, ids=lambda data: repr(data[:30]))
def test_u36_something_else_at_200(data: bytes) -> None:
    """What is no answer of this protocol is shown, with what was expected."""
    text, kind, message, _ = failure(data)

    assert (text, kind) == ("", "ProtocolError")
    assert "OpenAI's protocol" in message
    assert repr(data.removeprefix(b"data: ").decode().strip())[1:12] in message
    assert len(message) < 500


def test_u36_something_else_in_between() -> None:
    """What is unknown among chunks costs nothing, and is told."""
    *events, last = answer(delta(content="a") + b"what is this\n\n" + event({"hello": 1}) + delta(content="b") + STOP)

    assert events == [TextDelta("a"), TextDelta("b")]
    assert last == Ended(
        Outcome.COMPLETE, "stop", warnings=("something unknown in the answer was passed over: 'what is this'",)
    )


def test_u36_last_words() -> None:
    """An answer that breaks off after something unknown shows it: those may have been the server's last words."""
    *_, last = answer(delta(content="a") + b"Internal Server Error")

    assert isinstance(last, Ended)
    assert last.outcome is Outcome.TRUNCATED
    assert last.fault is not None
    assert last.fault.message.endswith("(it sent something unknown: 'Internal Server Error')")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 12.0, "completion_tokens": "3"}, Usage(12, 3)),
        ({"prompt_tokens": 12.7, "completion_tokens": None}, Usage(12)),
        ({"prompt_tokens": "many", "completion_tokens": [3]}, Usage()),
        ({"prompt_tokens": True, "completion_tokens": -1}, Usage()),
        ({"prompt_tokens": "1e3", "completion_tokens": 10**400}, Usage(1000)),
        ("many", Usage()),
        ([], Usage()),
    ],
)
def test_u37_odd_counts(usage: Any, expected: Usage) -> None:
    """Counts of another type are understood or left out; they never cost text."""
    chunk = {"choices": [{"index": 0, "delta": {"content": "a"}}], "usage": usage}

    assert answer(event(chunk) + STOP) == [TextDelta("a"), Ended(Outcome.COMPLETE, "stop", usage=expected)]


@pytest.mark.parametrize("index", [None, "0", 0.0, "x", [], False])
def test_u37_an_odd_index(index: Any) -> None:
    """A choice whose index is null, or no number, is the one that was asked for."""
    chunk = {"choices": [{"index": index, "delta": {"content": "a"}, "finish_reason": "stop"}], "model": 5}

    assert answer(event(chunk) + DONE) == [TextDelta("a"), Ended(Outcome.COMPLETE, "stop")]


def test_u37_another_choice_by_an_odd_index() -> None:
    """A second choice is not ours, however its index is written."""
    chunk = {"choices": [{"index": "1", "delta": {"content": "b"}}, {"index": 2.0, "delta": {"content": "c"}}]}

    assert answer(event(chunk) + delta(content="a") + STOP) == [TextDelta("a"), Ended(Outcome.COMPLETE, "stop")]


def test_u37_odd_progress_and_times() -> None:
    """The same for llama.cpp's progress and times."""
    progress = event({"prompt_progress": {"total": 12.0, "processed": "4"}})
    timings = event({"choices": [], "timings": {"prompt_n": "12", "predicted_n": 2.0, "predicted_ms": "5"}})

    first, *_, last = answer(progress + timings + STOP)

    assert (getattr(first, "processed", None), getattr(first, "total", None)) == (4, 12)
    assert isinstance(last, Ended)
    assert last.usage == Usage(12, 2, output_duration=5_000_000)


# -- silence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls"])
def test_u38_silence_after_the_reason(reason: str) -> None:
    """With its reason an answer is whole, and settles when the server says nothing more."""
    decoder = ChunkDecoder()
    events = decode_open(decoder, delta(content="a") + delta(reason))

    assert decoder.settling
    (last,) = decoder.settle()
    assert isinstance(last, Ended)
    assert (last.outcome.finished, last.reason) == (True, reason)
    assert last.warnings == ("the server fell silent without [DONE]",)
    assert (events, decoder.ended, decoder.settle(), decoder.eof()) == ([TextDelta("a")], True, [], [])


def test_u38_silence_after_a_whole_answer() -> None:
    """A JSON answer that is complete settles; half of one does not."""
    data = json.dumps({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}, indent=1).encode()
    decoder = ChunkDecoder()

    for end in range(1, len(data) - 1):
        half = ChunkDecoder()
        half.feed(data[:end])
        assert half.settle() == []
    decode_open(decoder, data)
    assert decoder.settling
    assert decoder.settle() == [TextDelta("Hi"), Ended(Outcome.COMPLETE, "stop")]


def test_u38_silence_in_the_midst() -> None:
    """Without a reason nothing settles."""
    decoder = ChunkDecoder()
    decode_open(decoder, delta(content="a"))

    assert (decoder.settling, decoder.settle()) == (False, [])


def decode_open(decoder: ChunkDecoder, data: bytes) -> list[Event]:
    """Feeds byte by byte; the server has not closed."""
    return [each for piece in one_by_one(data) for each in decoder.feed(piece)]


# -- tool calls ------------------------------------------------------------------------------------------------------


def calls(*fragments: dict[str, Any]) -> list[Event]:
    return answer(b"".join(delta(tool_calls=[each]) for each in fragments) + delta("tool_calls") + DONE)[:-1]


def piece(arguments: Any = None, name: str | None = None, **rest: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {**rest, "function": function}


def test_u39_fragments_without_an_index() -> None:
    """Fragments without an index belong to the call before; another id begins another call."""
    assert calls(piece("", "f", id="a"), piece('{"x":'), piece("1}"), piece("", "g", id="b"), piece('{"y":2}')) == [
        ToolCall("f", {"x": 1}, "a", 0),
        ToolCall("g", {"y": 2}, "b", 1),
    ]


def test_u39_two_ids_at_one_index() -> None:
    """Two ids at one index are two calls; what follows belongs to the later one."""
    assert calls(
        piece('{"x":1}', "f", index=0, id="a"), piece("", "f", index=0, id="b"), piece('{"x":2}', index=0)
    ) == [ToolCall("f", {"x": 1}, "a", 0), ToolCall("f", {"x": 2}, "b", 1)]


def test_u39_whole_calls_at_one_index_without_ids() -> None:
    """Whole calls are told apart even by their arguments alone."""
    assert calls(piece('{"x":1}', "f", index=0), piece('{"x":2}', "f", index=0), piece('{"x":3}', "g")) == [
        ToolCall("f", {"x": 1}, None, 0),
        ToolCall("f", {"x": 2}, None, 1),
        ToolCall("g", {"x": 3}, None, 2),
    ]


def test_u39_a_new_id_with_each_fragment() -> None:
    """An id that changes with each fragment of arguments, as older vLLM makes them up, does not cut a call."""
    assert calls(
        piece("", "f", index=0, id="a"),
        piece('{"x":', index=0, id="b"),
        piece("1}", index=0, id="c"),
        piece("", index=0, id="d"),
    ) == [ToolCall("f", {"x": 1}, "a", 0)]


def test_u39_the_name_with_each_fragment() -> None:
    """A name that is repeated is no new call while the arguments are not whole."""
    assert calls(piece('{"x"', "f", index=0), piece(":1", "f", index=0), piece("}", "f", index=0)) == [
        ToolCall("f", {"x": 1}, None, 0)
    ]


def test_u39_an_index_and_an_id_of_another_type() -> None:
    """An index as text and an id that is a number are understood."""
    assert calls(piece('{"x":1}', "f", index="0", id=7), piece("{}", "g", index=1.0, id=8)) == [
        ToolCall("f", {"x": 1}, "7", 0),
        ToolCall("g", {}, "8", 1),
    ]


def test_u39_calls_of_a_whole_answer() -> None:
    """In a whole answer each entry is a call of its own."""
    entries = [piece("{}", "f"), piece("{}", "f"), piece("", "f")]
    data = json.dumps({"choices": [{"message": {"tool_calls": entries}, "finish_reason": "tool_calls"}]}).encode()

    assert answer(data)[:-1] == [ToolCall("f", {}, None, index) for index in range(3)]


def test_u39_the_older_form_of_a_call() -> None:
    """`function_call`, which was there before `tool_calls`, is a call too."""
    data = delta(function_call={"name": "f", "arguments": '{"x"'}) + delta(function_call={"arguments": ":1}"})

    assert answer(data + delta("function_call") + DONE) == [
        ToolCall("f", {"x": 1}, None, 0),
        Ended(Outcome.COMPLETE, "function_call"),
    ]


def test_u39_names_without_end() -> None:
    """A server that repeats a name for ever does not make us read its arguments each time."""
    decoder = ChunkDecoder()
    decoder.feed(delta(tool_calls=[piece('{"x":"', "f", index=0)]))
    one = delta(tool_calls=[piece("}" * 1000, "f", index=0)])

    assert len(decode(decoder, [one] * 5000)) == 5001


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [b"\n", b": ping\n\n", b"unknown: x\n", b"what\n"])
def test_u43_nothing_without_end(junk: bytes) -> None:
    """Blank lines, comments and strange lines are bounded together, though each of them is short."""
    data = delta(content="a") + junk * (2000 // len(junk) + 1) + STOP

    *events, last = every_way(lambda: ChunkDecoder(1000), data)

    assert events == [TextDelta("a")]
    assert isinstance(last, Ended)
    assert last.outcome is Outcome.FAILED


def test_u44_long_words_are_shortened() -> None:
    """An error of megabytes is cut to what a terminal bears."""
    _, _, message, _ = failure_of(event({"error": "x" * 100_000}))

    assert message == "x" * 2000 + "…"


def failure_of(data: bytes) -> tuple[Outcome, str, str, int]:
    """Like `failure`, for what is too long to be cut everywhere."""
    last = decode(ChunkDecoder(), [data])[-1]
    assert isinstance(last, Ended)
    assert last.fault is not None
    return last.outcome, last.fault.kind, last.fault.message, last.fault.status_code


@pytest.mark.parametrize("strange", [b"what\n", b"{}\n", b'{"x"\n', b'data: {"x":1}\n\n'])
def test_u43_strange_things_without_end(strange: bytes) -> None:
    """What is unknown costs more than a token, so there is a limit to it."""
    events = decode(ChunkDecoder(), [delta(content="a"), strange * 10_001, STOP])

    assert events[0] == TextDelta("a")
    assert isinstance(events[1], Ended)
    assert events[1].fault is not None
    assert events[1].fault.message.startswith("more than 10,000 parts of the answer are of no kind that we know")
