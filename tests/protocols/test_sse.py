"""Server-sent events, rule by rule (the numbers are those of the checklist in the design notes, D1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.decoding import cut_at, one_by_one, patient

from tailrace.protocols.sse import ServerSentEvent, SSEDecoder

Event = tuple[str, str, str]


def decoded(data: bytes) -> tuple[list[Event], SSEDecoder]:
    """Decodes whole, byte by byte, cut at every place, and with bytes left over; all must agree."""
    decoder = SSEDecoder()
    whole = _run(decoder, [data])
    for pieces in (one_by_one(data), *([data[:cut], b"", data[cut:]] for cut in range(1, len(data)))):
        other = SSEDecoder()
        assert _run(other, pieces) == whole
        assert (other.last_event_id, other.retry) == (decoder.last_event_id, decoder.retry)
    if data.endswith((b"\n", b"\r")):
        assert _run(SSEDecoder(), [data, b"data: left over"]) == whole
    return whole, decoder


def _run(decoder: SSEDecoder, pieces: list[bytes]) -> list[Event]:
    events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.eof()
    return [(event.type, event.text, event.id) for event in events]


def events(data: bytes) -> list[Event]:
    return decoded(data)[0]


def texts(data: bytes) -> list[str]:
    return [text for _, text, _ in events(data)]


def test_rule_1_utf8_whatever_happens() -> None:
    """Text is UTF-8, also across reads; an invalid byte becomes U+FFFD."""
    assert texts("data: 春天 👨‍👩‍👧\n\n".encode()) == ["春天 👨‍👩‍👧"]
    assert texts(b"data: a\xffb\xe6\x98\n\n") == ["a\ufffdb\ufffd"]
    assert events(b"event: \xff\nid: \xfe\ndata: x\n\n") == [("\ufffd", "x", "\ufffd")]


def test_rule_2_one_leading_byte_order_mark() -> None:
    """Exactly one leading byte order mark is dropped; a second one is part of the first line."""
    assert texts("\ufeffdata: a\n\n".encode()) == ["a"]
    assert texts("\ufeff\ufeffdata: a\n\n".encode()) == []
    assert texts("data: \ufeffa\n\n".encode()) == ["\ufeffa"]
    assert texts(b"\xef\xbbdata: a\n\n") == []


def test_rule_3_line_ends() -> None:
    """Lines end with CRLF, LF or CR, mixed; U+2028 and U+0085 are no line ends."""
    for end in ("\n", "\r", "\r\n"):
        assert texts(f"data: a{end}data: b{end}{end}data: c{end}{end}".encode()) == ["a\nb", "c"]
    assert texts(b"data: a\r\ndata: b\rdata: c\n\r\n") == ["a\nb\nc"]
    assert texts(b"data: a\r\n\rdata: b\n\n\r") == ["a", "b"]
    assert texts("data: a\u2028b\u0085c\x0bd\n\n".encode()) == ["a\u2028b\u0085c\x0bd"]


def test_rule_4_an_empty_line_dispatches() -> None:
    """An event is dispatched by an empty line, and not before."""
    decoder = SSEDecoder()

    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [ServerSentEvent(b"a")]
    assert events(b"data: a\n\n\n\n\ndata: b\n\n") == [("message", "a", ""), ("message", "b", "")]


def test_rule_5_comments() -> None:
    """A line that starts with a colon is a comment, wherever it stands."""
    assert texts(b": ping\n\n:\n:data: no\ndata: a\n: in between\ndata: b\n\n:\n\n") == ["a\nb"]


def test_rule_6_one_space_after_the_colon() -> None:
    """The value starts after the first colon, less one space; a second space or a tab belongs to it."""
    assert texts(b"data:a\n\n") == ["a"]
    assert texts(b"data:  a\n\n") == [" a"]
    assert texts(b"data:\ta\n\n") == ["\ta"]
    assert texts(b"data: a:b: c \n\n") == ["a:b: c "]


def test_rule_7_a_line_without_a_colon_is_a_name() -> None:
    """A line without a colon is a field with an empty value."""
    assert texts(b"data\n\n") == [""]
    assert texts(b"data\ndata\n\n") == ["\n"]
    assert events(b"event: x\nevent\ndata: a\n\n") == [("message", "a", "")]
    assert texts(b"datax\n\ndat\n\n") == []


def test_rule_8_field_names() -> None:
    """Names are case-sensitive, unknown ones are ignored, several data lines are joined by LF."""
    assert events(b"DATA: a\nData: b\n data: c\ndata : d\nfoo: e\nevent: t\ndata: f\ndata: g\n\n") == [
        ("t", "f\ng", "")
    ]
    assert events(b"event: a\nevent: b\ndata: x\n\n") == [("b", "x", "")]


def test_rule_9_ids() -> None:
    """An id stays until another comes; one with NUL is ignored, an empty one resets it."""
    data = b"id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid\ndata: d\n\n"

    assert [id for _, _, id in events(data)] == ["1", "1", "1", ""]
    assert decoded(b"id: 1\ndata: a\n\n")[1].last_event_id == "1"


def test_rule_10_retry() -> None:
    """The reconnection time is taken if it is all ASCII digits."""
    assert decoded(b"retry: 500\n\n")[1].retry == 500
    for bad in (b"retry\n\n", b"retry: \n\n", b"retry: -1\n\n", b"retry: 1.5\n\n", b"retry: 5 \n\n", b"retry: 5s\n\n"):
        assert decoded(bad)[1].retry is None
    assert decoded("retry: ٥\n\n".encode())[1].retry is None
    assert decoded(b"retry: 7\n\nretry: x\n\n")[1].retry == 7


def test_rule_11_dispatch() -> None:
    """The id counts even without data; the type does not outlive an empty dispatch; the id outlives all."""
    got, decoder = decoded(b"id: 1\n\nevent: x\n\ndata: a\n\nevent: y\ndata: b\n\ndata: c\n\nid: 9\n\n")

    assert got == [("message", "a", "1"), ("y", "b", "1"), ("message", "c", "1")]
    assert decoder.last_event_id == "9"


def test_rule_12_an_open_event_is_discarded() -> None:
    """The end of the stream discards an event that no blank line completed, with its id."""
    got, decoder = decoded(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")

    assert got == [("message", "a", "1")]
    assert decoder.last_event_id == "1"


def test_rule_13_empty_data() -> None:
    """One empty data line is an event with empty data, two are one LF; a type or an id alone is none."""
    assert texts(b"data:\n\n") == [""]
    assert texts(b"data:\ndata:\n\n") == ["\n"]
    assert texts(b"data: \ndata: a\n\n") == ["\na"]
    assert events(b"event: x\n\nid: 1\n\n") == []


def test_limits() -> None:
    """A line, or the data of one event, that outgrows the limit ends the stream; nothing comes out after it."""
    for data in (b"data: " + b"x" * 99 + b"\n\n", b"data: 123456\n" * 9 + b"\n"):
        for pieces in ([data + b"data: after\n\n"], one_by_one(data + b"data: after\n\n"), [data, b"data: after\n\n"]):
            decoder = SSEDecoder(max_line=32)
            assert _run(decoder, [b"data: before\n\n", *pieces]) == [("message", "before", "")]
            assert decoder.overflow


LINE = st.sampled_from([b"data", b"data:", b"data: a", b"data:b", b"event: t", b"id: 1", b"id", b": c", b"", b"x: y"])
END = st.sampled_from([b"\n", b"\r", b"\r\n"])


@patient
@given(st.lists(st.tuples(LINE, END), max_size=25), st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_agrees_with_the_standard(lines: list[tuple[bytes, bytes]], places: list[int], mark: bool) -> None:
    """Any stream of fields, cut anywhere, gives what the standard's own algorithm gives."""
    data = (b"\xef\xbb\xbf" if mark else b"") + b"".join(line + end for line, end in lines)
    decoder = SSEDecoder()

    got = _run(decoder, cut_at(data, places))

    assert got == reference(data)


