"""An Ollama store as Ollama lays it out, around a real model file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tailrace.backends.embedded import models


def make_store(
    root: Path,
    weights: Path,
    name: str,
    tag: str = "latest",
    *,
    params: dict[str, Any] | None = None,
    system: str | None = None,
    size: int | None = None,
    extra: dict[str, bytes] | None = None,
) -> Path:
    """Writes a manifest and its blobs; returns the manifest's path."""
    blobs = root / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    blob = blobs / f"sha256-{models.DEFAULT_SHA256}"
    if not blob.exists():
        blob.symlink_to(weights)
    layers = [
        {
            "mediaType": "application/vnd.ollama.image.model",
            "digest": f"sha256:{models.DEFAULT_SHA256}",
            "size": size if size is not None else weights.stat().st_size,
        }
    ]
    parts = dict(extra or {})
    if params is not None:
        parts["params"] = json.dumps(params).encode()
    if system is not None:
        parts["system"] = system.encode()
    for kind, data in parts.items():
        layers.append({"mediaType": f"application/vnd.ollama.image.{kind}", **_blob(blobs, data)})
    config = {"model_family": "llama", "model_type": "135M", "file_type": "Q4_1"}
    manifest = {"schemaVersion": 2, "config": _blob(blobs, json.dumps(config).encode()), "layers": layers}
    path = root / "manifests" / "registry.ollama.ai" / "library" / name / tag
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    return path


def _blob(blobs: Path, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (blobs / f"sha256-{digest}").write_bytes(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}
