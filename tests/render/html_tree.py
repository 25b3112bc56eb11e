"""HTML as a tree: read strictly, held against the list of what may occur, and in one form to compare."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote

from markdown_it import MarkdownIt

from tailrace.render.cjk import cjk_emphasis
from tailrace.render.escape import printable

VOID = {"br", "hr"}
_BLOCKS = "blockquote div ol p pre table ul hr h1 h2 h3 h4 h5 h6"
_OTHERS = "a br code colgroup em li s span strong tbody td th thead tr"
ATTRIBUTES: dict[str, set[str]] = {
    **{name: set() for name in f"{_BLOCKS} {_OTHERS}".split()},
    "a": {"href", "rel", "target"},
    "ol": {"start"},
    "colgroup": {"span"},
}
_CLASSES = (
    "joined scroll wide left center right image url task definitions "
    "keyword function builtin decorator string number comment error"
)
_VALUES = {
    "href": r"(?:[Hh][Tt][Tt][Pp][Ss]?://|[Mm][Aa][Ii][Ll][Tt][Oo]:)[!-~]+",
    "rel": "noopener noreferrer nofollow",
    "target": "_blank",
    "start": "[0-9]{1,9}",
    "span": "[0-9]{1,4}",
}
_LANGUAGE = re.compile(r"language-[a-z0-9+#._-]+")
_TAG = re.compile(r'</?[a-z][a-z0-9]*(?: [a-z]+="[^"<>]*")*>')
_FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_FULL = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"]).use(cjk_emphasis)


@dataclass
class Element:
    """An element, or the root, which has no name."""

    tag: str = ""
    attrs: dict[str, str] = field(default_factory=dict)
    children: list[Element | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    @property
    def classes(self) -> list[str]:
        return self.attrs.get("class", "").split()

    def all(self) -> Iterator[Element]:
        """Each element in it."""
        for child in self.children:
            if isinstance(child, Element):
                yield child
                yield from child.all()


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element()]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID | {"img"}:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> in <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        children = self.open[-1].children
        if children and isinstance(children[-1], str):
            children[-1] += data
        else:
            children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


def tree(text: str) -> Element:
    """The tree of HTML, every element of which is closed."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert [element.tag for element in reader.open] == [""], "not balanced"
    return reader.open[0]


def checked(text: str) -> Element:
    """The tree of HTML that has nothing in it but what may be in ours."""
    text.encode()
    assert not _FORBIDDEN.search(text)
    assert not re.search("[<>\"']", _TAG.sub("", text)), text
    root = tree(text)
    for element in root.all():
        allowed = ATTRIBUTES.get(element.tag)
        assert allowed is not None, f"<{element.tag}>"
        for name, value in element.attrs.items():
            if name == "class":
                assert [
                    word for word in element.classes if word not in _CLASSES.split() and not _LANGUAGE.fullmatch(word)
                ] == []
            else:
                assert name in allowed, f"<{element.tag} {name}>"
                assert re.fullmatch(_VALUES[name], value), f"{name}={value}"
        if element.tag == "a":
            assert {"href", "rel", "target"} <= element.attrs.keys()
            assert [inner.tag for inner in element.all() if inner.tag == "a"] == []
    return root


# One form


def of_html(text: str, *, tight: bool = True) -> list[object]:
    """What our HTML shows, with its pieces joined.

    Args:
        text: the pieces, one after the other.
        tight: tell whether the text of items stands in paragraphs.
    """
    return _form(_joined(_flat(checked(text))), tight=tight)


def of_text(text: str, *, tight: bool = True) -> list[object]:
    """What a full parse by markdown-it shows, in the same form."""
    return _form(_flat(tree(_FULL.render(printable(text.replace("\r\n", "\n").replace("\r", "\n"))))), tight=tight)


