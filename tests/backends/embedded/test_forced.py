"""A tool call that the model must make, in the embedded engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.backends.embedded.client import MODEL

from tailrace import Client, errors
from tailrace.backends.embedded import supervisor as supervisor_module
from tailrace.backends.embedded.forced import ForcedCall, required_tools, schema_of
from tailrace.backends.embedded.supervisor import Supervisor
from tailrace.events import Ended, Event, Outcome, TextDelta, ToolCall, ToolCallDelta
from tailrace.protocols.ollama.requests import OllamaAPIError

POINT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
F: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": POINT}}
G: dict[str, Any] = {"type": "function", "function": {"name": "g"}}
NAMED = {"type": "function", "function": {"name": "f"}}
END = Ended(Outcome.COMPLETE, "stop")


@pytest.mark.parametrize(
    ("choice", "expected"),
    [(None, []), ("auto", []), ("none", []), ("required", [F, G]), ("any", [F, G]), (NAMED, [F])],
    ids=str,
)
def test_which_tools(choice: Any, expected: list[Any]) -> None:
    """A word or a name says which tools must be called, or that none must."""
    assert required_tools([F, G], choice) == expected


@pytest.mark.parametrize("choice", ["always", 5, {"type": "function"}, {"type": "function", "function": {"name": "h"}}])
def test_choices_that_are_none(choice: Any) -> None:
    """A choice that names no tool is refused."""
    with pytest.raises(OllamaAPIError, match="tool_choice"):
        required_tools([F, G], choice)
    with pytest.raises(OllamaAPIError, match="tool_choice"):
        required_tools([], "required")


def test_schemas_keep_what_they_refer_to() -> None:
    """Definitions of each tool move to where references lead, apart from those of the others."""
    parameters = {"type": "object", "properties": {"a": {"$ref": "#/$defs/P"}}, "$defs": {"P": POINT}}
    tools = [{"function": {"name": name, "parameters": parameters}} for name in "fg"]

    schema = schema_of(tools)

    assert [call["properties"]["name"] for call in schema["anyOf"]] == [{"const": "f"}, {"const": "g"}]
    refers = [call["properties"]["arguments"]["properties"]["a"]["$ref"] for call in schema["anyOf"]]
    assert refers == ["#/$defs/0.P", "#/$defs/1.P"]
    assert schema["$defs"] == {"0.P": POINT, "1.P": POINT}


def said(text: str, size: int) -> list[Event]:
    call = ForcedCall()
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return [event for piece in pieces for event in call.events([TextDelta(piece)])] + call.events([END])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("arguments", [{}, {"x": 1}, {"s": '"}} ,{', "deep": {"a": {"b": [{}]}}}], ids=str)
def test_text_becomes_a_call(arguments: dict[str, Any], size: int) -> None:
    """The text is a call, in pieces that make up its arguments, wherever it is cut; nothing of it is text."""
    text = json.dumps({"name": 'f"x', "arguments": arguments}) + "\n"

    *pieces, call, end = said(text, size)

    assert call == ToolCall('f"x', arguments, "call", 0)
    assert end == END
    assert all(isinstance(piece, ToolCallDelta) for piece in pieces)
    assert json.loads("".join(piece.text for piece in pieces if isinstance(piece, ToolCallDelta))) == arguments
    assert [piece.name for piece in pieces if isinstance(piece, ToolCallDelta)][:1] == ['f"x']


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "f", "arguments": {"x": 1', ToolCall("f", {}, "call", 0, '{"x": 1')),
        ('{"na', TextDelta('{"na')),
    ],
)
def test_a_call_that_was_cut(text: str, expected: Event) -> None:
    """What came of a call that was cut is kept."""
    assert said(text, 3)[-2] == expected


@pytest.fixture
def engine(supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client of the session's engine."""
    monkeypatch.setattr(supervisor_module, "_shared", supervisor)
    return Client("embedded:")


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_the_engine_calls(engine: Client, choice: Any) -> None:
    """The default model, which knows nothing of tools, makes the call that it must make."""
    tools = [F] if choice == "required" else [G, F]
    stream = engine.chat(
        MODEL,
        [{"role": "user", "content": "Give me a number."}],
        tools=tools,
        stream=True,
        extra_body={"tool_choice": choice},
        options={"num_predict": 60, "temperature": 0},
    )
    events = list(stream.events())

    (call,) = [event for event in events if isinstance(event, ToolCall)]
    assert (call.name, sorted(call.arguments), call.invalid) == ("f", ["x"], None)
    assert not [event for event in events if isinstance(event, TextDelta)]


def test_the_engine_refuses(engine: Client) -> None:
    """A tool that is not there cannot be required, and a model without tools may not choose one."""
    for extra, words in (({"tool_choice": "required"}, "not among the tools"), ({}, "does not support tools")):
        tools = [] if extra else [F]
        with pytest.raises(errors.ResponseError, match=words):
            engine.chat(MODEL, [{"role": "user", "content": "x"}], tools=tools, extra_body=extra)
