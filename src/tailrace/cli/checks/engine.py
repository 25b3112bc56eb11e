"""The embedded engine: is it installed, does it start, and which models does it have."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from tailrace import errors
from tailrace.backends.embedded import models
from tailrace.cli.checks.finding import Finding, reason_of
from tailrace.i18n import say
from tailrace.terminal.figures import size

__all__ = ["engine", "model", "others"]

_START = 15.0  # seconds the engine's process has to say that it is there
_SHOWN = 6


async def engine() -> Finding:
    """Whether the engine is installed and starts. Loads no model."""
    missing = [name for name in ("xllamacpp", "platformdirs") if not _is_installed(name)]
    if missing:
        words = say("doctor.engine_missing", names=", ".join(missing))
        facts = {"installed": False, "missing": missing}
        return Finding(name="engine", mark="note", seen=words, do=say("doctor.get_engine"), facts=facts)
    number = _version("xllamacpp")
    facts = {"installed": True, "version": number, "starts": False}
    try:
        await asyncio.to_thread(_start)
    except errors.TailraceError as error:
        reason = reason_of(error)
        words = say("doctor.engine_broken", version=number, reason=reason)
        facts |= {"error": reason}
        return Finding(name="engine", mark="problem", seen=words, do=say("doctor.reinstall"), facts=facts)
    words = say("doctor.engine_here", version=number)
    return Finding(name="engine", mark="ok", seen=words, facts={**facts, "starts": True})


def _start() -> None:
    from tailrace.backends.embedded.supervisor import Supervisor

    supervisor = Supervisor(start_timeout=_START)
    try:
        supervisor.endpoint()  # it answers once it has imported the engine
    finally:
        supervisor.stop()


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "?"


async def model(file: str, *, deep: bool) -> Finding:
    """Whether the model that the engine would take is there and whole.

    Args:
        file: the model file that the upstream names; empty for the default model.
        deep: read it through.
    """
    if not _is_installed("platformdirs") and not os.environ.get("TAILRACE_HOME"):
        return Finding(name="model", mark="note", seen=say("doctor.no_folder"), facts={"present": False})
    return await asyncio.to_thread(_named_file, file) if file else await asyncio.to_thread(_default, deep)


def _named_file(file: str) -> Finding:
    facts: dict[str, Any] = {"path": file, "present": False}
    try:
        found = models.find(file)
    except errors.TailraceError as error:
        reason = reason_of(error)
        return Finding(name="model", mark="problem", seen=reason, facts={**facts, "error": reason})
    facts |= {"present": True, "size": found.size}
    words = say("doctor.file_here", path=file, size=size(found.size))
    return Finding(name="model", mark="ok", seen=words, facts=facts)


def _default(deep: bool) -> Finding:
    path = models.default_path()
    name = models.DEFAULT_MODEL
    facts: dict[str, Any] = {"name": name, "path": str(path), "present": path.exists(), "whole": None}
    if not path.exists():
        return _absent(name, facts)
    damaged = ""
    try:
        models.check(path, models.DEFAULT_SIZE)
        if deep and (found := _sha256(path)) != models.DEFAULT_SHA256:
            damaged = say("doctor.wrong_hash", path=path, found=found)
    except (errors.ModelError, OSError) as error:
        damaged = reason_of(error)
    facts |= {"whole": not damaged, "size": _size_of(path), "hashed": deep}
    if damaged:
        do = say("doctor.fetch_again", path=path)
        return Finding(name="model", mark="problem", seen=damaged, do=do, facts={**facts, "error": damaged})
    words = say("doctor.model_here", name=name, size=size(facts["size"]), path=path)
    if deep:
        words = f"{words}, {say('doctor.hash_right')}"
    return Finding(name="model", mark="ok", seen=words, facts=facts)


def _absent(name: str, facts: dict[str, Any]) -> Finding:
    if os.environ.get("TAILRACE_OFFLINE", "") not in ("", "0"):
        words = say("doctor.model_offline", name=name)
        do = say("hint.get_embedded")
        return Finding(name="model", mark="problem", seen=words, do=do, facts={**facts, "offline": True})
    words = say("doctor.model_absent", name=name)
    return Finding(name="model", mark="note", seen=words, do=say("doctor.fetch_now"), facts=facts)


def _size_of(path: Any) -> int:
    try:
        return int(path.stat().st_size)
    except OSError:
        return 0


def _sha256(path: Any) -> str:
    from hashlib import file_digest

    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


async def others() -> Finding:
    """Which other models the engine would find: those that were added, and those of an Ollama store."""
    if not _is_installed("platformdirs") and not os.environ.get("TAILRACE_HOME"):
        return Finding(name="models", mark="note", seen=say("doctor.no_folder"))
    return await asyncio.to_thread(_others)


def _others() -> Finding:
    found: list[dict[str, Any]] = []
    broken: list[str] = []
    for one in models.list_models():
        if one.source == "default":
            continue
        facts: dict[str, Any] = {"name": one.name, "size": one.size, "source": one.source, "path": str(one.path)}
        try:
            models.check(one.path)
        except errors.ModelError as error:
            facts["error"] = reason_of(error)
            broken.append(facts["error"])
        found.append(facts)
    if not found:
        return Finding(name="models", mark="ok", seen=say("doctor.models_none"), facts={"models": []})
    shown = [f"{one['name']} ({one['source']}, {size(one['size'])})" for one in found[:_SHOWN]]
    words = ", ".join([*shown, *(["…"] if len(found) > _SHOWN else [])])
    if broken:
        words = f"{words}; {broken[0]}"
    return Finding(name="models", mark="note" if broken else "ok", seen=words, facts={"models": found})
