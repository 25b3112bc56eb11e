"""Upstream faults in the bytes of an answer: U9 to U16, and the order of its parts, U31."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from tests.faults.faces import Face, Upstream

from tailrace.errors import ProtocolError
from tailrace.events import Outcome, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.testing import (
    FakeOpenAI,
    Step,
    blank_lines,
    bom,
    done,
    fin,
    giant_line,
    raw,
    say,
    split,
    stall,
    think,
    together,
    tool_call,
    tool_fragment,
)

MANY = "Zażółć 水車 🎡👩‍👩‍👧 𝔘𝔫𝔦 \u0301 ∑"
# Everything that some library takes for the end of a line, and JSON does not.
BREAKS = "a\u2028b\u2029c\u0085d\x0be\x0cf\rg\x1ch\x1di\x1ej\r\nk"
MEGABYTE = 1024 * 1024


def delta(wire: str, inside: bytes) -> Step:
    """A piece of text whose JSON string is `inside`, byte for byte."""
    before, after = {
        "ollama": (b'{"model":"m","message":{"role":"assistant","content":"', b'"},"done":false}\n'),
        "openai": (b'data: {"choices":[{"index":0,"delta":{"content":"', b'"}}]}\n\n'),
    }[wire]
    return raw(before + inside + after)


def line(wire: str, json_text: bytes) -> Step:
    """A line, or event, that holds `json_text`."""
    return raw(json_text + b"\n" if wire == "ollama" else b"data: " + json_text + b"\n\n")


def test_u9_one_byte_at_a_time(upstream: Upstream, kind: str) -> None:
    """Characters cut anywhere by the network come out whole."""
    face = Face(kind, upstream.host)
    upstream.script(split(every=1), say(MANY), say(*MANY))
    face.chat().whole(MANY * 2)
    upstream.is_let_go(face)


@pytest.mark.parametrize("size", [2, 3, 5, 7, 1000])
def test_u9_pieces_of_any_size(upstream: Upstream, kind: str, size: int) -> None:
    """The same for pieces of other sizes, thinking and calls included."""
    upstream.script(split(every=size), think(MANY), say(MANY), tool_call("f", {"a": MANY}))
    seen = Face(kind, upstream.host).chat()
    seen.whole(MANY)
    assert seen.reply.thinking == MANY
    assert seen.reply.tool_calls[0].arguments == {"a": MANY}


@pytest.mark.parametrize(
    ("bad", "text", "count"),
    [
        (b"a\xffb", "a\ufffdb", 1),
        (b"\xc3(", "\ufffd(", 1),
        (b"\xf0\x9f\x98", "\ufffd", 1),
        (b"\xed\xa0\xbd", "\ufffd\ufffd\ufffd", 3),
        (b"ok \xef\xbf\xbd \xff", "ok \ufffd \ufffd", 1),
    ],
)
def test_u10_invalid_utf8(upstream: Upstream, kind: str, bad: bytes, text: str, count: int) -> None:
    """Invalid bytes become U+FFFD, and are counted; a U+FFFD of the server's own is not. The same on both wires."""
    face = Face(kind, upstream.host)
    upstream.script(say("x"), delta(upstream.wire, bad), say("y"), done())
    reply = face.chat().whole(f"x{text}y")
    assert reply.warnings == (f"{count} invalid characters of the answer were replaced by U+FFFD",)
    upstream.is_let_go(face)


def test_u11_halves_in_two_deltas(upstream: Upstream, kind: str) -> None:
    """A character whose halves come in two deltas is joined."""
    wire = upstream.wire
    upstream.script(say("x"), delta(wire, rb"a\ud83d"), delta(wire, rb"\ude00b"), say("y"), done())
    assert Face(kind, upstream.host).chat().whole("xa😀by").warnings == ()


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([rb"a\ud83d", b"b"], "a\ufffdb"),
        ([rb"a\ude00b"], "a\ufffdb"),
        ([rb"a\ud83d"], "a\ufffd"),
        ([rb"\ud83d\ud83d", rb"\ude00"], "\ufffd😀"),
    ],
)
def test_u11_halves_without_the_other(upstream: Upstream, kind: str, pieces: list[bytes], text: str) -> None:
    """A half that never finds its other half becomes U+FFFD: what leaves us can always be encoded."""
    upstream.script(*[delta(upstream.wire, piece) for piece in pieces], done())
    reply = Face(kind, upstream.host).chat().whole(text)
    assert reply.text.encode().decode() == text


