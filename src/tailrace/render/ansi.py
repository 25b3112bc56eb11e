"""Blocks to terminal text: lines no wider than the terminal, with styles."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from tailrace.render.blocks import MAX_OPEN, Block, BlockSplitter, Container
from tailrace.render.highlight import Highlighter
from tailrace.render.inline import References, Span, spans
from tailrace.render.layout import Unit, chop, paint, units, width_of, wrap
from tailrace.render.tables import Table

__all__ = ["NO_STYLES", "STYLES", "Renderer", "render"]

STYLES: Mapping[str, str] = MappingProxyType(
    {
        "strong": "1",
        "em": "3",
        "strike": "9",
        "code": "36",
        "link": "4",
        "url": "2",
        "h1": "1;4;35",
        "h2": "1;35",
        "h3": "1",
        "h4": "1",
        "h5": "1;2",
        "h6": "1;2",
        "quote": "2",
        "frame": "2",
        "marker": "33",
        "keyword": "35",
        "function": "34",
        "builtin": "36",
        "decorator": "33",
        "string": "32",
        "number": "33",
        "comment": "2;3",
        "error": "31",
    }
)
NO_STYLES: Mapping[str, str] = MappingProxyType({})

_TASK = re.compile(r"\[([ xX])\][ \u3000]+")
_TAB = 4
_LEAST = 10  # columns left to the text however deep it is


class Renderer:
    """Makes lines of blocks, given one after the other.

    Args:
        width: columns of the terminal; may be changed between two blocks.
        height: lines that a table may take until the widths of its columns are fixed; None: any number.
        styles: for each name of a style the parameters of SGR.
        hyperlinks: make links such of the terminal (OSC 8), instead of showing where they lead.
        references: link targets, see `BlockSplitter.references`.
    """

    def __init__(
        self,
        width: int,
        height: int | None = None,
        *,
        styles: Mapping[str, str] = STYLES,
        hyperlinks: bool = False,
        references: References | None = None,
    ) -> None:
        self.width = width
        self.height = height
        self._styles = styles
        self._hyperlinks = hyperlinks
        self._references: References = references if references is not None else {}
        self._within: tuple[Container, ...] = ()  # where the last block was
        self._started = False
        self._carried: list[Unit] = []  # the last line of a paragraph that goes on
        self._code: Highlighter | None = None
        self._code_line = ""  # the begun line of code
        self._long = False  # of which rows have been returned
        self._table: Table | None = None
        self._table_within: tuple[Container, ...] = ()

    def copy(self) -> Renderer:
        """Returns one that goes on from here by itself."""
        other = copy.copy(self)
        other._code = self._code.copy() if self._code is not None else None
        other._table = self._table.copy() if self._table is not None else None
        return other

    def add(self, blocks: Iterable[Block]) -> list[str]:
        """Returns the lines that blocks make. The last line of what goes on, and a table, may be kept back."""
        return [line for block in blocks for line in self._add(block)]

    def rest(self) -> list[str]:
        """Returns what was kept back, as it would look if nothing more came."""
        if self._table is not None:
            return self._lines(self._table.take(self._room(self._table_within)), self._table_within)
        if self._code_line:
            return self._line_of_code("\n")
        if self._carried:
            carried, self._carried = self._carried, []
            return self._lines([carried], self._within)
        return []

    def _add(self, block: Block) -> list[str]:
        out = self._above(block) if block.first else []
        match block.kind:
            case "paragraph" | "heading":
                out += self._text(block)
            case "code":
                out += self._add_code(block)
            case "table":
                out += self._add_table(block)
            case "rule":
                width = self._room(block.within)
                out += self._lines([[Unit("─" * width, width, "frame")]], block.within)
            case "definitions":
                out += self._lines(self._wrapped([Span(block.text, "url")], block.within), block.within)
            case "empty":
                out += self._lines([[]], block.within)
        return out

    def _above(self, block: Block) -> list[str]:
        """Returns the empty line above a block, if there is to be one; it is in what both blocks are in."""
        apart = block.gap or (block.kind == "heading" and not block.within)
        if not self._started or not apart:
            self._started = True
            return []
        common = 0
        for one, other in zip(self._within, block.within, strict=False):
            if one.id != other.id:
                break
            common += 1
        return self._lines([[]], block.within[:common], known=True)

    def _text(self, block: Block) -> list[str]:
        text = block.text
        content: list[Span] = []
        if block.kind == "paragraph" and block.first and block.within and self._is_new(block.within):
            task = _TASK.match(text) if block.within[-1].list else None
            if task is not None:
                content.append(Span("☐ " if task[1] == " " else "☑ ", "marker"))
                text = text[task.end() :]
        content += spans(text, self._references, targets=not self._hyperlinks)
        if block.kind == "heading":
            content = [Span(span.text, f"h{block.level} {span.style}".strip(), span.url) for span in content]
        rows = self._wrapped(content, block.within, carried=[] if block.first else self._carried)
        self._carried = []
        if not block.last:
            self._carried = rows.pop()
        elif not block.first and not any(rows):
            rows = []
        return self._lines(rows, block.within)

    def _wrapped(
        self, content: Iterable[Span], within: tuple[Container, ...], carried: list[Unit] | None = None
    ) -> list[list[Unit]]:
        return wrap([*(carried or []), *units(content)], self._room(within))

    # Code

    def _add_code(self, block: Block) -> list[str]:
        if block.first:
            self._code, self._code_line = Highlighter(block.info), ""
            name = block.info.split(maxsplit=1)[0] if block.info else ""
            return self._frame(name, block.within)
        out: list[str] = []
        if block.text:
            self._within = block.within
            out = self._line_of_code(block.text)
        if block.last:
            out += self._line_of_code("\n") if self._code_line else []
            out += self._frame("", block.within)
            self._code = None
        return out

    def _line_of_code(self, text: str) -> list[str]:
        """Takes a line, or a piece of one; of a very long one full rows are returned before it ends."""
        self._code_line += text
        width = self._room(self._within)
        ended = self._code_line.endswith("\n")
        line = self._code_line[:-1] if ended else self._code_line
        if not self._long and len(line) < MAX_OPEN:
            if not ended:
                return []
            line = line.expandtabs(_TAB)
            rows = chop(units(self._code.line(line) if self._code is not None else [Span(line)]), width)
            self._code_line = ""
        else:
            rows = chop(units([Span(line.replace("\t", " " * _TAB))]), width)
            self._code_line = "" if ended else "".join(unit.text for unit in rows.pop())
            self._long = not ended
        return self._lines(rows, self._within)

    def _frame(self, name: str, within: tuple[Container, ...]) -> list[str]:
        width = self._room(within)
        title = wrap(units([Span(f" {name} ", "frame")]), max(width - 4, 1))[0] if name else []
        if width_of(title) > width - 4:
            title = []
        left = Unit("──", 2, "frame") if title else Unit("", 0)
        right = "─" * (width - left.width - width_of(title))
        row = [unit for unit in (left, *title, Unit(right, len(right), "frame")) if unit.text]
        return self._lines([row], within)

    # Tables

    def _add_table(self, block: Block) -> list[str]:
        width = self._room(block.within)
        if block.first:
            self._table = Table(block.text, self._references, targets=not self._hyperlinks)
            self._table_within = block.within
        elif self._table is not None and block.text:
            self._table.add(block.text)
        if self._table is None:
            return []
        full = self.height is not None and len(self._table.lines(width)) > self.height
        out: list[str] = []
        if block.last or full or self._table.fixed:
            out = self._lines(self._table.take(width), block.within)
        if block.last:
            self._table = None
        return out

    # Lines

    def _room(self, within: tuple[Container, ...]) -> int:
        """Returns the columns there are for text in containers."""
        return max(self.width - sum(_width(container) for container in self._shown(within)), 2)

    def _shown(self, within: tuple[Container, ...]) -> tuple[Container, ...]:
        """Returns as many containers as leave room for text."""
        left = self.width - min(_LEAST, self.width // 2)
        for count, container in enumerate(within):
            left -= _width(container)
            if left < 0:
                return within[:count]
        return within

    def _is_new(self, within: tuple[Container, ...]) -> bool:
        """Returns True if nothing of the innermost container has been shown."""
        return within[-1].id not in {container.id for container in self._within}

    def _lines(self, rows: list[list[Unit]], within: tuple[Container, ...], *, known: bool = False) -> list[str]:
        """Paints rows with what stands before them."""
        out = []
        for row in rows:
            seen = within if known else self._within
            before = [
                part
                for at, container in enumerate(self._shown(within))
                for part in _before(container, new=at >= len(seen) or seen[at].id != container.id)
            ]
            out.append(paint([*before, *row], self._styles, hyperlinks=self._hyperlinks))
            if not known:
                self._within = within
        return out


def _width(container: Container) -> int:
    return len(container.marker) + 1


def _before(container: Container, *, new: bool) -> list[Unit]:
    if not container.list:
        return [Unit("│", 1, "quote"), Unit(" ", 1)]
    if not new:
        width = _width(container)
        return [Unit(" " * width, width)]
    marker = container.marker if container.number or len(container.marker) > 1 else "•"
    return [Unit(marker, len(marker), "marker"), Unit(" ", 1)]


def render(text: str, width: int, height: int | None = None, **options: Any) -> list[str]:
    """Returns the lines of a whole text.

    Args:
        text: Markdown.
        width: columns of the terminal.
        height: see `Renderer`.
        options: see `Renderer`.
    """
    splitter = BlockSplitter()
    renderer = Renderer(width, height, references=splitter.references, **options)
    return renderer.add(splitter.feed(text)) + renderer.add(splitter.finish())
