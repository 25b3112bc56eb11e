"""Ollama's wire when a server fails in its own way: odd members, unknown lines, documents, silence."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.protocols.decoding import decode, every_way, one_by_one, without_surplus

from tailrace.events import Ended, Event, Outcome, Progress, TextDelta, ThinkingDelta, ToolCall, Usage
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.ollama.progress import ProgressDecoder


def line(content: str = "", done: Any = False, **rest: Any) -> bytes:
    value = {"model": "m", "message": {"role": "assistant", "content": content}, "done": done, **rest}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


DONE = line(done=True, done_reason="stop")
STOP = Ended(Outcome.COMPLETE, "stop", usage=Usage())


def answer(data: bytes, **options: Any) -> list[Event]:
    return list(without_surplus(every_way(lambda: AnswerDecoder(**options), data)))


def ending(events: list[Event]) -> Ended:
    last = events[-1]
    assert isinstance(last, Ended)
    return last


FORGED = [
    {"status": "queued", "position": 5},
    {"status": "ready", "message": {"content": "b"}, "done": False},
    {"status": "tool_call", "tool_call": {"text": "x"}},
    {"tailrace": {"status": "queued"}, "message": {"content": "b"}, "done": False},
    {"tailrace": {"status": "loading"}},
]


@pytest.mark.parametrize("forged", FORGED, ids=json.dumps)
def test_u37_the_engines_reports_from_anybody_else(forged: dict[str, Any]) -> None:
    """A line is the embedded engine's report only if the engine sent it: from others it costs no text and no ending."""
    events = answer(line("a") + json.dumps(forged).encode() + b"\n" + line("c", status="x") + DONE)

    said = ["a", "b", "c"] if "message" in forged else ["a", "c"]
    assert events[:-1] == [TextDelta(text) for text in said]
    assert ending(events).outcome is Outcome.COMPLETE
    assert ("passed over" in str(ending(events).warnings)) == ("message" not in forged)


def test_u37_unknown_lines_are_told() -> None:
    """A line of no kind that we know is no silent loss."""
    told = 'something unknown in the answer was passed over: \'{"text":"lost"}\''

    assert ending(answer(line("a") + b'{"text":"lost"}\n' + DONE)).warnings == (told,)
    last = ending(answer(line("a") + b'{"text":"lost"}\n'))
    assert last.outcome is Outcome.TRUNCATED
    assert last.fault is not None
    assert 'it sent something unknown: \'{"text":"lost"}\'' in last.fault.message


@pytest.mark.parametrize(
    "members",
    [
        {"eval_duration": 1234.5, "eval_count": "12"},
        {"total_duration": None, "prompt_eval_count": 7.0},
        {"context": "none", "load_duration": []},
        {"context": [1, "x"], "StatusCode": {}},
        {"logprobs": 5, "model": 7, "created_at": None},
        {"response": 5, "thinking": [], "tool_calls": "x"},
        {"status": {"a": 1}, "position": "x", "total": 1.5},
    ],
    ids=json.dumps,
)
def test_u37_odd_members_never_cost_text(members: dict[str, Any]) -> None:
    """Members that are merely reported are understood or left out, on a token's line as on the last."""
    data = line("a", **members) + line("b") + line("c", done=True, done_reason="stop", **members)

    events = answer(data)

    assert events[:3] == [TextDelta("a"), TextDelta("b"), TextDelta("c")]
    assert ending(events).outcome is Outcome.COMPLETE


def test_u37_odd_figures_are_understood() -> None:
    """Floats and numbers as text are figures."""
    last = ending(answer(line(done=True, eval_duration=1234.5, eval_count="12", prompt_eval_count=7.0, context=[1, 2])))

    assert last.usage == Usage(7, 12, output_duration=1234)
    assert last.context == [1, 2]


@pytest.mark.parametrize("context", ["x", 5, [1.5], {"a": 1}, "1" * 50, [[]]])
def test_u37_alone_or_among_tokens(context: Any) -> None:
    """What a token's line holds besides matters as little by itself as in a block of tokens."""
    block = line("a") + line("b", context=context) + line("c")

    assert answer(block + DONE) == [TextDelta("a"), TextDelta("b"), TextDelta("c"), STOP]


def test_u37_a_completion_with_odd_members() -> None:
    """`/api/generate` is as tolerant; its own words must have their type."""
    good = b'{"response":"a","thinking":"t","context":"x","eval_count":"y","done":false}\n'

    assert answer(good + DONE) == [ThinkingDelta("t"), TextDelta("a"), STOP]
    for bad in (b'{"response":5}\n', b'{"response":"a","thinking":5}\n', b'{"response":"a","tool_calls":5}\n'):
        assert ending(answer(good + bad + DONE)).outcome is Outcome.FAILED


