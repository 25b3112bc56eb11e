"""How records are written as dicts and as JSON, with the arguments of pydantic's ``model_dump``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

import msgspec

from tailrace.types.building import fields_of
from tailrace.types.images import Image
from tailrace.types.plain import plain

__all__ = ["Chosen", "Manner", "as_json", "dumped"]

Chosen = Set[str] | Set[int] | Mapping[str, Any] | Mapping[int, Any] | None
"""Names of fields, or what is chosen of each: pydantic's ``include`` and ``exclude``."""


class Manner(msgspec.Struct, frozen=True):
    """How it is to be written."""

    json: bool = False
    by_alias: bool = False
    exclude_none: bool = False
    exclude_defaults: bool = False
    fallback: Callable[[Any], Any] | None = None


def dumped(record: Any, manner: Manner, include: Any = None, exclude: Any = None) -> dict[str, Any]:
    """Returns a record as a dict."""
    out: dict[str, Any] = {}
    kind: Any = type(record)
    for name, field in fields_of(kind).items():
        value = getattr(record, name)
        if (value is None and manner.exclude_none) or not _is_taken(name, include, exclude):
            continue
        if manner.exclude_defaults and not field.required and value == field.default:
            continue
        key = field.alias if manner.by_alias and field.alias else name
        out[key] = _value(value, manner, _within(name, include), _within(name, exclude))
    return out


def _is_taken(name: Any, include: Any, exclude: Any) -> bool:
    if include is not None and not _names(include, name):
        return False
    if exclude is None or not _names(exclude, name):
        return True
    return _within(name, exclude) is not None  # only a part of it is left out


def _names(chosen: Any, name: Any) -> bool:
    if isinstance(chosen, Mapping):
        return chosen.get(name, chosen.get("__all__", False)) is not False
    return name in chosen or "__all__" in chosen


def _within(name: Any, chosen: Any) -> Any:
    """Returns what is chosen of a field; None if it is the whole of it."""
    inner = chosen.get(name, chosen.get("__all__")) if isinstance(chosen, Mapping) else None
    return inner if isinstance(inner, (Mapping, Set)) else None


def _value(value: Any, manner: Manner, include: Any, exclude: Any) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Image):
        return value.base64()
    if isinstance(value, msgspec.Struct):
        return dumped(value, manner, include, exclude)
    if isinstance(value, Mapping):
        return {
            key if not manner.json else str(key): _value(item, manner, _within(key, include), _within(key, exclude))
            for key, item in value.items()
            if _is_taken(key, include, exclude)
        }
    if isinstance(value, (list, tuple)):
        return [
            _value(item, manner, _within(_at(at, value, include), include), _within(_at(at, value, exclude), exclude))
            for at, item in enumerate(value)
            if _is_taken(_at(at, value, include), include, None) and _is_taken(_at(at, value, exclude), None, exclude)
        ]
    return _single(value, manner)


def _at(at: int, items: Any, chosen: Any) -> int:
    """Returns the place of an item as it is chosen: by its number, or by that from the end."""
    return at if chosen is None or _names(chosen, at) else at - len(items)


def _single(value: Any, manner: Manner) -> Any:
    if not manner.json:
        return value
    try:
        return plain(value)
    except TypeError:
        if manner.fallback is None:
            raise
        return manner.fallback(value)


def as_json(value: Any, indent: int | None, *, ensure_ascii: bool = False) -> str:
    """Returns JSON in the form of pydantic's."""
    if ensure_ascii:
        import json

        separators = (",", ":") if indent is None else (",", ": ")
        return json.dumps(value, indent=indent, separators=separators)
    text = msgspec.json.encode(value)
    return (msgspec.json.format(text, indent=indent) if indent is not None else text).decode()
