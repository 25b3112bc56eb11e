"""A tool call that the model must make: ``tool_choice`` of OpenAI's protocol, which Ollama's has not.

llama.cpp builds a grammar for a schema, and for a ``tool_choice`` too where it knows how the model's template writes a
call; where it does not, ``required`` is passed over without a word (observed with xllamacpp 2026.10). So the schema is
ours, of an object with a name and arguments, and what the model says by it is taken for a call. That works with every
model, also with one whose template has no tools: it is told of them in the system's words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tailrace.events import Ended, Event, TextDelta, ToolCall, ToolCallDelta
from tailrace.protocols.ollama.requests import OllamaAPIError

__all__ = ["ForcedCall", "instruction", "required_tools", "schema_of"]

Tool = dict[str, Any]


def required_tools(tools: Sequence[Tool] | None, choice: Any) -> list[Tool]:
    """Returns the tools one of which must be called; none if the model may choose.

    Raises:
        OllamaAPIError: 400: there is no such tool.
    """
    if choice in (None, "auto", "none"):
        return []
    named = None
    if isinstance(choice, dict):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, dict) else choice.get("name")
    if not isinstance(named, str) and choice not in ("required", "any"):
        raise OllamaAPIError(400, 'tool_choice is "auto", "none", "required" or names a function')
    found = [tool for tool in tools or () if named is None or _function(tool).get("name") == named]
    if not found:
        what = "a tool" if named is None else f"the tool {named[:100]!r}"
        raise OllamaAPIError(400, f"tool_choice requires {what}, which is not among the tools")
    return found


def schema_of(tools: Sequence[Tool]) -> dict[str, Any]:
    """Returns the schema of a call of one of the tools."""
    definitions: dict[str, Any] = {}
    calls = [_call(number, _function(tool), definitions) for number, tool in enumerate(tools)]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return {**schema, "$defs": definitions} if definitions else schema


def _call(number: int, function: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters")
    parameters = dict(parameters) if isinstance(parameters, dict) else {}
    for place in ("$defs", "definitions"):  # what is referred to is looked for from the root of the whole schema
        for name, part in (parameters.pop(place, None) or {}).items():
            definitions[f"{number}.{name}"] = _moved(part, number)
    arguments = {"type": "object", **_moved(parameters, number)}
    properties = {"name": {"const": str(function.get("name") or "")}, "arguments": arguments}
    return {"type": "object", "properties": properties, "required": ["name", "arguments"]}


def _moved(part: Any, number: int) -> Any:
    """Returns a part of a tool's schema whose references lead to where its definitions are now."""
    if isinstance(part, list):
        return [_moved(each, number) for each in part]
    if not isinstance(part, dict):
        return part
    moved = {name: _moved(value, number) for name, value in part.items()}
    if isinstance(reference := part.get("$ref"), str):
        moved["$ref"] = re.sub(r"^#/(?:\$defs|definitions)/", f"#/$defs/{number}.", reference)
    return moved


def _function(tool: Tool) -> dict[str, Any]:
    function = tool.get("function")
    return function if isinstance(function, dict) else {}


def instruction(tools: Sequence[Tool]) -> str:
    """Returns what tells a model of its tools whose template cannot."""
    told = "\n".join(msgspec.json.encode(_function(tool)).decode() for tool in tools)
    return f'Answer by calling a function, as {{"name": …, "arguments": {{…}}}}. The functions:\n{told}'


_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')
_END = "} \t\r\n"


class ForcedCall:
    """Takes the text of an answer for a call, piece by piece."""

    def __init__(self) -> None:
        self._text = ""
        self._name = ""
        self._start = 0  # where the arguments begin, once that is known
        self._told = 0  # up to where they have been told

    def events(self, events: Sequence[Event]) -> list[Event]:
        """Returns an answer's events with the call in place of the text."""
        out: list[Event] = []
        for event in events:
            if isinstance(event, TextDelta):
                self._text += event.text
                out += self._piece()
            elif isinstance(event, Ended):
                out += [*self._whole(), event]
            else:
                out.append(event)
        return out

    def _piece(self) -> list[Event]:
        first = not self._start
        if first:
            head = _HEAD.match(self._text)
            if head is None:
                return []
            self._name, self._start = msgspec.json.decode(head[1], type=str), head.end()
            self._told = self._start
        end = len(self._text.rstrip(_END))  # what may be the end of the whole is not told yet
        piece = self._text[self._told : end]
        self._told = max(self._told, end)
        if not piece and not first:
            return []
        return [ToolCallDelta(piece, 0, self._name if first else "", "call" if first else None)]

    def _whole(self) -> list[Event]:
        try:
            call = msgspec.json.decode(self._text)
            name, arguments = call["name"], call["arguments"]
        except (msgspec.MsgspecError, KeyError, TypeError):  # it was cut: what came is what there is
            return [ToolCall(self._name, {}, "call", 0, self._text[self._start :])] if self._start else self._rest()
        last = self._text.rstrip().removesuffix("}").rstrip()[self._told :]
        rest: list[Event] = [ToolCallDelta(last, 0)] if last and self._start else []
        return [*rest, ToolCall(name, arguments, "call", 0)]

    def _rest(self) -> list[Event]:
        return [TextDelta(self._text)] if self._text else []
