"""What a line of Markdown can begin: the patterns of CommonMark's blocks and of GitHub's tables."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "Fence",
    "aligns",
    "cells",
    "expand",
    "fence",
    "heading",
    "indent_of",
    "is_rule",
    "marker",
    "may_be_marker",
    "unclear",
]

_HEADING = re.compile(r"(#{1,6})(?:[ \t]+|$)")
_FENCE = re.compile(r"(`{3,})([^`]*)$|(~{3,})(.*)$")
_RULE = re.compile(r"(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_MARKER = re.compile(r"(?:([*+-])|(\d{1,9})([.)]))(?=[ \t]|$)")
_MAYBE_MARKER = re.compile(r"[*+-](?:[ \t]|$)|\d{1,9}(?:[.)](?:[ \t]|$)|$)")
_DELIMITERS = re.compile(r"[|:-][|:\- \t]+$")
_DELIMITER = re.compile(r":?-+:?$")
_PIPE = re.compile(r"(?<!\\)\|")
# What may still become a list, a heading, fenced code, an underline, a rule, a quote or the second line of a table.
_UNCLEAR = re.compile(r"[*+-]|\d{1,9}[.)]?|#{1,6}|`{1,2}|`{3,}[^`]*|~+|~{3,}.*|=+|[-*_ \t]*|[|:\- \t]*")


@dataclass(frozen=True, slots=True)
class Fence:
    """The opening line of fenced code.

    Attributes:
        mark: one of its characters.
        length: how many there are.
        indent: spaces before it.
        info: what follows it: the language.
    """

    mark: str
    length: int
    indent: int
    info: str

    def closed_by(self, body: str) -> bool:
        """Returns True if a line, without its indentation, closes it."""
        bare = body.rstrip(" \t")
        return len(bare) >= self.length and not bare.strip(self.mark)


def indent_of(text: str) -> int:
    """Returns the number of spaces a text begins with."""
    return len(text) - len(text.lstrip(" "))


def expand(text: str, column: int) -> str:
    """Returns `text`, which begins in `column`, with the tabs it begins with made spaces."""
    body = text.lstrip(" \t")
    white = text[: len(text) - len(body)]
    if "\t" not in white:
        return text
    width = column
    for char in white:
        width += 4 - width % 4 if char == "\t" else 1
    return " " * (width - column) + body


def heading(body: str) -> tuple[int, str] | None:
    """Reads ``## Title ##``: its level and its text."""
    found = _HEADING.match(body)
    if found is None:
        return None
    text = body[found.end() :].rstrip(" \t")
    bare = text.rstrip("#")
    return len(found[1]), (bare if not bare or bare[-1] in " \t" else text).strip(" \t")


def fence(body: str, indent: int) -> Fence | None:
    """Reads the opening line of fenced code."""
    found = _FENCE.match(body)
    if found is None:
        return None
    marks = found[1] or found[3]
    return Fence(marks[0], len(marks), indent, (found[2] or found[4] or "").strip(" \t"))


def is_rule(body: str) -> bool:
    """Returns True for ``---``, ``* * *`` and the like."""
    return _RULE.match(body) is not None


def marker(body: str) -> tuple[str, int, str] | None:
    """Reads a list marker: its kind (a bullet, or what follows the number), the number, and all of it."""
    found = _MARKER.match(body)
    if found is None:
        return None
    return found[1] or found[3], int(found[2] or 0), found[0]


def may_be_marker(body: str) -> bool:
    """Returns True if a list marker, or what more text could make one, is what the beginning of a line begins with."""
    return _MAYBE_MARKER.match(body) is not None


def aligns(body: str) -> list[str] | None:
    """Reads ``|:--|--:|``: for each column "", "left", "right" or "center"."""
    if _DELIMITERS.match(body) is None or (body[0] == "-" and body[1] in " \t"):
        return None
    out = []
    parts = [part.strip(" \t") for part in body.split("|")]
    for at, part in enumerate(parts):
        if not part and at in {0, len(parts) - 1}:
            continue
        if _DELIMITER.match(part) is None:
            return None
        left, right = part.startswith(":"), part.endswith(":")
        out.append("center" if left and right else "right" if right else "left" if left else "")
    return out or None


def cells(line: str) -> list[str]:
    r"""Cuts a row of a table into its cells; ``\|`` is a character of one."""
    parts = _PIPE.split(line.strip(" \t"))
    if parts and not parts[0]:
        del parts[0]
    if parts and not parts[-1]:
        del parts[-1]
    return [part.strip(" \t").replace("\\|", "|") for part in parts]


def unclear(line: str) -> bool:
    """Returns True for the beginning of a line that does not tell yet what it will be."""
    return len(line) < 200 and _UNCLEAR.fullmatch(line.strip(" \t>")) is not None
