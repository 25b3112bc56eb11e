"""Escaping of what could command a terminal: model text is data, and stays visible as such."""

from __future__ import annotations

import re

__all__ = ["printable"]

# C0 without newline and tab, DEL, C1 (as bytes 0x80 to 0x9f some terminals obey them), and what turns the direction of
# text around, so that it shows other than it is (embeddings, overrides, isolates).
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Returns `text` with each control character and turn of direction shown as ``\u001b``; newlines and tabs stay."""
    return _COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) if _COMMANDS.search(text) else text
