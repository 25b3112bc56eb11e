"""A conversation as a document: Markdown for people, JSON for programs (`tailrace.StreamingChat.load` reads it)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tailrace.i18n import say

__all__ = ["FORMAT", "document", "markdown"]

FORMAT = 1  # what a file of a conversation says of itself


def markdown(title: str, system: str | None, messages: Iterable[dict[str, Any]]) -> str:
    """Returns a conversation as Markdown.

    Args:
        title: the heading.
        system: the system prompt.
        messages: in Ollama's form, an interrupted one with our mark (``"interrupted": <outcome>``).
    """
    parts = [f"# {title}"]
    if system:
        parts.append(_section(say("repl.export_system"), system))
    for message in messages:
        name = {"user": say("repl.export_user"), "assistant": say("repl.export_assistant")}.get(
            message["role"], message["role"]
        )
        body = []
        if message.get("thinking"):
            body.append("\n".join(f"> {line}".rstrip() for line in str(message["thinking"]).splitlines()))
        if message.get("content"):
            body.append(str(message["content"]).strip("\n"))
        calls = message.get("tool_calls") or ()
        body += ["```json\n" + json.dumps(call, ensure_ascii=False, indent=2) + "\n```" for call in calls]
        if "interrupted" in message:
            body.append(f"*{say('mark.stopped')}*")
        parts.append(_section(name, "\n\n".join(body)))
    return "\n\n".join(parts) + "\n"


def document(
    model: str,
    system: str | None,
    messages: Iterable[dict[str, Any]],
    nodes: Sequence[tuple[int | None, dict[str, Any]]],
    at: int | None,
    **more: Any,
) -> bytes:
    """Returns a conversation with all its branches as JSON.

    Args:
        model: the model that answers.
        system: the system prompt.
        messages: the branch one sees, as for `markdown`.
        nodes: all messages, each after its parent, with the place of its parent among them.
        at: the place of the last message of the branch one sees.
        more: what else the file is to hold; programs that do not know it pass it over.
    """
    sent = [{"role": "system", "content": system}] if system else []
    data = {"tailrace": FORMAT, "model": model, "messages": [*sent, *messages], "tree": {"nodes": nodes, "at": at}}
    return msgspec.json.format(msgspec.json.encode(data | more), indent=2) + b"\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"
