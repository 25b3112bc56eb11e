"""Blocks equal a full parse however the text comes, and cost what their text is long."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.render.documents import DOCUMENTS, ENGLISH
from tests.render.structure import fed, joined, of_blocks, of_text, pieces

from tailrace.render.blocks import MAX_DEPTH, MAX_OPEN, Block, BlockSplitter, split
from tailrace.render.inline import MOST_PARSES

WORDS = ["a", "b c", "文字", "**粗**", "`x`", "<b>", "  ", "    ", "\t", "\\", "#"]
BEGINNINGS = [
    "",
    "- ",
    "* ",
    "+ ",
    "1. ",
    "2) ",
    "3. ",
    "> ",
    ">",
    "# ",
    "## ",
    "   ",
    "    ",
    "- - ",
    "> 1. ",
    "-",
    "1.",
]
WHOLE = ["```", "~~~", "```py", "---", "===", "***", "", "", "| a | b |\n|---|---|\n| c | d", "| a |\n|:-:|"]

line = st.one_of(
    st.builds("".join, st.tuples(st.sampled_from(BEGINNINGS), st.sampled_from(BEGINNINGS), st.sampled_from(WORDS))),
    st.sampled_from(WHOLE),
    st.builds("{}{}".format, st.sampled_from(["> ", "- ", "  ", "   "]), st.sampled_from(["```", "---", "===", ""])),
)
# Where markdown-it is not CommonMark: behind a quote a mark may be indented by four, a line that goes on with a
# paragraph lazily may be the head of a table, an empty item with two blank lines behind it ends its list, and a line
# that is indented by four is code though it goes on lazily with what stands behind an indented mark.
_OTHERWISE = re.compile(
    r" {4}>|\t>|>.*\n {4}|^[ ]*[-*+>0-9].*\n\||[-*+.)][ \t]*\n[ \t>]*\n[ \t>]*\n|"
    r"^ {1,3}\S(?:.|\n)*^ {4}[-*+0-9]|[-*+.)] {4}(?:.|\n)*^ {4}\S",
    re.MULTILINE,
)
document = st.lists(line, max_size=14).map("\n".join).filter(lambda text: not _OTHERWISE.search(text))


@pytest.mark.parametrize("text", DOCUMENTS)
def test_blocks_are_those_of_a_full_parse(text: str) -> None:
    """The structure is markdown-it's."""
    assert of_blocks(split(text)) == of_text(text)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("text", DOCUMENTS)
def test_blocks_do_not_depend_on_the_pieces(text: str, size: int) -> None:
    """Pieces of 1, 3 and 7 characters give the blocks of the whole, part by part."""
    assert fed(text, pieces(text, size)) == split(text)


@settings(max_examples=200, deadline=None)
@given(text=document)
def test_blocks_of_any_document_are_those_of_a_full_parse(text: str) -> None:
    """Whatever stands in what, the structure is markdown-it's."""
    assert of_blocks(split(text)) == of_text(text)


