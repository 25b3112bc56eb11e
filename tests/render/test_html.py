"""HTML of Markdown: what it shows is what a full parse shows, in pieces that join however the text comes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.render.documents import CHINESE, DOCUMENTS, ENGLISH
from tests.render.html_tree import checked, of_html, of_text
from tests.render.structure import pieces
from tests.render.test_blocks import document
from tests.thinning import diagonal

from tailrace.render.blocks import MAX_OPEN
from tailrace.render.html import LIMIT, HtmlStream, render

_ANY = st.text("ab*`|-\n\r >#1.[]()<:&\\\t中。\x00", max_size=80)


def fed(parts: list[str], limit: int = LIMIT) -> list[str]:
    """The pieces of a text that comes in parts; after each all is held against what may be."""
    stream = HtmlStream(limit=limit)
    out: list[str] = []
    for part in parts:
        new = stream.feed(part)
        for piece in new:
            checked(piece)
        out += new
        checked(stream.tail)
    out += stream.finish()
    assert stream.tail == ""
    checked("".join(out))
    return out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb", "<p>a<br>b</p>"),
        ("a\n\n# b\nc", "<p>a</p><h1>b</h1><p>c</p>"),
        ("**a** *b* ~~c~~ `d`", "<p><strong>a</strong> <em>b</em> <s>c</s> <code>d</code></p>"),
        ("**注意：**后面", "<p><strong>注意：</strong>后面</p>"),
        ("- a\n- b", "<ul><li>a</li><li>b</li></ul>"),
        ("- a\n\n- b", "<ul><li><p>a</p></li><li><p>b</p></li></ul>"),
        ("- a\n  - b\n\n    c\n- d", "<ul><li>a<ul><li><p>b</p><p>c</p></li></ul></li><li>d</li></ul>"),
        ("- a\n  > b\n  >\n  > c", "<ul><li>a<blockquote><p>b</p><p>c</p></blockquote></li></ul>"),
        ("9. a\n1. b", '<ol start="9"><li>a</li><li>b</li></ol>'),
        ("1. a\n2) b", '<ol><li>a</li></ol><ol start="2"><li>b</li></ol>'),
        ("0. a", '<ol start="0"><li>a</li></ol>'),
        ("-\n- b", "<ul><li></li><li>b</li></ul>"),
        (">", "<blockquote></blockquote>"),
        (
            "- [ ] a\n- [x] b\n- [y] c",
            '<ul><li><span class="task">☐</span> a</li><li><span class="task">☑</span> b</li><li>[y] c</li></ul>',
        ),
        ("[ ] a", "<p>[ ] a</p>"),
        ("***", "<hr>"),
        ("a<br>b <BR/>c", "<p>a<br>b <br>c</p>"),
        ("`a<br>b` \\<br>", "<p><code>a&lt;br&gt;b</code> &lt;br&gt;</p>"),
        ("```\na\n\n\tb\n```\nc", "<pre><code>a\n\n\tb\n</code></pre><p>c</p>"),
        (
            "```py x\nif a:\n```",
            '<pre><code class="language-py"><span class="keyword">if</span> a:\n</code></pre>',
        ),
        ("```C++\n```", '<pre><code class="language-c++"></code></pre>'),
        (
            "|a|b|c|d|\n|-|:-|:-:|-:|\n|1|2|\n|1|2|3|4|5|",
            (
                '<div class="scroll"><table><thead><tr><th>a</th><th class="left">b</th><th class="center">c</th>'
                '<th class="right">d</th></tr></thead><tbody><tr><td>1</td><td class="left">2</td></tr><tr><td>1</td>'
                '<td class="left">2</td><td class="center">3</td><td class="right">4</td></tr></tbody></table></div>'
            ),
        ),
    ],
)
def test_html(text: str, expected: str) -> None:
    """Each block is what it should be, at once or in pieces."""
    assert render(text) == expected
    assert "".join(fed(list(text))) == expected


_LINK = ' rel="noopener noreferrer nofollow" target="_blank">'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](http://x?b=1&c)", f'<a href="http://x?b=1&amp;c"{_LINK}a</a>'),
        ('[a](HTTPS://x "title")', f'<a href="HTTPS://x"{_LINK}a</a>'),
        ("<a@b.c>", f'<a href="mailto:a@b.c"{_LINK}a@b.c</a>'),
        ("见https://x.y/z。", f'见<a href="https://x.y/z"{_LINK}https://x.y/z</a>。'),
        ("(https://x/a_(b)).", f'(<a href="https://x/a_(b)"{_LINK}https://x/a_(b)</a>).'),
        ("**https://x**!", f'<strong><a href="https://x"{_LINK}https://x</a></strong>!'),
        ("xhttps://y https:// http://!", "xhttps://y https:// http://!"),
        ("`https://x`", "<code>https://x</code>"),
        ("[b https://x](http://y)", f'<a href="http://y"{_LINK}b https://x</a>'),
        ("[a <http://x>](http://y)", f'<a href="http://y"{_LINK}a http://x</a>'),
        ("[a](b/c.md) [d](#e)", 'a <span class="url">(b/c.md)</span> d'),
        ("[a](//x.y)", 'a <span class="url">(//x.y)</span>'),
        ("<ftp://x/y>", "ftp://x/y"),
        ("![a *b*](http://x/y.png)", f'<a class="image" href="http://x/y.png"{_LINK}a *b*</a>'),
        ("![](http://x/y.png)", f'<a class="image" href="http://x/y.png"{_LINK}http://x/y.png</a>'),
        ("![a](b.png)", 'a <span class="url">(b.png)</span>'),
        ("[![a](http://x)](http://y)", f'<a href="http://y"{_LINK}<span class="image">a</span></a>'),
    ],
)
def test_links(text: str, expected: str) -> None:
    """A link leads to the web or to a mailbox, bare addresses as well; whatever leads elsewhere is text."""
    assert render(text) == f"<p>{expected}</p>"


def test_links_by_reference() -> None:
    """In a stream a definition counts for what comes after it, however the text comes; in a whole text for all."""
    text = "[a] one\n\n[a]: http://x\n\n[a] two\n"
    link = f'<a href="http://x"{_LINK}a</a>'
    definition = '<p class="definitions">[a]: http://x</p>'

    assert fed([text]) == fed(list(text)) == ["<p>[a] one</p>", definition, f"<p>{link} two</p>"]
    assert render(text) == f"<p>{link} one</p>{definition}<p>{link} two</p>"


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("text", DOCUMENTS)
def test_what_is_shown_is_what_a_full_parse_shows(text: str, size: int) -> None:
    """Lists tight and loose, alignments, links and marks are markdown-it's."""
    assert of_html("".join(fed(pieces(text, size)))) == of_text(text)


