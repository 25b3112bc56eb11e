"""Files that a request would have a model server read on its own machine.

`/api/create` makes a model of another one, or of files that were uploaded as blobs. In its older forms (a Modelfile, or
the path of one) it reads files of the server's: whoever may keep models through the gateway could then read what the
model server can (CVE-2024-37032 and CVE-2024-45436 began so). So only what can name no file is taken, unless the
upstreams are said to be trusted with that.

Ollama is a Go program, whose decoder finds members without regard to case (Go, ``encoding/json``): so does this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tailrace.protocols.problems import ProblemError

__all__ = ["check_no_files"]

_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_MODEL = re.compile(rf"(?:{_PART}(?::\d+)?/)?(?:{_PART}/){{0,2}}{_PART}(?::{_PART})?")
_DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
_HINT = (
    "name a model in from, or upload files as blobs and name them in files; --local-files of the gateway allows more"
)


def check_no_files(given: dict[str, Any]) -> None:
    """Refuses a request to `/api/create` that may name a file on the model server's machine.

    Args:
        given: the request's body.

    Raises:
        ProblemError: 400: it may; the text says where.
    """
    for name in ("path", "modelfile"):
        for value in _members(given, name):
            if value not in (None, ""):
                raise ProblemError(400, f"{name} may name files on the model server's machine", hint=_HINT)
    for value in _members(given, "from"):
        if value not in (None, "") and not (isinstance(value, str) and _names_a_model(value)):
            raise ProblemError(400, "from is no name of a model", hint=_HINT)
    for name in ("files", "adapters"):
        for value in _members(given, name):
            _check_blobs(name, value)


def _members(given: dict[str, Any], name: str) -> Iterator[Any]:
    return (value for key, value in given.items() if key.casefold() == name)


def _names_a_model(text: str) -> bool:
    return _MODEL.fullmatch(text) is not None and ".." not in text and not text.casefold().endswith(".gguf")


def _check_blobs(name: str, held: Any) -> None:
    """Checks an object of names of files and the digests of the blobs that they are."""
    if held is None:
        return
    if not isinstance(held, dict):
        raise ProblemError(400, f"{name} is an object of names and digests")
    for file, digest in held.items():
        if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
            raise ProblemError(400, f"{name} has a value that is no digest of a blob", hint=_HINT)
        steps = re.split(r"[/\\]", file)
        if not steps[0] or steps[0][0] == "~" or ".." in steps or ":" in file:
            raise ProblemError(400, f"{name} names a file outside of the model", hint=_HINT)
