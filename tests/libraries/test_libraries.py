"""Libraries built on ollama-python run on tailrace in its place: streams, tools and errors.

They are large, so they are in an environment of their own: `python -m tests.jobs libraries` makes it and runs this.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.testing import FakeModel, FakeOllama, say, tool_call

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    "langchain-ollama": "langchain_ollama",
    "llama-index": "llama_index",
    "llm-ollama": "llm_ollama",
    "autogen": "autogen_ext",
}


@pytest.mark.long
@pytest.mark.parametrize("name", MODULES)
def test_a_library_on_tailrace(name: str) -> None:
    """It streams token by token on both of its faces, calls a tool, and gets the error that it knows."""
    if importlib.util.find_spec(MODULES[name]) is None and Path(sys.prefix).name != "libraries":
        pytest.skip("python -m tests.jobs libraries")
    with FakeOllama(models=[FakeModel("fake", capabilities=("completion", "tools"))]) as server:
        for _ in range(2):
            server.script(say("Hel", "lo"), path="/api/chat")
        server.script(tool_call("weather", {"city": "上海"}), path="/api/chat")
        told = subprocess.run(
            [sys.executable, "-m", "tests.libraries.programs", name],
            env={**os.environ, "OLLAMA_HOST": server.url, "PYTHONWARNINGS": "ignore"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert told.returncode == 0, told.stderr
        expected = {"pieces": ["Hel", "lo"], "again": ["Hel", "lo"], "call": ["weather", {"city": "上海"}]}
        assert json.loads(told.stdout.splitlines()[-1]) == {**expected, "error": "ModelNotFoundError"}
