"""Markdown that grows on a terminal: at the end it shows what one rendering shows, and nothing was touched twice."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.render.documents import CHINESE, DOCUMENTS, ENGLISH
from tests.render.screen import Screen
from tests.render.structure import pieces

from tailrace.render.ansi import render
from tailrace.render.live import LiveMarkdown

SIZES = [(80, 24), (40, 60), (30, 8), (20, 5), (12, 3)]


def shown(text: str, width: int, height: int) -> list[str]:
    """What one rendering shows."""
    screen = Screen(width, height)
    for line in render(text, width, max(height - 3, 1)):
        screen.write(line + "\r\n")
    return screen.text


class Watched(Screen):
    """A screen that fails when a finished line is touched."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(width, height)
        self.seen = ""

    def write(self, text: str) -> None:
        assert self.x == 0
        done = ["".join(row) for row in self.rows[: self.y]]
        super().write(text)
        assert ["".join(row) for row in self.rows[: len(done)]] == done
        self.seen += text


def live(text: str, width: int, height: int, size: int) -> Watched:
    """What a live one shows that is fed pieces of one size."""
    screen = Watched(width, height)
    markdown = LiveMarkdown(screen.write, width, height)
    for piece in pieces(text, size):
        markdown.feed(piece)
    markdown.finish()
    return screen


@pytest.mark.parametrize("size", [1, 3, 7, 24])
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_the_screen_at_the_end_is_that_of_one_rendering(text: str, width: int, height: int, size: int) -> None:
    """Whatever the size of the terminal and of the pieces."""
    assert live(text, width, height, size).text == shown(text, width, height)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("text", DOCUMENTS)
def test_so_it_is_for_every_document(text: str, width: int, height: int) -> None:
    """Nasty ones too."""
    assert live(text, width, height, 5).text == shown(text, width, height)


@settings(max_examples=60, deadline=None)
@given(text=st.text("ab *`|-\n>#1. 中，", max_size=120), width=st.integers(8, 40))
def test_so_it_is_for_random_text(text: str, width: int) -> None:
    """What nobody wrote is shown as well."""
    assert live(text, width, 60, 3).text == shown(text, width, 60)


def test_a_long_block_of_code_is_printed_line_by_line() -> None:
    """Finished lines of code are never drawn again, so that a program of any length costs its length."""
    code = "".join(f"x{number} = {number}\n" for number in range(300))
    screen = live(f"```py\n{code}```\n", 60, 10, 4)

    assert screen.text == shown(f"```py\n{code}```\n", 60, 10)
    assert len(screen.seen) < 40 * len(code)


def test_a_paragraph_longer_than_the_screen_is_shown_whole() -> None:
    """The upper part of what does not fit is printed for good; nothing is lost and nothing comes twice."""
    text = "一段很长的话，**粗体**和 words，" * 100
    screen = live(text, 20, 6, 4)

    assert "".join(screen.text).replace(" ", "") == text.replace("**", "").replace(" ", "")


@pytest.mark.parametrize("reflow", [True, False])
@pytest.mark.parametrize(("before", "after"), [((80, 24), (40, 12)), ((40, 12), (90, 30)), ((30, 20), (29, 5))])
def test_a_resize_in_the_middle(before: tuple[int, int], after: tuple[int, int], reflow: bool) -> None:
    """What was finished stays as it was; the tail is drawn anew, once, and what follows has the new width."""
    first, second = "Finished **text**.\n\n", "An open paragraph, 一段很长的话，" * 4
    screen = Screen(*before)
    markdown = LiveMarkdown(screen.write, *before)
    for piece in pieces(first + second[:100], 5):
        markdown.feed(piece)
    screen.resize(*after, reflow=reflow)
    markdown.resize(*after)
    for piece in pieces(second[100:] + "\n\n- item\n", 5):
        markdown.feed(piece)
    markdown.finish()

    assert screen.text == shown(first + second + "\n\n- item\n", *after)


