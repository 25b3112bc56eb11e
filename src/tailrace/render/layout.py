"""Text in columns: how wide it is, where its lines break, and how it is painted.

Wide characters break anywhere, words at spaces, and no line begins with closing or ends with opening punctuation. A
width that terminals do not agree on (joined emoji) is taken as the larger one, so that a line is never too long.
All that is shown passes `units`, and is escaped there.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tailrace.render.escape import printable
from tailrace.render.inline import Span

__all__ = ["Unit", "chop", "paint", "text_width", "units", "width_of", "wrap"]

_UNIT = re.compile(
    "\n| +|[^\\s\u1100-\U0010ffff]+|.[\u0300-\u036f\u200d\u20e3\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]*", re.DOTALL
)
_SPACES = re.compile("[\t\u2028\u2029]")
_NO_START = frozenset("，。、；：？！）】》」』〉〕〗”’…—,.;:?!)]}%％·～ーぁぃぅぇぉっゃゅょァィゥェォッャュョ")
_NO_END = frozenset("（【《「『〈〔〖“‘([{$￥")
_RESET = "\x1b[0m"


class Unit(NamedTuple):
    """What a line is never broken in unless it is longer than the line: a word, a wide character, spaces.

    Attributes:
        text: escaped already.
        width: columns.
        style: names of styles.
        url: where it leads.
        wide: it is a wide character.
    """

    text: str
    width: int
    style: str = ""
    url: str = ""
    wide: bool = False


@functools.lru_cache(4096)
def _char_width(char: str) -> int:
    code = ord(char)
    if char == "\ufe0f":  # the character before it becomes an emoji
        return 1
    if 0x1160 <= code <= 0x11FF or unicodedata.category(char) in {"Mn", "Me"} or code in {0x200B, 0x200C, 0x200D}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def text_width(text: str) -> int:
    """Returns the columns that a text takes."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def units(spans: Iterable[Span]) -> list[Unit]:
    """Takes spans apart into units, and escapes them."""
    out = []
    for span in spans:
        for text in _UNIT.findall(printable(_SPACES.sub(" ", span.text))):
            if text.isascii():
                out.append(Unit(text, 0 if text == "\n" else len(text), span.style, span.url))
            else:
                wide = text[0] >= "\u1100" and _char_width(text[0]) == 2
                out.append(Unit(text, text_width(text), span.style, span.url, wide))
    return out


def width_of(row: Iterable[Unit]) -> int:
    """Returns the columns that a row takes."""
    return sum(unit.width for unit in row)


def wrap(content: Iterable[Unit], width: int) -> list[list[Unit]]:
    """Breaks units into rows no wider than `width`, at spaces and beside wide characters.

    The spaces a row ends with are kept, and may stand out; `paint` leaves them away.
    """
    rows: list[list[Unit]] = []
    row: list[Unit] = []
    used = at = 0  # columns of the row; where it could be broken
    broken = False  # the row goes on with what did not fit on the one before
    for unit in content:
        if unit.text == "\n":
            rows.append(row)
            row, used, at, broken = [], 0, 0, False
            continue
        if unit.text[0] == " ":
            if row or not broken:
                row.append(unit)
                used += unit.width
                at = len(row)
            continue
        if row and (unit.wide or row[-1].wide) and row[-1].text[0] != " " and _may_part(row[-1], unit):
            at = len(row)
        left: Unit | None = unit
        while left is not None and used + left.width > width:
            if at:
                rows.append(row[:at])
                row = row[at:]
                used, at, broken = width_of(row), 0, True
                continue
            head, left = _torn(left, width - used, must=not row)
            if head is not None:
                row.append(head)
                used += head.width
            if left is not None:
                rows.append(row)
                row, used, broken = [], 0, True
        if left is not None:
            row.append(left)
            used += left.width
    rows.append(row)
    return rows


def _may_part(before: Unit, after: Unit) -> bool:
    return after.text[0] not in _NO_START and before.text[-1] not in _NO_END


def _torn(unit: Unit, room: int, *, must: bool) -> tuple[Unit | None, Unit | None]:
    """Cuts off what fits; at least a character if it must."""
    used = count = 0
    for char in unit.text:
        used += _char_width(char)
        if used > room and not (must and count == 0):
            break
        count += 1
    if count == 0:
        return None, unit
    head, tail = unit.text[:count], unit.text[count:]
    rest = unit._replace(text=tail, width=text_width(tail)) if tail else None
    return unit._replace(text=head, width=text_width(head)), rest


def chop(content: Iterable[Unit], width: int) -> list[list[Unit]]:
    """Breaks units into rows wherever they are full, as code is broken."""
    rows: list[list[Unit]] = [[]]
    used = 0
    for unit in content:
        left: Unit | None = unit
        while left is not None:
            if used + left.width <= width:
                rows[-1].append(left)
                used += left.width
                break
            head, left = _torn(left, width - used, must=used == 0)
            if head is not None:
                rows[-1].append(head)
            if left is not None:
                rows.append([])
                used = 0
    return rows


def paint(row: list[Unit], styles: Mapping[str, str], *, hyperlinks: bool = False) -> str:
    """Returns a row as a terminal takes it.

    Args:
        row: what it shows.
        styles: for each name of a style the parameters of SGR, like ``1;3``; a name that is missing shows plain.
        hyperlinks: make what leads somewhere a link of the terminal (OSC 8).
    """
    end = len(row)
    while end and not row[end - 1].text.strip(" "):
        end -= 1
    out: list[str] = []
    at = 0
    while at < end:
        style, url = row[at].style, row[at].url
        begin = at
        while at < end and row[at].style == style and row[at].url == url:
            at += 1
        text = "".join([unit.text for unit in row[begin:at]])
        codes = ";".join([code for name in style.split() if (code := styles.get(name))]) if style else ""
        if codes:
            text = f"\x1b[{codes}m{text}{_RESET}"
        if url and hyperlinks:
            text = f"\x1b]8;;{printable(url)}\x1b\\{text}\x1b]8;;\x1b\\"
        out.append(text)
    return "".join(out)
