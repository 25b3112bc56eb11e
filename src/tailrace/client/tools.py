"""Tools from functions: the JSON Schema of a Python function, from its annotations and its Google-style docstring."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from tailrace.errors import RequestError
from tailrace.types import Tool, ToolFunction, ToolParameters, plain

__all__ = ["tool_from_function", "tool_of"]

_BLOCK = re.compile(r"\s*(args|arguments|parameters|returns?|yields?|raises|examples?)\s*:", re.IGNORECASE)
_ARGUMENT = re.compile(r"\s*\*{0,2}(?P<name>\w+)\s*(?:\((?P<type>[^)]*)\))?\s*:\s*(?P<text>.*)")


def tool_of(tool: Any) -> dict[str, Any]:
    """Returns a tool as JSON types: a function, a `Tool`, a pydantic model of one, or a mapping.

    Raises:
        RequestError: it is none of them.
    """
    if isinstance(tool, (Tool, Mapping)) or hasattr(tool, "model_dump"):
        result = plain(tool)
        if isinstance(result, dict):
            if "function" in result:
                result.setdefault("type", "function")
            return result
    elif callable(tool):
        result = plain(tool_from_function(tool))
        assert isinstance(result, dict)
        return result
    raise RequestError(f"a tool is a function, a Tool or a dict, not {type(tool).__name__}")


def tool_from_function(function: Callable[..., Any]) -> Tool:
    """Returns the tool that a function is.

    Each parameter's type comes from its annotation (none means string; a union names all of them, joined by commas;
    an optional one is not required), its text from the docstring's ``Args:`` block. As in ollama-python a parameter
    with a default stays required; what that one drops (``enum``, ``items``, nested properties) is kept.

    Raises:
        RequestError: it has no name, or does not tell its parameters.
    """
    name = getattr(function, "__name__", "")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # many builtins have none
        signature = None
    if not name or signature is None:
        raise RequestError(f"a tool is a function with a name and parameters, not {function!r}")
    doc, arguments = _docstring(inspect.getdoc(function) or "")
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # annotations that do not resolve are as good as none
        hints = {}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for argument, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(argument, str if parameter.annotation is parameter.empty else parameter.annotation)
        schema, optional = _schema(annotation)
        properties[argument] = {"type": "string", **schema, "description": arguments.get(argument, "")}
        if not optional:
            required.append(argument)
    parameters = ToolParameters(properties=properties, required=required)
    return Tool(function=ToolFunction(name=name, description=doc, parameters=parameters))


def _schema(annotation: Any) -> tuple[dict[str, Any], bool]:
    """Returns the JSON Schema of an annotation, and whether None is among its values."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _schema(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = typing.get_args(annotation)
        others = [member for member in members if member is not type(None)]
        schemas = [_schema(member)[0] for member in others]
        if len(schemas) == 1:
            return schemas[0], len(others) < len(members)
        names = {name: None for schema in schemas for name in str(schema.get("type", "string")).split(", ")}
        return {"type": ", ".join(sorted(names))}, len(others) < len(members)
    try:
        schema = msgspec.json.schema(annotation, ref_template="#/$defs/{name}")
    except (TypeError, ValueError, AttributeError):
        return {"type": "string"}, False
    return _inlined(schema), False


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Replaces references by what they name: model templates do not follow them."""
    definitions = schema.pop("$defs", {})

    def walk(node: Any, depth: int = 0) -> Any:
        if isinstance(node, dict):
            name = node.get("$ref", "")
            if name and depth < 8:
                return walk(definitions.get(name.rpartition("/")[2], {}), depth + 1)
            return {key: walk(value, depth) for key, value in node.items() if key != "$ref"}
        return [walk(item, depth) for item in node] if isinstance(node, list) else node

    result = walk(schema)
    assert isinstance(result, dict)
    if "type" not in result and result.get("enum"):
        kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
        result["type"] = kinds.get(type(result["enum"][0]), "string")
    return result


def _docstring(text: str) -> tuple[str, dict[str, str]]:
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


def tools_of(tools: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Returns tools as JSON types."""
    return [tool_of(tool) for tool in tools or ()]
