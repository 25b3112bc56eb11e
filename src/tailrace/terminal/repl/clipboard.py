"""The clipboard: through the terminal (OSC 52), and through the system's own program where there is one."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable

__all__ = ["copy"]

_PROGRAMS = (
    ("pbcopy", ""),
    ("wl-copy", "WAYLAND_DISPLAY"),
    ("xclip -selection clipboard", "DISPLAY"),
    ("clip", ""),
)
_LONGEST = 74_994  # bytes that terminals take by OSC 52 (100,000 of base64, less what surrounds it)
_PATIENCE = 5.0


def copy(text: str, draw: Callable[[str], object] | None) -> bool:
    """Puts `text` on the clipboard.

    Args:
        text: what to put there.
        draw: takes control characters for the terminal; None if it obeys none.

    Returns:
        whether anybody was there to take it.
    """
    data = text.encode("utf-8", "replace")
    done = _by_program(data)
    if draw is not None and len(data) <= _LONGEST:
        draw(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
        done = True
    return done


def _by_program(data: bytes) -> bool:
    for line, needs in _PROGRAMS:
        name, *arguments = line.split()
        if (needs and not os.environ.get(needs)) or (name == "clip" and sys.platform != "win32"):
            continue
        path = shutil.which(name)
        if path is None:
            continue
        try:
            # xclip stays behind to serve the clipboard: it must not hold our output open.
            subprocess.run(
                [path, *arguments],
                input=data.decode().encode("utf-16-le") if name == "clip" else data,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_PATIENCE,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return True
    return False
