"""The settings of a conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Settings"]


@dataclass
class Settings:
    """What the user has set, by options of the command or by ``/set``."""

    model: str
    system: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    format: Any = None
    think: bool | str | None = None
    verbose: bool = False
    raw: bool = False
    hide_thinking: bool = False
    progress: bool = False
