"""The text of a block: emphasis, code, links, as spans of one style each. Parsed by markdown-it-py."""

from __future__ import annotations

import functools
import re
from collections.abc import MutableMapping
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tailrace.render.cjk import cjk_emphasis, is_cjk

__all__ = ["BREAK_TAG", "MOST_PARSES", "References", "Span", "cut", "definitions", "parser", "spans", "tokens"]

References = MutableMapping[str, Any]

BREAK_TAG = re.compile(r"<br ?/?>", re.IGNORECASE)  # models write it in tables
MOST_PARSES = 8  # how often `cut` may parse a text
_MOST_MARKS = 400  # more in one text is no prose, and emphasis in it would cost more than it tells
_MARKS = re.compile(r"[*_`~\[\]<&!\\]")
_MAY_CLOSE = re.compile(r"\*\S|_\S|~~\S|`|<\S|\[[^\]]*$|\][(\[]?$")  # what later text could still make a pair of
_DEFINITION = re.compile(r"\[(?:[^\[\]\\]|\\.)+\]:")
_STYLES = {"strong": "strong", "em": "em", "s": "strike"}


class Span(NamedTuple):
    """A stretch of text in one style.

    Attributes:
        text: what is shown; ``\\n`` begins another line.
        style: names of styles, with spaces between: ``"strong code"``.
        url: where it leads.
    """

    text: str
    style: str = ""
    url: str = ""


@functools.cache
def parser() -> MarkdownIt:
    """Returns the one parser: CommonMark with GitHub's tables and strikethrough, no HTML, emphasis for CJK."""
    md = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return md.use(cjk_emphasis)


def spans(text: str, references: References | None = None, *, targets: bool = True) -> list[Span]:
    """Parses the text of a paragraph, heading or cell.

    A newline of the source stays one: models break lines where they mean it.

    Args:
        text: Markdown.
        references: link targets that were defined before it.
        targets: show where links lead, behind their text.
    """
    return _merged(_from_tokens(tokens(text, references), targets=targets))


def tokens(text: str, references: References | None = None) -> list[Token]:
    """Parses the text of a paragraph, heading or cell; one without marks, or with too many, is one token of text.

    Args:
        text: Markdown.
        references: link targets that were defined before it.
    """
    marks = len(_MARKS.findall(text))
    if marks == 0 or marks > _MOST_MARKS:
        return [Token("text", "", 0, content=text)] if text else []
    out: list[Token] = []
    parser().inline.parse(text, parser(), {"references": references or {}}, out)
    return out


def _from_tokens(parsed: list[Token], *, targets: bool) -> list[Span]:
    out: list[Span] = []
    styles: list[str] = []
    url, begin = "", 0
    for token in parsed:
        kind = token.type
        if kind in {"softbreak", "hardbreak"}:
            out.append(Span("\n", " ".join(styles), url))
        elif kind == "code_inline":
            out.append(Span(token.content, " ".join([*styles, "code"]), url))
        elif kind == "link_open":
            url, begin = str(token.attrs.get("href", "")), len(out)
            styles.append("link")
        elif kind == "link_close":
            styles.remove("link")
            target = parser().normalizeLinkText(url)
            shown = "".join(span.text for span in out[begin:])
            if targets and url and shown not in {target, url, target.removeprefix("mailto:")}:
                out.append(Span(f" ({target})", "url"))
            url = ""
        elif kind == "image":
            source = str(token.attrs.get("src", ""))
            target = parser().normalizeLinkText(source)
            out.append(Span(token.content or target, " ".join([*styles, "link"]), source))
            if targets and token.content:
                out.append(Span(f" ({target})", "url"))
        elif token.nesting > 0:
            styles.append(_STYLES.get(token.tag, token.tag))
        elif token.nesting < 0:
            styles.remove(_STYLES.get(token.tag, token.tag))
        elif token.content:
            out.append(Span(BREAK_TAG.sub("\n", token.content), " ".join(styles), url))
    return out


def _merged(parts: list[Span]) -> list[Span]:
    out: list[Span] = []
    for part in parts:
        if out and out[-1][1:] == part[1:]:
            out[-1] = out[-1]._replace(text=out[-1].text + part.text)
        elif part.text:
            out.append(part)
    return out


def cut(text: str, *, must: bool = True) -> int:
    """Finds where a text that goes on can be cut in two, so that both parts show what the whole would show.

    Args:
        text: Markdown.
        must: take a place where emphasis, code or a link is open if there is no other.

    Returns:
        The length of the first part, at least 1; 0 if there is no place and need not be one.
    """
    places = [_boundary(text, int(len(text) * part), balanced=True) for part in (0.9, 0.6, 0.3)]
    # A mark that waits for its other half is a good place to begin the second part with.
    places[1:1] = [text.rfind(mark) for mark in ("**", "`", "[")]
    last = _boundary(text, int(len(text) * 0.9), balanced=False)
    # A small first part would bring the next cut soon, and the cost would be that of the whole each time.
    places = list(dict.fromkeys(place for place in (*places, last) if place > len(text) // 5))
    if not places:
        return max(len(text), 1) if must else 0
    whole = spans(text)
    good = []
    for place in places:
        head = spans(text[:place])
        if _merged([*head, *spans(text[place:])]) == whole:
            if not any(_MAY_CLOSE.search(span.text) for span in head if "code" not in span.style):
                return place
            good.append(place)
    return (good[0] if good else places[0]) if must else 0


def _boundary(text: str, limit: int, *, balanced: bool) -> int:
    """Returns the last place up to `limit` that stands after a space or newline, or between CJK characters.

    Args:
        text: where.
        limit: the last place to look at.
        balanced: no mark before it is to be one of a pair.
    """
    for place in range(limit, max(limit - 200, 0), -1):
        before, after = text[place - 1], text[place : place + 1]
        if before in " \n":
            fits = after not in {" ", "\n"} and text[max(place - 2, 0) : place] != "  "
        else:
            fits = is_cjk(before) and after != "" and is_cjk(after)
        if fits and not (balanced and _odd(text[:place])):
            return place
    return 0


def _odd(text: str) -> bool:
    return bool(text.count("**") % 2 or text.count("*") % 2 or text.count("`") % 2 or text.count("[") > text.count("]"))


def definitions(text: str, references: References) -> int:
    """Reads the link definitions a paragraph begins with.

    Args:
        text: a whole paragraph.
        references: where the definitions are kept.

    Returns:
        How many of its lines they take.
    """
    if not _DEFINITION.match(text):
        return 0
    # An indented block could stand where a line was only a continuation: a paragraph's lines have no indentation left.
    left = parser().parse(text, {"references": references})
    if not left:
        return text.count("\n") + 1
    return left[0].map[0] if left[0].map else 0
