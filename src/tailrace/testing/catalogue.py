"""The models a fake server has."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Catalogue", "FakeModel", "embedding", "full_name"]

_MODIFIED = "2026-01-02T03:04:05.678901234Z"
_CAPABILITIES = ("completion", "tools", "thinking", "insert", "vision", "embedding")


@dataclass(frozen=True, slots=True)
class FakeModel:
    """A model that a fake server claims to have.

    Attributes:
        name: Its name; the tag is `latest` if there is none.
        capabilities: What it can do; asking for what it cannot is refused as Ollama does.
        family: Its family.
        size: Its size in bytes.
        context_length: Its context in tokens.
        template: Its prompt template, as `/api/show` gives it.
    """

    name: str
    capabilities: tuple[str, ...] = _CAPABILITIES
    family: str = "llama"
    size: int = 271_000_000
    context_length: int = 4096
    template: str = "{{ .Prompt }}"

    @property
    def digest(self) -> str:
        """A digest made from the name."""
        return hashlib.sha256(full_name(self.name).encode()).hexdigest()

    @property
    def details(self) -> dict[str, Any]:
        """The `details` object of Ollama's answers."""
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": "134.52M",
            "quantization_level": "Q4_K_M",
        }

    def listed(self) -> dict[str, Any]:
        """The entry of `/api/tags`."""
        name = full_name(self.name)
        return {
            "name": name,
            "model": name,
            "modified_at": _MODIFIED,
            "size": self.size,
            "digest": self.digest,
            "details": self.details,
            "capabilities": list(self.capabilities),
        }

    def running(self) -> dict[str, Any]:
        """The entry of `/api/ps`."""
        name = full_name(self.name)
        return {
            "name": name,
            "model": name,
            "size": self.size,
            "digest": self.digest,
            "details": self.details,
            "expires_at": "2318-01-01T00:00:00Z",
            "size_vram": 0,
            "context_length": self.context_length,
        }

    def shown(self) -> dict[str, Any]:
        """The answer of `/api/show`."""
        return {
            "modelfile": f"FROM {full_name(self.name)}\n",
            "parameters": "temperature                    0.8",
            "template": self.template,
            "details": self.details,
            "model_info": {
                "general.architecture": self.family,
                f"{self.family}.context_length": self.context_length,
            },
            "capabilities": list(self.capabilities),
            "modified_at": _MODIFIED,
        }


class Catalogue:
    """Models by their full name. Without a list, every model that is asked for is there."""

    def __init__(self, models: Iterable[str | FakeModel] | None) -> None:
        self._any = models is None
        self._models: dict[str, FakeModel] = {}
        for model in ["fake"] if models is None else models:
            self.add(model)

    def __iter__(self) -> Iterator[FakeModel]:
        return iter(list(self._models.values()))

    def add(self, model: str | FakeModel) -> FakeModel:
        """Add a model."""
        model = FakeModel(model) if isinstance(model, str) else model
        self._models[full_name(model.name)] = model
        return model

    def find(self, name: str) -> FakeModel | None:
        """Return the model of that name, or None."""
        if not name:
            return None
        found = self._models.get(full_name(name))
        return FakeModel(name) if found is None and self._any else found

    def remove(self, name: str) -> bool:
        """Remove a model; False if it was not there."""
        return self._models.pop(full_name(name), None) is not None


def full_name(name: str) -> str:
    """Add the tag that a name leaves out."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def embedding(text: str, dimensions: int = 8) -> list[float]:
    """Make up a vector of length 1; the same text has the same vector."""
    data = hashlib.shake_128(text.encode("utf-8", "replace")).digest(max(dimensions, 1) * 2)
    values = [int.from_bytes(data[n : n + 2]) - 32767.5 for n in range(0, len(data), 2)]
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]
