"""Places: what the terminal keeps is its user's alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.terminal.repl import places
from tailrace.terminal.repl.history import LineHistory
from tailrace.terminal.repl.tree import write_whole


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of tailrace's that is not there yet."""
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Rights that new files are not to have."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def _rights(folder: Path) -> dict[str, int]:
    return {str(each.relative_to(folder.parent)): each.stat().st_mode & 0o777 for each in (folder, *folder.rglob("*"))}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("earlier", [False, True])
def test_state_is_its_users_alone(home: Path, earlier: bool) -> None:
    """Whatever the umask; and also where an earlier version made the folder and the history for all to read."""
    if earlier:
        (home / "state" / "conversations").mkdir(parents=True)
        (home / "state" / "history").touch()
        for each in (home / "state", home / "state" / "conversations", home / "state" / "history"):
            each.chmod(0o755 if each.is_dir() else 0o644)
    LineHistory(places.state_dir() / "history", print).store_string("a secret")
    write_whole(places.conversation("talk"), b"{}")

    assert _rights(home / "state") == {
        "state": 0o700,
        "state/history": 0o600,
        "state/conversations": 0o700,
        "state/conversations/talk.json": 0o600,
    }


def test_folders_of_the_user_stay_as_they_are(home: Path, tmp_path: Path) -> None:
    """A conversation that is saved elsewhere changes no folder there, and is its user's alone."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    write_whole(places.conversation(str(folder / "deeper" / "talk.json")), b"{}")

    assert folder.stat().st_mode & 0o777 == 0o755
    assert (folder / "deeper" / "talk.json").stat().st_mode & 0o777 == 0o600
    assert not home.exists()
