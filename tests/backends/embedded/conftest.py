"""The real engine, shared by a session's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.backends.embedded.supervisor import Endpoint, Supervisor


@pytest.fixture(scope="session")
def supervisor(home: Path) -> Iterator[Supervisor]:
    pytest.importorskip("xllamacpp")
    one = Supervisor()
    yield one
    one.stop()


@pytest.fixture
def endpoint(supervisor: Supervisor) -> Endpoint:
    """The session's worker; a test may have killed it, then this is a new one."""
    return supervisor.endpoint()


@pytest.fixture
def from_wheel(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip as a user might have configured it: the wheel comes from a folder, and no index is asked."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("UV_OFFLINE", "1")  # uv has no variable for "no index"
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheel.parent))
    return wheel


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no Ollama store."""
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    return tmp_path / "data"
