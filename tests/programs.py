"""Programs that tests drive: a test whose program is missing skips with the line that installs it; in CI it fails."""

from __future__ import annotations

import os
import shutil

import pytest

_INSTALL = {
    "chromium": "apt-get install chromium",
    "node": "apt-get install nodejs npm",
    "npm": "apt-get install nodejs npm",
    "nginx": "apt-get install nginx-light",
    "tmux": "apt-get install tmux",
    "xclip": "apt-get install xclip",
}


def need(*names: str) -> str:
    """Returns the path of a program; of the first of several that is here."""
    for name in names:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin")  # where not everybody looks
        if path is not None:
            return path
    text = f"{' or '.join(names)} is not here: {_INSTALL.get(names[-1], 'install it')}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)
