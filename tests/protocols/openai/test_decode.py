"""OpenAI's wire in its dialects: recorded answers, damaged answers, and whatever else a network may bring."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.decoding import cut_at, decode, every_way, patient, recorded, recordings, sealed, without_surplus

from tailrace.events import (
    Ended,
    Event,
    Fault,
    Outcome,
    Prefill,
    TextDelta,
    ThinkingDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from tailrace.protocols.openai.decode import ChunkDecoder

DONE = b"data: [DONE]\n\n"
NO_END = "the server closed the stream without a finish_reason or [DONE]"
HIDDEN = f"{NO_END} (Ollama's /v1 hides an error of the model this way; its log has the cause)"
NO_REASON = "the server ended the stream without a finish_reason"


def done(reason: str = "stop", usage: Usage | None = None, *warnings: str) -> Ended:
    return Ended(
        Outcome.LENGTH if reason == "length" else Outcome.COMPLETE, reason, usage=usage, warnings=tuple(warnings)
    )


def failed(message: str, code: int = -1, usage: Usage | None = None) -> Ended:
    return Ended(Outcome.FAILED, fault=Fault("ResponseError", message, code), usage=usage)


def unknown(reason: str, usage: Usage | None = None) -> Ended:
    message = f"the server ended the answer with the reason {reason!r}, which is not known as a success"
    return Ended(Outcome.FAILED, reason, Fault("ResponseError", message), usage)


def truncated(message: str = NO_END) -> Ended:
    return Ended(Outcome.TRUNCATED, fault=Fault("TruncatedError", message))


def answer(data: bytes) -> list[Event]:
    """What a reader gets, without the pieces of tool calls, which have tests of their own."""
    return whole_calls(pieces(data))


def whole_calls(events: list[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, ToolCallDelta)]


def pieces(data: bytes) -> list[Event]:
    return without_surplus(every_way(ChunkDecoder, data))


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n\n"


def delta(reason: str | None = None, **fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": reason}]})


STOP = delta("stop") + DONE
TIMED = Usage(12, 2, prompt_duration=80500000, output_duration=40250000)

RECORDED: dict[str, list[Event]] = {
    "openai.sse": [TextDelta("Hel"), TextDelta("lo"), done("stop", Usage(19, 2))],
    "openai_tools.sse": [
        ToolCall("weather", {"city": "Oslo"}, "call_a", 0),
        ToolCall("time", {"zone": "UTC"}, "call_b", 1),
        done("tool_calls"),
    ],
    "openai_bad_tool.sse": [ToolCall("weather", {}, "call_a", 0, '{"city": Oslo'), done("tool_calls")],
    "openai_error.sse": [TextDelta("Hel"), failed("The server had an error while processing your request.")],
    "openai_refusal.sse": [TextDelta("I can't"), done("content_filter")],
    "openai_cut.sse": [TextDelta("Hel"), TextDelta("lo"), truncated()],
    "openai_no_done.sse": [
        TextDelta("Hel"),
        done("length", None, "the server closed the stream without [DONE]"),
    ],
    "ollama.sse": [
        ThinkingDelta("Hm"),
        ThinkingDelta("."),
        TextDelta("Yes"),
        ToolCall("weather", {"city": "Oslo"}, "call_ab12cd34", 0),
        done("tool_calls", Usage(12, 4)),
    ],
    "ollama_hidden_error.sse": [TextDelta("On"), TextDelta("ce"), truncated(HIDDEN)],
    "llamacpp.sse": [
        Prefill(4, 12),
        Prefill(12, 12),
        TextDelta("春"),
        TextDelta("天\u2028"),
        done("stop", TIMED),
    ],
    "llamacpp_timings.sse": [TextDelta("Hi"), done("length", TIMED)],
    "llamacpp_reasoning.sse": [ThinkingDelta("Hm"), ThinkingDelta("."), TextDelta("Yes"), done()],
    "llamacpp_tools.sse": [ToolCall("weather", {"city": "Oslo"}, "k" * 32, 0), done("tool_calls")],
    "llamacpp_error.sse": [TextDelta("Hi"), failed("Context size has been exceeded.", 500)],
    "llamacpp_n2.sse": [TextDelta("A"), TextDelta("a"), done()],
    "logprobs.sse": [
        TextDelta("Hi", [{"id": 15, "token": "Hi", "bytes": [72, 105], "logprob": -0.25, "top_logprobs": []}]),
        done(),
    ],
    "completions.sse": [TextDelta("def"), TextDelta(" f"), done()],
    "manners.sse": [TextDelta("Hel"), TextDelta("lo"), done()],
    "whole.json": [
        ThinkingDelta("Hm"),
        TextDelta("Hello"),
        ToolCall("weather", {"city": "Oslo"}, "call_a", 0),
        done("tool_calls", Usage(19, 2)),
    ],
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_answers(name: str) -> None:
    """Each recorded answer, in each dialect, gives its events, however it is cut."""
    assert answer(recorded(name)) == RECORDED[name]


def test_tool_calls_in_pieces() -> None:
    """Each fragment comes as it is, name and id with the first of a call; the whole calls follow."""
    assert pieces(recorded("openai_tools.sse"))[:6] == [
        ToolCallDelta("", 0, "weather", "call_a"),
        ToolCallDelta("", 1, "time", "call_b"),
        ToolCallDelta('{"ci', 0),
        ToolCallDelta('{"zone": "U', 1),
        ToolCallDelta('ty": "Oslo"}', 0),
        ToolCallDelta('TC"}', 1),
    ]


def test_a_call_that_begins_with_its_id_alone() -> None:
    """A first piece without a function says nothing yet but whose call it is."""
    opening = delta(tool_calls=[{"index": 0, "id": "call_a"}])
    rest = delta(tool_calls=[{"index": 0, "function": {"name": "weather", "arguments": "{}"}}])

    assert pieces(opening + rest + STOP) == [
        ToolCallDelta("", 0, "", "call_a"),
        ToolCallDelta("{}", 0, "weather"),
        ToolCall("weather", {}, "call_a", 0),
        done(),
    ]


@pytest.mark.parametrize("name", ["openai_tools.sse", "openai_bad_tool.sse", "ollama.sse", "llamacpp_tools.sse"])
def test_pieces_make_the_whole(name: str) -> None:
    """The pieces of a call are the text of its arguments."""
    texts: dict[int, str] = {}
    calls: dict[int, ToolCall] = {}
    for piece in pieces(recorded(name)):
        if isinstance(piece, ToolCallDelta):
            texts[piece.index] = texts.get(piece.index, "") + piece.text
        elif isinstance(piece, ToolCall):
            calls[piece.index or 0] = piece

    assert calls
    for index, call in calls.items():
        assert texts[index] == call.invalid or json.loads(texts[index]) == call.arguments


def test_every_recording_has_its_events() -> None:
    """No recording is forgotten."""
    assert sorted(RECORDED) == recordings("*.sse", "*.json")


@pytest.mark.parametrize("name", [name for name in RECORDED if name.endswith(".sse")])
def test_line_ends_do_not_matter(name: str) -> None:
    """With CRLF or CR for LF, or a byte order mark in front, an answer is the same."""
    data = recorded(name).replace(b"\r\n", b"\n")

    assert answer(data.replace(b"\n", b"\r\n")) == RECORDED[name]
    assert answer(data.replace(b"\n", b"\r")) == RECORDED[name]
    assert answer(b"\xef\xbb\xbf" + data) == RECORDED[name]


@pytest.mark.parametrize("name", ["openai.sse", "openai_tools.sse", "ollama.sse", "llamacpp.sse", "completions.sse"])
def test_an_answer_cut_anywhere_is_no_success(name: str) -> None:
    """A prefix without a finish_reason is truncated; one without [DONE] says so; no half event ever shows."""
    data = recorded(name)
    finish = data.index(b"\n\n", data.index(b'"finish_reason":"')) + 2
    whole = RECORDED[name]
    for end in range(data.index(b"[DONE]\n\n") + 7):
        *events, last = whole_calls(decode(ChunkDecoder(), [data[:end]]))
        assert isinstance(last, Ended)
        if end < finish:
            assert last == truncated()
        else:
            assert last.outcome is Outcome.COMPLETE
            assert last.warnings == ("the server closed the stream without [DONE]",)
        assert events == whole[: len(events)]


@pytest.mark.parametrize("end", range(1, 60))
def test_a_whole_answer_cut_in_half(end: int) -> None:
    """A JSON answer that is cut never is a success."""
    data = recorded("whole.json")

    (last,) = decode(ChunkDecoder(), [data[: -end * 5]])

    assert isinstance(last, Ended)
    assert not last.outcome.finished


def test_a_whole_answer_in_many_reads() -> None:
    """A JSON answer that comes in a hundred thousand reads is not copied with each of them: that would take minutes."""
    text = "x" * 8_000_000
    data = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
    pieces = [data[at : at + 64] for at in range(0, len(data), 64)]

    assert decode(ChunkDecoder(), [b" \n"] * 50_000 + pieces) == [TextDelta(text), done("stop")]


# -- tool calls ------------------------------------------------------------------------------------------------------


def fragment(index: int | None, arguments: Any = None, id: str | None = None, name: str | None = None) -> bytes:
    function = {"name": name, "arguments": arguments}
    return delta(tool_calls=[{"index": index, "id": id, "function": function}])


def test_interleaved_fragments() -> None:
    """Fragments belong together by index, come out complete, and in the order of the indices."""
    data = fragment(2, "", "c", "h") + fragment(0, '{"a":', "a", "f") + fragment(2, "{}") + fragment(0, " 1}")

    assert answer(data + STOP) == [ToolCall("f", {"a": 1}, "a", 0), ToolCall("h", {}, "c", 2), done()]


def test_calls_without_a_finish_reason() -> None:
    """Calls are handed out at [DONE] too, and at an end without it if the server said that it had finished."""
    call = ToolCall("f", {}, "a", 0)

    assert answer(fragment(0, "{}", "a", "f") + DONE) == [call, done("", None, NO_REASON)]
    assert answer(fragment(0, "{}", "a", "f")) == [truncated()]


@pytest.mark.parametrize(
    ("arguments", "parsed", "invalid"),
    [
        ("", {}, None),
        ("  ", {}, None),
        ("{}", {}, None),
        ({"a": [1, None]}, {"a": [1, None]}, None),
        ("[1]", {}, "[1]"),
        ('"text"', {}, '"text"'),
        ("null", {}, "null"),
        ('{"a": NaN}', {}, '{"a": NaN}'),
        ('{"a":1', {}, '{"a":1'),
        ([1], {}, "[1]"),
        ("[" * 5000, {}, "[" * 5000),
        ('{"a":' + "9" * 5000 + "}", {}, '{"a":' + "9" * 5000 + "}"),
        ("\ud83d", {}, "\ufffd"),
        ({"a": "\ud83d"}, {"a": "\ufffd"}, None),
        ('{"a":"\\ud83d"}', {}, '{"a":"\\ud83d"}'),
        (5, {}, "5"),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_arguments(arguments: Any, parsed: dict[str, Any], invalid: str | None) -> None:
    """Arguments are an object, by the book as text; anything else is kept as the model wrote it."""
    data = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":%s}}]}}]}'
    text = json.dumps(arguments).encode()

    assert answer(data % text + b"\n\n" + STOP) == [ToolCall("f", parsed, "a", 0, invalid), done()]


def test_fragments_with_half_a_character_each() -> None:
    """Two halves of a character in two fragments are one character."""
    fragments = [
        b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":"%s"}}]}}]}\n\n'
        % part
        for part in (b'{\\"a\\": \\"\\ud83d', b'\\ude00\\"}')
    ]

    assert answer(b"".join(fragments) + STOP) == [ToolCall("f", {"a": "😀"}, None, 0), done()]


# -- characters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("halves", "texts", "replaced"),
    [
        (["\\ud83d", "\\ude00"], ["😀"], 0),
        (["a\\ud83d", "", "\\ude00b"], ["a", "😀b"], 0),
        (["\\ud83d", "x"], ["\ufffdx"], 1),
        (["x\\ud83d"], ["x", "\ufffd"], 1),
        (["\\ude00\\ud83d\\ude00"], ["\ufffd😀"], 1),
    ],
)
@pytest.mark.parametrize("name", ["content", "reasoning", "reasoning_content", "text"])
def test_halves_of_characters(name: str, halves: list[str], texts: list[str], replaced: int) -> None:
    """Two halves of a character that come in two deltas are one character; a lone half becomes U+FFFD and is told."""
    shape = '{"index":0,"text":"%s"}' if name == "text" else f'{{"index":0,"delta":{{"{name}":"%s"}}}}'
    kind = ThinkingDelta if name.startswith("reasoning") else TextDelta
    told = [f"{replaced} invalid characters of the answer were replaced by U+FFFD"] if replaced else []
    data = "".join('data: {"choices":[%s]}\n\n' % (shape % half) for half in halves).encode()

    events = answer(data + DONE)

    assert events == [*map(kind, texts), done("", None, NO_REASON, *told)]


def test_halves_of_another_answer() -> None:
    """Half a character of another choice is no half of ours."""
    half = b'{"index":%d,"delta":{"content":"%s"}}'
    both = b'data: {"choices":[%s,%s]}\n\n'

    data = both % (half % (1, b"\\ud83d"), half % (0, b"a")) + both % (half % (1, b"\\ude00"), half % (0, b"b"))

    assert answer(data + STOP) == [TextDelta("a"), TextDelta("b"), done()]


def test_halves_elsewhere() -> None:
    """A lone half in a name, a log probability, a refusal or an error cannot break what carries it on."""
    half = json.dumps("\ud83d").encode()
    call = b'data: {"choices":[{"delta":{"tool_calls":[{"id":%s,"index":0,"function":{"name":%s}}]}}]}\n\n'
    logprobs = b'data: {"choices":[{"delta":{"content":"x"},"logprobs":{"content":[{"token":%s}]}}]}\n\n'

    assert answer(call % (half, half) + STOP)[0] == ToolCall("\ufffd", {}, "\ufffd", 0)
    assert answer(logprobs % half + STOP)[0] == TextDelta("x", [{"token": "\ufffd"}])
    assert answer(b'data: {"choices":[{"delta":{"refusal":%s}}]}\n\n' % half + STOP)[0] == TextDelta("\ufffd")
    assert answer(b'data: {"choices":[{"finish_reason":%s}]}\n\n' % half + DONE) == [unknown("\ufffd")]
    assert answer(b'data: {"error":{"message":%s}}\n\n' % half) == [failed("\ufffd")]


def test_invalid_utf8() -> None:
    """Each invalid byte becomes U+FFFD and is told; the answer goes on."""
    data = b'data: {"choices":[{"delta":{"content":"a\xff"}}]}\n\n'

    assert answer(data + delta(content="b") + STOP) == [
        TextDelta("a\ufffd"),
        TextDelta("b"),
        done("stop", None, "1 invalid characters of the answer were replaced by U+FFFD"),
    ]


# -- JSON at its edges -----------------------------------------------------------------------------------------------


def test_nulls_and_strangers() -> None:
    """A null is as good as a member that is not there, and strangers are skipped."""
    chunk: dict[str, Any] = {
        "id": 5,
        "object": None,
        "usage": None,
        "timings": None,
        "error": None,
        "x": [{}],
        "choices": [{"index": 0, "delta": {"role": 5, "content": None, "tool_calls": None, "function_call": {}}}],
    }

    assert answer(event(chunk) + event({"choices": None}) + event({}) + STOP) == [done()]


def test_duplicate_names() -> None:
    """Of a name that is given twice the last one counts."""
    assert answer(b'data: {"choices":[{"delta":{"content":"a","content":"b"}}]}\n\n' + STOP)[0] == TextDelta("b")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-5", "0", "9223372036854775808"])
def test_absurd_counts(number: str) -> None:
    """A count that no counter holds is not counted; the answer is whole all the same."""
    usage = f'{{"prompt_tokens":{number},"completion_tokens":{number}}}'
    timings = f'{{"cache_n":{number},"prompt_n":{number},"predicted_n":{number}}}'
    data = f'data: {{"usage":{usage}}}\n\ndata: {{"timings":{timings}}}\n\n'

    assert answer(data.encode() + STOP) == [done("stop", Usage())]


@pytest.mark.parametrize("number", ["1e308", "1e400", "-1e400", "-1", "1e30"])
def test_absurd_times(number: str) -> None:
    """A duration that no counter holds was not told."""
    data = f'data: {{"timings":{{"prompt_ms":{number},"predicted_ms":{number}}}}}\n\n'

    assert answer(data.encode() + STOP) == [done("stop", Usage())]


BROKEN = [
    b"NaN",
    b"[]",
    b"null",
    b"5",
    b"text",
    b"{",
    b'{"choices":{}}',
    b'{"choices":[5]}',
    b'{"choices":[{"delta":"text"}]}',
    b'{"choices":[{"delta":{"content":[]}}]}',
    b'{"choices":[{"delta":{"content":NaN}}]}',
    b"[" * 100_000,
]


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:40]))
def test_what_is_not_the_protocol(data: bytes) -> None:
    """An event that is no chunk ends the run as failed, and says which it was and shows it."""
    *events, last = answer(b": ping\n\n" + delta(content="a") + b"data: " + data + b"\n\n" + delta(content="b") + STOP)

    assert events == [TextDelta("a")]
    assert isinstance(last, Ended)
    assert last.fault is not None
    assert (last.outcome, last.fault.kind) == (Outcome.FAILED, "ProtocolError")
    assert last.fault.message.startswith("not a chunk of OpenAI's protocol (")
    assert " in event 2 of the answer: " in last.fault.message
    assert len(last.fault.message) < 600


@pytest.mark.parametrize("depth", [1, 100, 900, *range(960, 1010), 5000])
def test_nested_errors(depth: int) -> None:
    """An error's value may be nested as deep as it likes."""
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        value = opening * depth + "1" + closing * depth
        (ended,) = sealed(decode(ChunkDecoder(), [f'data: {{"error":{value}}}\n\n'.encode()]))
        assert isinstance(ended, Ended)
        assert ended.outcome is Outcome.FAILED


