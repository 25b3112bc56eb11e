"""A conversation as a document: Markdown for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tailrace.i18n import say

__all__ = ["markdown"]


def markdown(model: str, system: str | None, messages: Sequence[dict[str, Any]]) -> str:
    """Returns the conversation as Markdown."""
    parts = [f"# {model}"]
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


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"
