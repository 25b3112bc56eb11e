"""Ollama's wire: recorded answers, damaged answers, and whatever else a network may bring."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.protocols.decoding import (
    cut_at,
    decode,
    every_way,
    one_by_one,
    patient,
    recorded,
    recordings,
    sealed,
    without_surplus,
)

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
from tailrace.protocols.faults import advice, from_error
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.ollama.progress import ProgressDecoder

USAGE = Usage(12, 2, 210000000, 9000000, 80000000, 40000000)
STOP = Ended(Outcome.COMPLETE, "stop", usage=Usage())
NO_DONE = Ended(Outcome.TRUNCATED, fault=Fault("TruncatedError", 'the server closed the stream without "done": true'))
HALF = "the server closed the stream without its final record (the last line is cut in half)"


def failed(message: str, code: int = -1) -> Ended:
    return Ended(Outcome.FAILED, fault=Fault("ResponseError", message, code, advice(message)))


def answer(data: bytes) -> list[Event]:
    return every_way(AnswerDecoder, data)


def progress(data: bytes) -> list[Event]:
    return every_way(ProgressDecoder, data)


def line(content: str = "", done: Any = False, **rest: Any) -> bytes:
    """A line as Ollama writes it: compact, and with every member that it always has."""
    value = {
        "model": "m",
        "created_at": "2026-01-02T03:04:05.6Z",
        "message": {"role": "assistant", "content": content},
        "done": done,
        **rest,
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


DONE = line(done=True, done_reason="stop")

RECORDED: dict[str, list[Event]] = {
    "chat": [
        TextDelta("Yes"),
        TextDelta(", "),
        TextDelta("indeed."),
        Ended(Outcome.COMPLETE, "stop", usage=USAGE),
    ],
    "chat_whole": [TextDelta("Yes, indeed."), Ended(Outcome.COMPLETE, "stop", usage=USAGE)],
    "chat_length": [
        TextDelta("One two"),
        TextDelta(" three"),
        Ended(Outcome.LENGTH, "length", usage=Usage(output_tokens=3)),
    ],
    "generate": [
        TextDelta("def"),
        TextDelta(" f():"),
        Ended(Outcome.COMPLETE, "stop", usage=USAGE, context=[9906, 11, 1917]),
    ],
    "generate_tools": [ThinkingDelta("look it up"), ToolCall("weather", {"city": "上海"}, "call_ab12cd34", 0), STOP],
    "thinking": [
        ThinkingDelta("Hm, "),
        ThinkingDelta("let me see."),
        ThinkingDelta(" Done."),
        TextDelta("4"),
        TextDelta("2"),
        Ended(Outcome.COMPLETE, "stop", usage=USAGE),
    ],
    "tools": [
        ToolCall("weather", {"city": "Oslo", "days": 2}, "call_ab12cd34", 0),
        ToolCall("time", {}, "call_ef56ab78", 1),
        STOP,
    ],
    "tools_final": [
        TextDelta("I ask."),
        ToolCall("weather", {"city": "Oslo"}, "call_1", 0),
        ToolCall("weather", {"city": "Bergen"}, "call_2", 1),
        STOP,
    ],
    "logprobs": [
        TextDelta(
            "Hi",
            [
                {
                    "token": "Hi",
                    "logprob": -0.25,
                    "bytes": [72, 105],
                    "top_logprobs": [{"token": "Yo", "logprob": -1.5}],
                }
            ],
        ),
        TextDelta("", [{"token": "", "logprob": -0.5}]),
        STOP,
    ],
    "load": [Ended(Outcome.COMPLETE, "load", usage=Usage())],
    "unload": [Ended(Outcome.COMPLETE, "unload", usage=Usage())],
    "error": [
        TextDelta("Once"),
        failed("an error was encountered while running the model: CUDA error: out of memory"),
    ],
    "error_in_json": [
        failed("the request exceeds the available context size (the prompt has 5000 tokens, the context holds 4096)")
    ],
    "error_glued": [
        TextDelta("Once"),
        TextDelta(" upon"),
        failed("you have reached your hourly usage limit", 429),
    ],
    "error_unauthorized": [TextDelta("Once"), failed("unauthorized")],
    "no_done": [TextDelta("the"), TextDelta(" the"), TextDelta(" the"), NO_DONE],
    "reason_without_done": [
        TextDelta("Yes"),
        Ended(Outcome.COMPLETE, "stop", warnings=('the server sent done_reason "stop" but never done: true',)),
    ],
    "cut": [TextDelta("Yes"), Ended(Outcome.TRUNCATED, fault=Fault("TruncatedError", HALF))],
    "unicode": [TextDelta("a\u2028b\u2029c\u0085d"), TextDelta("\x7f\u200b👨‍👩‍👧 春天"), TextDelta("\ufeffé"), STOP],
    "surrogates": [TextDelta("a"), TextDelta("😀b"), TextDelta("😁"), TextDelta("c"), STOP],
}

BIG, SMALL = "sha256:74701a8c35f6" + "0" * 52, "sha256:966de95ca8a6" + "1" * 52
SUCCESS: list[Event] = [Progress("writing manifest"), Progress("success"), Ended(Outcome.COMPLETE, "success")]
RECORDED_PROGRESS: dict[str, list[Event]] = {
    "pull": [
        Progress("pulling manifest"),
        Progress("pulling 74701a8c35f6", BIG, 1321082688),
        Progress("pulling 74701a8c35f6", BIG, 1321082688, 660541344),
        Progress("pulling 966de95ca8a6", SMALL, 1429),
        Progress("pulling 74701a8c35f6", BIG, 1321082688, 1321082688),
        Progress("pulling 966de95ca8a6", SMALL, 1429, 1429),
        Progress("verifying sha256 digest"),
        *SUCCESS,
    ],
    "pull_whole": SUCCESS[1:],
    "pull_unknown": [Progress("pulling manifest"), failed("pull model manifest: file does not exist")],
    "push": [
        Progress("retrieving manifest"),
        Progress("pushing 74701a8c35f6", BIG, 1321082688),
        Progress("pushing manifest"),
        *SUCCESS[1:],
    ],
    "create": [
        Progress("quantizing F16 model to Q4_K_M", "0000000000000000000", 100, 50),
        Progress(f"creating new layer {BIG}"),
        *SUCCESS,
    ],
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_answers(name: str) -> None:
    """Each recorded answer gives its events, however it is cut."""
    assert answer(recorded(f"{name}.ndjson")) == RECORDED[name]


@pytest.mark.parametrize("name", RECORDED_PROGRESS)
def test_recorded_progress(name: str) -> None:
    """Each recorded pull, push and create gives its lines, however it is cut."""
    assert progress(recorded(f"{name}.ndjson")) == RECORDED_PROGRESS[name]


def test_every_recording_has_its_events() -> None:
    """No recording is forgotten."""
    assert sorted(RECORDED | RECORDED_PROGRESS) == [name.removesuffix(".ndjson") for name in recordings("*.ndjson")]


@pytest.mark.parametrize("name", RECORDED)
def test_the_last_line_may_lack_its_line_end(name: str) -> None:
    """With and without the last LF an answer is the same (A6)."""
    assert answer(recorded(f"{name}.ndjson").rstrip(b"\n")) == RECORDED[name]


FINISHED = ["chat", "chat_whole", "chat_length", "generate", "generate_tools", "thinking", "tools", "logprobs", "load"]


@pytest.mark.parametrize("name", FINISHED)
def test_an_answer_cut_anywhere_is_no_success(name: str) -> None:
    """Every prefix of an answer that lacks its final record ends as truncated, with the text of its whole lines."""
    data = recorded(f"{name}.ndjson").rstrip(b"\n")
    for end in range(len(data)):
        *events, last = decode(AnswerDecoder(), [data[:end]])
        assert isinstance(last, Ended)
        assert last.outcome is Outcome.TRUNCATED
        assert events == RECORDED[name][: len(events)]


@pytest.mark.parametrize("name", ["pull", "pull_whole", "push", "create"])
def test_progress_cut_anywhere_is_no_success(name: str) -> None:
    """Every prefix of a pull, push or create that lacks ``success`` ends as truncated."""
    data = recorded(f"{name}.ndjson").rstrip(b"\n")
    for end in range(len(data)):
        *events, last = decode(ProgressDecoder(), [data[:end]])
        assert isinstance(last, Ended)
        assert last.outcome is Outcome.TRUNCATED
        assert events == RECORDED_PROGRESS[name][: len(events)]


# -- characters ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("halves", "texts", "replaced"),
    [
        (["\\ud83d", "\\ude00"], ["😀"], 0),
        (["a\\ud83d", "", "\\ude00b"], ["a", "😀b"], 0),
        (["\\ud83d", "\\ud83d\\ude00"], ["\ufffd😀"], 1),
        (["\\ud83d", "x"], ["\ufffdx"], 1),
        (["\\ude00x"], ["\ufffdx"], 1),
        (["x\\ud83d"], ["x", "\ufffd"], 1),
        (["\\ud83dx\\ude00"], ["\ufffdx\ufffd"], 2),
        (["春\\ud83d", "\\ude00天"], ["春", "😀天"], 0),
    ],
)
@pytest.mark.parametrize("kind", ["content", "response", "thinking", "thinking of generate"])
def test_halves_of_characters(kind: str, halves: list[str], texts: list[str], replaced: int) -> None:
    """Two halves of a character that come in two deltas are one character; a lone half becomes U+FFFD and is told."""
    shape = {
        "content": '{"message":{"role":"assistant","content":"%s"},"done":false}\n',
        "thinking": '{"message":{"role":"assistant","content":"","thinking":"%s"},"done":false}\n',
        "response": '{"response":"%s","done":false}\n',
        "thinking of generate": '{"response":"","thinking":"%s","done":false}\n',
    }[kind]
    delta = ThinkingDelta if "thinking" in kind else TextDelta
    told = (f"{replaced} invalid characters of the answer were replaced by U+FFFD",) if replaced else ()

    events = answer("".join(shape % half for half in halves).encode() + DONE)

    assert events == [*map(delta, texts), Ended(Outcome.COMPLETE, "stop", usage=Usage(), warnings=told)]


def test_halves_elsewhere() -> None:
    """A lone half in a tool call, a log probability or an error cannot break what carries it on."""
    call = (
        b'{"message":{"content":"","tool_calls":[{"id":"\\ud83d","function":'
        b'{"name":"f\\ude00","arguments":{"\\ud83dk":["\\ud83d"]}}}]},"done":false}\n'
    )
    logprobs = b'{"message":{"content":"x"},"logprobs":[{"token":"\\ud83d"}],"done":false}\n'

    assert answer(call + DONE)[0] == ToolCall("f\ufffd", {"\ufffdk": ["\ufffd"]}, "\ufffd")
    assert answer(logprobs + DONE)[0] == TextDelta("x", [{"token": "\ufffd"}])
    assert answer(b'{"error":"\\ud83d!"}\n') == [failed("\ufffd!")]
    assert progress(b'{"status":"\\ud83d"}\n{"error":"\\ude00"}') == [Progress("\ufffd"), failed("\ufffd")]


def test_invalid_utf8() -> None:
    """Each invalid byte becomes U+FFFD and is told; the answer goes on."""
    events = answer(b'{"message":{"content":"a\xff\xfeb\xe6\x98"},"done":false}\n' + line("ok") + DONE)

    assert events[:2] == [TextDelta("a\ufffd\ufffdb\ufffd"), TextDelta("ok")]
    assert events[2] == Ended(
        Outcome.COMPLETE,
        "stop",
        usage=Usage(),
        warnings=("3 invalid characters of the answer were replaced by U+FFFD",),
    )
    assert answer('{"message":{"content":"said \ufffd"},"done":false}\n'.encode() + DONE) == [
        TextDelta("said \ufffd"),
        STOP,
    ]


def test_byte_order_mark_and_blanks() -> None:
    """A byte order mark, blank lines and CRLF are tolerated."""
    assert answer(b"\xef\xbb\xbf" + line("a") + b"\n\r\n  \n" + line("b").replace(b"\n", b"\r\n") + DONE) == [
        TextDelta("a"),
        TextDelta("b"),
        STOP,
    ]


# -- JSON at its edges -----------------------------------------------------------------------------------------------


def test_duplicate_names() -> None:
    """Of a name that is given twice the last one counts."""
    assert answer(b'{"message":{"content":"a","content":"b"},"done":true,"done":false}\n' + DONE)[0] == TextDelta("b")


def test_unknown_members() -> None:
    """What we do not know is skipped, whatever it is."""
    assert answer(line("a", remote_model="x", future={"y": [1, {"z": None}]}, created_at=5, model=None) + DONE)[
        0
    ] == TextDelta("a")


def test_nulls() -> None:
    """A null is as good as a member that is not there."""
    data = b'{"message":{"content":null,"thinking":null,"tool_calls":null},"error":null,"done":null,"status":null}\n'

    assert answer(data + DONE) == [STOP]
    assert answer(b'{"message":null,"response":"a","done":false}\n' + DONE) == [TextDelta("a"), STOP]


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5000, "-5", "0", "9223372036854775808"])
def test_absurd_counts(number: str) -> None:
    """A count that no counter holds is not counted; the answer is whole all the same."""
    data = b'{"message":{"content":"a"},"done":true,"done_reason":"stop","eval_count":%s}\n' % number.encode()

    events = answer(data)

    if len(number) > 4300:  # more digits than Python reads: not JSON to us
        assert isinstance(events[-1], Ended)
        assert events[-1].outcome is Outcome.FAILED
    else:
        assert events == [TextDelta("a"), Ended(Outcome.COMPLETE, "stop", usage=Usage())]


def test_absurd_numbers_in_arguments() -> None:
    """Numbers beyond a float or an integer of 64 bits reach the tool, or fail the run; they never raise."""
    call = b'{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"x":%s}}}]},"done":false}\n'

    assert answer(call % (b"1" + b"0" * 400) + DONE)[0] == ToolCall("f", {"x": 10**400})
    assert answer(call % b"1e400" + DONE)[0] == ToolCall("f", {"x": float("inf")})


BROKEN = [
    b"NaN",
    b'{"message":{"content":NaN}}',
    b'{"message":{"content":"a"},"done":Infinity}',
    b"[DONE]",
    b"[]",
    b"null",
    b"5",
    b'"text"',
    b"{",
    b'{"message":"text"}',
    b'{"message":{"content":5}}',
    b'{"message":{"content":[{"type":"text"}]}}',
    b'{"message":{"content":"","tool_calls":[{"function":"f"}]}}',
    b'{"message":{"content":"","tool_calls":{}}}',
    b'{"done":"yes"}',
    b"<html><body>502 Bad Gateway</body></html>",
    b"data: {}",
    b"HTTP/1.1 200 OK",
    b'{"message":{"content":"a\x00b"}}',
    b"[" * 100_000,
    b'{"message":{"content":"a"},"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
]


@pytest.mark.parametrize("data", BROKEN, ids=lambda data: repr(data[:40]))
def test_what_is_not_the_protocol(data: bytes) -> None:
    """A line that is not Ollama's protocol ends the run as failed, and says which line, where, and shows it."""
    *events, last = answer(line("a") + data + b"\n" + line("b") + DONE)

    assert events == [TextDelta("a")]
    assert isinstance(last, Ended)
    assert last.fault is not None
    assert (last.outcome, last.fault.kind) == (Outcome.FAILED, "ProtocolError")
    assert last.fault.message.startswith("not a line of Ollama's protocol (")
    assert f" at byte {len(line('a'))} of the answer: " in last.fault.message
    assert len(last.fault.message) < 600
    assert repr(data[:200].decode("utf-8", "replace"))[1:-1] in last.fault.message


