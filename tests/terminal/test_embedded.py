"""A conversation with the real engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.terminal.conftest import Open


def test_a_question_to_the_engine(home: Path, chat: Open) -> None:
    """Answered, stopped in the middle, continued."""
    pytest.importorskip("xllamacpp")
    env = {"TAILRACE_HOME": str(home), "TAILRACE_UPSTREAM": "embedded:", "TAILRACE_MODEL": "", "OLLAMA_HOST": ""}
    pane = chat("--option", "temperature=0", "--option", "seed=1", **env)
    pane.ready()
    pane.type("Write a long story about a river and a mill.")
    pane.wait_for(r" tok/s · \d+ s")
    pane.press("C-c")
    pane.wait("[stopped · ")
    pane.say("/set parameter num_predict 8", "num_predict is 8 now")
    pane.type("/continue")
    pane.wait_for(r"(?m)^[1-8] tok · .* first token")
    pane.ready()
    pane.type("/bye")
    assert pane.end() == 0
