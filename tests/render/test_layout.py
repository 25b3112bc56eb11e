"""Lines in columns: where they break, how wide they are, and that nothing in them is obeyed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace.render.escape import printable
from tailrace.render.inline import Span
from tailrace.render.layout import chop, paint, text_width, units, width_of, wrap


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a text."""
    return [paint(row, {}) for row in wrap(units([Span(text)]), width)]


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("one two three", 8, ["one two", "three"]),
        ("one", 80, ["one"]),
        ("中文字符", 4, ["中文", "字符"]),
        ("中文字符", 5, ["中文", "字符"]),
        ("ab中文cd", 4, ["ab中", "文cd"]),
        ("中文，字符。", 6, ["中文，", "字符。"]),
        ("中文，字符。", 4, ["中", "文，", "字", "符。"]),
        ("中文（字符）", 6, ["中文", "（字", "符）"]),
        ("a verylongword b", 6, ["a", "verylo", "ngword", "b"]),
        ("https://example.org/a/b", 10, ["https://ex", "ample.org/", "a/b"]),
        ("a\nb\n\nc", 9, ["a", "b", "", "c"]),
        ("中", 1, ["中"]),
        ("", 9, [""]),
        ("don’t stop", 6, ["don’t", "stop"]),
        ("全角　空格", 6, ["全角", "空格"]),
    ],
)
def test_wrapping(text: str, width: int, expected: list[str]) -> None:
    """Words move down at spaces, wide characters break anywhere, punctuation stays with its character."""
    assert [line.strip("　") for line in wrapped(text, width)] == expected


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("中文", 4), ("e\u0301", 1), ("👩", 2), ("，", 2), ("❤️", 2), ("“a”", 3), ("\u200b", 0)],
)
def test_widths(text: str, width: int) -> None:
    """A character takes the columns that terminals give it."""
    assert text_width(text) == width


@settings(max_examples=200, deadline=None)
@given(text=st.text("ab 中，（é。\n-", max_size=60), width=st.integers(2, 20))
def test_no_line_is_too_wide_and_nothing_is_lost(text: str, width: int) -> None:
    """Whatever is wrapped fits, and all its characters but spaces are there in their order."""
    rows = wrap(units([Span(text)]), width)
    lines = [paint(row, {}) for row in rows]

    assert all(text_width(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "").replace("\n", "")


@settings(max_examples=100, deadline=None)
@given(text=st.text("ab 中，é", max_size=60), width=st.integers(2, 20))
def test_chopped_lines_are_full(text: str, width: int) -> None:
    """Code is broken where a line is full, and keeps its spaces."""
    rows = chop(units([Span(text)]), width)

    assert "".join(unit.text for row in rows for unit in row) == text
    assert all(width - 1 <= width_of(row) <= width for row in rows[:-1])


def test_a_word_of_two_styles_is_one_word() -> None:
    """A change of style is no place to break at."""
    rows = wrap(units([Span("aa bb"), Span("cc", "strong")]), 6)

    assert [paint(row, {"strong": "1"}) for row in rows] == ["aa", "bb\x1b[1mcc\x1b[0m"]


def test_paint_closes_what_it_opens() -> None:
    """Each styled stretch ends with a reset; links of the terminal are closed."""
    row = units([Span("a ", "strong code"), Span("b", "link", "http://x"), Span(" c")])

    assert paint(row, {"strong": "1", "code": "36"}) == "\x1b[1;36ma \x1b[0mb c"
    assert paint(row, {}, hyperlinks=True) == "a \x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\ c"


def test_x3_what_a_model_says_is_never_obeyed() -> None:
    """Control characters and turns of direction are shown, in text and in addresses."""
    row = units([Span("\x1b]0;title\x07 \x9b31m \x7f\u202e \r\b", "", "http://x/\x1b\\")])
    line = paint(row, {}, hyperlinks=True)

    assert line == (
        "\x1b]8;;http://x/\\u001b\\\x1b\\\\u001b]0;title\\u0007 \\u009b31m \\u007f\\u202e \\u000d\\u0008\x1b]8;;\x1b\\"
    )


def test_printable_leaves_text_alone() -> None:
    """Newlines, tabs and the letters of the world stay."""
    text = "a\tb\n中文 é 😀 \u200d\ufe0f"

    assert printable(text) == text
