"""Code in colours: the same line by line as in one piece, where it matters."""

from __future__ import annotations

import pytest

from tailrace.render.highlight import Highlighter


def styles(language: str, code: str) -> dict[str, str]:
    """The style of each piece of code that has one."""
    highlighter = Highlighter(language)
    return {span.text.strip(): span.style for line in code.split("\n") for span in highlighter.line(line) if span.style}


@pytest.mark.parametrize(
    "language", ["python", "c", "javascript", "html", "bash", "json", "diff", "nothing", "", "pycon"]
)
def test_no_character_is_lost(language: str) -> None:
    """The spans of a line are the line."""
    highlighter = Highlighter(language)
    lines = ["def f(x): /* a", "  b */ return '中文' # c", "", "<p class='x'>&amp;</p>", "$ \x1b \\", '"""', "+ a"]

    assert ["".join(span.text for span in highlighter.line(line)) for line in lines] == lines


def test_states_are_carried_from_line_to_line() -> None:
    """A docstring of several lines is a string to its end."""
    found = styles("python", 'def f():\n    """One.\n\n    def two\n    """\n    return 1')

    assert found["def two"] == "string"
    assert found["return"] == "keyword"


@pytest.mark.parametrize("language", ["c", "javascript", "java", "go", "css", "rust", "php"])
def test_comments_go_on_over_lines(language: str) -> None:
    """What a lexer takes in one piece is a comment on each of its lines."""
    found = styles(
        language, "<?php\n/* one\nreturn two\n*/\nreturn 3;" if language == "php" else "/* one\nreturn two\n*/ x"
    )

    assert found["return two"] == "comment"
    assert found.get("x", "") != "comment"


def test_comments_of_html() -> None:
    """So are those of HTML."""
    assert styles("html", "<!-- a\n<b>\n--> <i>")["<b>"] == "comment"


def test_a_mark_in_a_string_opens_nothing() -> None:
    """Only what the language takes for a comment is one."""
    highlighter = Highlighter("python")
    highlighter.line("x = '/* '")

    assert "comment" not in {span.style for span in highlighter.line("y = 1")}


def test_a_copy_goes_its_own_way() -> None:
    """Lines given to a copy are not seen by the original."""
    one = Highlighter("python")
    one.line("x = 1")
    one.copy().line('"""')

    assert [span.style for span in one.line("return")] == ["keyword"]


def test_very_long_lines_have_no_colours() -> None:
    """A pattern may cost more than a line of a thousand characters is worth."""
    assert [span.style for span in Highlighter("python").line("return " * 1000)] == [""]
