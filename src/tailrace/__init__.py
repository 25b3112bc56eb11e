"""tailrace: the streaming layer for local language models.

``import tailrace as ollama`` runs code written for ollama-python; what goes beyond it starts at `ChatStream`.
Importing does nothing: no thread, no client, no network. The public names are in `tailrace._public` and are imported
when the first of them is asked for, so that ``tailrace --help`` does not wait for an HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tailrace._version import __version__ as __version__

if TYPE_CHECKING:
    from tailrace._public import *  # noqa: F403
    from tailrace._public import __all__ as __all__
else:

    def __getattr__(name: str) -> Any:
        if name.startswith("_") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return import_module(f"{__name__}.{name}")  # tailrace.errors and the like
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
        public = import_module(f"{__name__}._public")
        globals().update({each: getattr(public, each) for each in ("__all__", *public.__all__)})
        try:
            return globals()[name]
        except KeyError:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None

    def __dir__() -> Any:
        return sorted(__getattr__("__all__"))
