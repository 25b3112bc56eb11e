"""The command of a test: its own home, and a fake Ollama with one model for its upstream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.driver import Command

from tailrace.testing import FakeOllama


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=["m"]) as server:
        yield server


@pytest.fixture
def tailrace(server: FakeOllama, tmp_path: Path) -> Command:
    return Command(tmp_path / "home", {"OLLAMA_HOST": server.url})
