"""Titles and snippets, and replacing characters that a database cannot hold."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from tailrace.render.inline import Span
from tailrace.render.layout import text_width, units, wrap

__all__ = ["from_json", "snippet", "storable", "title_of", "to_json"]

_TITLE = 60  # columns
_BEFORE, _AFTER = 30, 70  # characters of a snippet around what was found
_SPACES = re.compile(r"\s+")


def title_of(question: str) -> str:
    """Returns a conversation's title by its first question: the first line, cut at about 60 columns."""
    line = next(iter(question.lstrip()[: 20 * _TITLE].splitlines()), "")
    line = _SPACES.sub(" ", line).strip()
    if text_width(line) <= _TITLE:
        return line
    row = wrap(units([Span(line)]), _TITLE - 1)[0]
    return "".join(unit.text for unit in row).rstrip() + "…"


def snippet(text: str, wanted: str) -> str:
    """Returns the text around the first place where `wanted` is found; from the start if it is not.

    A few letters are longer in lower case, so that behind many of them the place is about there.
    """
    at = text.lower().find(wanted.lower())  # a regular expression would take the product of both lengths
    at, end = (min(at, len(text)), at + len(wanted)) if at >= 0 else (0, 0)
    first, last = max(0, at - _BEFORE), min(len(text), end + _AFTER)
    body = _SPACES.sub(" ", text[first:last]).strip()
    return ("…" if first else "") + body + ("…" if last < len(text) else "")


def storable(text: str) -> str:
    """Returns a text that every database takes: no NUL, and no half of a surrogate pair."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    try:
        text.encode()
    except UnicodeEncodeError:
        # Pairs are joined, what is left single cannot be shown.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def to_json(value: Any) -> str:
    """Returns a value as JSON that every database takes.

    Raises:
        TypeError: it has no form in JSON.
    """
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return storable(json.dumps(msgspec.to_builtins(value), ensure_ascii=False))


def from_json(text: str) -> Any:
    """Returns what `to_json` was given, in JSON types."""
    return msgspec.json.decode(text)
