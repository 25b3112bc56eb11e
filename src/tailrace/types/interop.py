"""Records as fields and as response types of pydantic's models and FastAPI's. Only pydantic imports this module."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic_core import core_schema

from tailrace.types.dumping import Manner, dumped

__all__ = ["core_schema_of", "json_schema_of"]


def core_schema_of(cls: Any) -> Any:
    """Returns how pydantic validates and writes such records: as we do ourselves."""
    return core_schema.no_info_plain_validator_function(
        cls.model_validate,
        serialization=core_schema.plain_serializer_function_ser_schema(_written, info_arg=True),
    )


def _written(record: Any, info: Any) -> Any:
    if not hasattr(record, "__struct_fields__"):  # put there past all validation
        return record
    manner = Manner(
        json=info.mode == "json",
        by_alias=bool(info.by_alias),
        exclude_none=info.exclude_none or info.exclude_unset,
        exclude_defaults=info.exclude_defaults,
    )
    return dumped(record, manner, info.include, info.exclude)


def json_schema_of(cls: Any) -> dict[str, Any]:
    """Returns the JSON Schema, whole in itself: pydantic numbers the definitions of a document by its own rules."""
    (schema,), definitions = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    inside: dict[str, Any] = {}

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(item) for item in node]
        if not isinstance(node, dict):
            return node
        name = node.get("$ref", "").rpartition("/")[2]
        if not name:
            return {key: walk(value) for key, value in node.items()}
        return inside.setdefault(name, walk(definitions[name]))  # no record holds another of its own kind

    made = walk(schema)
    assert isinstance(made, dict)
    return made