def _flat(element: Element) -> Element:
    """The same without the elements that are around a table and in a `pre`."""
    children = [child if isinstance(child, str) else _flat(child) for child in element.children]
    if element.tag == "pre" or "scroll" in element.classes:
        (inner,) = children
        assert isinstance(inner, Element)
        classes = [word for word in (*element.classes, *inner.classes) if word not in {"scroll", "wide"}]
        return Element("pre" if element.tag == "pre" else "table", {"class": " ".join(classes)}, inner.children)
    return Element(element.tag, element.attrs, children)


def _joined(element: Element) -> Element:
    """The same with what is joined in what it goes on with."""
    out: list[Element | str] = []
    for child in element.children:
        last = out[-1] if out else None
        if not isinstance(child, Element):
            out.append(child)
        # A paragraph that turned out to be a heading, and text of an item that is loose by now, have no such place.
        elif "joined" in child.classes and isinstance(last, Element) and last.tag == child.tag:
            out[-1] = Element(last.tag, last.attrs, [*last.children, *child.children])
        else:
            out.append(child)
    return Element(element.tag, element.attrs, [child if isinstance(child, str) else _joined(child) for child in out])


def _form(element: Element, *, tight: bool) -> list[object]:
    """What is in an element: blocks as tuples, and runs of text between them as lists."""
    out: list[object] = []
    run: list[Element | str] = []
    for child in [*element.children, None]:
        if child is not None and not (isinstance(child, Element) and child.tag in _BLOCKS.split()):
            run.append(child)
            continue
        if text := _inline(run):
            out.append(("", text))
        run = []
        if child is None or (isinstance(child, Element) and "definitions" in child.classes):
            continue
        assert isinstance(child, Element)
        out.append(_block(child, tight=tight, item=element.tag == "li"))
    return out


def _block(element: Element, *, tight: bool, item: bool) -> object:
    name = element.tag
    if name == "pre":
        language = next((word for word in element.classes if _LANGUAGE.fullmatch(word.lower())), "")
        lines = [re.sub(r"[ \t]+", " ", line) for line in element.text.split("\n")]
        return ("pre", language.lower(), "\n".join(lines).strip(" \n"))
    if name == "table":
        rows = [part for part in element.all() if part.tag == "tr"]
        return ("table", *[_row(row) for row in rows])
    if name in {"ul", "ol"}:
        items = [child for child in element.children if isinstance(child, Element)]
        assert [child.tag for child in items] == ["li"] * len(items)
        return (name, element.attrs.get("start", "1"), [_form(child, tight=tight) for child in items])
    if name == "blockquote":
        return (name, _form(element, tight=tight))
    if name == "p":
        return ("p" if tight or not item else "", _inline(element.children))
    return (name, _inline(element.children))


def _row(row: Element) -> list[object]:
    cells: list[object] = []
    for cell in row.children:
        if isinstance(cell, Element):
            align = cell.attrs.get("style", "").removeprefix("text-align:") or cell.attrs.get("class", "")
            text = _inline(cell.children)
            cells.append((cell.tag, align if text else "", text))
    while cells and cells[-1] == ("td", "", ""):
        cells.pop()
    return cells


def _inline(children: list[Element | str]) -> str:
    """Text with its marks, without the spaces at the ends of lines."""
    text = "".join(_mark(child) for child in children)
    return re.sub(r"[ \t\n\u3000]*(⏎|^|$)[ \t\n\u3000]*", r"\1", text).replace("⏎", "\n").strip("\n")


def _mark(child: Element | str) -> str:
    if isinstance(child, str):
        return child
    inside = "".join(_mark(inner) for inner in child.children)
    if child.tag == "br":
        return "⏎"
    if child.tag == "img":
        return f"<a {child.attrs['src']}>{child.attrs['alt']}</a>"
    if child.tag == "a":
        href = child.attrs["href"]
        if not re.match(r"https?://|mailto:", href, re.IGNORECASE):
            return inside if href.startswith("#") else f"{inside} ({unquote(href)})"
        return inside if child.text in {href, href.removeprefix("mailto:")} else f"<a {href}>{inside}</a>"
    if child.tag == "span":
        return {"☐": "[ ]", "☑": "[x]"}.get(inside, inside)
    return f"<{child.tag}>{inside}</{child.tag}>"
