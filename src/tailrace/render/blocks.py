"""Markdown cut into blocks as it comes: what is finished is handed out once, and one open tail remains.

CommonMark reads blocks line by line, and so does this, as its appendix on parsing has it: each line first matches the
containers that are open (quotes, list items), may then open new ones, and ends in one leaf. So a block is handed out as
soon as the line that finishes it has ended; lists and quotes need not end for what is in them to be shown; lines of
code and rows of tables are handed out one by one. Only a paragraph is ever held back, since the line after it may make
it a heading or a table. The cost of a line does not depend on how much came before it.

What is on purpose other than CommonMark:

- HTML is text.
- A link's definition counts for what comes after it, and is handed out as a block to be shown.
- Not deeper than `MAX_DEPTH` containers: further markers are text.
- Of a paragraph or line longer than `MAX_OPEN` characters the first part is handed out before its end is seen.
- A container's content is expanded: tabs that code in it begins with are spaces.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Literal

from tailrace.render import lines
from tailrace.render.inline import MOST_PARSES, cut, definitions

__all__ = ["MAX_DEPTH", "MAX_OPEN", "Block", "BlockSplitter", "Container", "Kind", "split"]

MAX_DEPTH = 20
MAX_OPEN = 2000

Kind = Literal["paragraph", "heading", "code", "table", "rule", "definitions", "empty"]


@dataclass(frozen=True, slots=True)
class Container:
    """A quote or an item of a list.

    Attributes:
        id: tells it from others of its document.
        marker: of an item what stands before it (``-``, ``3.``); of a quote ``>``.
        list: the id of the list it is an item of; 0 for a quote.
        number: of an item of an ordered list.
        indent: columns that its content stands to the right.
    """

    id: int
    marker: str
    list: int = 0
    number: int = 0
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """A block, or a part of one: a line of code, a row of a table, a piece of a very long paragraph.

    Attributes:
        kind: what it is; ``empty`` is an item or quote that holds nothing.
        text: Markdown of a paragraph or heading, the lines of code, the row of a table. The first part of a table is
            two lines, its head and its delimiters; the first part of code is empty.
        within: the containers it is in, the outermost first.
        gap: a blank line stood before it.
        level: of a heading.
        info: of code, the words behind the fence.
        first: the block begins with this part.
        last: the block ends with this part.
    """

    kind: Kind
    text: str
    within: tuple[Container, ...] = ()
    gap: bool = False
    level: int = 0
    info: str = ""
    first: bool = True
    last: bool = True


class BlockSplitter:
    """Cuts Markdown into blocks, in whatever pieces it comes.

    Attributes:
        references: the link definitions so far, for `tailrace.render.inline.spans`.
        work: characters looked at, for tests of the cost.
    """

    def __init__(self) -> None:
        self.references: dict[str, Any] = {}
        self.work = 0
        self._out: list[Block] = []
        self._partial: list[str] = []  # the line that has not ended, in pieces
        self._partial_size = 0
        self._begun_line = False  # the first part of the line has been read, since it is too long to wait for
        self._return = False  # a carriage return came last: a newline, or half of one
        self._within: tuple[Container, ...] = ()
        self._filled = 0  # so many of the containers have something in them
        self._closed: Container | None = None  # an item that a blank line has closed; its list may go on
        self._ids = 0
        self._leaf: Literal["", "paragraph", "fence", "indented", "table"] = ""
        self._lines: list[str] = []  # of the paragraph
        self._size = 0
        self._deep = False  # its last line stands where no head of a table can
        self._cut = False  # a part of the paragraph has been handed out
        self._leaf_gap = False
        self._gap = False
        self._fence: lines.Fence | None = None
        self._blanks: list[str] = []  # lines that are of the indented code only if more follows

    def feed(self, text: str) -> list[Block]:
        """Takes more text, and returns the blocks that it finishes."""
        self.work += len(text)
        if self._return:
            text, self._return = "\r" + text, False
        if text.endswith("\r"):
            text, self._return = text[:-1], True
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        *ended, partial = text.split("\n")
        for piece in ended:
            self._take(piece)
            self._end_line()
        self._take(partial)
        return self._handed()

    def finish(self) -> list[Block]:
        """Returns the rest: the text has ended."""
        if self._return:
            self._return = False
            self._end_line()
        if self._partial or self._begun_line:
            self._end_line()
        self._close_to(0)
        return self._handed()

    @property
    def open(self) -> list[Block]:
        """What the open tail would be if the text ended now; the next text may make it something else.

        A beginning of a line that does not tell yet what it will be (``-``, ``2``) is not in it.
        """
        fork = self._fork()
        partial = "".join(self._partial)
        if partial and not self._unclear(partial):
            fork._line(partial, "")
        fork._close_to(0, last=False)
        return fork._out

    @property
    def outermost(self) -> Container | None:
        """The outermost container so far that the next block may be in, or the item before that one in its list."""
        outer = self._within[0] if self._within else self._closed
        if outer is None or not outer.list:  # a quote is over as soon as it is closed
            return outer if self._within else None
        if self._leaf or not self._partial or len(self._within) > self._filled:
            return outer
        line = lines.expand("".join(self._partial), 0)
        indent = lines.indent_of(line)
        inside = bool(self._within) and indent >= outer.indent
        return outer if indent == len(line) or inside or lines.may_be_marker(line[indent:]) else None

    def cut(self) -> list[Block]:
        """Hands out a part of the open tail, for who has no room for all of it.

        That is what the begun line finishes, or else a part of the open paragraph, if there is a place
        where no emphasis or link is open. What follows can no more make a heading of that part.
        """
        if not self._begun_line and self._partial:
            partial = "".join(self._partial)
            fork = self._fork()
            fork._line(partial, "")
            if fork._leaf == "paragraph" and not self._unclear(partial):
                self._begin_line(partial)
        head = bool(self._lines) and self._lines[-1].startswith("|")  # of a table, maybe
        if not self._out and self._leaf == "paragraph" and self._size and not head:
            self._shorten(must=False)
        return self._handed()

    def _unclear(self, partial: str) -> bool:
        if self._leaf == "fence" and self._fence is not None:
            return not partial.strip(" \t>").strip(self._fence.mark)
        return self._leaf != "indented" and lines.unclear(partial)

    def _handed(self) -> list[Block]:
        out, self._out = self._out, []
        return out

    def _fork(self) -> BlockSplitter:
        fork = copy.copy(self)
        fork._out, fork._lines, fork._blanks = [], self._lines.copy(), []
        fork.references = dict(self.references)
        self.work += self._partial_size + self._size
        return fork

    # Lines

    def _take(self, piece: str) -> None:
        """Takes a piece of a line."""
        if not piece:
            return
        if self._begun_line:
            self._more(piece)
            return
        self._partial.append(piece)
        self._partial_size += len(piece)
        if self._partial_size >= MAX_OPEN:
            line = "".join(self._partial)
            self._begin_line(line[:MAX_OPEN])
            self._more(line[MAX_OPEN:])

    def _begin_line(self, line: str) -> None:
        self._partial, self._partial_size = [], 0
        self._begun_line = True
        self._line(line, "")

    def _end_line(self) -> None:
        if self._begun_line:
            self._begun_line = False
            if self._leaf in {"fence", "indented"}:
                self._emit("code", "\n", first=False, last=False)
            return
        line = "".join(self._partial)
        self._partial, self._partial_size = [], 0
        self._line(line, "\n")

    def _more(self, piece: str) -> None:
        """Takes more of a line that has been begun."""
        if not piece:
            return
        if self._leaf in {"fence", "indented"}:
            self._emit("code", piece, first=False, last=False)
            return
        if self._leaf != "paragraph":
            self._close_leaf()
            self._begin("paragraph")
            self._lines.append("")
        self._extend(piece)

    def _line(self, line: str, end: str) -> None:
        """Reads a line; `end` is empty if more of it may come."""
        self.work += len(line)
        matched, rest, column = self._match(line)
        complete = matched == len(self._within)
        if complete and self._leaf == "fence":
            self._line_of_fence(rest if self._within else line, end)
            return
        if complete and self._leaf == "indented" and self._line_of_indented(rest, end):
            return
        self._start(rest, column, matched, end)

    def _match(self, line: str) -> tuple[int, str, int]:
        """Matches the open containers; returns how many do, and what is left of the line, in which column."""
        rest, column, matched = lines.expand(line, 0), 0, 0
        blank = not rest.strip(" ")
        for container in self._within:
            indent = lines.indent_of(rest)
            if not container.list:
                if indent > 3 or rest[indent : indent + 1] != ">":
                    break
                column += indent + 1
                rest = lines.expand(rest[indent + 1 :], column)
                if rest.startswith(" "):
                    rest, column = rest[1:], column + 1
                blank = not rest.strip(" ")
            elif blank:
                if matched >= self._filled:  # an item may begin with one blank line at most
                    break
                rest = rest[min(container.indent, indent) :]
            elif indent >= container.indent:
                rest, column = rest[container.indent :], column + container.indent
            else:
                break
            matched += 1
        return matched, rest, column

    def _line_of_fence(self, rest: str, end: str) -> None:
        assert self._fence is not None
        indent = lines.indent_of(rest)
        if end and indent <= 3 and self._fence.closed_by(rest[indent:]):
            self._close_leaf()
        else:
            self._emit("code", rest[min(indent, self._fence.indent) :] + end, first=False, last=False)

    def _line_of_indented(self, rest: str, end: str) -> bool:
        if not rest.strip(" "):
            self._blanks.append(rest[4:] + "\n")
        elif rest.startswith("    "):
            for blank in self._blanks:
                self._emit("code", blank, first=False, last=False)
            self._blanks = []
            self._emit("code", rest[4:] + end, first=False, last=False)
        else:
            return False
        return True

    def _start(self, rest: str, column: int, matched: int, end: str) -> None:
        """Opens what the line opens, and puts the rest of it where it belongs."""
        complete = matched == len(self._within)
        paragraph = complete and self._leaf == "paragraph"  # this line may go on with it, or change it
        lazy = not complete and self._leaf == "paragraph"
        before = self._within[matched] if not complete else self._closed
        self._closed = None
        new = False
        while True:
            indent = lines.indent_of(rest)
            body = rest[indent:]
            if not body or indent > 3:
                break
            if body[0] == ">" and matched < MAX_DEPTH:
                self._close_to(matched)
                self._open_container(">", 0, 0, 0)
                column += indent + 1
                rest = lines.expand(body[1:], column)
                if rest.startswith(" "):
                    rest, column = rest[1:], column + 1
            elif self._leaf_of_line(body, indent, matched, paragraph=paragraph, end=end):
                return
            elif matched < MAX_DEPTH and (item := self._item(body, indent, column, before, paragraph=paragraph)):
                self._close_to(matched)
                self._open_container(*item[0])
                rest, column = item[1:]
            else:
                break
            paragraph = lazy = False
            before, new, matched = None, True, len(self._within)
        paragraph = paragraph and self._leaf == "paragraph"  # it may have been definitions, and have ended
        if not body:
            if not new:
                self._close_to(matched)
                self._gap = True
                self._closed = before
        elif indent > 3 and not paragraph and not lazy:
            self._close_to(matched)
            self._begin("indented")
            self._emit("code", rest[4:] + end, first=False, last=False)
        elif paragraph or lazy:
            self._deep = indent > 3 or lazy
            self._add(body)
        elif self._leaf == "table" and complete and not new:
            self._emit("table", body.rstrip(" \t"), first=False, last=False)
        else:
            self._close_to(matched)
            self._begin("paragraph")
            self._deep = False
            self._add(body)

    def _leaf_of_line(self, body: str, indent: int, matched: int, *, paragraph: bool, end: str) -> bool:
        """Reads a line that is a block of its own, or begins one, or makes another of the paragraph before it."""
        first = body[0]
        if first == "#" and (found := lines.heading(body)) is not None:
            self._close_to(matched)
            self._whole("heading", found[1], level=found[0])
        elif first in "`~" and end and (opened := lines.fence(body, indent)) is not None:
            self._close_to(matched)
            self._fence = opened
            self._begin("fence")
        elif paragraph and end and first in "|:-" and self._table(body):
            pass
        elif paragraph and end and first in "=-" and not body.rstrip(" \t").strip(first) and self._underlined():
            text = "\n".join(self._lines).strip(" \t")
            gap, begun = self._leaf_gap, not self._cut
            self._drop_leaf()
            self._emit("heading", text, level=1 if first == "=" else 2, gap=gap, first=begun)
        elif lines.is_rule(body):
            self._close_to(matched)
            self._whole("rule", "")
        else:
            return False
        return True

    def _item(
        self, body: str, indent: int, column: int, before: Container | None, *, paragraph: bool
    ) -> tuple[tuple[str, int, int, int], str, int] | None:
        """Reads a list marker; returns what `_open_container` needs, the rest of the line and its column."""
        found = lines.marker(body)
        if found is None:
            return None
        kind, number, marker = found
        column += indent + len(marker)
        rest = lines.expand(body[len(marker) :], column)
        spaces = lines.indent_of(rest)
        blank = spaces == len(rest)
        if paragraph and (blank or (kind in ".)" and number != 1)):
            return None
        if blank:
            rest, spaces = "", 1
        elif spaces > 4:
            spaces = 1
        same = before is not None and before.list and before.marker[-1] == kind
        if same and before is not None:
            list_id, number = before.list, before.number + (kind in ".)")
        else:
            self._ids += 1
            list_id = self._ids
        shown = f"{number}{kind}" if kind in ".)" else kind
        return (shown, list_id, number, indent + len(marker) + spaces), rest[spaces:], column + spaces

    def _table(self, body: str) -> bool:
        """Makes a table of the last line of the paragraph if `body` is the line below a table's head."""
        head = self._lines[-1].strip(" \t")
        columns = lines.aligns(body)
        if columns is None or self._deep or "|" not in head or len(lines.cells(head)) != len(columns):
            return False
        del self._lines[-1]
        gap = self._leaf_gap
        if self._lines or self._cut:
            self._close_leaf()
            gap = False
        self._drop_leaf()
        self._leaf, self._filled = "table", len(self._within)
        self._emit("table", f"{head}\n{body.rstrip(' ')}", gap=gap, last=False)
        return True

    def _underlined(self) -> bool:
        """Returns True if there is a paragraph to be made a heading once its definitions are taken off."""
        if self._cut:
            return True
        count = self._define()
        if self._lines:
            return True
        if count:
            self._leaf = ""
        return False

    # Blocks

    def _open_container(self, marker: str, list_id: int, number: int, indent: int) -> None:
        self._filled = max(self._filled, len(self._within))
        self._ids += 1
        self._within = (*self._within, Container(self._ids, marker, list_id, number, indent))

    def _begin(self, leaf: Literal["paragraph", "fence", "indented"]) -> None:
        self._leaf, self._leaf_gap, self._gap = leaf, self._gap, False
        self._filled = len(self._within)
        if leaf != "paragraph":
            info = self._fence.info if leaf == "fence" and self._fence is not None else ""
            self._emit("code", "", info=info, gap=self._leaf_gap, last=False)

    def _add(self, line: str) -> None:
        """Adds a line to the paragraph."""
        if self._lines:
            self._size += 1
        self._lines.append("")
        self._extend(line)

    def _extend(self, text: str) -> None:
        """Adds to the last line of the paragraph; where a long one is cut depends on its text alone."""
        while text:
            piece = text[: max(MAX_OPEN - self._size, 1)]
            text = text[len(piece) :]
            self._lines[-1] += piece
            self._size += len(piece)
            if self._size >= MAX_OPEN:
                self._shorten()

    def _shorten(self, *, must: bool = True) -> None:
        text = "\n".join(self._lines)
        self.work += MOST_PARSES * len(text)
        place = cut(text, must=must)
        if not place:
            return
        self._emit("paragraph", text[:place], gap=self._leaf_gap, first=not self._cut, last=False)
        self._cut, self._leaf_gap = True, False
        self._lines = text[place:].split("\n")
        self._size = len(text) - place

    def _define(self) -> int:
        """Takes the definitions off the beginning of the paragraph."""
        text = "\n".join(self._lines)
        count = definitions(text, self.references)
        if count:
            self._emit("definitions", "\n".join(self._lines[:count]), gap=self._leaf_gap)
            self._lines, self._leaf_gap = self._lines[count:], False
        return count

    def _whole(self, kind: Kind, text: str, *, level: int = 0) -> None:
        gap, self._gap = self._gap, False
        self._filled = len(self._within)
        self._emit(kind, text, level=level, gap=gap)

    def _close_to(self, depth: int, *, last: bool = True) -> None:
        """Closes the leaf, and the containers deeper than `depth`."""
        self._close_leaf(last=last)
        while len(self._within) > depth:
            if len(self._within) > self._filled:
                gap, self._gap = self._gap, False
                self._emit("empty", "", gap=gap)
            self._within = self._within[:-1]
            self._filled = len(self._within)

    def _close_leaf(self, *, last: bool = True) -> None:
        if self._leaf == "paragraph":
            if not self._cut:
                self._define()
            text = "\n".join(self._lines).rstrip(" \t\n")
            if text or self._cut:
                self._emit("paragraph", text, gap=self._leaf_gap, first=not self._cut, last=last)
        elif self._leaf and last:
            self._emit("table" if self._leaf == "table" else "code", "", first=False)
            self._gap = self._gap or bool(self._blanks)
        self._drop_leaf()

    def _drop_leaf(self) -> None:
        self._leaf, self._fence = "", None
        self._lines, self._size, self._cut, self._blanks = [], 0, False, []

    def _emit(
        self,
        kind: Kind,
        text: str,
        *,
        gap: bool = False,
        level: int = 0,
        info: str = "",
        first: bool = True,
        last: bool = True,
    ) -> None:
        self._out.append(Block(kind, text, self._within, gap, level, info, first, last))


def split(text: str) -> list[Block]:
    """Cuts a whole text into blocks."""
    splitter = BlockSplitter()
    return splitter.feed(text) + splitter.finish()