@pytest.mark.parametrize("data", BROKEN[:15], ids=lambda data: repr(data[:40]))
def test_progress_that_is_not_the_protocol(data: bytes) -> None:
    """The same for progress: the line is named by its place."""
    good = b'{"status":"pulling manifest"}\n'
    bad = b'{"status":5}' if data.startswith(b'{"') else data

    *events, last = progress(good + good + bad + b"\n" + good)

    assert events == [Progress("pulling manifest")] * 2
    assert isinstance(last, Ended)
    assert last.fault is not None
    assert last.fault.kind == "ProtocolError"
    assert f" at byte {2 * len(good)} of the answer: " in last.fault.message


@pytest.mark.parametrize("depth", [1, 100, 900, *range(960, 1010), 5000])
def test_nested_errors(depth: int) -> None:
    """An error's value may be nested as deep as it likes."""
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        value = opening * depth + "1" + closing * depth
        for data in (f'{{"error":{value}}}\n', json.dumps({"error": value}) + "\n"):
            for decoder in (AnswerDecoder(), ProgressDecoder()):
                (ended,) = sealed(decode(decoder, [data.encode()]))
                assert isinstance(ended, Ended)
                assert ended.outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("boom", "boom"),
        ({"message": "boom", "code": 5}, "boom"),
        ({"code": 5}, '{"code": 5}'),
        ({"message": None, "é": 1}, '{"message": null, "é": 1}'),
        (json.dumps({"error": "inner"}), "inner"),
        (json.dumps({"error": json.dumps({"error": {"message": "inmost"}})}), "inmost"),
        ("{not json", "{not json"),
        ('{"a": 1}', '{"a": 1}'),
        (["a", 1], "['a', 1]"),
        (5, "5"),
        (True, "True"),
    ],
)
def test_texts_of_errors(error: Any, text: str) -> None:
    """An error's text is found whatever its form: text, an object, or text that holds such an object."""
    data = json.dumps({"error": error}).encode() + b"\n"

    assert answer(line("a") + data) == [TextDelta("a"), failed(text)]
    assert progress(data) == [failed(text)]


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["array", "object"])
def test_an_error_that_cannot_be_shown(wrap: Callable[[Any], Any]) -> None:
    """An error that is nested too deeply to be written down is an error all the same."""
    error: Any = 1
    for _ in range(100_000):
        error = wrap(error)

    assert from_error(error) == failed("an error that is nested too deeply to be shown")


