"""Places: the paths of saved conversations and of the history, which only their user can read."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["conversation", "conversations", "lost", "make_folder", "names", "state_dir"]


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


def make_folder(folder: Path) -> None:
    """Makes a folder if it is not there. Ours only their user can enter, whatever the umask, and who made them.

    Raises:
        OSError: it cannot be made.
    """
    top = state_dir()
    ours = [each for each in (folder, *folder.parents) if each == top or top in each.parents]
    for each in reversed(ours):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and each.stat().st_mode & 0o777 != 0o700:
            each.chmod(0o700)
    folder.mkdir(parents=True, exist_ok=True)


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
