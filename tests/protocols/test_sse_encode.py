"""Server-sent events as we write them: what a decoder gets out is what was put in, one event for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.decoding import one_by_one, patient
from tests.protocols.events import hostile

from tailrace.protocols.sse import PING, ServerSentEvent, SSEDecoder, comment, encode, retry


def decoded(data: bytes) -> list[ServerSentEvent]:
    """Decodes whole and byte by byte; both must agree."""
    whole, single = SSEDecoder(), SSEDecoder()
    events = whole.feed(data) + whole.eof()
    assert [event for byte in one_by_one(data) for event in single.feed(byte)] + single.eof() == events
    return events


def lines(text: str) -> str:
    """Text as an event stream can hold it: CR and CRLF are line ends as LF is."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


_field = hostile.filter(lambda text: not set("\r\n\0") & set(text))


@patient
@given(data=hostile, id=_field, event=_field)
def test_x2_decoding_what_was_encoded(data: str, id: str, event: str) -> None:
    """Whatever the data is, it comes out as one event with that data, id and type; also after another event."""
    expected = ServerSentEvent(lines(data).encode(), event or "message", id)
    encoded = encode(data, id=id, event=event)

    assert decoded(encoded) == [expected]
    assert encode(data.encode(), id=id, event=event) == encoded
    assert decoded(encode("before") + encoded + encode("after"))[1] == expected


@patient
@given(st.lists(hostile))
def test_x2_as_many_events_as_were_encoded(texts: list[str]) -> None:
    """Events that follow each other stay as many as they were."""
    events = decoded(b"".join(map(encode, texts)))

    assert [event.text for event in events] == list(map(lines, texts))


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "1\ndata: evil", "1\r\n\r\ndata: evil", "\0" * 3])
def test_x2_fields_that_would_be_several_are_refused(bad: str) -> None:
    """CR, LF and NUL in an id or a type are an error, never a second field; other line ends of Unicode are text."""
    with pytest.raises(ValueError, match="the id of an event cannot hold CR, LF or NUL"):
        encode("x", id=bad)
    with pytest.raises(ValueError, match="the event of an event cannot hold CR, LF or NUL"):
        encode("x", event=bad)
    assert decoded(encode("x", id="1\u2028\x85", event="\x0b")) == [ServerSentEvent(b"x", "\x0b", "1\u2028\x85")]


def test_half_a_surrogate_pair() -> None:
    """Text that UTF-8 has no bytes for is replaced, not raised on."""
    assert len(decoded(encode("a\ud83db", id="\ud83d", event="\udc00"))) == 1


@patient
@given(hostile)
def test_x2_comments(text: str) -> None:
    """A comment is no event, whatever it says, and neither is a ping; they leave the next event as it is."""
    assert decoded(comment(text) + PING + encode("x") + comment(text) + encode("y")) == [
        ServerSentEvent(b"x"),
        ServerSentEvent(b"y"),
    ]


def test_retry() -> None:
    """The time to come back reaches the decoder, and is no event."""
    decoder = SSEDecoder()

    assert decoder.feed(retry(612) + comment("tailrace")) == []
    assert decoder.retry == 612