@pytest.mark.parametrize("code", [429, None, "429", True, 10**400])
def test_the_status_of_a_remote_error(code: Any) -> None:
    """A remote error has the status it tells, if that is one."""
    data = json.dumps({"error": "no", "StatusCode": code}).encode() + b"\n"

    assert answer(data) == [failed("no", 429 if code == 429 else -1)]


@pytest.mark.parametrize("nothing", [None, "", {}, [], 0, False])
def test_an_empty_error_is_none(nothing: Any) -> None:
    """An error that says nothing is no error, as in Ollama's own client."""
    assert answer(line("a", error=nothing) + DONE) == [TextDelta("a"), STOP]


# -- shapes ----------------------------------------------------------------------------------------------------------


def test_what_the_embedded_engine_adds() -> None:
    """The embedded engine's worker says what a run waits for on lines of their own."""
    reports = [
        {"status": "queued", "position": 2},
        {"status": "loading"},
        {"status": "prefill", "processed": 128, "total": 512},
        {"status": "something new"},
    ]
    data = b"".join(json.dumps({"tailrace": report}).encode() + b"\n" for report in reports) + line("a") + DONE

    events = every_way(lambda: AnswerDecoder(reports=True), data)

    assert events == [Queued(2), Loading(), Prefill(128, 512), TextDelta("a"), STOP]
    assert [type(event) for event in answer(data)] == [TextDelta, Ended]  # from anybody else they mean nothing


