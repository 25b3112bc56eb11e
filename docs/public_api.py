"""Writes the public surface into docs/public.md and tests/public_api.txt: ``python docs/public_api.py``.

``--check`` only compares. `PUBLIC` is the list; everything else in the package is internal.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PUBLIC: dict[str, tuple[str, ...] | None] = {  # None: all that the module's ``__all__`` names
    "tailrace": None,
    "tailrace.errors": None,
    "tailrace.events": None,
    "tailrace.types": None,
    "tailrace.gateway": None,
    "tailrace.telemetry": None,
    "tailrace.testing": None,
    "tailrace.testing.plugin": None,
    "tailrace.web": None,
    "tailrace.web.fastapi": None,
    "tailrace.web.flask": None,
    "tailrace.web.wsgi": ("frames",),
}
PARTLY = {"tailrace.gateway.GatewayContext": ("start",)}  # classes of which only some methods are public

PAGE = Path(__file__).with_name("public.md")
RECORD = Path(__file__).parents[1] / "tests" / "public_api.txt"
START, END = "<!-- public names: written by docs/public_api.py -->\n", "<!-- end of the public names -->\n"
PROTOCOL = {
    *("__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__call__", "__contains__", "__enter__"),
    *("__exit__", "__getitem__", "__iter__", "__len__", "__next__"),
}


class _Text:
    """An annotation as it stands in the source, without the quotes that `inspect` puts around it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def names_of(module: str) -> list[str]:
    """Returns the public names of a public module."""
    names = PUBLIC[module]
    return sorted(importlib.import_module(module).__all__) if names is None else sorted(names)


def _annotation(value: Any) -> Any:
    return _Text(value) if isinstance(value, str) else value


def _fields(value: Any) -> dict[str, Any]:
    """The annotations of a class's fields as they stand in the source; msgspec's signatures have them evaluated."""
    kinds = reversed(value.__mro__) if inspect.isclass(value) else ()
    return {name: text for kind in kinds for name, text in vars(kind).get("__annotations__", {}).items()}


def _signature(value: Any) -> str:
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return ""  # not the same in all versions of Python
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):  # a class without an ``__init__`` of its own
        return ""
    fields = _fields(value)
    parameters = [
        parameter.replace(annotation=_annotation(fields.get(parameter.name, parameter.annotation)))
        for parameter in signature.parameters.values()
    ]
    shown = str(signature.replace(parameters=parameters, return_annotation=_annotation(signature.return_annotation)))
    return re.sub(r" at 0x[0-9a-f]+", "", shown)


def _attributes(kind: type) -> set[str]:
    """The names in the section "Attributes" of a class's docstring."""
    section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", inspect.cleandoc(kind.__doc__ or ""), re.MULTILINE)
    return set(re.findall(r"^ {4}(\w+):", section[1], re.MULTILINE)) if section else set()


def _members(kind: type) -> Iterator[tuple[str, str]]:
    """Yields the public members of a class, inherited ones too where they are ours, each with its form."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not each.__module__.startswith("tailrace"):
            continue
        found |= dict.fromkeys(_attributes(each), "attribute")
        for name, value in vars(each).items():
            if name.startswith("_") and name not in PROTOCOL:
                continue
            inner = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if isinstance(value, property):
                found[name] = "property"
            elif inspect.isfunction(inner):
                word = "async def" if inspect.iscoroutinefunction(inner) else "def"
                found[name] = f"{word}{_signature(inner)}"
            elif not isinstance(value, type) or name.isupper():
                found.setdefault(name, "attribute")
    yield from sorted(found.items())


def record() -> str:
    """Returns the whole surface, a line for each name, member and signature."""
    lines: list[str] = []
    seen: dict[int, str] = {}
    for module in PUBLIC:
        for name in names_of(module):
            value, full = getattr(importlib.import_module(module), name), f"{module}.{name}"
            if id(value) in seen and (inspect.isclass(value) or inspect.isfunction(value)):
                lines.append(f"{full} is {seen[id(value)]}")
                continue
            seen[id(value)] = full
            lines += _lines(full, value)
    return "\n".join([*lines, ""])


def _lines(full: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        base = value.__mro__[1].__name__
        yield f"class {full}({base}){'' if full in PARTLY else _signature(value)}"
        for name, form in _members(value):
            if name in PARTLY.get(full, (name,)):
                yield f"    {name}: {form}"
    elif full.startswith("tailrace.testing.plugin."):
        yield f"fixture {full}"
    elif inspect.isfunction(value):
        yield f"{'async def' if inspect.iscoroutinefunction(value) else 'def'} {full}{_signature(value)}"
    elif full == "tailrace.__version__":
        yield f"{full}: str"
    else:
        yield f"{full} = {value!r}"


def page() -> str:
    """Returns docs/public.md with the names as they are."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    listed = "\n".join(f"- `{module}`: " + ", ".join(f"`{name}`" for name in names_of(module)) for module in PUBLIC)
    return f"{before}{START}{listed}\n{END}{rest.partition(END)[2]}"


def main() -> int:
    """Rewrites both files, or says that one of them is stale."""
    new = {PAGE: page(), RECORD: record()}
    if "--check" in sys.argv[1:]:
        return int(any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in new.items()))
    for path, text in new.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
