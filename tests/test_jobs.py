"""The suite in other surroundings: which Python is taken, and when an environment is made again."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests import jobs

posix = pytest.mark.skipif(os.name == "nt", reason="the stand-ins for Pythons are scripts with a #! line")


def _program(path: Path, output: str, code: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {output}\nexit {code}\n")
    path.chmod(0o755)
    return path


@posix
def test_a_python_is_one_that_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shim of pyenv's that leads nowhere is passed over, and of pyenv's own versions the newest is taken."""
    _program(tmp_path / "bin" / "python3.98", "no such version", 127)
    for number in (9, 10):
        _program(tmp_path / "versions" / f"3.98.{number}" / "bin" / "python", "3.98")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))

    assert jobs.find_python("3.98") == str(tmp_path / "versions" / "3.98.10" / "bin" / "python")
    assert jobs.find_python("3.99") is None
    on_path = _program(tmp_path / "bin" / "python3.98", "3.98")
    assert jobs.find_python("3.98") == str(on_path)


def test_a_python_that_is_not_here_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """It is no failure."""
    assert jobs.main(["py3.99"]) == 0
    assert capfd.readouterr().out == "py3.99: not installed here, skipped\n"


def test_an_environment_is_kept_until_the_pins_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made once, again when what it is made from changes, and after a failure."""
    pins = tmp_path / "pins.txt"
    pins.write_text("one")
    made: list[list[list[str]]] = []
    said: list[str | None] = [None, None, "no way to the index", None]

    def install(commands: list[list[str]]) -> str | None:
        made.append(commands)
        (tmp_path / "job").mkdir()
        return said[len(made) - 1]

    monkeypatch.setattr(jobs, "run_quietly", install)
    monkeypatch.setattr(jobs, "sources", lambda _pins: [pins])

    def ensured() -> tuple[bool, int]:
        return jobs.ensure(tmp_path / "job", "python", "lowest"), len(made)

    assert [ensured(), ensured()] == [(True, 1), (True, 1)]
    pins.write_text("two")
    assert [ensured(), ensured()] == [(True, 2), (True, 2)]
    pins.write_text("three")
    assert [ensured(), ensured(), ensured()] == [(False, 3), (True, 4), (True, 4)]
    assert json.loads((tmp_path / "job" / "job.json").read_bytes())["python"] == "python"
    assert made[0][0][:3] == ["python", "-m", "venv"]


def test_arguments_go_to_pytest(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """The page's tests are left out, and the exit code tells how it went."""
    called: list[list[str]] = []

    class Done:
        returncode = 1

    def run(command: list[str], **_: object) -> Done:
        called.append(command)
        return Done()

    monkeypatch.setattr(jobs, "ensure", lambda *_: True)
    monkeypatch.setattr(jobs, "find_python", lambda _: "python")
    monkeypatch.setattr("subprocess.run", run)

    assert jobs.main(["py3.13", "-n", "2", "-k", "name"]) == 1
    assert called[0][1:] == ["-m", "pytest", "--ignore=tests/page", "-n", "2", "-k", "name"]
    assert capfd.readouterr().out.startswith("py3.13: FAILED (")


def test_libraries_of_others_are_in_an_environment_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job of libraries runs their tests alone, on this Python, with their own pins."""
    asked: list[Any] = []

    def job(*how: Any) -> bool:
        asked.append(how)
        return True

    monkeypatch.setattr(jobs, "job", job)

    assert jobs.main(["libraries", "-x"]) == 0
    assert asked == [("libraries", jobs.HERE, "libraries", [], ["tests/libraries", "-x"])]
    pins = (Path(__file__).parents[1] / "requirements" / "libraries.txt").read_text(encoding="utf-8")
    for name in ("langchain-ollama", "llama-index-llms-ollama", "llm-ollama", "autogen-ext"):
        assert f"\n{name}==" in f"\n{pins}"