def test_glued_answers() -> None:
    """Values without a line end between them are taken one after the other."""
    assert answer(line("a").strip() + line("b").strip() + b" \t" + DONE) == [TextDelta("a"), TextDelta("b"), STOP]


def test_an_ending_with_more_glued_to_it() -> None:
    """What is glued to the ending comes after it, in a last line without LF too."""
    glued = DONE.strip() + line("late")

    for data in (line("a") + glued, line("a") + glued.strip()):
        assert without_surplus(answer(data)) == [TextDelta("a"), STOP]


def test_a_last_line_that_is_whole_but_wrong() -> None:
    """A last line without LF that is JSON, but not the protocol's, is called that, and not cut in half."""
    (ended,) = answer(b'{"message":5}')

    assert isinstance(ended, Ended)
    assert ended.fault is not None
    assert ended.fault.kind == "ProtocolError"


def test_surplus_is_counted() -> None:
    """What comes after the ending is dropped and counted, blank lines aside."""
    decoder = AnswerDecoder()

    events = decoder.feed(DONE + line("late") + b"\n" + line("later"))
    more = decoder.feed(line("latest")) + decoder.eof()

    assert events == [
        Ended(
            Outcome.COMPLETE,
            "stop",
            usage=Usage(),
            warnings=("2 lines after the end of the answer were dropped",),
        )
    ]
    assert (more, decoder.surplus, decoder.ended) == ([], 3, True)


