"""What annotations are made of; shared by the schemas of tools and the conversion of their arguments.

pydantic is imported only where an annotation is one of its own.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

__all__ = [
    "ANYTHING",
    "adapter_of",
    "hints_of",
    "is_array",
    "is_mapping",
    "is_pydantic",
    "is_union",
    "meant",
]

ANYTHING = (Any, object)
_QUALIFIERS = tuple(
    getattr(typing, name)
    for name in ("Required", "NotRequired", "ReadOnly", "Final", "ClassVar")
    if hasattr(typing, name)
)


def hints_of(owner: Callable[..., Any] | type) -> dict[str, Any]:
    """Returns annotations by name, with their metadata; none where they do not resolve, which is as good as none."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except Exception:
        return {}


def meant(annotation: Any) -> Any:
    """Returns what an annotation stands for: behind a `NewType`, a ``type`` statement or ``Required[…]``."""
    while True:
        if typing.get_origin(annotation) in _QUALIFIERS:
            annotation = typing.get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def is_union(annotation: Any) -> bool:
    """Returns whether an annotation names several types."""
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def is_mapping(kind: type) -> bool:
    """Returns whether it is a class of mappings."""
    return issubclass(kind, Mapping)


def is_array(kind: type) -> bool:
    """Returns whether JSON has an array for it: for Python's own collections, and for classes made of them."""
    own = kind.__module__ in ("builtins", "collections", "collections.abc", "typing")
    iterable = issubclass(kind, Iterable) and own and not issubclass(kind, (str, bytes, bytearray, memoryview))
    return (iterable or issubclass(kind, (list, tuple, set, frozenset))) and not issubclass(kind, Mapping)


def is_pydantic(annotation: Any) -> bool:
    """Returns whether pydantic is to be asked: for one of its classes, a class made for it, or one of its limits."""
    if typing.get_origin(annotation) is typing.Annotated:
        modules = {type(each).__module__.partition(".")[0] for each in annotation.__metadata__}
        return bool(modules & {"pydantic", "annotated_types"})
    kind = typing.get_origin(annotation) or annotation
    if not isinstance(kind, type) or issubclass(kind, msgspec.Struct):
        return False
    return hasattr(kind, "__pydantic_validator__") or hasattr(kind, "__get_pydantic_core_schema__")


def adapter_of(annotation: Any) -> Any:
    """Returns pydantic's adapter of an annotation; None if pydantic is not there or does not take it."""
    try:
        from pydantic import TypeAdapter

        return TypeAdapter(annotation)
    except Exception:  # not installed, or something in the annotation is none of its types
        return None
