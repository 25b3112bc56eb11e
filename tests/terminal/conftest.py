"""A conversation of a test: its own home, a fake Ollama with one model, and a pane."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.driver import Command
from tests.terminal.pane import Pane

from tailrace.testing import FakeOllama

Open = Callable[..., Pane]


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=["m", "n"]) as server:
        yield server


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the command keeps its state."""
    return tmp_path / "home" / "state"


@pytest.fixture
def chat(server: FakeOllama, tmp_path: Path) -> Iterator[Open]:
    """Opens `tailrace chat` in a pane; keyword arguments are its environment, `before` is code that runs first."""
    panes: list[Pane] = []

    def open_(*arguments: str, size: tuple[int, int] = (100, 30), before: str = "", **env: str) -> Pane:
        command = Command(tmp_path / "home", {"OLLAMA_HOST": server.url, "TAILRACE_MODEL": "m", **env}, before)
        pane = Pane(command.environment(), [*command.program(), "chat", *arguments], tmp_path, size)
        panes.append(pane)
        return pane

    yield open_
    for pane in panes:
        pane.close()
