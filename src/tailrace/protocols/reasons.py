"""Reasons: why a model stopped, in the words of the servers, and which of them are a success.

A word that is not known is none: servers say ``error`` and ``abort`` (vLLM, `vllm/v1/engine/__init__.py`) here too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.events import Ended, Fault, Outcome, Usage

__all__ = ["ended_for", "graver", "reason_of"]

_COMPLETE = frozenset(
    (
        "",  # not told
        *("stop", "tool_calls", "function_call", "content_filter"),  # openai/openai-python, chat_completion_chunk.py
        *("load", "unload"),  # ollama/ollama, server/routes.go
        *("eos", "eos_token", "stop_sequence"),  # huggingface/text-generation-inference, router/src/lib.rs; Together
        *("end_turn", "tool_use"),  # Anthropic's words, which some proxies hand on
    )
)
_LENGTH = frozenset(
    (
        "length",
        *("max_tokens", "model_length"),  # Anthropic's; Mistral's
    )
)
_SHOWN = 100  # characters of a reason that nobody knows


def reason_of(value: Any) -> str | None:
    """Returns a server's word for why it stopped; None if it gave none. SGLang gives some as ``{"type": …}``."""
    if value is None or value == "":
        return None
    if isinstance(value, dict) and isinstance(value.get("type"), str):
        value = value["type"]
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def graver(one: str | None, other: str | None) -> str | None:
    """Returns which of two words for one ending counts: a failure more than a cut, and that more than a success.

    Servers that failed may still send what always comes last.
    """
    return max(other, one, key=_gravity) if one and other else one or other


def _gravity(reason: str) -> int:
    word = reason.lower()
    return 0 if word in _COMPLETE else 1 if word in _LENGTH else 2


def ended_for(
    reason: str,
    *,
    usage: Usage | None = None,
    warnings: tuple[str, ...] = (),
    context: list[int] | None = None,
    image: str | None = None,
) -> Ended:
    """Returns the ending that a server's word for it means: a failure unless it is known to be a success."""
    word = reason.lower()
    if word in _COMPLETE or word in _LENGTH:
        outcome = Outcome.LENGTH if word in _LENGTH else Outcome.COMPLETE
        return Ended(outcome, reason, usage=usage, warnings=warnings, context=context, image=image)
    message = f"the server ended the answer with the reason {reason!r}, which is not known as a success"
    return Ended(Outcome.FAILED, reason, Fault("ResponseError", message), usage, warnings)
