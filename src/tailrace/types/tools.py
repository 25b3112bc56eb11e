"""Tools that a model may call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from tailrace.types.record import Record

__all__ = ["Tool", "ToolFunction", "ToolParameters", "ToolProperty"]


class ToolProperty(dict[str, Any]):
    """One parameter of a tool, as JSON Schema: a dict, whose members can be read as attributes.

    So every word of JSON Schema goes on the wire as it is. ``items`` is read as ``property["items"]``, for it is a
    method of dicts.
    """

    type: str | Sequence[str] | None
    description: str | None
    enum: Sequence[Any] | None

    def __init__(self, given: Mapping[str, Any] | None = None, /, **members: Any) -> None:
        super().__init__(given or {})
        self.update({name: value for name, value in members.items() if value is not None})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.get(name)

    def model_dump(self, **_: Any) -> dict[str, Any]:
        """Returns a plain dictionary (the name is pydantic's, for code written for ollama-python)."""
        return dict(self)


class ToolParameters(Record):
    """The parameters of a tool, as JSON Schema."""

    type: str | None = "object"
    defs: Any = msgspec.field(default=None, name="$defs")
    items: Any = None
    required: Sequence[str] | None = None
    properties: Mapping[str, Any] | None = None

    Property: ClassVar = ToolProperty

    def _prepare(self) -> None:
        """Makes records of the properties; called when parameters are made."""
        if isinstance(self.properties, Mapping):
            self.properties = {
                str(name): ToolProperty(each) if type(each) is dict else each for name, each in self.properties.items()
            }


class ToolFunction(Record):
    """The function that a tool is."""

    name: str | None = None
    description: str | None = None
    parameters: ToolParameters | None = None

    Parameters: ClassVar = ToolParameters


class Tool(Record):
    """A tool the model may call; plain dicts and Python functions do as well."""

    type: str | None = "function"
    function: ToolFunction | None = None

    Function: ClassVar = ToolFunction
