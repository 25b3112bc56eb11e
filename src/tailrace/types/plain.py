"""Values of ours and of others as JSON types."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Iterator, KeysView, Mapping, ValuesView
from typing import Any

import msgspec

from tailrace.types.images import Image

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """Turns a value of ours, a pydantic model or collections of them into JSON types; unset fields are left out.

    Numbers and arrays of NumPy are numbers and lists, what is iterated is a list, and a `timedelta` is seconds.

    Raises:
        TypeError: something has no form in JSON.
    """
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Image):
        return value.base64()
    if isinstance(value, msgspec.Struct):
        fields = ((f.encode_name, getattr(value, f.name)) for f in msgspec.structs.fields(value))
        return {name: plain(item) for name, item in fields if item is not None}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, Iterator, KeysView, ValuesView)):
        return [plain(item) for item in value]
    if isinstance(value, type):
        raise TypeError(f"{value.__name__} is a class, not a value")
    if hasattr(value, "model_dump"):  # pydantic models, ollama-python's own among them
        return plain(value.model_dump(exclude_none=True, by_alias=True))
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if callable(getattr(value, "tolist", None)):  # arrays and numbers of NumPy and the like
        return plain(value.tolist())
    return _single(value)


def _single(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return plain(value.value)
    for kind in (str, int, float):
        if isinstance(value, kind):
            return kind(value)
    if type(value).__module__ in ("decimal", "fractions"):  # importing them to ask takes long
        number = float(value)
        return int(value) if number.is_integer() else number
    return msgspec.to_builtins(value, enc_hook=_of_another_class)


def _of_another_class(value: Any) -> Any:
    """What msgspec does not know inside of what it does, such as a model of pydantic's in a dataclass."""
    if hasattr(value, "model_dump") or hasattr(value, "tolist"):
        return plain(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")
