"""Workers that do not start, do not end, or are not the only ones: the odd ends of their lives."""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.backends.embedded import supervisor
from tailrace.backends.embedded.supervisor import Supervisor
from tailrace.errors import EngineError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes as POSIX knows them")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """A supervisor whose folders are in one of ours."""
    pytest.importorskip("xllamacpp")
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    one = Supervisor()
    yield one
    one.stop()


def pretend(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Puts a shell script in the place of Python."""
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{code}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


def left(folder: Path) -> tuple[list[Path], int]:
    """What is left of a worker: folders, and how many files are open."""
    files = Path("/proc/self/fd")
    return list((folder / "t").iterdir()), len(list(files.iterdir())) if files.exists() else 0


def test_a_program_that_is_not_there(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of a worker that could not be started."""
    before = left(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no python"))

    with pytest.raises(FileNotFoundError):
        own.endpoint()

    assert left(tmp_path) == before


def test_no_more_open_files(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor of one for which there were no pipes."""
    before = left(tmp_path)

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pipe", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        own.endpoint()

    assert left(tmp_path) == before


def test_a_worker_that_says_why_it_cannot(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own words are the error."""
    pretend(tmp_path, monkeypatch, """echo '{"error":"no engine in here"}'""")

    with pytest.raises(EngineError, match=r"^no engine in here$"):
        own.endpoint()
    assert not own.running


def test_a_worker_that_does_not_end(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that hears neither the end of its stdin nor SIGTERM is killed."""
    monkeypatch.setattr(supervisor, "_STOP_TIMEOUT", 0.05)
    pretend(tmp_path, monkeypatch, """trap '' TERM\necho '{"port":1}'\nwhile :; do sleep 0.1; done""")
    pid = own.endpoint().pid
    worker = own._worker
    assert worker is not None

    own.stop()

    assert worker.process.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_next_use_after_a_crash(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts another worker, and how the first one ended is told to who asks."""
    pretend(tmp_path, monkeypatch, """echo '{"port":1}'\nexec cat >/dev/null""")
    first = own.endpoint()
    worker = own._worker
    assert worker is not None
    os.kill(first.pid, signal.SIGKILL)
    worker.process.wait()

    assert own.endpoint().pid != first.pid
    assert own.describe_crash(0) == f"the engine process (pid {first.pid}) ended: killed by SIGKILL"


def test_a_fork_without_a_worker(own: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that was forked when the worker had been stopped has none, as its parent."""
    pretend(tmp_path, monkeypatch, """echo '{"port":1}'\nexec cat >/dev/null""")
    own.endpoint()
    own.stop()

    child = os.fork()
    if child == 0:
        os._exit(1 if own.running else 7)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize(
    "load", [None, "", "0.1 0.2 0.3", "0.1 0.2 0.3 x/9 1"], ids=["missing", "empty", "short", "odd"]
)
def test_a_machine_that_does_not_tell_its_load(load: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is not known how busy the machine is, nothing is set."""

    def read(path: Path, **_: object) -> str:
        if load is None:
            raise FileNotFoundError(path)
        return load

    monkeypatch.setattr(Path, "read_text", read)

    assert supervisor._spin() == {}


def test_a_temporary_folder_with_a_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket's path may not be long, so the worker's folder is elsewhere then, and nothing is left in that one."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    folder = Path(supervisor._private_folder())

    assert list(long.iterdir()) == []
    assert (folder.parent, folder.stat().st_mode & 0o777) == (Path("/tmp"), 0o700)
    folder.rmdir()
