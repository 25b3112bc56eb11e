"""Model files: the default one, those added by the user, and those of an Ollama store, read only.

Our files are in one data folder (`data_dir`). None is visible in it half-written: files are written to a temporary name
and renamed. A GGUF file is recognised by its first four bytes only; the engine does the rest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from tailrace.errors import EngineError, ModelError

__all__ = [
    "DEFAULT_MODEL",
    "ModelFile",
    "Progress",
    "UnknownModelError",
    "check",
    "data_dir",
    "default_path",
    "find",
    "is_name",
    "list_models",
]

DEFAULT_MODEL = "smollm2:135m"
DEFAULT_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT_SIZE = 98_362_432
# As a Modelfile's PARAMETER lines would: so small a model may babble on until its context is full. `num_predict=-1` in
# a request lets it; an answer cut here ends as `length`.
DEFAULT_OPTIONS = {"num_predict": 512}
DEFAULT_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

MIN_SIZE = 65_536  # no vocabulary fits in less
_MAGIC = b"GGUF"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,79}"
_HOST = r"[A-Za-z0-9][A-Za-z0-9.\-]{0,252}(?::\d{1,5})?"
NAME = re.compile(rf"(?:(?:({_HOST})/)?({_PART})/)?({_PART})(?::({_PART}))?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_MANIFEST = 1 << 20

Source = Literal["default", "added", "ollama", "path"]


class UnknownModelError(ModelError):
    """No model of that name is here (all other `ModelError` are about a file that is)."""


class Progress(msgspec.Struct, frozen=True):
    """How far a fetch is; `total` 0 means not known."""

    status: str
    completed: int = 0
    total: int = 0


class ModelFile(msgspec.Struct, frozen=True, kw_only=True):
    """A model on this machine.

    Attributes:
        name: the name to ask for it by.
        path: the GGUF file.
        size: its size in bytes, as it is on the disk.
        source: where it comes from.
        digest: ``sha256:…`` where that is known without reading the file.
        modified: time of its last change, seconds since 1970.
        projector: the file that turns images into tokens, if there is one.
        options: defaults of the model's own (an Ollama store keeps them).
        system: its own system prompt, if it has one.
        details: what the Ollama store says of it (family, parameter size, quantization).
    """

    name: str
    path: Path
    size: int
    source: Source
    digest: str | None = None
    modified: float = 0.0
    projector: Path | None = None
    options: dict[str, Any] = {}
    system: str | None = None
    details: dict[str, Any] = {}


def data_dir() -> Path:
    """Returns tailrace's data folder: ``TAILRACE_HOME``, else the user's data folder; it may not exist yet."""
    home = os.environ.get("TAILRACE_HOME")
    if home:
        return Path(home).expanduser().absolute()
    try:
        import platformdirs
    except ImportError:
        raise EngineError("platformdirs is not installed: pip install 'tailrace[embedded]'") from None
    return Path(platformdirs.user_data_dir("tailrace", appauthor=False))


def default_path() -> Path:
    """Returns where the default model is, or will be once it has been fetched."""
    return data_dir() / "models" / "default" / DEFAULT_FILE


def is_name(text: str) -> bool:
    """Says whether `text` is a model name (``[host/][namespace/]name[:tag]``) rather than a path or nonsense."""
    return len(text) <= 400 and ".." not in text and NAME.fullmatch(text) is not None


def is_path(text: str) -> bool:
    """Says whether `text` names a file rather than a model."""
    return text.startswith(("/", "./", "../", "~/", "~\\", ".\\", "..\\", "\\\\")) or (
        text.lower().endswith(".gguf") or re.match(r"[A-Za-z]:[\\/]", text) is not None
    )


def is_absolute(path: str) -> bool:
    """Says whether a path means the same in every process."""
    return expand(path).is_absolute()


def find(name_or_path: str | Path) -> ModelFile:
    """Finds a model file and looks at its first bytes.

    The order is: a path as it is; the default model; models added by the user; Ollama's stores.

    Args:
        name_or_path: a model name such as ``smollm2:135m``, or a path to a GGUF file.

    Returns:
        The model file, which exists and begins like one.

    Raises:
        UnknownModelError: no model of that name is here; the message says which are, and how to get one.
        ModelError: the file is missing, truncated or not GGUF.
    """
    text = os.fspath(name_or_path)
    if isinstance(name_or_path, Path) or is_path(text):
        path = expand(text)
        check(path)
        stat = path.stat()
        return ModelFile(name=text, path=path, size=stat.st_size, source="path", modified=stat.st_mtime)
    if not is_name(text):
        raise UnknownModelError(
            f"{text[:80]!r} is not a model name; names look like smollm2:135m or namespace/name:tag"
        )
    for model in _named(text):
        check(model.path, _expected_size(model))
        return model
    raise UnknownModelError(_not_found(text))


def list_models() -> list[ModelFile]:
    """Lists every model on this machine that can be asked for by name; a name found twice is listed once."""
    models: dict[str, ModelFile] = {}
    default = _default()
    for model in [*([default] if default else []), *_added(), *_ollama_models()]:
        models.setdefault(model.name, model)
    return list(models.values())


def check(path: Path, expected_size: int | None = None) -> None:
    """Looks at a model file from outside: is it there, whole as far as its size says, and GGUF?

    Raises:
        ModelError: what is wrong with it, and what to do.
    """
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise ModelError(f"{path} is a folder; name the GGUF file in it")
        with path.open("rb") as file:
            head = file.read(64)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in it
        raise ModelError(
            f"model file {str(path)!r} does not exist; check the path, or see: tailrace models list"
        ) from None
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror or error}") from error
    if head[:4] != _MAGIC:
        raise ModelError(f"{path} is not a GGUF model file: {_describe(head)}")
    if expected_size is not None and size != expected_size:
        raise ModelError(
            f"{path} is truncated or damaged: {size:,} bytes where it should have {expected_size:,}; "
            "delete it and fetch it again"
        )
    if size < MIN_SIZE:
        raise ModelError(f"{path} is truncated: {size:,} bytes are too few for a model; download it again")


def free_bytes(folder: Path) -> int:
    """Returns the free space of the file system that holds `folder`, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def disk_message(error: OSError, target: Path, needed: int) -> str:
    """Returns one line for an error while writing `target`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            return (
                f"the disk is full: {target.parent} has {free_bytes(target.parent):,} bytes free and "
                f"{needed:,} are needed; make room, or set TAILRACE_HOME to a folder elsewhere"
            )
    return f"cannot write {target}: {error.strerror or error}; set TAILRACE_HOME to a folder you can write to"


def expand(path: str | Path) -> Path:
    """Returns a path with the home folder in the place of ``~``."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no home folder to put in the place of ~
        return Path(path)


