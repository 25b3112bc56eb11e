"""In the place of ollama-python: for libraries that import ``ollama`` themselves, some of them its private modules."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["InstalledAsOllama", "install_as_ollama"]

# Where each module's names are found, in order; and those that have another name there.
# The names: https://github.com/ollama/ollama-python/tree/main/ollama
_MODULES: Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[str, str]]]] = {
    "ollama": (("tailrace",), {}),
    "ollama._types": (("tailrace.client.private_names", "tailrace", "tailrace.types"), {}),
    "ollama._client": (("tailrace.client.private_names", "tailrace", "tailrace.client.base"), {}),
    "ollama._utils": ((), {"convert_function_to_tool": ("tailrace", "tool_from_function")}),
}


class _Module(ModuleType):
    """A module whose names are those of others."""

    def __init__(self, name: str, places: tuple[str, ...], renamed: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(name, f"{name} of ollama-python, played by tailrace.")
        package = name if name == "ollama" else "ollama"
        self.__spec__ = ModuleSpec(name, None, origin="tailrace", is_package=name == "ollama")
        self.__package__ = package
        if name == "ollama":
            self.__path__: list[str] = []
            self.__all__ = import_module("tailrace").__all__
        self._places = places
        self._renamed = renamed

    def __getattr__(self, name: str) -> Any:
        place, other = self._renamed.get(name, ("", ""))
        if place:
            return getattr(import_module(place), other)
        if not name.startswith("__") or name == "__version__":
            for each in self._places:
                module = import_module(each)
                if name in module.__all__:
                    return getattr(module, name)
        raise AttributeError(f"module {self.__name__!r}, played by tailrace, has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted(
            {*super().__dir__(), *self._renamed, *(n for p in self._places for n in import_module(p).__all__)}
        )


class InstalledAsOllama:
    """What `install_as_ollama` put in place; ``with`` undoes it at its end."""

    def __init__(self) -> None:
        self._before = {name: sys.modules.pop(name) for name in _ours()}
        self._modules: dict[str, ModuleType] = {name: _Module(name, *how) for name, how in _MODULES.items()}
        for name, module in self._modules.items():
            sys.modules[name] = module
            if name != "ollama":
                setattr(self._modules["ollama"], name.removeprefix("ollama."), module)

    def undo(self) -> None:
        """Puts back what ``ollama`` was before, if it was imported; what was imported from us meanwhile stays ours."""
        modules, self._modules = self._modules, {}
        if modules and sys.modules.get("ollama") is modules["ollama"]:
            for name in _ours():
                del sys.modules[name]
            sys.modules.update(self._before)

    def __enter__(self) -> InstalledAsOllama:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def _ours() -> list[str]:
    return [name for name in sys.modules if name == "ollama" or name.startswith("ollama.")]


def install_as_ollama() -> InstalledAsOllama:
    """Has every ``import ollama`` from now on get tailrace, that of other libraries included.

    Call it before they are imported: a library that has ollama-python's names already keeps them. Modules that are
    private there are played as well, as far as libraries use them: ``ollama._types``, ``ollama._client`` and
    ``ollama._utils``. ollama-python need not be installed.

    Returns:
        What was put in place: ``undo()`` takes it back, and so does the end of a ``with``.
    """
    return InstalledAsOllama()
