"""The text of blocks: emphasis beside CJK, links, and what is no markup."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tailrace.render.inline import Span, cut, definitions, parser, spans

_PLAIN = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def html(text: str) -> str:
    """A line of text as HTML."""
    return str(parser().renderInline(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**注意：**后面", "<strong>注意：</strong>后面"),
        ("前面**“引用”**后面", "前面<strong>“引用”</strong>后面"),
        ("前面**（括号）**后面", "前面<strong>（括号）</strong>后面"),
        ("**(注)**后面", "<strong>(注)</strong>后面"),
        ("他说**《书名》**很好，*斜体。*完", "他说<strong>《书名》</strong>很好，<em>斜体。</em>完"),
        ("**`code`**的用法", "<strong><code>code</code></strong>的用法"),
        ("这是**`code`**", "这是<strong><code>code</code></strong>"),
        ("~~删除。~~后面", "<s>删除。</s>后面"),
        ("**テスト。**テスト", "<strong>テスト。</strong>テスト"),
        ("**테스트(test)**는", "<strong>테스트(test)</strong>는"),
        ("***注意：***后面", "<em><strong>注意：</strong></em>后面"),
    ],
)
def test_emphasis_beside_full_width_punctuation(text: str, expected: str) -> None:
    """What a writer of Chinese, Japanese or Korean means as bold is bold."""
    assert html(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "** not bold**",
        "**bold **",
        "a * b * c",
        "2*3*4",
        'a**"b"**c',
        "snake_case_name 变量_名_称",
        "foo_bar_ _foo_bar",
        "**bold**.text",
        "*(**x**)*",
        "中文 ** 中文 ** 中文",
        "**emoji!**😀 x",
        "文字_斜体_文字",
        "\\*\\*注意：\\*\\*后面",
        "`**注意：**后面`",
        "****",
        "a*\u00a0b*",
    ],
)
def test_emphasis_stays_as_commonmark_has_it(text: str) -> None:
    """Where CommonMark's reading is the writer's, nothing changes."""
    assert html(text) == _PLAIN.renderInline(text)


@settings(max_examples=200, deadline=None)
@given(text=st.text("ab _*~`.(\"'\n😀é“”", max_size=30))
def test_text_without_cjk_is_read_as_commonmark_reads_it(text: str) -> None:
    """The rule for CJK never touches other text."""
    assert html(text) == _PLAIN.renderInline(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a **b *c*** `d`", [("a ", ""), ("b ", "strong"), ("c", "strong em"), (" ", ""), ("d", "code")]),
        ("[text](http://x/y)", [("text", "link"), (" (http://x/y)", "url")]),
        ("<http://x/y> <a@b.c>", [("http://x/y", "link"), (" ", ""), ("a@b.c", "link")]),
        ("[维基](http://x/%E4%B8%AD)", [("维基", "link"), (" (http://x/中)", "url")]),
        ("![alt](http://x)", [("alt", "link"), (" (http://x)", "url")]),
        ("[x](javascript:alert(1))", [("[x](javascript:alert(1))", "")]),
        ("a<br>b<br/>c <i>d</i>", [("a\nb\nc <i>d</i>", "")]),
        ("a\nb  \nc\\\nd", [("a\nb\nc\nd", "")]),
        ("&amp; &#65;", [("& A", "")]),
        ("3~5 元，2~3 元", [("3~5 元，2~3 元", "")]),
    ],
)
def test_spans(text: str, expected: list[tuple[str, str]]) -> None:
    """Each stretch of text comes with the names of its styles."""
    assert [(span.text, span.style) for span in spans(text)] == expected


def test_targets_may_be_left_to_the_terminal() -> None:
    """A span tells where it leads; the address is not shown then."""
    assert spans("[a](http://x)", targets=False) == [Span("a", "link", "http://x")]


def test_reference_links_lead_where_they_were_defined_before() -> None:
    """A definition counts for the text after it."""
    references: dict[str, object] = {}

    assert definitions("[a]: http://x\n[b]: http://y\nmore", references) == 2
    assert spans("[t][a] [c]", references) == [Span("t", "link", "http://x"), Span(" (http://x)", "url"), Span(" [c]")]


@pytest.mark.parametrize("text", ["text", "[a] no", "[a]", "[a]: ", "[a](b)"])
def test_what_defines_nothing(text: str) -> None:
    """A paragraph without definitions keeps its lines."""
    assert definitions(text, {}) == 0


@pytest.mark.parametrize(
    "text",
    [
        "one two **three** four `five six` [seven](http://x) eight " * 3,
        "一二三**四五**六七`八 九`十。" * 5,
        "a\nb c\n" * 9,
    ],
)
def test_a_cut_changes_nothing(text: str) -> None:
    """Both parts of a text show what the whole shows."""
    place = cut(text)

    assert 0 < place < len(text)
    parts = [*spans(text[:place]), *spans(text[place:])]
    assert "".join(span.text for span in parts) == "".join(span.text for span in spans(text))


def test_a_cut_waits_for_the_other_half() -> None:
    """A text is cut before emphasis that is still open, so that it becomes emphasis yet."""
    text = "some words before it and **bold words that go on and on and on and on"

    assert text[cut(text) :].startswith("**bold")


@pytest.mark.parametrize("text", ["", "x", "*" * 99, "[" * 99])
def test_a_cut_is_always_possible(text: str) -> None:
    """A text without a good place goes all the same, and not in small pieces."""
    assert cut(text) > len(text) // 5


@pytest.mark.parametrize("mark", ["[", "<", "`", "*", "_", "![", "[](", "\\", "&"])
def test_x15_more_marks_than_prose_has_are_text(mark: str) -> None:
    """A text of nothing but marks is not taken apart."""
    assert spans(mark * 1000) == [Span(mark * 1000)]
