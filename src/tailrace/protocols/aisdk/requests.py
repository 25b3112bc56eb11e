"""Requests of the AI SDK's client: its UI messages as the messages of a conversation.

The parts are those of vercel/ai, ``packages/ai/src/ui/ui-messages.ts``. Each kind is either
converted or left out on purpose:

- ``text`` and ``reasoning`` are text and thinking; ``step-start`` begins another message of the assistant's.
- ``file`` of a user's is an image, as a data URL; another kind, or an address, is refused. One of the assistant's is
  something that it showed, and is left out.
- ``tool-NAME`` and ``dynamic-tool`` are a call and its result, once there is one. A call without a result (its input
  still came, or nobody has answered or approved it) is left out: no model goes on well from it.
- ``source-url``, ``source-document`` and ``data-NAME`` are for display; they are left out, as are unknown parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest, parse_json

__all__ = ["ChatBody", "run_request_of"]


class Part(msgspec.Struct, rename="camel"):
    """A part of a message."""

    type: str
    text: str = ""
    state: str = ""
    media_type: str = ""
    url: str = ""
    tool_call_id: str = ""
    tool_name: str = ""
    input: Any = None
    output: Any = None
    error_text: str = ""
    preliminary: bool = False


class UIMessage(msgspec.Struct):
    """A message as the client keeps it."""

    role: str
    parts: list[Part]
    id: str = ""


class ChatBody(msgspec.Struct, kw_only=True):
    """The body of ``/ai/chat``: what `DefaultChatTransport` sends, and what its ``body`` option may add to it.

    Attributes:
        id: the chat's id.
        messages: the whole conversation.
        message_id: the message that the request is about.
    """

    id: str
    messages: list[UIMessage]
    message_id: str | None = msgspec.field(default=None, name="messageId")
    model: str = ""
    system: str | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    format: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    keep_alive: float | str | None = None

    @property
    def goes_on(self) -> str:
        """The id of the assistant's message that the answer goes on with; empty if it is one of its own."""
        last = self.messages[-1]
        about = next((message for message in self.messages if message.id == self.message_id), last)
        return about.id if about.role == "assistant" else ""


def run_request_of(data: bytes) -> tuple[ChatBody, RunRequest]:
    """Returns a request's body, and what it asks for.

    Raises:
        ProblemError: 400: it is not one.
    """
    body: ChatBody = parse_json(data, ChatBody)
    if not body.messages:
        raise ProblemError(400, "there is no message")
    given = {name: getattr(body, name) for name in ("options", "think", "format", "tools", "keep_alive")}
    messages = [each for message in body.messages for each in _messages(message)]
    return body, RunRequest(model=body.model, system=body.system, messages=messages, **given)


def _messages(message: UIMessage) -> Iterator[dict[str, Any]]:
    if message.role == "assistant":
        yield from _assistants(message.parts)
        return
    if message.role not in ("system", "user"):
        raise ProblemError(400, f"the role of a message is system, user or assistant, not {message.role[:40]!r}")
    out: dict[str, Any] = {"role": message.role, "content": "".join(_texts(message.parts, "text"))}
    images = [_image(part) for part in message.parts if part.type == "file"]
    if images:
        out["images"] = images
    yield out


def _texts(parts: list[Part], type: str) -> Iterator[str]:
    return (part.text for part in parts if part.type == type)


_DATA_URL = re.compile(r"data:image/[^,;]*(?:;[^,;]+)*;base64,", re.IGNORECASE)


def _image(part: Part) -> str:
    head = _DATA_URL.match(part.url[:200])
    if head is None:
        kind = part.media_type[:40] or "unknown"
        hint = "a file is an image as a data URL; no address is fetched from here"
        raise ProblemError(400, f"a file of the type {kind} is not supported here", hint=hint)
    return part.url[head.end() :]


# -- the assistant's ---------------------------------------------------------------------------------------------------


def _assistants(parts: list[Part]) -> Iterator[dict[str, Any]]:
    """Yields one message for each step, and the results of its calls after it."""
    step: list[Part] = []
    called = False
    for part in parts:
        if part.type == "step-start" or (called and part.type in ("text", "reasoning")):
            yield from _step(step)
            step, called = [], False
        step.append(part)
        called = called or _is_tool(part)
    yield from _step(step)


def _is_tool(part: Part) -> bool:
    return part.type.startswith("tool-") or part.type == "dynamic-tool"


def _step(parts: list[Part]) -> Iterator[dict[str, Any]]:
    calls = [part for part in parts if _is_tool(part) and _result(part) is not None]
    text, thinking = "".join(_texts(parts, "text")), "".join(_texts(parts, "reasoning"))
    if not (text or thinking or calls):
        return
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = [
            {"id": call.tool_call_id, "function": {"name": _name(call), "arguments": _arguments(call)}}
            for call in calls
        ]
    yield message
    for call in calls:
        content = _result(call)
        yield {"role": "tool", "content": content, "tool_name": _name(call), "tool_call_id": call.tool_call_id}


def _name(call: Part) -> str:
    return call.tool_name if call.type == "dynamic-tool" else call.type.removeprefix("tool-")


def _arguments(call: Part) -> dict[str, Any]:
    return call.input if isinstance(call.input, dict) else {}


def _result(call: Part) -> str | None:
    """Returns what a call came to, as the model is told; None if it has not come to anything yet."""
    if call.state == "output-error":
        return call.error_text or "the tool failed"
    if call.state == "output-denied":
        return "the user did not allow this call"
    if call.state != "output-available" or call.preliminary:
        return None
    return call.output if isinstance(call.output, str) else msgspec.json.encode(call.output).decode()
