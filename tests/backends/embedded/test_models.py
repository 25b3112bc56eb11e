"""Model files: what is found, and what is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.backends.embedded.store import make_store

from tailrace.backends.embedded import models
from tailrace.backends.embedded.adding import add_model
from tailrace.backends.embedded.models import DEFAULT_MODEL, UnknownModelError
from tailrace.errors import EngineError, ModelError


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


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    """A file that the system cannot even look for is not called missing."""
    with pytest.raises(ModelError, match="cannot be read: File name too long"):
        models.check(tmp_path / f"{'x' * 300}.gguf")


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the user names none it is the one that the system has for it; that is known only with platformdirs."""
    monkeypatch.delenv("TAILRACE_HOME", raising=False)
    assert models.data_dir().name == "tailrace"
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(EngineError, match="platformdirs is not installed"):
        models.data_dir()


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


def test_strangers_beside_added_models(data: Path, gguf: Path) -> None:
    """A file that nobody added by a name is passed over."""
    added = add_model(gguf, "mine")
    shutil.copy(gguf, added.path.with_name("not a name@latest.gguf"))

    assert [model.name for model in models.list_models()] == ["mine"]


# ---- Ollama's store ----


def test_where_ollamas_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the user names none, it is in the home folder or where a service keeps it."""
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    assert list(models._ollama_roots()) == [tmp_path / ".ollama/models", Path("/usr/share/ollama/.ollama/models")]


def test_a_store_that_cannot_be_looked_into(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed over."""
    monkeypatch.setenv("OLLAMA_MODELS", "x" * 5000)

    assert models.list_models() == []


def test_models_from_another_registry(data: Path, gguf: Path, tmp_path: Path) -> None:
    """Their names begin with the registry's, and one without a word on itself is a model all the same."""
    manifest = make_store(tmp_path / "ollama", gguf, "llama3", "8b")
    told = json.loads(manifest.read_text())
    del told["config"]
    other = tmp_path / "ollama/manifests/hf.co/library/llama3/8b"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps(told))

    listed = {model.name: model.details.get("family") for model in models.list_models()}

    assert listed == {"llama3:8b": "llama", "hf.co/library/llama3:8b": None}
    assert models.find("hf.co/library/llama3:8b").source == "ollama"


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
