"""Escaping of what could command a terminal: model text is data, and stays visible as such."""

from __future__ import annotations

__all__ = ["one_line", "printable"]

# C0 without newline and tab, DEL, C1 (as bytes 0x80 to 0x9f some terminals obey them), and what turns the direction of
# text around, so that it shows other than it is (embeddings, overrides, isolates).
_COMMANDS = (
    *(code for code in range(0x20) if code not in (0x09, 0x0A)),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
)
# The form is JSON's, so that a line of JSON stays one.
_ESCAPES = {code: f"\\u{code:04x}" for code in _COMMANDS}
_ONE_LINE = {**_ESCAPES, 0x09: " ", 0x0A: " ", 0x2028: " ", 0x2029: " "}


def printable(text: str) -> str:
    r"""Returns `text` with each control character and turn of direction shown as ``\u001b``; newlines and tabs stay."""
    return text.replace("\r\n", "\n").translate(_ESCAPES)


def one_line(text: str) -> str:
    """Returns `text` as one line that is safe to print."""
    return " ".join(text.replace("\r\n", "\n").translate(_ONE_LINE).split(" "))
