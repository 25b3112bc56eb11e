"""Markdown as safe HTML while it comes: finished pieces to be appended once, and one open tail to be replaced.

Any front end can show it: append each piece as it comes, in order and all on one level, and put the tail below them.
A piece is one unit of the top level: a paragraph, a whole list, quote, table or code block. A unit that grows beyond
`LIMIT` characters is handed out in several pieces; what goes on in the next one has the class ``joined``: the piece
opens the lists (``<ol start="7" class="joined">``), quotes, items, code or table anew that the one before had to close.
So each piece, the tail, and all pieces together are balanced, and what a frame costs does not depend on what has come.

What the pieces are depends on the text alone, never on how it was cut: a stream made anew and fed the same text is in
the same state, which is how a reader resumes.

What of HTML there is, and why it is safe, is written in `tailrace.render.markup`. A list is tight or loose (whether
the text of its items stands in ``<p>``) by the blank lines seen so far. A row of a table that has too few cells stays
short. The alignment of a cell is its class: ``left``, ``center`` or ``right``.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from tailrace.render import lines
from tailrace.render.blocks import Block, BlockSplitter, Container
from tailrace.render.highlight import Highlighter
from tailrace.render.inline import References, definitions
from tailrace.render.markup import escape, inline, language, line_of_code, tag

__all__ = ["LIMIT", "HtmlStream", "render"]

LIMIT = 4000  # characters of a unit in one piece; the block that exceeds them is still in it

_TASK = re.compile(r"\[([ xX])\][ \u3000]+")
_WIDE = 8  # columns; a table that has more is wider than its place rather than crushed


class HtmlStream:
    """Makes HTML of Markdown, in whatever pieces it comes.

    Args:
        limit: characters of Markdown in one piece, about.

    Attributes:
        work: characters read and written, for tests of the cost.
    """

    def __init__(self, *, limit: int = LIMIT) -> None:
        self._limit = limit
        self._splitter = BlockSplitter()
        self._parts = _Parts({})  # the splitter knows links that are defined later in the same piece of text
        self._unit: list[_Part] = []  # what is finished of the unit and has not been handed out
        self._size = 0
        self._key = 0  # of the unit; 0: there is none
        self._before: tuple[Container, ...] = ()  # where the last piece of this unit ended
        self._out: list[str] = []
        self._written = 0

    @property
    def work(self) -> int:
        """Characters read and written, for tests of the cost."""
        return self._splitter.work + self._parts.work + self._written

    def feed(self, text: str) -> list[str]:
        """Takes more text, and returns the pieces that it finishes, to be appended."""
        self._add(self._splitter.feed(text))
        if self._key > 0 and self._key != _key_of(self._splitter.outermost):
            self._end_unit()
        return self._handed()

    def finish(self) -> list[str]:
        """Returns the rest: the text has ended. The tail is empty then."""
        self._add(self._splitter.finish())
        self._end_unit()
        return self._handed()

    @property
    def tail(self) -> str:
        """The HTML of what is open, as it would be if the text ended now; to replace the last one."""
        parts = self._parts.copy()
        opened = [parts.part(block, sure=False) for block in self._splitter.open]
        html = _nested([*self._unit, *opened], self._before, parts.loose)
        self._parts.work = parts.work
        self._written += len(html)
        return html

    def _handed(self) -> list[str]:
        out, self._out = self._out, []
        return out

    def _add(self, blocks: list[Block]) -> None:
        for block in blocks:
            key = _key_of(block.within[0] if block.within else None)
            if key != self._key:
                self._end_unit()
                self._key = key
            for part in self._bounded(block):
                self._unit.append(self._parts.part(part))
                self._size += _size(part)
                # What has only been opened is not worth a piece.
                if self._size >= self._limit and (part.last or not part.first or part.kind == "paragraph"):
                    self._hand_out()
            if not block.within and block.last:
                self._end_unit()

    def _bounded(self, block: Block) -> Iterator[Block]:
        """Yields a block, or the parts of a stretch of a very long line of code, cut where the unit is full.

        Such a stretch is as long as what came at once, and what the pieces are must not depend on that.
        """
        text = block.text
        if block.kind == "code" and not block.first and not text.endswith("\n"):
            while len(text) > (room := max(self._limit - self._size, 1)):
                yield replace(block, text=text[:room], last=False)
                text = text[room:]
        yield replace(block, text=text) if text != block.text else block

    def _end_unit(self) -> None:
        self._hand_out()
        self._key, self._before = 0, ()
        self._parts.loose.clear()

    def _hand_out(self) -> None:
        """Makes a piece of what is finished of the unit."""
        if not self._unit:
            return
        html = _nested(self._unit, self._before, self._parts.loose)
        if html:
            self._out.append(html)
            self._written += len(html)
        self._before = self._unit[-1].block.within
        self._unit, self._size = [], 0


def render(text: str) -> str:
    """Returns the HTML of a whole text, in one piece; links may be defined behind where they are used."""
    splitter = BlockSplitter()
    blocks = splitter.feed(text) + splitter.finish()
    parts = _Parts(splitter.references)
    return _nested([parts.part(block) for block in blocks], (), parts.loose)


def _key_of(outermost: Container | None) -> int:
    """Returns what blocks of one unit have in common: their list or quote; -1 if they are in none."""
    return outermost.list or outermost.id if outermost is not None else -1


def _size(block: Block) -> int:
    """Returns how much of its unit's limit a block takes: its text, and its containers, which must be opened."""
    if block.kind == "code" and not block.first:
        return len(block.text)
    return len(block.text) + 2 * len(block.within) + 1