@pytest.mark.parametrize("depth", [1, 100, 900, *range(960, 1010), 5000])
@pytest.mark.parametrize("start", ["", '"\\ud83d",'])
def test_nested_arguments(depth: int, start: str) -> None:
    """Arguments may be nested as deep as they like, as an object and as text."""
    value = f"[{start}" * depth + "1" + "]" * depth
    call = 'data: {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":%s}}]}}]}\n\n'
    for arguments in (value, json.dumps(value)):
        *_, ended = sealed(decode(ChunkDecoder(), [(call % arguments).encode() + STOP]))
        assert isinstance(ended, Ended)


@pytest.mark.parametrize(
    ("error", "text", "code"),
    [
        ("boom", "boom", -1),
        ({"message": "boom", "code": 503}, "boom", 503),
        ({"message": "boom", "code": "server_error"}, "boom", -1),
        ({"message": "boom", "code": True}, "boom", -1),
        ({"message": "boom", "code": 10**400}, "boom", -1),
        ({"type": "x"}, '{"type": "x"}', -1),
    ],
)
def test_errors(error: Any, text: str, code: int) -> None:
    """An error in the stream is its ending, with what was counted until then."""
    counted = event({"choices": [], "usage": {"prompt_tokens": 3}})

    assert answer(delta(content="a") + event({"error": error}) + STOP) == [TextDelta("a"), failed(text, code)]
    assert answer(counted + event({"error": error}) + STOP) == [failed(text, code, Usage(3))]


