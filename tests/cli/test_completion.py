"""`tailrace completion`: the scripts, and what the command answers when a shell asks."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.driver import TIMEOUT, Command

from tailrace.cli.shell import _rejoined
from tailrace.testing import FakeOllama, Silent, closed_port, html

# bash as it is when somebody presses Tab: it has cut the line into words its own way.
IN_BASH = """
eval "$(tailrace completion bash)"
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_tailrace_completion tailrace "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}" 2>&1
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(tailrace: Command, *words: str, **env: str) -> list[str]:
    """What zsh would be offered for the last of the words."""
    result = tailrace(
        env={
            "_TAILRACE_COMPLETE": "zsh_complete",
            "COMP_WORDS": " ".join(["tailrace", *words]),
            "COMP_CWORD": str(len(words)),
            **env,
        }
    )
    assert (result.code, result.err) == (0, "")
    fields = result.out.decode().strip("\n").splitlines()
    assert set(fields[::3]) <= {"plain"}, fields
    return [field.replace("\\:", ":") for field in fields[1::3]]


# The third of a second that an upstream has is not enough on a busy machine.
PATIENT = "from tailrace.cli import completion; completion._PATIENCE = 60"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(tailrace: Command, shell: str) -> None:
    """Named, or taken from $SHELL; it calls back the command."""
    named = tailrace("completion", shell)
    found = tailrace("completion", env={"SHELL": f"/usr/bin/{shell}"})
    assert (named.code, named.err) == (0, "")
    assert named.out == found.out
    assert f"_TAILRACE_COMPLETE={shell}_complete".encode() in named.out


def test_no_such_shell(tailrace: Command) -> None:
    """The shells that there are, and exit code 2."""
    wrong = tailrace("completion", "csh")
    unknown = tailrace("completion", env={"SHELL": "/bin/csh"})
    assert (wrong.code, unknown.code) == (2, 2)
    assert "bash, zsh, fish" in wrong.err
    assert "bash, zsh, fish" in unknown.err


def test_commands_and_options(tailrace: Command) -> None:
    """Commands by their beginnings, options of a command, and the words that an option takes."""
    assert completed(tailrace, "d") == ["doctor"]
    assert {"chat", "completion", "doctor", "generate", "models", "pull"} <= set(completed(tailrace, ""))
    assert completed(tailrace, "models", "") == ["add", "get", "list"]
    assert completed(tailrace, "chat", "--verb") == ["--verbose"]
    assert completed(tailrace, "chat", "--think", "h") == ["high"]
    assert completed(tailrace, "chat", "--option", "num_c") == ["num_ctx="]
    assert completed(tailrace, "completion", "") == ["bash", "zsh", "fish"]


def test_paths_are_left_to_the_shell(tailrace: Command) -> None:
    """A file to add, a schema to obey."""
    for words in (["models", "add", ""], ["chat", "--format", "sche"]):
        result = tailrace(
            env={
                "_TAILRACE_COMPLETE": "bash_complete",
                "COMP_WORDS": "\n".join(["tailrace", *words]),
                "COMP_CWORD": str(len(words)),
            }
        )
        assert result.out.startswith(b"file,")


def test_models_of_the_upstream(server: FakeOllama, tailrace: Command) -> None:
    """Those that begin so, of the upstream that the line or the environment names."""
    with FakeOllama(models=["qwen3:0.6b", "qwen3:8b", "other"]) as other:
        tailrace.before = PATIENT
        assert completed(tailrace, "chat", "-m", "qwen") == []
        assert completed(tailrace, "chat", "-m", "") == ["m:latest"]
        assert completed(tailrace, "chat", "--upstream", other.url, "-m", "qwen") == ["qwen3:0.6b", "qwen3:8b"]
        assert completed(tailrace, "pull", "o", OLLAMA_HOST=other.url) == ["other:latest"]


def test_models_on_the_disk(tailrace: Command) -> None:
    """Of the embedded engine, the default one included, which comes when it is used."""
    folder = tailrace.home / "models" / "added"
    folder.mkdir(parents=True)
    (folder / "mine@latest.gguf").write_bytes(b"GGUF" + bytes(70_000))
    assert completed(tailrace, "chat", "-m", "", TAILRACE_UPSTREAM="embedded:") == ["smollm2:135m", "mine"]


def test_silence_where_nothing_answers(server: FakeOllama, tailrace: Command) -> None:
    """Down, mute, a web page, no upstream at all: nothing is offered, and nothing is said."""
    server.always(html(), path="/api/tags")
    with Silent() as silent:
        for upstream in (server.url, silent.url, f"http://127.0.0.1:{closed_port()}", "ftp://nonsense"):
            assert completed(tailrace, "chat", "-m", "", TAILRACE_UPSTREAM=upstream) == []


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("tailrace comp", ["completion"]),
        ("tailrace chat -m qw", ["qwen3:0.6b", "qwen3:8b"]),
        ("tailrace chat -m qwen3 :", ["0.6b", "8b"]),
        ("tailrace chat -m qwen3 : 8", ["8b"]),
        ("tailrace chat --model = qwen3 : 8", ["8b"]),
        ("tailrace chat 'Say this:' -m qwen3 : 0", ["0.6b"]),
    ],
)
def test_in_bash(tailrace: Command, tmp_path: Path, words: str, expected: list[str]) -> None:
    """bash itself runs the script; it cuts words at colons, and takes the part after the last one."""
    program = tmp_path / "bin" / "tailrace"
    program.parent.mkdir()
    tailrace.before = PATIENT
    program.write_text(f'#!/bin/sh\nexec {shlex.join(tailrace.program())} "$@"\n')
    program.chmod(0o755)
    quoted = words.replace("'Say this:'", "\"'Say this:'\"")
    with FakeOllama(models=["qwen3:0.6b", "qwen3:8b"]) as other:
        environment = {**tailrace.environment(), "OLLAMA_HOST": other.url}
        done = subprocess.run(
            ["bash", "--norc", "-c", IN_BASH.format(words=quoted)],
            env={**environment, "PATH": f"{program.parent}{os.pathsep}{environment['PATH']}"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert (done.stdout.splitlines(), done.stderr) == (expected, "")


@pytest.mark.parametrize(
    ("words", "last", "joined", "kept"),
    [
        (["chat", "-m"], "a", ["chat", "-m", "a"], ""),
        (["chat", "-m", "a"], ":", ["chat", "-m", "a:"], "a:"),
        (["chat", "-m", "a", ":"], "b", ["chat", "-m", "a:b"], "a:"),
        (["-u", "openai", ":", "http", ":"], "//h", ["-u", "openai:http://h"], "openai:http:"),
        (["-u", "h", ":", "1", "-m"], "b", ["-u", "h:1", "-m", "b"], ""),
        (["--model", "=", "a", ":"], "b", ["--model", "a:b"], "a:"),
        (["Say:", "-m"], "b", ["Say:", "-m", "b"], ""),
        ([], "", [""], ""),
    ],
)
def test_words_that_bash_cut(words: list[str], last: str, joined: list[str], kept: str) -> None:
    """Put together again, with the part that bash has already."""
    assert _rejoined(words, last) == (joined, kept)