@pytest.mark.parametrize("width", [39, 25, 20, 11])
@pytest.mark.parametrize("height", [4, 6, 12])
def test_a_narrower_terminal_that_keeps_its_last_rows(width: int, height: int) -> None:
    """What it scrolled out of reach stays above, once; below it all that is open stands whole, and then the rest."""
    finished, words = "Finished.", [f"w{number}" for number in range(30)]
    screen = Screen(40, height)
    markdown = LiveMarkdown(screen.write, 40, height)
    markdown.feed(finished + "\n\n" + " ".join(words[:20]))
    before = screen.text
    screen.resize(width, height, reflow=True, keep_end=True)
    out_of_reach = " ".join(" ".join(screen.text[: screen.y]).split())
    markdown.resize(width, height)
    markdown.feed(" " + " ".join(words[20:]))
    markdown.finish()

    assert before[0] == finished
    assert " ".join(" ".join(screen.text).split()).startswith(out_of_reach)
    assert " ".join(screen.text[screen.text.index("") + 1 :]).split()[-30:] == words
    old = " ".join(screen.text).split()[1:-30]
    assert "".join(words).startswith("".join(old))


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.tuples(st.integers(10, 60), st.integers(3, 30), st.booleans()), max_size=5))
def test_nothing_is_lost_by_many_resizes(sizes: list[tuple[int, int, bool]]) -> None:
    """All text is there once and in their order, however often the terminal changes."""
    words = "".join(f"w{number} " + ("\n\n" if number % 9 == 0 else "") for number in range(99))
    screen = Screen(40, 12)
    markdown = LiveMarkdown(screen.write, 40, 12)
    for number, piece in enumerate(pieces(words, 20)):
        markdown.feed(piece)
        if number % 3 == 2 and number // 3 < len(sizes):
            width, height, reflow = sizes[number // 3]
            screen.resize(width, height, reflow=reflow)
            markdown.resize(width, height)
    markdown.finish()
    if all(reflow for *_, reflow in sizes):  # others cut off what they showed
        assert "".join(screen.text).replace(" ", "") == "".join(words.split())


def test_a_frame_is_one_write_and_changes_only_what_changed() -> None:
    """A token at the end of a paragraph of many lines draws one line."""
    screen = Watched(20, 20)
    markdown = LiveMarkdown(screen.write, 20, 20)
    markdown.feed("word " * 30)
    before, writes = len(screen.seen), screen.writes
    markdown.feed("new")

    assert screen.writes == writes + 1
    assert screen.seen[before:].count("word") <= 4


def test_nothing_new_writes_nothing() -> None:
    """A frame that would look the same is not drawn."""
    screen = Watched(20, 20)
    markdown = LiveMarkdown(screen.write, 20, 20)
    markdown.feed("")
    markdown.feed("a")
    writes = screen.writes
    markdown.feed("\n-")
    markdown.feed("")

    assert (writes, screen.writes) == (1, 1)


def test_the_cursor_is_given_back() -> None:
    """After the end it is visible, on a line of its own, lines wrap, and the terminal shows what it gets."""
    screen = live("text", 20, 5, 1)

    assert (screen.x, screen.y, screen.hidden, screen.wraps) == (0, 1, False, True)
    assert screen.modes["?2026"] == "l"


def test_finish_twice_and_without_text() -> None:
    """Neither does anything."""
    screen = Watched(20, 5)
    markdown = LiveMarkdown(screen.write, 20, 5)
    markdown.finish()
    markdown.finish()

    assert screen.text == []
    assert not screen.hidden


def test_a_footer_stands_below_the_tail_and_leaves_with_it() -> None:
    """A line of the caller's is always the last, and is not printed for good."""
    screen = Watched(20, 5)
    markdown = LiveMarkdown(screen.write, 20, 5)
    markdown.footer("41 tok/s")
    markdown.feed("one\n\ntwo")
    assert screen.text == ["one", "", "two", "41 tok/s"]

    markdown.footer("42 tok/s")
    markdown.feed(" three\n")
    assert screen.text == ["one", "", "two three", "42 tok/s"]

    markdown.finish()
    assert screen.text == ["one", "", "two three"]


def test_x3_a_model_cannot_move_the_cursor() -> None:
    """Of the codes in what is written none is the model's."""
    screen = live("\x1b[2J\x1b]0;title\x07 \x9b5A\r\x08 `\x1b[1A`\n\n```\n\x1b[3A\n```\n&#27;[4A", 60, 20, 3)

    assert re.findall(r"\x1b\[[0-9]*A|\x1b\]|\x1b\[2J|[\x07\x08\x9b]", screen.seen.replace("\x1b[1A", "")) == []
    assert screen.text[0].startswith("\\u001b[2J\\u001b]0;title\\u0007 \\u009b5A")


def test_x15_an_endless_line_costs_its_length() -> None:
    """What is written for a line without end grows with its length, not with its square."""
    short, long = (len(live("[*`<" * count, 60, 10, 64).seen) for count in (2000, 8000))

    assert long < 5 * short