# -- shapes ----------------------------------------------------------------------------------------------------------


def test_done_without_a_finish_reason() -> None:
    """[DONE] is a whole ending; that no finish_reason came is said."""
    assert answer(delta(content="a") + DONE) == [TextDelta("a"), done("", None, NO_REASON)]
    assert answer(DONE) == [done("", None, NO_REASON)]
    assert answer(b"data:[DONE]\n\n") == [done("", None, NO_REASON)]


def test_nothing_at_all() -> None:
    """An empty answer, and one of comments only, is truncated."""
    assert answer(b"") == [truncated()]
    assert answer(b"\n\n") == [truncated()]
    assert answer(b": ping\n\n:\n\n") == [truncated()]
    assert answer(b"event: ping\ndata:\n\n") == [truncated()]


def test_other_choices_are_not_ours() -> None:
    """What belongs to a second choice is neither shown nor taken for the ending."""
    other = event({"choices": [{"index": 1, "delta": {"content": "B"}, "finish_reason": "length"}]})

    assert answer(delta(content="a") + other) == [TextDelta("a"), truncated()]


def test_usage_on_every_chunk() -> None:
    """Counts that grow with the answer are the last ones at the end (vLLM, with continuous usage)."""
    chunks = [
        event({"choices": [{"delta": {"content": text}}], "usage": {"prompt_tokens": 3, "completion_tokens": n}})
        for n, text in enumerate("ab", 1)
    ]

    assert answer(b"".join(chunks) + STOP) == [TextDelta("a"), TextDelta("b"), done("stop", Usage(3, 2))]