def _describe(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer; fetch the file itself with: git lfs pull"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "it is a web page, so the download went wrong"
    if head.startswith(b"PK"):
        return "it is a zip archive; unpack it first"
    return f"it begins with {head[:4]!r} instead of {_MAGIC!r}; models for llama.cpp end in .gguf"


def _expected_size(model: ModelFile) -> int | None:
    if model.source == "default":
        return DEFAULT_SIZE
    size = model.details.get("blob_size")
    return size if isinstance(size, int) else None


def _not_found(name: str) -> str:
    here = [model.name for model in list_models()]
    shown = ", ".join(here[:8]) + (", …" if len(here) > 8 else "")
    if name == DEFAULT_MODEL:
        return f"model '{name}' not found; fetch it (94 MB) with: tailrace models get"
    return (
        f"model '{name}' not found; here: {shown or 'none'}. "
        f"Add a GGUF file with: tailrace models add FILE, or fetch {DEFAULT_MODEL} with: tailrace models get"
    )


def _named(name: str) -> Iterator[ModelFile]:
    """Every model of that name, best first; only the places where it would be are looked at."""
    full = name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"
    if full == DEFAULT_MODEL:
        default = _default()
        if default:
            yield default
    for model in _added():
        if _full(model.name) == full:
            yield model
    yield from _ollama_named(full)


def _full(name: str) -> str:
    return name if ":" in name else f"{name}:latest"


def _default() -> ModelFile | None:
    path = default_path()
    try:
        stat = path.stat()
    except OSError:
        return None
    details = {"family": "llama", "parameter_size": "134.52M", "quantization_level": "Q4_1"}
    digest = f"sha256:{DEFAULT_SHA256}"
    return ModelFile(
        name=DEFAULT_MODEL,
        path=path,
        size=stat.st_size,
        source="default",
        digest=digest,
        modified=stat.st_mtime,
        details=details,
        options=dict(DEFAULT_OPTIONS),
    )


def _added() -> Iterator[ModelFile]:
    folder = data_dir() / "models" / "added"
    for path in sorted(folder.glob("*.gguf")):
        name, _, tag = path.stem.rpartition("@")
        full = f"{name}:{tag}" if tag != "latest" else name
        with contextlib.suppress(OSError):
            stat = path.stat()
            if is_name(full):
                yield ModelFile(name=full, path=path, size=stat.st_size, source="added", modified=stat.st_mtime)


# ---- Ollama's store, read only: manifests/HOST/NAMESPACE/NAME/TAG name layers, blobs/sha256-HEX hold them ----


def _ollama_roots() -> Iterator[Path]:
    configured = os.environ.get("OLLAMA_MODELS")
    if configured:
        yield Path(configured).expanduser()
        return
    with contextlib.suppress(RuntimeError):  # no home folder
        yield Path.home() / ".ollama" / "models"
    yield Path("/usr/share/ollama/.ollama/models")


def _ollama_named(full: str) -> Iterator[ModelFile]:
    match = NAME.fullmatch(full)
    if match is None:
        return
    host, namespace, name, tag = match.groups()
    for root in _ollama_roots():
        relative = Path(host or "registry.ollama.ai", namespace or "library", name, tag)
        model = _read_manifest(root, relative)
        if model:
            yield model


def _ollama_models() -> Iterator[ModelFile]:
    for root in _ollama_roots():
        base = root / "manifests"
        try:
            paths = sorted(base.glob("*/*/*/*"))
        except OSError:
            continue
        for path in paths:
            model = _read_manifest(root, path.relative_to(base))
            if model and is_name(model.name):
                yield model


def _read_manifest(root: Path, relative: Path) -> ModelFile | None:
    """Returns the model of one manifest, or None if there is none that can be read."""
    try:
        text = _read(root / "manifests" / relative)
        layers = msgspec.json.decode(text)["layers"]
        blobs = {layer["mediaType"].rpartition(".image.")[2]: layer for layer in layers}
        weights = blobs["model"]
        path = _blob(root, weights["digest"])
        stat = path.stat()
        options = msgspec.json.decode(_layer(root, blobs, "params") or b"{}", type=dict[str, Any])
        system = _layer(root, blobs, "system")
        projector = _blob(root, blobs["projector"]["digest"]) if "projector" in blobs else None
        details = _ollama_details(root, msgspec.json.decode(text))
    except (OSError, LookupError, TypeError, AttributeError, ValueError, msgspec.MsgspecError):
        return None
    host, namespace, name, tag = relative.parts
    prefix = "" if (host, namespace) == ("registry.ollama.ai", "library") else f"{namespace}/"
    if host != "registry.ollama.ai":
        prefix = f"{host}/{prefix or 'library/'}"
    return ModelFile(
        name=f"{prefix}{name}:{tag}",
        path=path,
        size=stat.st_size,
        source="ollama",
        digest=weights["digest"],
        modified=stat.st_mtime,
        projector=projector,
        options=options,
        system=system.decode("utf-8", "replace") if system else None,
        details={**details, "blob_size": weights.get("size"), "adapter": "adapter" in blobs},
    )


def _ollama_details(root: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    with contextlib.suppress(OSError, LookupError, TypeError, msgspec.MsgspecError, ValueError):
        config = msgspec.json.decode(_read(_blob(root, manifest["config"]["digest"])), type=dict[str, Any])
        return {
            "family": str(config.get("model_family") or ""),
            "parameter_size": str(config.get("model_type") or ""),
            "quantization_level": str(config.get("file_type") or ""),
        }
    return {}


def _layer(root: Path, blobs: dict[str, Any], kind: str) -> bytes | None:
    return _read(_blob(root, blobs[kind]["digest"])) if kind in blobs else None


def _blob(root: Path, digest: str) -> Path:
    if not _DIGEST.fullmatch(digest):  # it becomes a file name: nothing else may get through (CVE-2024-37032)
        raise ValueError(digest)
    return root / "blobs" / digest.replace(":", "-")


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAX_MANIFEST)
