"""Ollama's JavaScript client and curl against the gateway: what they read, what they throw, and that leaving frees."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.node import Script, installed, script
from tests.gateway.fronting import Front, fronting, records
from tests.programs import need
from tests.web.reader import PATIENCE

from tailrace.testing import FakeModel, FakeOllama, FakeOpenAI, Step, done, error, say, stall, status, think, tool_call

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def over_ollama() -> Iterator[Front]:
    models: list[str | FakeModel] = ["m", FakeModel("plain", capabilities=("completion",))]
    with FakeOllama(models=models) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front


@pytest.fixture(scope="module")
def over_openai() -> Iterator[Front]:
    with FakeOpenAI(models=["m"]) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front


@pytest.fixture(scope="module", params=["ollama", "openai"])
def front(request: pytest.FixtureRequest) -> Front:
    """A gateway, in front of each kind of server."""
    found: Front = request.getfixturevalue(f"over_{request.param}")
    return found


@pytest.fixture(scope="module", params=["node", "browser"])
def client(front: Front, test_home: Path, request: pytest.FixtureRequest) -> Iterator[Script]:
    """The client, as Node and as browsers get it."""
    with script(installed(test_home), "ollama.mjs", front.url, request.param) as one:
        assert one.hear() == "ready"
        yield one


def scripted(front: Front, *steps: Step, chat: bool = True) -> tuple[str, int]:
    """Has the model answer as the script says; returns the path that will be asked, and how often it has been."""
    server: FakeOllama | FakeOpenAI
    if isinstance(front.behind, FakeOllama):
        server, path = front.behind, "/api/chat" if chat else "/api/generate"
    else:
        server, path = front.openai, "/v1/chat/completions"
    server.script(*steps, path=path)
    return path, front.seen(path)


def asked(**more: Any) -> dict[str, Any]:
    return {"model": "llama3.2", "messages": HI, **more}


def test_chat(front: Front, client: Script) -> None:
    """A stream and a whole answer say the same, under the name that was asked for."""
    steps = [think("Hm."), say("Hel", "lo"), tool_call("add", {"a": 1}), done(prompt_eval_count=5, eval_count=4)]
    scripted(front, *steps)
    chunks = client.ask("stream", method="chat", body=asked())["chunks"]
    scripted(front, *steps)
    whole = client.ask("call", method="chat", body=asked())

    assert "".join(chunk["message"]["content"] for chunk in chunks) == whole["message"]["content"] == "Hello"
    assert "".join(chunk["message"].get("thinking", "") for chunk in chunks) == whole["message"]["thinking"] == "Hm."
    (call,) = whole["message"]["tool_calls"]
    assert [call] == [each for chunk in chunks for each in chunk["message"].get("tool_calls", ())]
    assert call["function"]["arguments"] == {"a": 1}
    assert {chunk["model"] for chunk in (*chunks, whole)} == {"llama3.2"}
    for last in (chunks[-1], whole):
        assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "stop", 4)


def test_generate(front: Front, client: Script) -> None:
    """The same for a prompt, with a schema for its answer."""
    body = {"model": "m", "prompt": "hi", "format": {"type": "object"}, "options": {"seed": 1}}
    for method in ("stream", "call"):
        path, before = scripted(front, say("{", "}"), chat=False)
        answer = client.ask(method, method="generate", body=body)
        text = answer["response"] if method == "call" else "".join(chunk["response"] for chunk in answer["chunks"])
        assert text == "{}"
        sent = front.next(path, before).json
        assert (sent.get("options") or sent)["seed"] == 1


def test_images(front: Front, client: Script) -> None:
    """The client sends base64, and so it reaches the model."""
    path, before = scripted(front, say("A mill."))
    client.ask("call", method="chat", body=asked(messages=[{**HI[0], "images": ["iVBORw0KGgo="]}]))
    assert "iVBORw0KGgo=" in front.next(path, before).body.decode()


def test_models(front: Front, client: Script) -> None:
    """Lists, what a model is, the version and embeddings."""
    assert client.ask("call", method="chat", body={"model": "m"})["done_reason"] == "load"
    names = {model["name"] for model in client.ask("call", method="list", body={})["models"]}
    assert {name.removesuffix(":latest") for name in names} >= {"m", "llama3.2"}
    assert "completion" in client.ask("call", method="show", body={"model": "llama3.2"})["capabilities"]
    loaded = [model["name"] for model in client.ask("call", method="ps", body={})["models"]]
    assert loaded == (["m:latest"] if isinstance(front.behind, FakeOllama) else [])
    assert client.ask("call", method="version", body={})["version"]
    rows = client.ask("call", method="embed", body={"model": "m", "input": ["a", "b"]})["embeddings"]
    assert [len(row) for row in rows] == [8, 8]
    assert len(client.ask("call", method="embeddings", body={"model": "m", "prompt": "a"})["embedding"]) == 8


def test_work(front: Front, client: Script) -> None:
    """Pull, create, copy, push and delete where an Ollama server is behind it; elsewhere the reason why not."""
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("stream", "pull", {"model": "new"}),
        ("call", "pull", {"model": "new"}),
        ("stream", "create", {"model": "c", "from": "m"}),
        ("call", "copy", {"source": "c", "destination": "d"}),
        ("stream", "push", {"model": "d"}),
        ("call", "delete", {"model": "d"}),
    ]
    for do, method, body in calls:
        answer = client.ask(do, method=method, body=body)
        if isinstance(front.behind, FakeOpenAI):
            assert answer["error"]["status_code"] == 501
            assert "which keeps models" in answer["error"]["message"]
        else:
            assert (answer["chunks"][-1] if do == "stream" else answer)["status"] == "success"


def test_errors(front: Front, client: Script) -> None:
    """An error before the answer has its status; one within a stream is thrown after what had come."""
    for do in ("call", "stream"):
        error_ = client.ask(do, method="chat", body={"model": "none", "messages": HI})["error"]
        assert (error_["name"], error_["status_code"]) == ("ResponseError", 404)
        assert error_["message"] == "model 'none' not found"
    scripted(front, say("Hel"), error("the runner broke"))
    told = client.ask("stream", method="chat", body=asked())
    assert [chunk["message"]["content"] for chunk in told["chunks"]] == ["Hel"]
    assert "the runner broke" in told["error"]["message"]
    scripted(front, status(500, {"error": "out of memory"}))
    assert client.ask("stream", method="chat", body=asked())["error"]["status_code"] == 500


@pytest.mark.parametrize("method", ["chat", "generate"])
def test_abort(front: Front, client: Script, method: str) -> None:
    """A stream that is aborted frees the model."""
    path, before = scripted(front, say("Hel"), stall(), chat=method == "chat")
    body = asked() if method == "chat" else {"model": "m", "prompt": "hi"}
    client.ask("begin", method=method, body=body)
    record = front.next(path, before)
    assert record.wait_until_phase("stalling")
    client.ask("abort")

    assert record.wait_until_left(PATIENCE)
    assert record.phase == "stalling"


# -- curl --------------------------------------------------------------------------------------------------------------


def curl(front: Front, path: str, *arguments: str) -> bytes:
    return subprocess.run(
        [need("curl"), "-sS", *arguments, f"{front.url}{path}"], capture_output=True, timeout=PATIENCE, check=True
    ).stdout


def test_curl(front: Front) -> None:
    """The commands of Ollama's own documentation, which call their JSON a form."""
    assert curl(front, "/") == b"Ollama is running"
    assert curl(front, "/", "-o", "/dev/null", "-I", "-w", "%{http_code}") == b"200"
    scripted(front, say("Hel", "lo"))
    chat = curl(front, "/api/chat", "-N", "-d", json.dumps(asked()))
    assert "".join(line["message"]["content"] for line in records(chat)) == "Hello"
    scripted(front, say("Hel", "lo"), chat=False)
    body = {"model": "m", "prompt": "hi", "stream": False}
    assert json.loads(curl(front, "/api/generate", "-d", json.dumps(body)))["response"] == "Hello"
    refused = curl(
        front, "/api/chat", "-d", '{"model": "none", "messages": [{"role": "user"}]}', "-w", "\n%{http_code}"
    )
    assert refused.split(b"\n") == [b'{"error":"model \'none\' not found"}', b"404"]
