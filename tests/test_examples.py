"""Every example runs as it is, in a fresh interpreter; the list in examples/README.md is whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.testing import FakeOllama, done, say, tool_call

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))
SERVERS = [name for name in EXAMPLES if name.startswith("web_")]  # they do not end: see tests/web/test_web_examples.py

SCRIPTS = {
    "stop.py": [say(*["word "] * 400), done()],
    "structured.py": [say('{"name": "Elbe", ', '"length_km": 1094}'), done()],
    "tools.py": [tool_call("add", {"a": 10, "b": 32}), done()],
}
PRINTED = {
    "conversation.py": r"\[5 messages\]",
    "endings.py": r"the connection breaks: truncated, 'One two '",
    "many_readers.py": r"sees the same: True",
    "openai_upstream.py": r"Rivers flow\.\n\[complete",
    "stop.py": r"let go after \d+ ms",
    "stream_async.py": r"Name one mountain\.",
    "stream_chat.py": r"\[complete: 8 tokens",
    "structured.py": r"\{'name': 'Elbe', 'length_km': 1094\}",
    "tools.py": r"add\(\{'a': 10, 'b': 32\}\) = 42",
    "wait_visible.py": r"\[complete; first token after",
}


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_example_runs(name: str) -> None:
    """The example prints what it is about, and nothing on stderr."""
    with FakeOllama(models=["demo"]) as server:
        if name in SCRIPTS:
            server.script(*SCRIPTS[name])
        environment = {**os.environ, "TAILRACE_UPSTREAM": server.url, "TAILRACE_MODEL": "demo", "PYTHONUTF8": "1"}
        done_ = subprocess.run(
            [sys.executable, "-W", "error", str(FOLDER / name)],
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    assert (done_.returncode, done_.stderr) == (0, "")
    assert re.search(PRINTED[name], done_.stdout), done_.stdout


def test_the_list_of_examples_is_whole() -> None:
    """examples/README.md names each file, and no other."""
    named = re.findall(r"\(([a-z_]+\.py)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))

    assert EXAMPLES == sorted(named) == sorted([*PRINTED, *SERVERS])