class _Part(NamedTuple):
    """A block, or a part of one, as HTML.

    Attributes:
        block: which.
        html: what it adds to the element it is in.
        opening: what opens that element.
        closing: what closes it.
    """

    block: Block
    html: str
    opening: str = ""
    closing: str = ""


class _Parts:
    """Makes parts of blocks that are given in their order.

    Args:
        references: link targets; those that are defined come to it.

    Attributes:
        loose: the lists that have blank lines in them.
        work: characters read.
    """

    def __init__(self, references: References) -> None:
        self.loose: set[int] = set()
        self.work = 0
        self._references = references
        self._within: tuple[Container, ...] = ()  # where the last block was
        self._code = Highlighter("")
        self._language = ""
        self._long = False  # in a line of code that is too long for colours
        self._aligns: list[str] = []

    def copy(self) -> _Parts:
        """Returns one that goes on from here by itself."""
        other = copy.copy(self)
        other.loose, other._code = self.loose.copy(), self._code.copy()
        return other

    def part(self, block: Block, *, sure: bool = True) -> _Part:
        """Returns the part of a block; not sure is one whose last line may go on."""
        self.work += len(block.text)
        if block.gap:
            self.loose.add(_apart(self._within, block.within))
        new = bool(block.within) and block.within[-1].id not in {container.id for container in self._within}
        self._within = block.within
        joined = "" if block.first else "joined"
        match block.kind:
            case "paragraph":
                task = _TASK.match(block.text) if new and block.first and block.within[-1].list else None
                return _Part(block, self._text(block.text, task), tag("p", joined), "</p>")
            case "heading":
                name = f"h{block.level}"
                return _Part(block, self._text(block.text), tag(name, joined), f"</{name}>")
            case "code":
                html = self._add_code(block, sure=sure)
                return _Part(block, html, tag("pre", joined) + tag("code", self._language), "</code></pre>")
            case "table":
                return self._add_table(block)
            case "rule":
                return _Part(block, "<hr>")
            case "definitions":
                if sure:
                    definitions(block.text, self._references)
                html = "<br>".join(escape(block.text).split("\n"))
                return _Part(block, html, tag("p", "definitions"), "</p>")
            case "empty":
                return _Part(block, "")

    def _text(self, text: str, task: re.Match[str] | None = None) -> str:
        if task is None:
            return inline(text, self._references)
        box = "☐" if task[1] == " " else "☑"
        return f'<span class="task">{box}</span> {inline(text[task.end() :], self._references)}'

    def _add_code(self, block: Block, *, sure: bool) -> str:
        if block.first:
            self._code, self._language, self._long = Highlighter(block.info), language(block.info), False
        text = block.text
        ended = text.endswith("\n")
        if self._long or (text and sure and not ended):
            self._long = not ended
            return escape(text)
        return line_of_code(self._code.line(text.removesuffix("\n"))) + "\n" * ended if text else ""

    def _add_table(self, block: Block) -> _Part:
        row, html = block.text, ""
        if block.first:
            row, _, delimiters = block.text.partition("\n")
            self._aligns = lines.aligns(delimiters) or [""]
        if row:
            cell = "th" if block.first else "td"
            texts = lines.cells(row)[: len(self._aligns)]
            filled = zip(self._aligns, texts, strict=False)
            html = "".join(f"{tag(cell, align)}{self._text(text)}</{cell}>" for align, text in filled)
            html = f"<tr>{html}</tr>"
        count = len(self._aligns)
        wide = "wide" if count > _WIDE else ""
        if block.first:
            html, opening = f"<thead>{html}</thead><tbody>", tag("div", "scroll", wide) + "<table>"
        else:
            columns = f'<colgroup span="{count}"></colgroup>'
            opening = f"{tag('div', 'scroll', wide, 'joined')}{tag('table', 'joined')}{columns}<tbody>"
        return _Part(block, html, opening, "</tbody></table></div>")


