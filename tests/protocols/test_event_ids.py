"""Event ids: a number and the run's tag; whatever else comes as a cursor is refused by name (C9)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.protocols.decoding import patient

from tailrace.protocols.event_ids import BadCursorError, event_id, parse_cursor, tag_of

TAG = "3fa9c2d1"

NONSENSE = {
    "text": "abc",
    "a sign": "-1",
    "a plus": "+1",
    "10^30": "1" + "0" * 30,
    "a fraction": "1.5",
    "an exponent": "1e3",
    "digits of another script": "١٢",
    "full-width digits": "１２",
    "not ASCII": "é",
    "mojibake": "1-3fa9c2d1\xc3\xa9",
    "an escape": "1%0d%0adata: x",
    "a line end inside": "1\r\ndata: x",
    "a line end after": "1-3fa9c2d1\n",
    "a NUL": "1\0",
    "two": "1-3fa9c2d1,2-3fa9c2d1",
    "no number": "-3fa9c2d1",
    "no tag": "1-",
    "half a tag": "1-3fa9",
    "a tag too long": "1-3fa9c2d1f",
    "a tag in capitals": "1-3FA9C2D1",
    "a run's id": "run_3fa9c2d1",
    "an underscore": "1_000",
    "hexadecimal": "0x10",
    "very long": "9" * 100_000,
}


@patient
@given(st.integers(0, 10**15 - 1))
def test_there_and_back(number: int) -> None:
    """An id is read as the number it was made of, with the tag or without."""
    assert number == parse_cursor(event_id(number, TAG), TAG)
    assert number == parse_cursor(str(number), TAG)


def test_no_cursor() -> None:
    """An empty cursor is the start; spaces around one do not count."""
    assert [parse_cursor(text, TAG) for text in ("", "  ", " 7 ", "0-3fa9c2d1")] == [0, 0, 7, 0]


def test_tags() -> None:
    """A tag is eight characters of the run's id, and an id with another one is refused."""
    assert tag_of("run_3fa9c2d1aaaabbbbccccddddeeeeffff") == TAG
    with pytest.raises(BadCursorError, match="of another run"):
        parse_cursor("1-00000000", TAG)


@pytest.mark.parametrize("text", NONSENSE.values(), ids=NONSENSE)
def test_c9_nonsense(text: str) -> None:
    """What is no id is refused, and told what an id is."""
    with pytest.raises(BadCursorError, match="a cursor is the id of an event"):
        parse_cursor(text, TAG)


@patient
@given(st.text())
def test_c9_any_text(text: str) -> None:
    """Any text is a number of 15 digits at most, or refused; nothing else happens."""
    try:
        number = parse_cursor(text, TAG)
    except BadCursorError:
        return
    assert number in range(10**15)
