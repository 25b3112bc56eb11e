"""docs/testing.md: every snippet runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(1, len(SNIPPETS) + 1))
def test_snippet(snippet: str, tmp_path: Path) -> None:
    """A snippet runs as it stands: its tests under pytest with the plugin, the others as a program."""
    file = tmp_path / "test_snippet.py"
    file.write_text(snippet, encoding="utf-8")
    pytest_run = ["-m", "pytest", "-q", "-p", "tailrace.testing.plugin", "-p", "no:cacheprovider", file.name]
    command = [sys.executable, *(pytest_run if "def test_" in snippet else [file.name])]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=tmp_path)

    assert run.returncode == 0, run.stdout + run.stderr
