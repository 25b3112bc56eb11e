"""Places: the paths of saved conversations and of the history."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["conversation", "conversations", "lost", "names", "state_dir"]


def state_dir() -> Path:
    """Returns the folder of our state: ``TAILRACE_HOME``/state, else the user's state folder; it may not exist yet."""
    home = os.environ.get("TAILRACE_HOME")
    if home:
        return Path(home).expanduser().absolute() / "state"
    import platformdirs

    return Path(platformdirs.user_state_dir("tailrace", appauthor=False))


def conversations() -> Path:
    """Returns the folder of saved conversations."""
    return state_dir() / "conversations"


def conversation(name: str) -> Path:
    """Returns the file that `name` means: a path if it looks like one, else one of ours."""
    if name.endswith(".json") or os.sep in name or "/" in name or name.startswith(("~", ".")):
        return Path(name).expanduser()
    return conversations() / f"{name}.json"


def lost() -> Path:
    """Returns a new file for a conversation whose terminal went away."""
    return conversations() / f"{time.strftime('closed-%Y%m%d-%H%M%S')}-{os.getpid()}.json"


def names() -> list[str]:
    """Returns the names of the saved conversations, the newest first."""
    try:
        files = sorted(conversations().glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    except OSError:
        return []
    return [file.stem for file in files]
