"""Tools from functions: the JSON Schema of a Python function, from its annotations and its docstring."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from tailrace.client.annotations import hints_of, is_union, meant
from tailrace.client.docstrings import read_docstring
from tailrace.client.schemas import description_of, schema_of
from tailrace.errors import RequestError
from tailrace.types import Tool, ToolFunction, ToolParameters, ToolProperty, plain

__all__ = ["tool_from_function", "tool_of", "tools_of"]

_SAYS_THE_TYPE = frozenset(("type", "anyOf", "oneOf", "allOf", "enum", "const"))


def tools_of(tools: Any) -> list[dict[str, Any]]:
    """Returns tools as JSON types; one alone is a list of one.

    Raises:
        RequestError: one of them is none.
    """
    if tools is None:
        return []
    if isinstance(tools, (str, bytes)):
        raise RequestError(f"tools is a list of functions, Tools or dicts, not {type(tools).__name__}")
    if isinstance(tools, (Tool, Mapping)) or callable(tools) or not hasattr(tools, "__iter__"):
        return [tool_of(tools)]
    return [tool_of(tool) for tool in tools]


def tool_of(tool: Any) -> dict[str, Any]:
    """Returns a tool as JSON types: a function, a `Tool`, a pydantic model of one, or a mapping.

    Raises:
        RequestError: it is none of them.
    """
    if isinstance(tool, (Tool, Mapping)) or hasattr(tool, "model_dump"):
        result = _plain(tool)
        if isinstance(result, dict):
            if "function" in result:
                result.setdefault("type", "function")
            return result
    elif callable(tool):
        result = plain(tool_from_function(tool))
        assert isinstance(result, dict)
        return result
    raise RequestError(f"a tool is a function, a Tool or a dict, not {type(tool).__name__}")


def _plain(tool: Any) -> Any:
    try:
        return plain(tool)
    except TypeError as error:
        raise RequestError(f"a tool holds something that is not JSON: {error}") from error


def tool_from_function(function: Callable[..., Any]) -> Tool:
    """Returns the tool that a function is.

    Each parameter's schema comes from its annotation: none means a text, and what may be None is not required. Its
    description is that of an ``Annotated[…]``, or what the docstring says of it in Google's, NumPy's, Sphinx's or
    Epydoc's form. As in ollama-python a parameter with a default stays required; what that one drops (choices, items,
    nested properties, limits, the default itself) is kept, and what may be of several types is ``anyOf``.

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
    doc, arguments = read_docstring(inspect.getdoc(function) or "")
    hints = hints_of(function)
    properties: dict[str, Any] = {}
    required: list[str] = []
    for argument, parameter in signature.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        annotation = hints.get(argument, str if parameter.annotation is parameter.empty else parameter.annotation)
        if type(parameter.default).__module__.partition(".")[0] == "pydantic":  # f(a: int = Field(description=…))
            annotation = typing.Annotated[annotation, parameter.default]
        schema, optional = _schema(annotation)
        text = description_of(annotation) or arguments.get(argument, "") or schema.get("description", "")
        typed = schema if _SAYS_THE_TYPE & schema.keys() else {"type": "string", **schema}
        properties[argument] = ToolProperty({**typed, **_default(parameter.default), "description": text})
        if not optional:
            required.append(argument)
    parameters = ToolParameters(properties=properties, required=required)
    return Tool(function=ToolFunction(name=name, description=doc, parameters=parameters))


def _schema(annotation: Any) -> tuple[dict[str, Any], bool]:
    """Returns the JSON Schema of an annotation without None, and whether None is among its values."""
    annotation = meant(annotation)
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *metadata = typing.get_args(annotation)
        if is_union(inner) and type(None) in typing.get_args(inner):
            others = _without_none(inner)
            if others is not types.NoneType:
                return schema_of(typing.Annotated[(others, *metadata)]), True
    if is_union(annotation) and type(None) in typing.get_args(annotation):
        return schema_of(_without_none(annotation)), True
    return schema_of(annotation), False


def _without_none(union: Any) -> Any:
    others = tuple(member for member in typing.get_args(union) if member is not types.NoneType)
    return typing.Union[others]  # noqa: UP007


def _default(default: Any) -> dict[str, Any]:
    """Returns the default as a schema tells it; None and what is not JSON are not told."""
    if default is None or default is inspect.Parameter.empty or default is ...:
        return {}
    if isinstance(default, float) and not math.isfinite(default):
        return {}
    if type(default).__module__.partition(".")[0] == "pydantic":
        default = getattr(default, "default", None)
        return {} if type(default).__module__.partition(".")[0] == "pydantic_core" else _default(default)
    try:
        return {"default": plain(default)}
    except TypeError:
        return {}
