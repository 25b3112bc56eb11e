"""Text, links and code as HTML that can do nothing: what a model said is escaped, and few elements are ever made.

- Elements, all of them with `tailrace.render.html`: ``a blockquote br code col colgroup div em h1`` to ``h6 hr li ol p
  pre s span strong table tbody td th thead tr ul``. Attributes: ``class`` with words of ours, on ``ol`` the number
  ``start``, on ``colgroup`` the number ``span``, and on ``a`` ``href``, ``rel`` and ``target``. No ``id``, ``style``,
  ``title``, ``src`` or event handler is ever written.
- A link leads to ``http:``, ``https:`` or ``mailto:``, and is written in visible ASCII. Whatever leads elsewhere (other
  schemes, relative and protocol-relative addresses) is text, with the address behind it unless it is a mere fragment.
- An image is never loaded: it is a link, of the class ``image``, with its alternative text.
- Control characters and those that turn the direction of text are shown as on a terminal, as ``\\u202e``; a lone
  surrogate, which no encoding has, as U+FFFD.
- The words of a class come from here, but for the name of a language, which is of ``a-z 0-9 + # . _ -`` only.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from itertools import groupby

from tailrace.render.escape import printable
from tailrace.render.inline import BREAK_TAG, References, Span, parser, tokens

__all__ = ["escape", "inline", "language", "line_of_code", "link", "tag"]

_LINK = re.compile(r"(?:https?://|mailto:)[!-~]+", re.IGNORECASE)
_BARE = re.compile(r"(?<![A-Za-z0-9_/.@-])https?://[A-Za-z0-9][!#-;=?-_a-~]*")  # visible ASCII without " < > `
_SURROGATE = re.compile("[\ud800-\udfff]")
_LANGUAGE = re.compile(r"[a-z0-9+#._-]{1,40}")
_TAGS = {
    "strong_open": "<strong>",
    "strong_close": "</strong>",
    "em_open": "<em>",
    "em_close": "</em>",
    "s_open": "<s>",
    "s_close": "</s>",
    "softbreak": "<br>",  # models break lines where they mean it
    "hardbreak": "<br>",
}


def escape(text: str) -> str:
    """Returns text as HTML, for between tags and for between double quotes."""
    return html.escape(_SURROGATE.sub("\ufffd", printable(text)))


def tag(name: str, *classes: str) -> str:
    """Returns the opening tag of an element with those of the classes that are not empty; all are words of ours."""
    words = " ".join(word for word in classes if word)
    return f'<{name} class="{words}">' if words else f"<{name}>"


def link(url: str, *classes: str) -> str:
    """Returns the opening tag of a link; "" if nobody should follow it."""
    if _LINK.fullmatch(url) is None:
        return ""
    opening = tag("a", *classes).removesuffix(">")
    return f'{opening} href="{escape(url)}" rel="noopener noreferrer nofollow" target="_blank">'


def inline(text: str, references: References | None = None) -> str:
    """Returns the text of a paragraph, heading or cell as HTML.

    Args:
        text: Markdown.
        references: link targets, see `tailrace.render.blocks.BlockSplitter.references`.
    """
    out: list[str] = []
    links: list[tuple[str, str, int]] = []  # those we are in: the opening tag, where it leads, where its text begins
    for token in tokens(text, references):
        kind = token.type
        if kind in _TAGS:
            out.append(_TAGS[kind])
        elif kind == "code_inline":
            out.append(f"<code>{escape(token.content)}</code>")
        elif kind == "link_open":
            url = "" if links else str(token.attrs.get("href", ""))  # a link leads to one place
            opening = link(url)
            out.append(opening)
            links.append((opening, url, len(out)))
        elif kind == "link_close":
            opening, url, begin = links.pop()
            out.append("</a>" if opening else _target(url, "".join(out[begin:])))
        elif kind == "image":
            out.append(_image(token.content, str(token.attrs.get("src", "")), inside=bool(links)))
        else:
            out += _text(token.content, bare=not links)
    return "".join(out)


def _text(text: str, *, bare: bool) -> Iterable[str]:
    """Yields text, with line breaks, and with links of the bare addresses in it."""
    for number, line in enumerate(BREAK_TAG.sub("\n", text).split("\n")):
        if number:
            yield "<br>"
        at = 0
        for found in _BARE.finditer(line) if bare else ():
            url = _without_end(found[0])
            if opening := link(url):
                yield f"{escape(line[at : found.start()])}{opening}{escape(url)}</a>"
                at = found.start() + len(url)
        yield escape(line[at:])


def _without_end(url: str) -> str:
    """Returns a bare address without the punctuation of the sentence behind it."""
    surplus = url.count(")") - url.count("(")
    while url[-1] in ".,:;!?'*_~]}|" or (url[-1] == ")" and surplus > 0):
        surplus -= url[-1] == ")"
        url = url[:-1]
    return url


def _image(alternative: str, source: str, *, inside: bool) -> str:
    shown = escape(alternative or parser().normalizeLinkText(source))
    if inside:
        return f'<span class="image">{shown}</span>'
    opening = link(source, "image")
    return f"{opening}{shown}</a>" if opening else shown + _target(source, shown)


def _target(url: str, shown: str) -> str:
    """Returns what follows the text of a link that is none."""
    target = escape(parser().normalizeLinkText(url))
    if not url or url.startswith("#") or shown in {target, escape(url)}:
        return ""
    return f' <span class="url">({target})</span>'


def language(info: str) -> str:
    """Returns the class of code from the words behind its fence, such as ``language-python``; "" if they name none."""
    words = info.strip("{. ").lower().split(maxsplit=1)
    found = _LANGUAGE.match(words[0]) if words else None
    return f"language-{found[0]}" if found else ""


def line_of_code(parts: Sequence[Span]) -> str:
    """Returns a line of code, with an element for each stretch of one style."""
    out = []
    for style, group in groupby(parts, key=lambda part: part.style):
        text = escape("".join(part.text for part in group))
        out.append(f'<span class="{style}">{text}</span>' if style else text)
    return "".join(out)
