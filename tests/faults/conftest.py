"""What the rooms of fault tests share: both faces, both wires."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.faults.faces import Upstream


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """The face of the client."""
    return str(request.param)


@pytest.fixture(params=["ollama", "openai"])
def upstream(request: pytest.FixtureRequest) -> Iterator[Upstream]:
    """A fake server, of either wire."""
    upstream = Upstream(request.param)
    with upstream.server:
        yield upstream


@pytest.fixture
def ollama() -> Iterator[Upstream]:
    """A fake Ollama."""
    upstream = Upstream("ollama")
    with upstream.server:
        yield upstream


@pytest.fixture
def openai() -> Iterator[Upstream]:
    """A fake OpenAI-compatible server."""
    upstream = Upstream("openai")
    with upstream.server:
        yield upstream
