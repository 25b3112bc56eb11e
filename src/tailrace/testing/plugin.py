"""The pytest plugin: `fake_ollama` and `fake_openai`. Loaded by pytest once tailrace is installed.

It imports nothing but pytest until a test asks for a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tailrace.testing.ollama import FakeOllama
    from tailrace.testing.openai import FakeOpenAI

__all__ = ["fake_ollama", "fake_openai"]


@pytest.fixture
def fake_ollama() -> Iterator[FakeOllama]:
    """A running `tailrace.testing.FakeOllama`, for one test."""
    from tailrace.testing.ollama import FakeOllama

    with FakeOllama() as server:
        yield server


@pytest.fixture
def fake_openai() -> Iterator[FakeOpenAI]:
    """A running `tailrace.testing.FakeOpenAI`, for one test."""
    from tailrace.testing.openai import FakeOpenAI

    with FakeOpenAI() as server:
        yield server