def test_much_at_once() -> None:
    """A long answer that comes in one read is what it is line by line, and what follows it is counted to its end."""
    said, late = [line(f" {number}") for number in range(1000)], [line("late")] * 500

    *events, last = decode(AnswerDecoder(), [b"".join((*said, DONE, *late))])

    assert [*events, STOP] == decode(AnswerDecoder(), [*said, DONE])
    assert events == [TextDelta(f" {number}") for number in range(1000)]
    assert isinstance(last, Ended)
    assert last.warnings == ("500 lines after the end of the answer were dropped",)


@pytest.mark.parametrize("make", [AnswerDecoder, ProgressDecoder])
def test_a_line_without_end(make: Callable[[int], AnswerDecoder | ProgressDecoder]) -> None:
    """A line that outgrows the limit ends the run as failed, in whatever pieces it comes."""
    for data in (b"x" * 2000, b"x" * 2000 + b"\n", b'{"a":"' + b"x" * 2000):
        (ended,) = every_way(lambda: make(1000), data)
        assert ended == Ended(
            Outcome.FAILED, fault=Fault("ProtocolError", "a line of the answer is longer than 1,000 bytes")
        )


def test_nothing_at_all() -> None:
    """An empty answer is truncated."""
    assert answer(b"") == [NO_DONE]
    assert answer(b"\n\n  \n") == [NO_DONE]
    assert progress(b"") == [
        Ended(Outcome.TRUNCATED, fault=Fault("TruncatedError", 'the server closed the stream without "success"'))
    ]


