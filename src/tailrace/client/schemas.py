"""JSON Schema of annotations, without references: the templates of models do not follow them.

msgspec makes it of what it knows (its own structs, dataclasses, attrs, typed dicts, enumerations), pydantic of its own
classes and limits, and what may hold either is taken apart here. No further library: msgspec is there, and pydantic is
where somebody uses it.
"""

from __future__ import annotations

import typing
from typing import Any

import msgspec

from tailrace.client.annotations import ANYTHING, adapter_of, is_array, is_mapping, is_pydantic, is_union, meant

__all__ = ["description_of", "inlined", "schema_of"]

_KINDS = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}


def schema_of(annotation: Any) -> dict[str, Any]:
    """Returns the JSON Schema of an annotation; empty if nothing is known of it."""
    annotation = meant(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in ANYTHING or isinstance(annotation, typing.TypeVar):
        return {}
    if origin is typing.Annotated:
        return _annotated(annotation)
    if is_union(annotation):
        return {"anyOf": [schema_of(member) for member in arguments]}
    if origin is typing.Literal:
        return _choice(arguments)
    if is_pydantic(annotation):
        return _pydantics(annotation)
    if isinstance(origin, type) and is_mapping(origin):
        values = schema_of(arguments[1]) if len(arguments) == 2 else {}
        return {"type": "object", **({"additionalProperties": values} if values else {})}
    if isinstance(origin, type) and is_array(origin) and not _is_fixed(origin, arguments):
        items = schema_of(arguments[0]) if arguments else {}
        return {"type": "array", **({"items": items} if items else {})}
    return _msgspecs(annotation)


def _is_fixed(origin: type, arguments: tuple[Any, ...]) -> bool:
    """Returns whether it is a tuple whose every place has a type of its own."""
    return issubclass(origin, tuple) and arguments[-1:] != (...,)


def _choice(values: tuple[Any, ...]) -> dict[str, Any]:
    kinds = list(dict.fromkeys(_KINDS[type(value)] for value in values if type(value) in _KINDS))
    listed = [getattr(value, "value", value) for value in values]
    return {**({"type": kinds[0]} if len(kinds) == 1 else {"type": kinds} if kinds else {}), "enum": listed}


def _annotated(annotation: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    if is_pydantic(annotation):
        schema = _pydantics(annotation)
    elif any(isinstance(each, msgspec.Meta) for each in annotation.__metadata__):
        schema = _msgspecs(annotation)
    schema = schema or schema_of(typing.get_args(annotation)[0])
    text = description_of(annotation)
    return {**schema, "description": text} if text else schema


def description_of(annotation: Any) -> str:
    """Returns the text of an ``Annotated[…]``: a string, pydantic's and msgspec's ``description``, or a ``Doc``."""
    if typing.get_origin(annotation) is not typing.Annotated:
        return ""
    for each in annotation.__metadata__:
        text = (
            each
            if isinstance(each, str)
            else getattr(each, "description", None) or getattr(each, "documentation", None)
        )
        if isinstance(text, str) and text:
            return text
    return ""


def _pydantics(annotation: Any) -> dict[str, Any]:
    adapter = adapter_of(annotation)
    if adapter is None:
        return {}
    try:
        return inlined(adapter.json_schema())
    except Exception:  # it holds what has no schema, such as a callable
        return {}


def _msgspecs(annotation: Any) -> dict[str, Any]:
    try:
        (schema,), definitions = msgspec.json.schema_components(
            [annotation], schema_hook=schema_of, ref_template="#/$defs/{name}"
        )
    except (TypeError, ValueError, AttributeError, NameError, NotImplementedError, RecursionError):
        return {}
    return inlined({**schema, "$defs": definitions})


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Replaces references by what they name; one to what it is part of itself is an object of which no more is told."""
    definitions = schema.get("$defs", {})

    def walk(node: Any, inside: tuple[str, ...] = ()) -> Any:
        if isinstance(node, list):
            return [walk(item, inside) for item in node]
        if not isinstance(node, dict):
            return node
        rest = {
            key: walk(value, inside) for key, value in node.items() if key not in ("$ref", "$defs", "discriminator")
        }
        reference = node.get("$ref")
        if not isinstance(reference, str):
            return rest
        name = reference.rpartition("/")[2]
        if name in inside:
            return {"type": "object", **rest}
        return {**walk(definitions.get(name, {}), (*inside, name)), **rest}

    result = walk(schema)
    assert isinstance(result, dict)
    if "type" not in result and result.get("enum"):
        result = {**_choice(tuple(result["enum"])), **result}
    return result
