"""One gateway for many tests, in front of a fake model server that is new for each of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.gateway.serving import serving
from tests.web.process import held_port

from tailrace.testing import FakeModel, FakeOllama

__all__ = ["Renewed", "renewed"]

_MODELS = ["m", FakeModel("plain", capabilities=("completion",))]


class Renewed:
    """A gateway, and the port on which it looks for its upstream.

    Attributes:
        url: the gateway's.
    """

    def __init__(self, url: str, port: int) -> None:
        self.url = url
        self._port = port

    @contextlib.contextmanager
    def upstream(self, **settings: Any) -> Iterator[FakeOllama]:
        """Has a fake Ollama where the gateway looks for its upstream."""
        with FakeOllama(port=self._port, **{"models": _MODELS, **settings}) as server:
            yield server


@contextlib.contextmanager
def renewed(*options: str) -> Iterator[Renewed]:
    """Runs a gateway whose upstream is not there yet.

    Args:
        options: of ``tailrace serve``.
    """
    with held_port() as port, serving("--no-page", *options, upstream=FakeOllama(port=port)) as gateway:
        yield Renewed(gateway.url, port)