@pytest.mark.parametrize("limit", [1, 30, 200])
@pytest.mark.parametrize("text", DOCUMENTS)
def test_joined_pieces_show_what_a_full_parse_shows(text: str, limit: int) -> None:
    """However small the pieces of a unit are, joined they are the unit."""
    assert of_html("".join(fed(pieces(text, 7), limit)), tight=False) == of_text(text, tight=False)


@settings(max_examples=200, deadline=None)
@given(text=document, limit=st.sampled_from([1, 20, 60]))
def test_any_document_is_shown_as_by_a_full_parse(text: str, limit: int) -> None:
    """Whatever stands in what, whole or joined."""
    # Where markdown-it is not CommonMark: a blank line in code that ends with its item makes the list loose.
    tight = "```" not in text and "~~~" not in text

    assert of_html("".join(fed([text])), tight=tight) == of_text(text, tight=tight)
    assert of_html("".join(fed(pieces(text, 5), limit)), tight=False) == of_text(text, tight=False)


@settings(max_examples=200, deadline=None)
@given(text=document | _ANY, limit=st.sampled_from([1, 20, LIMIT]), data=st.data())
def test_pieces_do_not_depend_on_how_the_text_comes(text: str, limit: int, data: st.DataObject) -> None:
    """Cut at random, a text makes the pieces of the whole."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    parts = [text[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]

    assert fed(parts, limit) == fed([text], limit)


@pytest.mark.parametrize("size", [1, 700, 5000])
@pytest.mark.parametrize(
    "text",
    [
        "```\n" + "x" * 11000 + "\ny\n```",
        "```py\nif x:\n" + "a = 1 " * 3000 + "\nif y:",
        "- ```\n  " + "中" * 9000 + "\n  z",
        "word **bold** " * 900,
        "|a|\n|-|\n" + "|b|\n" * 3000,
        "1. a\n   - b\n" * 600,
        "> " + "a " * 5000 + "\n>\n> b",
        "[a]: http://x\n" * 900 + "\n[a]",
        "|a|\n|-|\n|" + "b" * 5000,
    ],
)
def test_long_pieces_do_not_depend_on_how_the_text_comes(text: str, size: int) -> None:
    """Where a unit is cut is a matter of the text alone, in very long lines too."""
    stream, whole = HtmlStream(), HtmlStream()
    out = [piece for part in pieces(text, size) for piece in stream.feed(part)]

    assert out + stream.finish() == whole.feed(text) + whole.finish()


@settings(max_examples=100, deadline=None)
@given(text=document, at=st.integers(0, 200))
def test_a_stream_made_anew_goes_on(text: str, at: int) -> None:
    """One that was fed the same text in silence, whole, has the same tail and goes on with the same pieces."""
    first, anew = HtmlStream(limit=20), HtmlStream(limit=20)
    before = [piece for char in text[:at] for piece in first.feed(char)]

    assert anew.feed(text[:at]) == before
    assert anew.tail == first.tail
    assert anew.feed(text[at:]) + anew.finish() == first.feed(text[at:]) + first.finish()


def test_a_piece_comes_with_the_line_that_ends_its_unit() -> None:
    """A unit grows in the tail; lists, quotes and tables are one each."""
    stream = HtmlStream()

    assert stream.feed("# Title\n") == ["<h1>Title</h1>"]
    assert stream.feed("- a\n- b") == []
    assert stream.tail == "<ul><li>a</li><li>b</li></ul>"
    assert stream.feed("\n\n> q\n") == ["<ul><li>a</li><li>b</li></ul>"]
    assert stream.tail == "<blockquote><p>q</p></blockquote>"
    assert stream.feed("\n```sh\nls\n# x") == ["<blockquote><p>q</p></blockquote>"]
    assert stream.tail == '<pre><code class="language-sh">ls\n<span class="comment"># x</span></code></pre>'
    assert stream.feed("\n```\n") == [
        '<pre><code class="language-sh">ls\n<span class="comment"># x</span>\n</code></pre>'
    ]
    assert (stream.tail, stream.finish()) == ("", [])


def test_the_tail_goes_on_with_the_unit() -> None:
    """What has been handed out of a unit is not in the tail any more, which opens its containers anew."""
    stream = HtmlStream(limit=8)

    assert stream.feed("3. a\n4. bcd\n\n   e") == ['<ol start="3"><li>a</li><li>bcd</li></ol>']
    assert stream.tail == '<ol start="4" class="joined"><li class="joined"><p>e</p></li></ol>'
    assert stream.feed("fghijk\n5. l\n") == ['<ol start="4" class="joined"><li class="joined"><p>efghijk</p></li></ol>']
    assert stream.finish() == ['<ol start="5" class="joined"><li><p>l</p></li></ol>']


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        (
            "```py\n'''a\nb'''\n```",
            4,
            [
                '<pre><code class="language-py"><span class="string">&#x27;&#x27;&#x27;a</span>\n</code></pre>',
                (
                    '<pre class="joined"><code class="language-py"><span class="string">b&#x27;&#x27;&#x27;</span>\n'
                    "</code></pre>"
                ),
            ],
        ),
        (
            "|a|b|\n|-|-:|\n|c|d|",
            12,
            [
                (
                    '<div class="scroll"><table><thead><tr><th>a</th><th class="right">b</th></tr></thead><tbody><tr>'
                    '<td>c</td><td class="right">d</td></tr></tbody></table></div>'
                )
            ],
        ),
        (
            "|a|b|\n|-|-:|\n|c|d|\n|e|f|",
            14,
            [
                (
                    '<div class="scroll"><table><thead><tr><th>a</th><th class="right">b</th></tr></thead><tbody><tr>'
                    '<td>c</td><td class="right">d</td></tr></tbody></table></div>'
                ),
                (
                    '<div class="scroll joined"><table class="joined"><colgroup span="2"></colgroup><tbody><tr>'
                    '<td>e</td><td class="right">f</td></tr></tbody></table></div>'
                ),
            ],
        ),
        (
            "> - a\n>   - b\n>   - c\n> - d",
            6,
            [
                "<blockquote><ul><li>a</li></ul></blockquote>",
                (
                    '<blockquote class="joined"><ul class="joined"><li class="joined"><ul><li>b</li></ul></li></ul>'
                    "</blockquote>"
                ),
                (
                    '<blockquote class="joined"><ul class="joined"><li class="joined"><ul class="joined">'
                    "<li>c</li></ul></li></ul></blockquote>"
                ),
                '<blockquote class="joined"><ul class="joined"><li>d</li></ul></blockquote>',
            ],
        ),
        ("- a\n* b", 1, ["<ul><li>a</li></ul>", "<ul><li>b</li></ul>"]),
        ("# abc", 1, ["<h1>abc</h1>"]),
        ("```\n```", 1, ["<pre><code></code></pre>"]),
    ],
)
def test_joined(text: str, limit: int, expected: list[str]) -> None:
    """A piece opens anew what the one before had to close, and nothing else."""
    assert fed([text], limit) == expected


def test_a_long_paragraph_is_joined() -> None:
    """Its pieces are its text, and no emphasis is cut in two."""
    text = "Some words and **bold words** here, 中文**注意：**也可以。 " * 300
    out = fed(pieces(text, 500))

    assert all(piece.startswith('<p class="joined">') for piece in out[1:])
    assert len(out) > 2
    assert of_html("".join(out)) == of_text(text)


def test_a_heading_of_a_long_paragraph_is_its_last_part() -> None:
    """What has been shown as a paragraph stays one."""
    out = "".join(fed([("word " * 600) + "end\n==="]))

    assert out.startswith("<p>word ")
    assert out.endswith("word end</h1>")
    assert '</p><h1 class="joined">word ' in out


def test_a_wide_table_says_so() -> None:
    """Of more than eight columns."""
    assert render("|a" * 8 + "\n" + "|-" * 8).startswith('<div class="scroll"><table>')
    assert render("|a" * 9 + "\n" + "|-" * 9).startswith('<div class="scroll wide"><table>')


@pytest.mark.parametrize("theirs", ["", "a\nb\n\n- c\n"])
def test_an_ended_stream_stays_so(theirs: str) -> None:
    """A second `finish` has nothing."""
    stream = HtmlStream()
    stream.feed(theirs)
    stream.finish()

    assert stream.finish() == []
    assert stream.tail == ""


_ENDLESS = [
    "- a b c\n",
    "word ",
    "x",
    "> a\n>\n",
    "|a|b|\n",
    "1. a\n\n   b\n",
    "    x = 1\n",
    "**a ",
    "-\n",
    "> ",
    "- ",
]


@pytest.mark.parametrize(("head", "unit"), diagonal(["", "```py\n", "|a|b|\n|-|-|\n", "> ", "1. "], _ENDLESS))
def test_the_tail_is_bounded(head: str, unit: str) -> None:
    """Whatever does not end, the tail does not grow with it, nor does a piece."""
    stream = HtmlStream()
    text = head + (unit * 60_000)[:60_000]
    most = 0
    for piece in pieces(text, 500):
        most = max([most, len(stream.tail), *map(len, stream.feed(piece))])

    assert most <= 12 * (LIMIT + 2 * MAX_OPEN)


def _work(text: str, size: int) -> int:
    stream = HtmlStream()
    for piece in pieces(text, size):
        stream.feed(piece)
        assert isinstance(stream.tail, str)
    stream.finish()
    return stream.work


@pytest.mark.parametrize("unit", ["[", "<", "`", "*", "|", ">", "[a](", "> ", "- ", "x|", "中", "&", "![", "<a:", '"'])
def test_x15_a_mebibyte_of_one_mark_is_linear_in_html(unit: str) -> None:
    """1 MiB of marks in one line is read and written a few times, with a frame for each 4 KiB."""
    text = (unit * (1 << 20))[: 1 << 20]

    assert _work(text, 1 << 12) <= 40 * len(text)


_HEADS = ["", "```py\n", "|a|b|\n|-|-|\n", "- ", "> "]
_LINES = ["- a b c\n", "  - x\n", "|a|\n", "> a\n", "word\n", "    code\n", "1. a\n", "|\n"]


@pytest.mark.parametrize(("head", "line"), diagonal(_HEADS, _LINES))
def test_x15_an_endless_block_is_linear_in_html(head: str, line: str) -> None:
    """Each line costs what it is long, whatever block does not end."""
    once, twice = (_work(head + (line * 60_000)[:size], 512) for size in (30_000, 60_000))

    assert twice <= 2.2 * once


@pytest.mark.parametrize(
    "text",
    [ENGLISH, CHINESE, "- item of a list\n", "Words without end. ", "x = 1  # one\n"],
    ids=["english", "chinese", "list", "words", "code"],
)
def test_x15_an_answer_in_small_deltas_is_linear_in_html(text: str) -> None:
    """15,000 and 30,000 characters in deltas of 5, with a frame for each: twice the text is twice the work."""
    once, twice = (_work((text * 5000)[:count], 5) for count in (15_000, 30_000))

    assert twice <= 2.2 * once


def test_x15_cells_that_are_missing_cost_nothing() -> None:
    """A row of one cell in a table of hundreds of columns is short, since a megabyte of them would be gigabytes."""
    text = "|a" * 600 + "\n" + "|-" * 600 + "\n" + "|\n" * 2000

    assert len("".join(fed(pieces(text, 4096)))) < 20 * len(text)
