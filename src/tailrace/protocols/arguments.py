"""The arguments of a tool call that come as text."""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.protocols import faults

__all__ = ["arguments_of"]


def arguments_of(text: str) -> tuple[dict[str, Any], str | None]:
    """Returns a call's arguments, and their text if that is no JSON object."""
    text = str(faults.whole(text))
    try:
        arguments = msgspec.json.decode(text) if text.strip() else {}
    except (ValueError, RecursionError):
        arguments = None
    return (arguments, None) if isinstance(arguments, dict) else ({}, text)
