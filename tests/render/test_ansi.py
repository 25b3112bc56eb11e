"""Blocks as lines of a terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.render.documents import CHINESE, DOCUMENTS, ENGLISH
from tests.render.structure import pieces

from tailrace.render.ansi import NO_STYLES, Renderer, render
from tailrace.render.blocks import BlockSplitter
from tailrace.render.layout import text_width

_SGR = re.compile(r"\x1b\[[0-9;]*m")


def plain(text: str, width: int = 40) -> list[str]:
    """The lines of a text, without styles and without what is empty at their ends."""
    return [line.rstrip() for line in render(text, width, styles=NO_STYLES)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\ntext\n## Two\nmore", ["One", "text", "", "Two", "more"]),
        ("a\nb\n\nc", ["a", "b", "", "c"]),
        ("\n\na\n\n\n\nb", ["a", "", "b"]),
        ("intro:\n- a\n- b", ["intro:", "• a", "• b"]),
        ("- a\n\n- b\n  - c\n    - d", ["• a", "", "• b", "  • c", "    • d"]),
        ("9. a\n9. b\n   c\n\n   d", ["9. a", "10. b", "    c", "", "    d"]),
        ("- - a\n  - b", ["• • a", "  • b"]),
        ("-\n- b", ["•", "• b"]),
        ("- [ ] a\n- [x] b\n- [y] c", ["• ☐ a", "• ☑ b", "• [y] c"]),
        ("[ ] a", ["[ ] a"]),
        ("> a\n>\n> > b\n\nc", ["│ a", "│", "│ │ b", "", "c"]),
        ("> - a\n>   b\nlazy", ["│ • a", "│   b", "│   lazy"]),
        ("***", ["─" * 40]),
        ("<div>\n**x**\n</div>", ["<div>", "x", "</div>"]),
        ("[a]: http://x\n\n[t][a]", ["[a]: http://x", "", "t (http://x)"]),
        ("[t](http://x) <http://y>", ["t (http://x) http://y"]),
        ("```\na\n\n\tb\n```\nc", ["─" * 40, "a", "", "    b", "─" * 40, "c"]),
        ("    a\n\n    b\n", ["─" * 40, "a", "", "b", "─" * 40]),
        ("```py\nx", ["── py " + "─" * 34, "x", "─" * 40]),
        ("- ```\n  x\n  ```", ["• " + "─" * 38, "  x", "  " + "─" * 38]),
        ("~~a~~ `b` **c**", ["a b c"]),
    ],
)
def test_lines(text: str, expected: list[str]) -> None:
    """Each block looks as it should."""
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("|a|b|\n|-|-:|\n|中文|1|\n|x|22|", 40, ["a    │  b", "─────┼───", "中文 │  1", "x    │ 22"]),
        ("|a|b|\n|-|-|\n|中文字符|`x`|", 8, ["a    │ b", "─────┼──", "中文 │ x", "字符 │"]),
        ("|a|\n|:-:|\n|bbb|\n|c<br>d|", 40, [" a", "───", "bbb", " c", " d"]),
        ("|a|b|c|\n|-|-|-|\n|aaaaa|bbbbb|ccccc|", 10, ["a", "b", "c", "─" * 10, "aaaaa", "bbbbb", "ccccc", "─" * 10]),
        ("|a|b|\n|-|-|\n|1|\n|1|2|3|\n|\\||", 40, ["a │ b", "──┼──", "1 │", "1 │ 2", "| │"]),
        ("- |a|\n  |-|\n  |b|", 40, ["• a", "  ─", "  b"]),
    ],
)
def test_tables(text: str, width: int, expected: list[str]) -> None:
    """Columns stand below each other, whatever is in them; too many for the terminal are shown one below the other."""
    assert plain(text, width) == expected


def test_a_table_taller_than_allowed_goes_on_with_the_widths_it_has() -> None:
    """Rows after the first screen do not wait for the end of the table."""
    splitter = BlockSplitter()
    renderer = Renderer(30, 5, styles=NO_STYLES)
    lines = renderer.add(splitter.feed("|a|b|\n|-|-|\n" + "|1|2|\n" * 6 + "|long|3|\n"))

    assert [line.rstrip() for line in lines] == ["a │ b", "──┼──", *["1 │ 2"] * 6, "l │ 3", "o │", "n │", "g │"]
    assert renderer.add(splitter.finish()) == []


@pytest.mark.parametrize("width", [2, 5, 12, 33, 80])
@pytest.mark.parametrize("text", DOCUMENTS)
def test_no_line_is_wider_than_the_terminal(text: str, width: int) -> None:
    """Whatever it is and however deep."""
    assert [line for line in render(text, width) if text_width(_SGR.sub("", line)) > max(width, 2)] == []


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("text", [ENGLISH, CHINESE, "x" * 9000, "`" * 3 + "\n" + "中\t" * 3000 + "\ny", "a b " * 2000])
def test_lines_do_not_depend_on_the_pieces(text: str, size: int) -> None:
    """Text that comes in pieces makes the lines of the whole."""
    splitter = BlockSplitter()
    renderer = Renderer(30, references=splitter.references)
    lines = [line for piece in pieces(text, size) for line in renderer.add(splitter.feed(piece))]

    assert lines + renderer.add(splitter.finish()) == render(text, 30)


def test_a_long_paragraph_is_wrapped_as_if_it_had_come_at_once() -> None:
    """Where a very long paragraph was cut cannot be seen."""
    words = ("word " * 7 + "**bold** 中文字符，") * 300

    lines = plain(words, 50)

    assert "".join(lines).replace(" ", "") == words.replace(" ", "").replace("**", "")
    assert all(text_width(line) > 40 for line in lines[:-1])


def test_styles_are_the_callers() -> None:
    """Names without parameters show plain."""
    assert render("# a\n`b`", 9, styles={"h1": "7"}) == ["\x1b[7ma\x1b[0m", "b"]


def test_links_of_the_terminal() -> None:
    """Asked for, a link is one of the terminal, and its address is not shown."""
    assert render("[a](http://x)", 40, styles=NO_STYLES, hyperlinks=True) == ["\x1b]8;;http://x\x1b\\a\x1b]8;;\x1b\\"]


@settings(max_examples=200, deadline=None)
@given(text=st.text("\x1b[]0;m\x07\x9b\u202e\r\n\x08ab`|-*#> &;1<>x", max_size=80))
def test_x3_nothing_a_model_says_is_obeyed(text: str) -> None:
    """No control character of the text reaches the terminal, whatever block it is in."""
    lines = render(text + "\n\n```\x1b]0;t\x07\n\x1b[2J\n```\n|\x1b|\n|-|\n|\x9b|\n&#27;[2J", 40, styles=NO_STYLES)

    assert re.findall("[\x00-\x1f\x7f-\x9f\u202e]", "".join(lines)) == []


@pytest.mark.parametrize("unit", ["[", "<", "`", "*", "|", ">", "_", "![", "**a", "中*", "a|"])
def test_x15_marks_cost_what_text_costs(unit: str) -> None:
    """Long runs of marks are shown whole, and in bounded parts."""
    text = (unit * 40000)[:40000]
    lines = plain(text, 100)

    assert text_width("".join(lines)) > 1000