@settings(max_examples=100, deadline=None)
@given(text=document | st.text("ab*`|-\n\r >#1.", max_size=80), data=st.data())
def test_blocks_do_not_depend_on_random_pieces(text: str, data: st.DataObject) -> None:
    """Cut at random, a text gives the same blocks."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert fed(text, parts) == split(text)


def test_a_block_is_handed_out_with_the_line_that_ends_it() -> None:
    """Nothing is kept longer than it may still change: of all blocks only a paragraph waits for the next line."""
    splitter = BlockSplitter()

    assert [block.kind for block in splitter.feed("# Title\n")] == ["heading"]
    assert splitter.feed("text") == []
    assert [block.text for block in splitter.open] == ["text"]
    assert splitter.feed("\n") == []
    assert [block.text for block in splitter.feed("\n")] == ["text"]
    assert [(block.text, block.last) for block in splitter.feed("```py\nx = 1\ny")] == [("", False), ("x = 1\n", False)]
    assert [block.text for block in splitter.open] == ["y"]
    assert [(block.text, block.last) for block in splitter.feed("\n```\n")] == [("y\n", False), ("", True)]
    assert splitter.open == []


def test_rows_of_a_table_are_handed_out_one_by_one() -> None:
    """The head with its delimiters is the first part of a table; each row is another."""
    splitter = BlockSplitter()
    texts = [block.text for block in splitter.feed("| a | b |\n|---|---|\n| 1 | 2 |\n| 3")]

    assert texts == ["| a | b |\n|---|---|", "| 1 | 2 |"]
    assert [block.text for block in splitter.open] == ["| 3"]


@pytest.mark.parametrize("tail", ["-", "2", "2.", "#", "``", "```py", "==", "| --", ">", "* *"])
def test_the_open_tail_leaves_out_what_does_not_tell_yet(tail: str) -> None:
    """A mark that may become anything does not make the block above flicker."""
    splitter = BlockSplitter()
    splitter.feed("text | b\n" + tail)

    assert [(block.kind, block.text) for block in splitter.open] == [("paragraph", "text | b")]


def test_looking_at_the_open_tail_changes_nothing() -> None:
    """`open` may be asked for at any time, definitions that have not ended included."""
    splitter = BlockSplitter()
    splitter.feed("[a]: http://exam")

    assert [block.kind for block in splitter.open] == ["definitions"]
    assert splitter.references == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("- a", None),
        ("- a\n", "-"),
        ("- a\n\n", "-"),
        ("- a\n\n ", "-"),
        ("- a\n\n  b", "-"),
        ("- a\n\n*", "-"),
        ("- a\n\n12", "-"),
        ("- a\n\n12.", "-"),
        ("- a\n\n12.5", None),
        ("- a\n\nb", None),
        ("- a\n\n**", None),
        ("- a\n\n1234567890", None),
        ("- a\nb", "-"),
        ("- a\nb\n", "-"),
        ("- a\n# b\n", None),
        ("-\n\n", "-"),
        ("-\n\nb", None),
        ("> a\n", ">"),
        ("> a\n\n", None),
        ("- a\n\n> b\n", ">"),
    ],
)
def test_the_outermost_container_that_may_go_on(text: str, expected: str | None) -> None:
    """A list is over with the first characters of a line that is none of it, long before that line ends."""
    for parts in ([text], list(text)):
        splitter = BlockSplitter()
        for part in parts:
            splitter.feed(part)

        assert expected == (None if splitter.outermost is None else splitter.outermost.marker)


@settings(max_examples=200, deadline=None)
@given(text=document)
def test_a_container_that_is_over_stays_so(text: str) -> None:
    """No block is ever in an outermost container that was said to be over."""
    splitter = BlockSplitter()
    over: set[int] = set()
    last = 0
    for char in text:
        blocks = splitter.feed(char)
        assert {block.within[0].list or block.within[0].id for block in blocks if block.within} & over == set()
        now = splitter.outermost
        key = 0 if now is None else now.list or now.id
        if last and key != last:
            over.add(last)
        assert key not in over
        last = key
    assert {block.within[0].list or block.within[0].id for block in splitter.finish() if block.within} & over == set()


def test_definitions_are_kept_and_handed_out() -> None:
    """Where `[a]` leads is known afterwards, and readers see the definition."""
    splitter = BlockSplitter()
    blocks = splitter.feed("[a]: http://example.org 'T'\n[b]: /b\ntext\n\n")

    assert [(block.kind, block.text) for block in blocks] == [
        ("definitions", "[a]: http://example.org 'T'\n[b]: /b"),
        ("paragraph", "text"),
    ]
    assert sorted(splitter.references) == ["A", "B"]


def test_an_item_tells_its_place() -> None:
    """Items of a list share its id, count on from its first, and know how deep their text stands."""
    blocks = split("3. a\n7. b\n\n   c\n- d\n")
    items = [block.within[0] for block in blocks]

    assert [item.marker for item in items] == ["3.", "4.", "4.", "-"]
    assert [item.indent for item in items] == [3, 3, 3, 2]
    assert [item.list == items[0].list for item in items] == [True, True, True, False]
    assert [block.gap for block in blocks] == [False, False, True, False]


def test_a_long_paragraph_is_handed_out_in_parts() -> None:
    """No more than a bounded text is ever open; the parts are the text, and none cuts emphasis in two."""
    text = "Some words and **bold words** and `code` here, 中文**注意：**也可以。 " * 200
    splitter = BlockSplitter()
    parts = []
    for piece in pieces(text, 50):
        parts += splitter.feed(piece)
        assert sum(len(block.text) for block in splitter.open) <= MAX_OPEN
    parts += splitter.finish()

    assert "".join(block.text for block in parts) == text.rstrip()
    assert len(parts) > len(text) // MAX_OPEN
    assert all(block.text.count("**") % 2 == 0 and block.text.count("`") % 2 == 0 for block in parts)
    assert len(joined(parts)) == 1


def test_cut_hands_out_a_part_of_the_open_paragraph() -> None:
    """Who has no room for an open paragraph gets most of it, and the rest follows."""
    splitter = BlockSplitter()
    splitter.feed("> one two **three** four five six")
    parts = splitter.cut()

    assert [(block.kind, block.first, block.last) for block in parts] == [("paragraph", True, False)]
    parts += splitter.feed(" seven\n# h\n")
    assert [block.text for block in joined(parts)] == ["one two **three** four five six seven", "h"]


@pytest.mark.parametrize("text", ["```py\nx = 1", "# head", "-", "| a |\n|---|\n| b"])
def test_cut_leaves_everything_else_alone(text: str) -> None:
    """Only paragraphs are cut."""
    splitter = BlockSplitter()
    splitter.feed(text)

    assert splitter.cut() == []


def test_depth_is_bounded() -> None:
    """Markers beyond the deepest container are text."""
    blocks = split("> " * 100 + "a\n" + "- " * 100 + "b")

    assert [len(block.within) for block in blocks] == [MAX_DEPTH, MAX_DEPTH]
    assert blocks[0].text == "> " * (100 - MAX_DEPTH) + "a"


def _work(text: str, size: int) -> int:
    splitter = BlockSplitter()
    for piece in pieces(text, size):
        splitter.feed(piece)
    splitter.finish()
    return splitter.work


@pytest.mark.parametrize("unit", ["[", "<", "`", "*", "|", ">", "[a](", "> ", "- ", "x|", "中"])
def test_x15_a_mebibyte_of_one_mark_is_linear(unit: str) -> None:
    """1 MiB of marks in one line is looked at a few times, however it comes."""
    text = (unit * (1 << 20))[: 1 << 20]

    assert _work(text, 1 << 12) <= 2 * (MOST_PARSES + 1) * len(text)


@pytest.mark.parametrize("head", ["", "```\n", "| a |\n|---|\n", "- ", "> "])
@pytest.mark.parametrize("line", ["- a b c\n", "  - x\n", "| a |\n", "> a\n", "word\n", "    code\n", "1. a\n"])
def test_x15_an_endless_block_is_linear(head: str, line: str) -> None:
    """Each line costs what it is long, whatever block does not end."""
    text = head + line * 4000

    assert _work(text, 64) <= 2 * (MOST_PARSES + 1) * len(text)


def test_frames_cost_no_more_than_the_open_tail() -> None:
    """Looking at the tail after each piece costs what is open, never what is finished."""
    text = ENGLISH * 20
    splitter = BlockSplitter()
    for piece in pieces(text, 24):
        splitter.feed(piece)
        assert len(splitter.open) <= 3
    splitter.finish()

    assert splitter.work < 12 * len(text)


def test_parts_are_values() -> None:
    """Blocks compare by what they are."""
    assert split("# a") == [Block("heading", "a", level=1)]