TOKENS = st.sampled_from(
    [
        *(
            line("a"),
            line(""),
            line("\u2028"),
            line("é", logprobs=[]),
            line("x", done_reason="stop"),
            line(thinking="t"),
        ),
        *(line("a").strip(), line("a").replace(b"\n", b"\r\n"), line("a").replace(b",", b",\n"), b"\n", b" ", b"{}\n"),
        *(
            line("a").replace(b'"a"', b'"\\ud83d"'),
            line("a").replace(b'"a"', b'"\\ude00"'),
            line("\xff").replace(b"\xc3", b""),
        ),
        *(
            line("a").replace(b"{", b" { "),
            line("a").replace(b'"done":false', b'"done" : true'),
            line('"done":true'),
            DONE,
        ),
        *(
            line("a").replace(b'"content":"a"', b'"content":null'),
            line("a", done=5),
            b"5\n",
            b"null\n",
            b'{"error":"e"}\n',
        ),
    ]
)


# As many values as lines, and yet not one a line.
GLUED = b'{"model":"m","created_at":"t","message":{"role":"assistant","content":"a"},"done":false}'


@patient
@example([GLUED, GLUED, GLUED, GLUED.replace(b",", b",\n") + b"\n", GLUED, GLUED + b"\n"])
@given(st.lists(TOKENS, max_size=8))
def test_lines_together_and_alone(lines: list[bytes]) -> None:
    """Lines that come together, however they look, are what they are one by one, and byte by byte."""
    data = b"".join(lines)
    whole = without_surplus(sealed(decode(AnswerDecoder(), [data])))

    assert without_surplus(decode(AnswerDecoder(), lines)) == whole
    assert without_surplus(decode(AnswerDecoder(), one_by_one(data))) == whole


