"""Messages from Ollama's form to OpenAI's."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tailrace.protocols.openai.from_ollama import messages_from_ollama


def calls(*names: str) -> dict[str, Any]:
    """An assistant's message that calls functions, without ids."""
    return {"role": "assistant", "tool_calls": [{"function": {"name": name}} for name in names]}


def answered(messages: list[dict[str, Any]]) -> list[str | None]:
    """The ids of the calls that the tools' answers were paired with."""
    return [made.get("tool_call_id") for made in messages_from_ollama(messages) if made["role"] == "tool"]


def test_plain_messages() -> None:
    """Roles become lower case, a content that is missing empty; what OpenAI's form lacks is left out."""
    messages: list[dict[str, Any]] = [
        {"role": "System", "content": "s"},
        {"role": "user", "content": None, "tool_name": "f"},
        {},
    ]

    assert messages_from_ollama(messages) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": ""},
        {"role": "user", "content": ""},
    ]


def test_reasoning_is_fed_back() -> None:
    """The reasoning of the model's own messages goes back to it, and that of no others."""
    assistant, user = messages_from_ollama(
        [{"role": "assistant", "content": "4", "thinking": "2+2"}, {"role": "user", "content": "x", "thinking": "y"}]
    )

    assert assistant == {"role": "assistant", "content": "4", "reasoning_content": "2+2"}
    assert user == {"role": "user", "content": "x"}


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (base64.b64encode(b"\x89PNG\r\n").decode(), "png"),
        (base64.b64encode(b"\xff\xd8\xff\xe0" * 9).decode(), "jpeg"),
        (base64.b64encode(b"GIF89a").decode(), "gif"),
        (base64.b64encode(b"RIFF....WEBP").decode(), "webp"),
        ("QUJD", "png"),
        ("", "png"),
        ("é", "png"),
        ("A", "png"),
    ],
)
def test_the_kind_of_an_image(image: str, kind: str) -> None:
    """An image is told by its first bytes; what is no image is passed on all the same, as the server's to refuse."""
    (message,) = messages_from_ollama([{"role": "user", "content": "what?", "images": [image]}])

    assert message["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}},
    ]


def test_arguments_become_a_string() -> None:
    """Arguments become JSON text; those that are text already stay as they are."""
    functions = [{"name": "f", "arguments": {"城": 1}}, {"name": "g", "arguments": "{oops"}, {}]
    message = {
        "role": "assistant",
        "tool_calls": [{"id": "x", "function": functions[0]}, {"function": functions[1]}, {}],
    }

    (made,) = messages_from_ollama([message])

    assert made["tool_calls"] == [
        {"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"城":1}'}},
        {"id": "call_0_1", "type": "function", "function": {"name": "g", "arguments": "{oops"}},
        {"id": "call_0_2", "type": "function", "function": {"name": "", "arguments": "{}"}},
    ]


def test_answers_are_paired_with_calls() -> None:
    """By id, else by name, else in order; one that no call is left for has no id."""
    first = calls("f", "g", "f")
    first["tool_calls"][1]["id"] = "x"
    messages = [first, {"role": "tool", "tool_name": "f"}, {"role": "tool", "tool_call_id": "x"}, {"role": "tool"}]

    assert answered([*messages, {"role": "tool"}]) == ["call_0_0", "x", "call_0_2", None]


def test_answers_belong_to_the_latest_call() -> None:
    """A call that nobody answered does not take the answer of a later one, and can still be answered after it."""
    messages = [calls("f"), {"role": "user", "content": "go on"}, calls("f"), {"role": "tool"}, {"role": "tool"}]

    assert answered(messages) == ["call_2_0", "call_0_0"]


def test_names_of_tools() -> None:
    """The name of the tool is given only when it is asked for, whether the answer or its call has it."""
    messages = [calls("f", "g"), {"role": "tool"}, {"role": "tool", "tool_name": "g"}]

    named = messages_from_ollama(messages, tool_names=True)

    assert [message.get("name") for message in named] == [None, "f", "g"]
    assert not any("name" in message for message in messages_from_ollama(messages))
