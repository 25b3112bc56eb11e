"""Messages in Ollama's form as OpenAI's protocol writes them.

Ollama's form is that of `api/types.go` in ollama/ollama: images are base64 beside the text, a call's arguments are an
object, and a tool's answer is paired with its call by name and order. OpenAI's form is that of `types/chat` in
openai/openai-python (`chat_completion_message_param.py`): images are parts of the content, arguments are a string of
JSON, and both the call and its answer carry an id.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

__all__ = ["messages_from_ollama"]

_IMAGES = {b"\x89PNG": "png", b"\xff\xd8": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


def messages_from_ollama(messages: Iterable[Mapping[str, Any]], *, tool_names: bool = False) -> list[dict[str, Any]]:
    """Returns the messages in OpenAI's form; what that form has no place for is left out.

    Args:
        messages: in Ollama's form, as JSON types.
        tool_names: also give a tool's answer the name of the tool, which templates of llama.cpp read.
    """
    out: list[dict[str, Any]] = []
    unanswered: list[tuple[str, str]] = []  # id and function of calls that no tool has answered yet
    for number, message in enumerate(messages):
        made = _message(message, number)
        calls = [(call["id"], call["function"]["name"]) for call in made.get("tool_calls", ())]
        unanswered = [*calls, *unanswered]  # an answer belongs to the latest message with such a call
        if made["role"] == "tool":
            id, name = _answered(message, unanswered)
            made |= {"tool_call_id": id} if id else {}
            made |= {"name": name} if name and tool_names else {}
        out.append(made)
    return out


def _message(message: Mapping[str, Any], number: int) -> dict[str, Any]:
    role = str(message.get("role") or "user").lower()
    out: dict[str, Any] = {"role": role, "content": message.get("content") or ""}
    if images := message.get("images"):
        out["content"] = [*_text_part(out["content"]), *map(_image_part, images)]
    if role == "assistant" and message.get("thinking"):
        out["reasoning_content"] = message["thinking"]
    if calls := message.get("tool_calls"):
        out["tool_calls"] = [_call(f"call_{number}_{index}", call) for index, call in enumerate(calls)]
    return out


def _answered(message: Mapping[str, Any], unanswered: list[tuple[str, str]]) -> tuple[str, str]:
    """Finds the call that a tool's answer belongs to: by id, else by name, else the first one.

    Returns:
        The call's id and the tool's name; empty what is not known.
    """
    id, name = message.get("tool_call_id"), message.get("tool_name")
    found = next((call for call in unanswered if call[0] == id), None)
    found = found or next((call for call in unanswered if call[1] == name), None)
    if found is None and unanswered and not (id or name):
        found = unanswered[0]
    if found:
        unanswered.remove(found)
    called = found or ("", "")
    return id or called[0], name or called[1]


def _call(id: str, call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return {
        "id": call.get("id") or id,
        "type": "function",
        "function": {"name": function.get("name", ""), "arguments": text},
    }


def _text_part(text: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []


def _image_part(image: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/{_kind(image)};base64,{image}"}}


def _kind(image: str) -> str:
    """Returns the kind of an image by its first bytes; PNG if they tell nothing."""
    try:
        head = base64.b64decode(image[:16] + "==")
    except ValueError:  # it is not base64, and whoever reads it will say so
        return "png"
    return next((kind for start, kind in _IMAGES.items() if head.startswith(start)), "png")