def test_u11_halves_in_thinking(upstream: Upstream, kind: str) -> None:
    """The same in the thinking."""
    pieces = {
        "ollama": [
            b'{"message":{"content":"","thinking":"%s"},"done":false}' % half for half in (rb"\ud83d", rb"\ude00")
        ],
        "openai": [b'{"choices":[{"delta":{"reasoning_content":"%s"}}]}' % half for half in (rb"\ud83d", rb"\ude00")],
    }[upstream.wire]
    upstream.script(*[line(upstream.wire, piece) for piece in pieces], say("y"), done())
    reply = Face(kind, upstream.host).chat().whole("y")
    assert reply.thinking == "😀"


@pytest.mark.parametrize("escaped", [True, False])
def test_u12_line_separators_in_text(upstream: Upstream, kind: str, escaped: bool) -> None:
    """What Unicode takes for a line end does not end a line of the wire."""
    inside = json.dumps(BREAKS, ensure_ascii=escaped)[1:-1].encode()
    face = Face(kind, upstream.host)
    upstream.script(delta(upstream.wire, inside), delta(upstream.wire, inside), done())
    assert face.chat().whole(BREAKS * 2).warnings == ()
    upstream.is_let_go(face)


def test_u12_cr_between_events(openai: Upstream, kind: str) -> None:
    """On an event stream a lone CR is a line end, also when the next read brings its LF."""
    body = b'data: {"choices":[{"delta":{"content":"a"}}]}\r\rdata: {"choices":[{"delta":{"content":"b"}}]}\r\n\r\n'
    openai.script(split(every=1), raw(body), say("c"), done())
    Face(kind, openai.host).chat().whole("abc")


def test_u13_long_line(upstream: Upstream, kind: str) -> None:
    """A line of 8 MiB is fine."""
    face = Face(kind, upstream.host)
    upstream.script(giant_line(8 * MEGABYTE), say("y"))
    face.chat().whole("x" * 8 * MEGABYTE + "y")
    upstream.is_let_go(face)


def test_u13_endless_line(upstream: Upstream, kind: str) -> None:
    """A line that never ends is an error once it outgrew the limit, at a bounded price; what came before is kept."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), giant_line(1024 * MEGABYTE, ended=False))
    tracemalloc.start()
    try:
        seen = face.chat()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seen.broke(ProtocolError, Outcome.FAILED, "Hello") == "a line of the answer is longer than 16,777,216 bytes"
    assert peak < 128 * MEGABYTE
    assert upstream.server.requests[0].wait_until_left()
    upstream.is_let_go(face)


def test_u13_endless_line_without_a_stream(openai: Upstream, kind: str) -> None:
    """The same for a whole answer from a server that ignored `stream`."""
    face = Face(kind, openai.host)
    openai.script(raw(b'{"choices":[{"message":{"content":"'), *[raw(b"x" * MEGABYTE)] * 40, stall())
    assert "longer than 16,777,216 bytes" in face.chat().broke(ProtocolError, Outcome.FAILED)
    openai.is_let_go(face)


@pytest.mark.parametrize(
    "bad", [b"{'message':1}", b'{"a":', b"}", b"Internal Server Error", b'{"message":{"content":"a']
)
def test_u14_invalid_json(upstream: Upstream, kind: str, bad: bytes) -> None:
    """A line that is no JSON fails the run, with its place and its beginning; what came before is kept."""
    face = Face(kind, upstream.host)
    upstream.script(together(say("Hel", "lo"), line(upstream.wire, bad + b" " + b"x" * 500), say("never"), done()))
    message = face.chat().broke(ProtocolError, Outcome.FAILED, "Hello")
    assert repr(bad.decode() + " " + "x" * (199 - len(bad)) + "…") in message
    assert "never" not in message
    upstream.is_let_go(face)


def test_u14_the_place_is_exact(ollama: Upstream, kind: str) -> None:
    """The place is the offset of the bad line's first byte, whatever the reads were."""
    good = b'{"message":{"content":"\xe6\xb0\xb4"},"done":false}\n'
    place = f"at byte {2 * len(good)} of the answer: '{{nonsense'"
    for pieces in ([good + good + b"{nonsense\n" + good], [good, good, b"{nonsense\n"]):
        ollama.script(*map(raw, pieces), done())
        assert place in Face(kind, ollama.host).chat().broke(ProtocolError, Outcome.FAILED, "水" * 2)
    ollama.script(split(every=3), raw(good + good + b"{nonsense\n"), done())
    assert place in Face(kind, ollama.host).chat().broke(ProtocolError, Outcome.FAILED, "水" * 2)


