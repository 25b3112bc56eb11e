"""`tailrace models` and `tailrace pull`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.cli.driver import Command

from tailrace.testing import FakeOllama, status


def test_models_of_the_upstream(server: FakeOllama, tailrace: Command) -> None:
    """Name, size, where and when; `models list` is the same."""
    result = tailrace("models")
    head, row = result.out.decode().splitlines()
    assert head.split() == ["NAME", "SIZE", "SOURCE", "MODIFIED"]
    assert row.split()[:4] == ["m:latest", "271", "MB", server.url]
    assert tailrace("models", "list").out == result.out


def test_models_on_the_disk(tailrace: Command, tmp_path: Path, home: Path) -> None:
    """For the embedded engine: what was added, and only what the engine can read."""
    gguf = tmp_path / "My Model.gguf"
    gguf.symlink_to(next((home / "models" / "default").glob("*.gguf")))
    assert "no models" in tailrace("models", "--upstream", "embedded:").err
    added = tailrace("models", "add", str(gguf), "--name", "mine")
    listed = tailrace("models", "--upstream", "embedded:")
    assert (added.code, listed.code) == (0, 0)
    assert "mine" in added.err
    assert "mine" in listed.out.decode()
    assert str(tailrace.home) in listed.out.decode()


def test_a_file_that_is_no_model(tailrace: Command, tmp_path: Path) -> None:
    """What is wrong with it, in a line."""
    (tmp_path / "x.gguf").write_text("<html>")
    result = tailrace("models", "add", str(tmp_path / "x.gguf"))
    assert result.code == 1
    assert "is not a GGUF model file" in result.err


def test_a_model_that_is_cut(tailrace: Command, tmp_path: Path, home: Path) -> None:
    """A truncated file looks whole from outside; the engine finds out, and nothing is added."""
    whole = next((home / "models" / "default").glob("*.gguf"))
    (tmp_path / "cut.gguf").write_bytes(whole.read_bytes()[:3_000_000])

    result = tailrace("models", "add", str(tmp_path / "cut.gguf"))

    assert (result.code, "Traceback" in result.err) == (1, False)
    assert "cut.gguf" in result.err
    assert "no models" in tailrace("models", "--upstream", "embedded:").err


def test_only_the_default_model_can_be_got(tailrace: Command) -> None:
    """For anything else there is Ollama."""
    result = tailrace("models", "get", "llama3.2")
    assert result.code == 1
    assert "ollama pull llama3.2" in result.err


def test_get_says_once_that_the_default_model_speaks_english_only(tailrace: Command) -> None:
    """In both languages, the first time only."""
    default = tailrace.home / "models" / "default" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    default.parent.mkdir(parents=True)
    default.write_bytes(b"GGUF" + bytes(70_000))
    first = tailrace("models", "get")
    second = tailrace("models", "get")
    assert (first.code, second.code) == (0, 0)
    assert "English only" in first.err
    assert "只会英语" in first.err
    assert first.err.count("ollama pull qwen3:0.6b") == 2
    assert "English only" not in second.err


def test_pull_off_a_terminal(server: FakeOllama, tailrace: Command) -> None:
    """A plain line at each change of status, nothing that redraws."""
    result = tailrace("pull", "other")
    assert (result.code, result.out) == (0, b"")
    lines = result.err.splitlines()
    assert lines[0] == "pulling manifest"
    assert lines[-1] == "success"
    assert [line for line in lines if line.startswith("pulling ") and line.endswith(" (271 MB)")]
    assert "\r" not in result.err


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals of POSIX")
def test_pull_on_a_terminal(server: FakeOllama, tailrace: Command) -> None:
    """A bar, left standing when it is full."""
    with tailrace.on_terminal("pull", "other") as terminal:
        assert terminal.end() == 0
    text = terminal.seen.decode()
    assert "100% ▕" in text
    assert "\r\x1b[K" in text
    assert text.endswith("success\r\n")


def test_pull_of_what_does_not_exist(server: FakeOllama, tailrace: Command) -> None:
    """The server's own words, once."""
    server.script(status(500, {"error": "pull model manifest: file does not exist"}), path="/api/pull")
    result = tailrace("pull", "nope")
    assert result.code == 1
    assert result.err.startswith("tailrace: pull model manifest: file does not exist")