@patient
@given(st.binary(max_size=60) | st.text(alphabet="data:\r\n \ufeff", max_size=60).map(str.encode), st.data())
def test_any_bytes_cut_anywhere(data: bytes, more: st.DataObject) -> None:
    """Arbitrary bytes raise nothing, agree with the standard, and do so however they are cut."""
    places = more.draw(st.lists(st.integers(0, 60), max_size=6))

    assert _run(SSEDecoder(), cut_at(data, places)) == reference(data)


def reference(data: bytes) -> list[Event]:
    """The standard's algorithm, word by word, on text."""
    text = data.decode("utf-8", "replace").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    got: list[Event] = []
    buffer, kind, identity, last = "", "", "", ""
    *lines, _ = text.split("\n")
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            last = identity
            if buffer:
                got.append((kind or "message", buffer.removesuffix("\n"), last))
            buffer, kind = "", ""
        elif name == "data":
            buffer += value + "\n"
        elif name == "event":
            kind = value
        elif name == "id" and "\0" not in value:
            identity = value
    return got


def test_the_data_is_bytes() -> None:
    """JSON decoders get the very bytes; only `text` replaces what is invalid."""
    (event,) = SSEDecoder().feed(b"data: \xff\n\n")

    assert (event.data, event.text) == (b"\xff", "\ufffd")


@pytest.mark.parametrize("digits", [18, 19, 5000])
def test_a_huge_retry(digits: int) -> None:
    """A reconnection time beyond all sense is ignored; it breaks nothing."""
    decoder = SSEDecoder()

    assert decoder.feed(b"retry: " + b"9" * digits + b"\n\n") == []
    assert decoder.retry == (10**18 - 1 if digits == 18 else None)