@pytest.mark.parametrize("pieces", [None, 1])
def test_u15_blanks_and_bom(upstream: Upstream, kind: str, pieces: int | None) -> None:
    """Blank lines, blanks, CRLF and a byte order mark change nothing."""
    first = {
        "ollama": b'  {"message":{"content":"a"},"done":false}  \r\n \t \r\n',
        "openai": b'data:  {"choices":[{"delta":{"content":"a"}}]}  \r\n\r\n\r\n: hm\r\n\r\n',
    }[upstream.wire]
    cuts = [split(every=pieces)] if pieces else []
    upstream.script(*cuts, bom(), raw(first), blank_lines(3), blank_lines(2, b"\r\n"), say("b"), done(), blank_lines(2))
    assert Face(kind, upstream.host).chat().whole("ab").warnings == ()


def test_u15_no_newline_at_the_end(ollama: Upstream, kind: str) -> None:
    """The last line may lack its LF."""
    ollama.script(say("a"), raw(b'{"message":{"content":"b"},"done":true,"done_reason":"stop"}'), fin())
    assert Face(kind, ollama.host).chat().whole("ab").reason == "stop"


WRONG = {
    "null": b"null",
    "list": b"[]",
    "number": b"17",
    "string": b'"x"',
    "true": b"true",
    "nan": b"NaN",
    "infinity": b'{"done": Infinity}',
    "deep": b"[" * 100_000,
    "deep_inside": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}
WRONG_TYPES = {
    "ollama": {
        "message": b'{"message":"hi","done":false}',
        "content": b'{"message":{"content":["hi"]},"done":false}',
        "done": b'{"message":{"content":"hi"},"done":"yes"}',
        "calls": b'{"message":{"content":"","tool_calls":{"a":1}},"done":false}',
        "nameless_call": b'{"message":{"content":"","tool_calls":[{"function":{"arguments":{}}}]},"done":false}',
    },
    "openai": {
        "choices": b'{"choices":{"delta":{"content":"hi"}}}',
        "delta": b'{"choices":[{"delta":"hi"}]}',
        "content": b'{"choices":[{"delta":{"content":17}}]}',
        "calls": b'{"choices":[{"delta":{"tool_calls":[17]}}]}',
    },
}


