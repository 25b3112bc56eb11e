"""`install_as_ollama`: libraries that import ``ollama``, or its private modules, get tailrace."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from typing import Any

import ollama
import pytest

import tailrace
from tailrace.client import install
from tailrace.testing import FakeOllama, closed_port

PROGRAM = """
import ollama as ours
import ollama._types as types
from ollama import AsyncClient, Client, chat
from ollama._client import CONNECTION_ERROR_MESSAGE, _copy_tools
from ollama._types import ChatRequest, CreateRequest
from ollama._utils import convert_function_to_tool
"""


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "ollama"}
    yield
    after = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "ollama"}
    assert after == before


def test_everything_is_ours() -> None:
    """In the `with` every import form gives tailrace's names; after it ollama-python's are back."""
    with tailrace.install_as_ollama():
        told: dict[str, Any] = {}
        exec(PROGRAM, told)
        ours, types = told["ours"], told["types"]
        assert (told["Client"], told["AsyncClient"]) == (tailrace.Client, tailrace.AsyncClient)
        assert told["chat"] is tailrace.chat
        assert (types.Message, types.ResponseError) == (tailrace.Message, tailrace.ResponseError)
        assert told["convert_function_to_tool"] is tailrace.tool_from_function
        assert ours._types is types
        assert set(tailrace.__all__) <= set(dir(ours))
        assert importlib.util.find_spec("ollama") is ours.__spec__
        assert importlib.import_module("ollama._utils") is ours._utils
        assert "messages" in dict(inspect.getmembers(told["ChatRequest"]))["model_fields"]  # as AutoGen looks
        request = told["CreateRequest"](model="m", from_="n")
        assert request.model_dump(exclude_none=True) == {"model": "m", "from": "n"}
        assert list(told["_copy_tools"](None)) == []
        with pytest.raises(tailrace.ConnectionError, match=told["CONNECTION_ERROR_MESSAGE"]):
            told["Client"](f"http://127.0.0.1:{closed_port()}").list()

    assert sys.modules["ollama"] is ollama
    assert importlib.import_module("ollama") is ollama


def test_every_exported_name_is_there() -> None:
    """All names of the private modules that are played can be imported from them."""
    with tailrace.install_as_ollama():
        for name in install._MODULES:
            module = importlib.import_module(name)
            for each in dir(module):
                assert hasattr(module, each), f"{name}.{each}"


def test_what_is_not_there_says_so() -> None:
    """A name that is not played is an ImportError and an AttributeError that name tailrace."""
    with tailrace.install_as_ollama():
        with pytest.raises(ImportError, match="no_such"):
            exec("from ollama._types import no_such")
        with pytest.raises(AttributeError, match="played by tailrace"):
            getattr(importlib.import_module("ollama"), "no_such")  # noqa: B009


def test_undone_once_and_in_order() -> None:
    """Installed twice and undone twice, in any order or too often: what was there first is there last."""
    first = tailrace.install_as_ollama()
    second = tailrace.install_as_ollama()
    second.undo()
    second.undo()
    assert importlib.import_module("ollama").Client is tailrace.Client
    first.undo()
    first.undo()
    assert sys.modules["ollama"] is ollama


def test_a_library_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was imported meanwhile stays ours after the end, as its functions do."""
    with FakeOllama() as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        monkeypatch.setattr("tailrace.client.default._client", None)
        with tailrace.install_as_ollama():
            from ollama import chat
        assert chat("m", [{"role": "user", "content": "hi"}]).message.content == "Hello! I am a fake model."
