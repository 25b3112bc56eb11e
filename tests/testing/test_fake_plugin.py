"""The pytest plugin, by use and from outside."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import tailrace.testing


def test_fixtures(tmp_path: Path) -> None:
    """Both fixtures give a running server, fresh for each test, to plain and to asynchronous tests."""
    (tmp_path / "test_app.py").write_text(
        """
from urllib.request import urlopen

from tailrace.testing import FakeOllama, FakeOpenAI


def test_one(fake_ollama: FakeOllama) -> None:
    assert urlopen(fake_ollama.url).read() == b"Ollama is running"
    assert len(fake_ollama.requests) == 1


def test_two(fake_ollama: FakeOllama, fake_openai: FakeOpenAI) -> None:
    assert not fake_ollama.requests
    assert b'"list"' in urlopen(f"{fake_openai.base_url}/models").read()
""",
        encoding="utf-8",
    )
    source = str(Path(__file__).parents[2] / "src")
    env = {**os.environ, "PYTHONPATH": source, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command: list[str] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tailrace.testing.plugin",
        "-p",
        "no:cacheprovider",
        str(tmp_path),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout


def test_public_names() -> None:
    """Every public name is there, and no other."""
    assert sorted(tailrace.testing.__all__) == dir(tailrace.testing)
    assert all(getattr(tailrace.testing, name) for name in tailrace.testing.__all__)
    assert not hasattr(tailrace.testing, "nothing")