def _apart(before: tuple[Container, ...], within: tuple[Container, ...]) -> int:
    """Returns the list that a blank line between two blocks makes loose; 0 if there is none.

    It is the list both are in different items of, or whose item both are in directly.
    """
    common = _common(before, within)
    if common < min(len(before), len(within)) and before[common].list == within[common].list:
        return within[common].list
    return within[common - 1].list if common else 0


def _common(one: tuple[Container, ...], other: tuple[Container, ...]) -> int:
    """Returns how many containers two blocks are in together."""
    count = 0
    for mine, yours in zip(one, other, strict=False):
        if mine.id != yours.id:
            break
        count += 1
    return count


def _nested(parts: Iterable[_Part], before: tuple[Container, ...], loose: set[int]) -> str:
    """Returns the HTML of parts in the containers they are in.

    Args:
        parts: in their order.
        before: the containers that were open where a former piece ended.
        loose: the lists whose text stands in paragraphs.
    """
    nest = _Nest(before, loose)
    for part in parts:
        nest.add(part)
    return nest.close()


class _Nest:
    """Opens and closes elements, see `_nested`."""

    def __init__(self, before: tuple[Container, ...], loose: set[int]) -> None:
        self._seen = {container.id for container in before} | {container.list for container in before}
        self._loose = loose
        self._within: tuple[Container, ...] = ()
        self._kind = ""  # of the element that is open in them
        self._closing = ""
        self._out: list[str] = []

    def add(self, part: _Part) -> None:
        block = part.block
        if block.first or block.kind != self._kind:
            if not block.first and not part.html:  # the end of what a former piece has closed
                return
            self._close_element()
            self._enter(block.within)
            self._open_element(part)
        self._out.append(part.html)
        if block.last:
            self._close_element()

    def close(self) -> str:
        self._close_element()
        self._enter(())
        return "".join(self._out)

    def _open_element(self, part: _Part) -> None:
        self._kind = part.block.kind
        within = part.block.within
        if self._kind == "paragraph" and within and within[-1].list and within[-1].list not in self._loose:
            return
        self._out.append(part.opening)
        self._closing = part.closing

    def _close_element(self) -> None:
        self._out.append(self._closing)
        self._kind = self._closing = ""

    def _enter(self, within: tuple[Container, ...]) -> None:
        """Closes the containers that the next block is not in, and opens those that it is in."""
        before = self._within
        common = _common(before, within)
        sibling = common < min(len(before), len(within)) and 0 < before[common].list == within[common].list
        for at in range(len(before) - 1, common - 1, -1):
            container = before[at]
            if not container.list:
                self._out.append("</blockquote>")
            elif sibling and at == common:
                self._out.append("</li>")
            else:
                self._out.append("</li></ol>" if _ordered(container) else "</li></ul>")
        for at in range(common, len(within)):
            container = within[at]
            if not container.list:
                self._out.append(tag("blockquote", self._joined(container.id)))
                continue
            if not (sibling and at == common):
                self._out.append(self._list(container))
            self._out.append(tag("li", self._joined(container.id)))
        self._within = within

    def _list(self, item: Container) -> str:
        joined = self._joined(item.list)
        if not _ordered(item):
            return tag("ul", joined)
        opening = tag("ol", joined)
        return opening if item.number == 1 else f'<ol start="{item.number}"{opening.removeprefix("<ol")}'

    def _joined(self, number: int) -> str:
        return "joined" if number in self._seen else ""


def _ordered(item: Container) -> bool:
    return item.marker[-1] in ".)"
