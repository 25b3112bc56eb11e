"""Docstrings: what a function does, and what each of its arguments is.

Google's form is read here, line by line as ollama-python reads it, so that a tool has the same texts in both. NumPy's,
Sphinx's and Epydoc's are read by docstring-parser, which is imported for nothing else.
"""

from __future__ import annotations

import re

__all__ = ["read_docstring"]

_BLOCK = re.compile(r"\s*(args|arguments|parameters|returns?|yields?|raises|examples?)\s*:", re.IGNORECASE)
_ARGUMENT = re.compile(r"\s*\*{0,2}(?P<name>\w+)\s*(?:\((?P<type>[^)]*)\))?\s*:\s*(?P<text>.*)")
_UNDERLINED = re.compile(
    r"^ *(Other )?(Parameters|Params|Arguments|Returns?|Yields?|Raises|Examples?)\n *-{3,} *$", re.MULTILINE
)
_FIELD = re.compile(
    r"^ *:(param|parameter|arg|argument|key|keyword|type|returns?|rtype|yields?|raises?)\b[^:\n]*:", re.MULTILINE
)
_TAG = re.compile(r"^ *@(param|type|return|rtype|yields?|raise)\b[^:\n]*:", re.MULTILINE)


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """Returns what is said of a function, and the texts of its arguments by name."""
    for form, style in ((_UNDERLINED, "NUMPYDOC"), (_FIELD, "REST"), (_TAG, "EPYDOC")):
        if form.search(text):
            return _parsed(text, style)
    return _google(text)


def _parsed(text: str, style: str) -> tuple[str, dict[str, str]]:
    from docstring_parser import DocstringStyle, ParseError, parse

    try:
        parsed = parse(text, style=DocstringStyle[style])
    except ParseError:  # a heading of that style, and something else below it
        return text.strip(), {}
    arguments = {
        name.strip().lstrip("*"): " ".join((parameter.description or "").split())
        for parameter in parsed.params
        for name in parameter.arg_name.split(",")
    }
    return (parsed.description or "").strip(), arguments


def _google(text: str) -> tuple[str, dict[str, str]]:
    """Returns the text before the first block, and the texts of the ``Args:`` block by name."""
    summary: list[str] = []
    arguments: dict[str, str] = {}
    block: str | None = None
    last = ""
    for line in text.splitlines():
        heading = _BLOCK.match(line)
        if heading:
            block = heading[1].lower()
        elif block is None:
            summary.append(line.strip())
        elif block in ("args", "arguments", "parameters"):
            argument = _ARGUMENT.match(line)
            if argument:
                last = argument["name"]
                arguments[last] = argument["text"].strip()
            elif last and line.strip():
                arguments[last] = f"{arguments[last]} {line.strip()}".strip()
    return "\n".join(summary).strip(), arguments