@pytest.mark.parametrize("reason", ["error", "abort", "banana", 5, True])
def test_u35_reasons_that_are_no_success(reason: Any) -> None:
    """A `done_reason` that is not known as a success is none; the text and the counts are kept."""
    events = answer(line("a") + line(done=True, done_reason=reason, eval_count=1))

    assert events[:-1] == [TextDelta("a")]
    assert (ending(events).outcome, ending(events).usage) == (Outcome.FAILED, Usage(output_tokens=1))
    assert ending(answer(line("a") + line(done_reason=reason))).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"detail": "boom"}, "boom"),
        ({"object": "error", "message": "boom", "code": 503}, "boom"),
        ({"error": {"error": {"message": "boom"}}}, "boom"),
        ({"error": {"detail": "boom"}}, "boom"),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b""])
def test_u34_errors_of_other_forms(data: Any, words: str, end: bytes) -> None:
    """Errors in others' forms are errors, with their words."""
    events = answer(line("a") + json.dumps(data).encode() + end)

    fault = ending(events).fault
    assert events[:-1] == [TextDelta("a")]
    assert fault is not None
    assert (fault.kind, fault.message) == ("ResponseError", words)


@pytest.mark.parametrize("data", [b"Hello there", b"<html>hi</html>", b'{"ok":true}', b"data: x", b'["a"]', b"5"])
@pytest.mark.parametrize("end", [b"\n", b""])
def test_u36_something_else_at_200(data: bytes, end: bytes) -> None:
    """What is no answer of this protocol is shown, with what was expected, with and without a line end."""
    last = ending(answer(data + end))

    assert last.outcome is Outcome.FAILED
    assert last.fault is not None
    assert last.fault.kind == "ProtocolError"
    assert last.fault.message.startswith("not a line of Ollama's protocol")
    assert repr(data.decode()) in last.fault.message


@pytest.mark.parametrize(
    ("arguments", "parsed", "invalid"),
    [
        ('{"q": "x"}', {"q": "x"}, None),
        ("{}", {}, None),
        ("", {}, None),
        (None, {}, None),
        ("[1]", {}, "[1]"),
        ('{"q"', {}, '{"q"'),
        ([1], {}, "[1]"),
        (5, {}, "5"),
    ],
)
def test_u39_arguments_as_text(arguments: Any, parsed: dict[str, Any], invalid: str | None) -> None:
    """Arguments may be JSON text; what is no object is kept as it was written, and the run goes on."""
    call = {"id": 5, "function": {"name": "f", "arguments": arguments, "index": "0"}}

    events = answer(line("", message={"content": "a", "tool_calls": [call]}) + DONE)

    assert events == [TextDelta("a"), ToolCall("f", parsed, "5", 0, invalid), STOP]


# -- documents -------------------------------------------------------------------------------------------------------

WHOLE = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": True, "done_reason": "stop"}


@pytest.mark.parametrize("indent", [None, 0, 1, 4, "\t"])
@pytest.mark.parametrize("around", [b"", b"\n", b"\r\n \n"])
@pytest.mark.parametrize("whole", [True, False])
def test_u40_a_document_over_several_lines(indent: Any, around: bytes, whole: bool) -> None:
    """A whole answer is a JSON document, whatever its white space."""
    data = around + json.dumps(WHOLE, indent=indent).encode() + around

    assert answer(data, whole=whole) == [TextDelta("Hi"), STOP]
    for end in range(len(around) + 1, len(data) - len(around) - 1, 7):
        *events, last = decode(AnswerDecoder(whole=whole), [data[:end]])
        assert (events, getattr(last, "outcome", None)) == ([], Outcome.TRUNCATED)


@pytest.mark.parametrize("indent", [None, 2])
def test_u40_a_whole_answer_without_done(indent: int | None) -> None:
    """Where no stream was asked for, a complete body is an answer; where one was, or `done` is false, it is not."""
    data = json.dumps({"message": {"content": "Hi"}}, indent=indent).encode()
    undone = json.dumps({"message": {"content": "Hi"}, "done": False}, indent=indent).encode()

    assert answer(data, whole=True) == [TextDelta("Hi"), Ended(Outcome.COMPLETE, usage=Usage())]
    for events in (answer(data), answer(undone, whole=True), answer(data + b"\n" + data, whole=True)):
        assert ending(events).outcome is Outcome.TRUNCATED
    assert ending(answer(b"{}", whole=True)).outcome is not Outcome.COMPLETE


