"""The program: Python, the packages it needs, and the disk under its data folder."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from tailrace import __version__
from tailrace.backends.embedded import models
from tailrace.cli.checks.finding import Finding
from tailrace.i18n import say
from tailrace.terminal.figures import size

__all__ = ["disk", "program"]

_ROOM = 2 * models.DEFAULT_SIZE  # the wheel, and the model taken out of it


async def program() -> Finding:
    """Versions of Python, of the platform, of tailrace and its packages."""
    packages = await asyncio.to_thread(_packages)
    facts: dict[str, Any] = {
        "tailrace": __version__,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "packages": packages,
    }
    here = ", ".join(f"{name} {number}" for name, number in packages.items() if number)
    words = f"tailrace {__version__}, Python {facts['python']}, {facts['platform']}; {here}"
    missing = [name for name, number in packages.items() if number is None]
    if missing:
        words = f"{words}; {say('doctor.packages_missing', names=', '.join(missing))}"
    return Finding(name="program", mark="ok", seen=words, facts=facts)


def _packages() -> dict[str, str | None]:
    """Returns the version of each package that tailrace names; None for those that are not installed."""
    try:
        wanted = requires("tailrace") or []
    except PackageNotFoundError:  # run from its sources
        wanted = ["httptools", "msgspec", "click", "platformdirs", "xllamacpp"]
    names = dict.fromkeys(match[0] for text in wanted if (match := re.match(r"[A-Za-z0-9._-]+", text)))
    names.pop("tailrace", None)
    return {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


async def disk() -> Finding:
    """The room in the data folder, and whether it can be written to."""
    return await asyncio.to_thread(_disk)


def _disk() -> Finding:
    folder = models.data_dir()
    free = models.free_bytes(folder)
    nearest = _nearest(folder)
    writable = nearest.is_dir() and os.access(nearest, os.W_OK)
    facts = {"folder": str(folder), "free": free, "writable": writable}
    words = say("doctor.disk", folder=folder, size=size(free))
    if not writable:
        return Finding(
            name="disk",
            mark="problem",
            seen=say("doctor.read_only", folder=folder),
            do=say("doctor.elsewhere"),
            facts=facts,
        )
    if free < _ROOM and not models.default_path().exists():
        return Finding(
            name="disk", mark="problem", seen=words, do=say("doctor.make_room", size=size(_ROOM)), facts=facts
        )
    return Finding(name="disk", mark="ok", seen=words, facts=facts)


def _nearest(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