@pytest.mark.parametrize("wrong", WRONG)
def test_u16_values_of_no_use(upstream: Upstream, kind: str, wrong: str) -> None:
    """JSON that is no record fails the run with an error of ours, and keeps what came."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), line(upstream.wire, WRONG[wrong]), done())
    face.chat().broke(ProtocolError, Outcome.FAILED, "Hello")
    upstream.is_let_go(face)


@pytest.mark.parametrize(("wire", "wrong"), [(wire, name) for wire in WRONG_TYPES for name in WRONG_TYPES[wire]])
def test_u16_wrong_types(kind: str, wire: str, wrong: str) -> None:
    """So do members of the wrong type."""
    upstream = Upstream(wire)
    with upstream.server:
        face = Face(kind, upstream.host)
        upstream.script(say("Hel", "lo"), line(wire, WRONG_TYPES[wire][wrong]), done())
        face.chat().broke(ProtocolError, Outcome.FAILED, "Hello")
        upstream.is_let_go(face)


@pytest.mark.parametrize("number", [b"1" + b"0" * 400, b"-5", b"1e400", b"1" + b"0" * 5000])
def test_u16_numbers_out_of_range(ollama: Upstream, kind: str, number: bytes) -> None:
    """A count that no counter can hold was not counted, or is an error of ours; it is never a crash."""
    face = Face(kind, ollama.host)
    ollama.script(
        say("Hi"), raw(b'{"message":{"content":""},"done":true,"done_reason":"stop","eval_count":%s}\n' % number)
    )
    seen = face.chat()
    if seen.error is None:
        assert seen.whole("Hi").usage is not None
        assert seen.reply.usage is not None
        assert seen.reply.usage.output_tokens == 0
    else:
        seen.broke(ProtocolError, Outcome.FAILED, "Hi")
    ollama.is_let_go(face)


def test_u16_duplicate_keys(upstream: Upstream, kind: str) -> None:
    """Of a key that comes twice the last value counts, as in all JSON readers."""
    upstream.script(delta(upstream.wire, b'a","content":"b'), done())
    Face(kind, upstream.host).chat().whole("b")


def test_u16_unknown_members(upstream: Upstream, kind: str) -> None:
    """Members that nobody knows yet are no fault."""
    extra = b'","x":{"y":[1,2.5,null,true]},"z":"'
    upstream.script(delta(upstream.wire, b"a" + extra), done())
    assert Face(kind, upstream.host).chat().whole("a").warnings == ()


@pytest.mark.parametrize("pieces", [None, 1, 11])
def test_u31_interleaved_tool_calls(kind: str, pieces: int | None) -> None:
    """Two tool calls whose fragments interleave, between thinking and text, are folded exactly."""
    with FakeOpenAI() as server:
        cuts = [split(every=pieces)] if pieces else []
        server.script(
            *cuts,
            think("Hm"),
            tool_fragment(1, "", name="g", id="c1"),
            tool_fragment(0, '{"a"', name="f", id="c0"),
            say("Let me "),
            tool_fragment(1, '{"b":'),
            tool_fragment(0, ':"\u6c34"}'),
            think(", yes"),
            tool_fragment(1, "2}"),
            say("see."),
            done("tool_calls"),
        )
        reply = Face(kind, f"openai:{server.url}/v1").chat().whole("Let me see.")
    assert reply.thinking == "Hm, yes"
    assert reply.tool_calls == [ToolCall("f", {"a": "水"}, "c0", 0), ToolCall("g", {"b": 2}, "c1", 1)]


@pytest.mark.parametrize("arguments", ['{"a":', "[1]", "17", "nonsense"])
def test_u31_arguments_that_are_none(openai: Upstream, kind: str, arguments: str) -> None:
    """Arguments that are no JSON object are handed on as the model wrote them, and are no error."""
    openai.script(tool_call("f", arguments, id="c0"), done("tool_calls"))
    reply = Face(kind, openai.host).chat().whole("")
    assert reply.tool_calls == [ToolCall("f", {}, "c0", 0, invalid=arguments)]


def test_u31_order_of_events(upstream: Upstream, kind: str) -> None:
    """Events come in the order of the wire; one line may hold thinking, text and calls at once."""
    final = [tool_call("f", {"a": 1}, id="c0")]
    upstream.script(think("1"), say("2"), think("3"), say("4"), done(thinking="5", text="6", tool_calls=final))
    seen = Face(kind, upstream.host).chat()
    kinds: list[Any] = [ThinkingDelta, TextDelta] * 3
    told = [event for event in seen.events[:-1] if type(event) is not ToolCallDelta]  # OpenAI's wire has the pieces too
    assert [type(event) for event in told] == [*kinds, ToolCall]
    assert (seen.reply.thinking, seen.reply.text) == ("135", "246")
