"""Escapes control characters, so that a model's text cannot control a terminal."""

from __future__ import annotations

from tailrace.render import escape

__all__ = ["one_line", "printable"]

_BREAKS = {0x09: " ", 0x0A: " ", 0x2028: " ", 0x2029: " "}


def printable(text: str) -> str:
    r"""Returns `text` with each control character and turn of direction shown as ``\u001b``; newlines and tabs stay."""
    return escape.printable(text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Returns `text` as one line that is safe to print."""
    return escape.printable(text.replace("\r\n", "\n").translate(_BREAKS))