def test_a_line_without_end() -> None:
    """A line that outgrows the limit ends the run as failed, as a stream, as JSON, or as nothing but blanks."""
    for data in (b"data: " + b"x" * 2000, b"data: x\n" * 2000, b"{" * 2000, b" " * 2000, b"x" * 2000 + b"\n\n" + STOP):
        (ended,) = every_way(lambda: ChunkDecoder(1000), data)
        assert ended == Ended(
            Outcome.FAILED, fault=Fault("ProtocolError", "a line of the answer is longer than 1,000 bytes")
        )


def test_surplus_is_dropped() -> None:
    """What comes after the ending is dropped and counted."""
    decoder = ChunkDecoder()

    told = "1 events after the end of the answer were dropped"
    assert decoder.feed(STOP + delta(content="late")) == [done("stop", None, told)]
    assert (decoder.feed(delta(content="later")), decoder.eof(), decoder.surplus) == ([], [], 2)


# -- whatever a network brings ---------------------------------------------------------------------------------------

ALL = [recorded(name) for name in RECORDED]


@patient
@given(st.sampled_from(ALL), st.lists(st.integers(0, 4000), max_size=12))
def test_any_cutting(data: bytes, places: list[int]) -> None:
    """Cut anywhere, a recorded answer decodes as it does whole."""
    assert decode(ChunkDecoder(), cut_at(data, places)) == decode(ChunkDecoder(), [data])