def test_u40_a_stream_where_none_was_asked_for() -> None:
    """A server that streams all the same is read line by line."""
    assert answer(line("a") + line("b") + DONE, whole=True) == [TextDelta("a"), TextDelta("b"), STOP]


def test_u40_a_document_that_never_ends() -> None:
    """A document is bounded as a line is."""
    (last,) = every_way(lambda: AnswerDecoder(1000), b"{\n" + b'"a":1,\n' * 500)

    assert isinstance(last, Ended)
    assert last.fault is not None
    assert last.fault.message == "a line of the answer is longer than 1,000 bytes"


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("status", ["success", "done", None])
def test_u40_progress_as_a_document(indent: int | None, status: str | None) -> None:
    """The same for pull, push and create, where any single record is the answer to a request without a stream."""
    data = json.dumps({"status": status, "total": 1.5}, indent=indent).encode()

    events = every_way(lambda: ProgressDecoder(whole=True), data)

    assert events == [Progress(status, total=1), Ended(Outcome.COMPLETE, status or "")]
    if status != "success":
        assert ending(every_way(ProgressDecoder, data)).outcome is Outcome.TRUNCATED


def test_u37_odd_figures_of_progress() -> None:
    """Sizes of another type are understood or left out."""
    data = b'{"status":"pulling","total":"100","completed":12.5,"digest":5}\n{"status":"success","total":"x"}\n'

    assert every_way(ProgressDecoder, data) == [
        Progress("pulling", None, 100, 12),
        Progress("success"),
        Ended(Outcome.COMPLETE, "success"),
    ]


# -- silence ---------------------------------------------------------------------------------------------------------


def feed_open(decoder: Any, data: bytes) -> list[Event]:
    """Feeds byte by byte; the server has not closed."""
    return [event for piece in one_by_one(data) for event in decoder.feed(piece)]


def test_u38_silence_after_the_reason() -> None:
    """With its reason an answer is whole, and settles when the server says nothing more."""
    decoder = AnswerDecoder()
    events = feed_open(decoder, line("a") + line(done_reason="stop"))

    assert decoder.settling
    warning = 'the server fell silent after done_reason "stop", without done: true'
    assert decoder.settle() == [Ended(Outcome.COMPLETE, "stop", warnings=(warning,))]
    assert (events, decoder.settle(), decoder.eof()) == ([TextDelta("a")], [], [])


@pytest.mark.parametrize("indent", [None, 2])
def test_u38_silence_after_a_line_without_its_end(indent: int | None) -> None:
    """A final record whose line end, or whose server's closing, never comes is a final record."""
    data = json.dumps(WHOLE, indent=indent).encode()

    for end in range(1, len(data)):
        half = AnswerDecoder()
        half.feed(data[:end])
        assert half.settle() == []
    decoder = AnswerDecoder()
    feed_open(decoder, data)
    assert decoder.settling
    assert decoder.settle() == [TextDelta("Hi"), STOP]


def test_u38_silence_in_the_midst() -> None:
    """Without a final record nothing settles."""
    decoder = AnswerDecoder()
    feed_open(decoder, line("a") + line("b")[:-1])

    assert (decoder.settling, decoder.settle()) == (True, [])
    feed_open(decoder, b"\n")
    assert (decoder.settling, decoder.settle()) == (False, [])


def test_u38_silence_after_success() -> None:
    """The same for a pull."""
    decoder = ProgressDecoder()
    feed_open(decoder, b'{"status":"success"}')

    assert decoder.settling
    assert decoder.settle() == [Progress("success"), Ended(Outcome.COMPLETE, "success")]


# -- size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [AnswerDecoder, ProgressDecoder])
def test_u43_blank_lines_without_end(make: Any) -> None:
    """Blank lines are bounded together, though each of them is short."""
    (last,) = every_way(lambda: make(1000), b"\n  \r\n" * 500)

    assert isinstance(last, Ended)
    assert last.fault is not None
    assert last.fault.message == "more than 1,000 bytes of the answer hold nothing"


def test_u43_strange_lines_without_end() -> None:
    """What is unknown costs more than a token, so there is a limit to it."""
    first, last = decode(AnswerDecoder(), [line("a"), b'{"x":1}\n' * 10_001, DONE])

    assert first == TextDelta("a")
    assert isinstance(last, Ended)
    assert last.fault is not None
    assert last.fault.message.startswith("more than 10,000 parts of the answer are of no kind that we know")
