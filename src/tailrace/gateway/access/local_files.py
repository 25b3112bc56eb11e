"""Files that a request would have a model server read on its own machine.

`/api/create` makes a model of another one, or of files that were uploaded as blobs. In its older forms it takes paths,
too: whoever may keep models through the gateway could then read what the model server can (Ollama's CVE-2024-37032 and
CVE-2024-45436 began so). So a path is refused, unless the upstreams are said to be trusted with that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tailrace.protocols.problems import ProblemError

__all__ = ["check_no_files"]

_INSTRUCTION = re.compile(r"\s*(?:FROM|ADAPTER)\s+(.+?)\s*", re.IGNORECASE)
_FILE = re.compile(r"[/~.\\]|[a-z]:[\\/]|file:|.*\\|.*\.(?:gguf|ggml|bin|safetensors|pt|pth|onnx)$", re.IGNORECASE)
_HINT = "upload it as a blob and name it in files, or let the gateway be started with --local-files"


def check_no_files(given: dict[str, Any]) -> None:
    """Refuses a request to `/api/create` that names a file on the model server's machine.

    Args:
        given: the request's body.

    Raises:
        ProblemError: 400: it does; the text says where.
    """
    for where, name in _named(given):
        if _FILE.match(name):
            raise ProblemError(400, f"{where} names a file on the model server's machine", hint=_HINT)


def _named(given: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields what may name a file, and where it stands."""
    if given.get("path"):
        yield "path", "/"  # whatever it is, it is one
    for name in ("from", "modelfile"):
        if given.get(name) is not None and not isinstance(given[name], str):
            raise ProblemError(400, f"{name} is a text")
    yield "from", (given.get("from") or "").strip().strip("\"'")
    for line in (given.get("modelfile") or "").splitlines():
        if found := _INSTRUCTION.fullmatch(line):
            yield "modelfile", found[1].strip("\"'")
    for name in ("files", "adapters"):
        held = given.get(name) or {}
        if not isinstance(held, dict):
            raise ProblemError(400, f"{name} is an object of names and digests")
        for file in held:
            yield name, "" if _is_plain(file) else "/"


def _is_plain(name: str) -> bool:
    """Is this the name of a file without a way out of its folder?"""
    steps = re.split(r"[/\\]", name)
    return bool(steps[0]) and steps[0][0] != "~" and ".." not in steps and ":" not in name