@patient
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4), st.sampled_from([b"", b"data: ", b"{"]))
def test_any_bytes(data: bytes, places: list[int], start: bytes) -> None:
    """Arbitrary bytes never raise out of the decoder, and end in exactly one ending."""
    whole = sealed(decode(ChunkDecoder(), [start + data]))

    assert without_surplus(decode(ChunkDecoder(), cut_at(start + data, places))) == without_surplus(whole)


SPLICES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from([b'"', b"\\", b"\\ud83d", b"{", b"}", b"\n", b"1e999", b"9" * 30, b"null", b"-", b"\xff", b"\r"]),
)


@patient
@given(
    st.sampled_from(ALL),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 12), SPLICES), min_size=1, max_size=4),
    st.lists(st.integers(0, 4000), max_size=4),
)
def test_damaged_answers(data: bytes, damage: list[tuple[int, int, bytes]], places: list[int]) -> None:
    """A damaged answer never raises out of the decoder, and decodes the same however it is cut."""
    for place, removed, added in damage:
        place %= len(data) + 1
        data = data[:place] + added + data[place + removed :]

    whole = sealed(decode(ChunkDecoder(), [data]))

    assert without_surplus(decode(ChunkDecoder(), cut_at(data, places))) == without_surplus(whole)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None), max_size=5)
    | st.sampled_from(["stop", "\ud83d", "\ude00", "{", '{"a":1}', "[DONE]"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def some(names: str, value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names.split()), value, max_size=4)


FRAGMENTS = some("index id function", SCALARS | some("name arguments", JSON))
DELTAS = some("content reasoning reasoning_content refusal tool_calls", SCALARS | st.lists(FRAGMENTS, max_size=3))
CHOICES = some("index text finish_reason logprobs delta message", JSON | DELTAS)
NUMBERS = some(
    "prompt_tokens completion_tokens cache_n prompt_n prompt_ms predicted_n predicted_ms total processed", SCALARS
)
CHUNKS = some("choices error usage timings prompt_progress model", JSON | st.lists(CHOICES, max_size=3) | NUMBERS)


@patient
@given(st.lists(CHUNKS, max_size=4), st.booleans())
def test_any_json(values: list[dict[str, Any]], stream: bool) -> None:
    """Any JSON under the protocol's own names never raises, and ends in exactly one ending."""
    texts = [json.dumps(value) for value in values]
    data = "".join(f"data: {text}\n\n" for text in texts) if stream else "".join(texts)

    sealed(decode(ChunkDecoder(), [data.encode()]))