# -- whatever a network brings ---------------------------------------------------------------------------------------

ALL = [recorded(name) for name in recordings("*.ndjson")]


@patient
@given(st.sampled_from(ALL), st.lists(st.integers(0, 4000), max_size=12))
def test_any_cutting(data: bytes, places: list[int]) -> None:
    """Cut anywhere, a recorded answer decodes as it does whole."""
    for make in (AnswerDecoder, ProgressDecoder):
        whole = without_surplus(decode(make(), [data]))
        assert without_surplus(decode(make(), cut_at(data, places))) == whole


@patient
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes(data: bytes, places: list[int]) -> None:
    """Arbitrary bytes never raise out of a decoder, and end in exactly one ending."""
    for make in (AnswerDecoder, ProgressDecoder):
        whole = sealed(decode(make(), [data]))
        assert without_surplus(decode(make(), cut_at(data, places))) == without_surplus(whole)


SPLICES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [b'"', b"\\", b"\\ud83d", b"{", b"}", b"\n", b"1e999", b"9" * 30, b"null", b"-", b"\xff", b"[", b","]
    ),
)


@patient
@given(
    st.sampled_from(ALL),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 12), SPLICES), min_size=1, max_size=4),
    st.lists(st.integers(0, 4000), max_size=4),
)
def test_damaged_answers(data: bytes, damage: list[tuple[int, int, bytes]], places: list[int]) -> None:
    """A damaged answer never raises out of a decoder, and decodes the same however it is cut."""
    for place, removed, added in damage:
        place %= len(data) + 1
        data = data[:place] + added + data[place + removed :]
    for make in (AnswerDecoder, ProgressDecoder):
        whole = sealed(decode(make(), [data]))
        assert without_surplus(decode(make(), cut_at(data, places))) == without_surplus(whole)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None), max_size=5)
    | st.sampled_from(["stop", "length", "queued", "\ud83d"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        *("message", "response", "done", "error", "logprobs", "thinking", "tool_calls", "done_reason", "context"),
        *("eval_count", "StatusCode", "status", "position", "processed", "total", "completed", "digest", "model"),
    ]
)
MESSAGES = st.dictionaries(st.sampled_from(["content", "thinking", "tool_calls", "role"]), JSON, max_size=3)


@patient
@given(st.lists(st.dictionaries(NAMES, JSON | MESSAGES, max_size=5), max_size=4))
def test_any_json(values: list[dict[str, Any]]) -> None:
    """Any JSON under the protocol's own names never raises, and ends in exactly one ending."""
    data = "\n".join(map(json.dumps, values)).encode()
    for make in (AnswerDecoder, ProgressDecoder):
        sealed(decode(make(), [data]))
