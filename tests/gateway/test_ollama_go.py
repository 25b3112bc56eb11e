"""Ollama's client for Go against the gateway: the one that its command is made of, and the strictest of all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.golang import BUILDING, built, golang
from tests.clients.node import Script
from tests.gateway.fronting import Front, fronting
from tests.web.reader import PATIENCE

from tailrace.testing import FakeOllama, FakeOpenAI, Step, done, error, fin, say, stall, status, think, tool_call

HI = [{"role": "user", "content": "hi"}]
pytestmark = pytest.mark.timeout(BUILDING + 100)


@pytest.fixture(scope="module", params=["ollama", "openai"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """A gateway, in front of each kind of server."""
    server = FakeOllama(models=["m"]) if request.param == "ollama" else FakeOpenAI(models=["m"])
    with server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front


@pytest.fixture(scope="module")
def client(front: Front, test_home: Path) -> Iterator[Script]:
    with golang(built(test_home), front.url) as one:
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


def test_before_it_runs(front: Front, client: Script) -> None:
    """What the command asks before it talks: is somebody there, what is the model, load it."""
    assert client.ask("heartbeat")["error"] is None
    shown = client.ask("show", body={"model": "llama3.2"})["value"]
    assert "completion" in shown["capabilities"]
    assert isinstance(shown["model_info"]["general.architecture"], str)  # the command takes it for granted
    (loaded,) = client.ask("generate", body={"model": "llama3.2"})["pieces"]
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")


def test_lists(front: Front, client: Script) -> None:
    """What `ollama list` and `ollama ps` print is there, the first twelve characters of each digest too."""
    models = client.ask("list")["value"]["models"]
    assert {model["name"].removesuffix(":latest") for model in models} >= {"m", "llama3.2"}
    running = client.ask("ps")["value"]["models"]
    assert len(running) == (1 if isinstance(front.behind, FakeOllama) else 0)
    assert all(len(model["digest"]) >= 12 for model in [*models, *running])
    assert client.ask("version")["value"]


@pytest.mark.parametrize("stream", [None, True, False])
def test_chat(front: Front, client: Script, stream: bool | None) -> None:
    """Streamed, whole, and as it is by default; with reasoning, a call and the figures that `--verbose` shows."""
    steps = [think("Hm."), say("Hel", "lo"), tool_call("add", {"a": 1}), done(prompt_eval_count=5, eval_count=4)]
    scripted(front, *steps)
    body = asked() if stream is None else asked(stream=stream)
    pieces = client.ask("chat", body=body)["pieces"]

    assert len(pieces) == (1 if stream is False else 5)
    assert "".join(piece["message"]["content"] for piece in pieces) == "Hello"
    assert "".join(piece["message"].get("thinking", "") for piece in pieces) == "Hm."
    calls = [call["function"] for piece in pieces for call in piece["message"].get("tool_calls", ())]
    assert [(call["name"], call["arguments"]) for call in calls] == [("add", {"a": 1})]
    last = pieces[-1]
    assert (last["model"], last["done"], last["done_reason"]) == ("llama3.2", True, "stop")
    assert (last["prompt_eval_count"], last["eval_count"]) == (5, 4)
    assert all(last[name] > 0 for name in ("total_duration", "prompt_eval_duration", "eval_duration"))


def test_generate(front: Front, client: Script) -> None:
    """A prompt, as `ollama run MODEL PROMPT` sends it."""
    scripted(front, say("Hel", "lo"), chat=False)
    body = {"model": "m", "prompt": "hi", "system": "s", "format": {"type": "object"}, "options": {"seed": 1}}
    pieces = client.ask("generate", body=body)["pieces"]
    assert "".join(piece["response"] for piece in pieces) == "Hello"


def test_embeddings(front: Front, client: Script) -> None:
    """Both forms."""
    assert len(client.ask("embed", body={"model": "m", "input": ["a", "b"]})["value"]["embeddings"]) == 2
    assert len(client.ask("embeddings", body={"model": "m", "prompt": "a"})["value"]["embedding"]) == 8


def test_work(front: Front, client: Script) -> None:
    """Pull, create, copy, push and delete; elsewhere 501 with the reason."""
    for do, body in (
        ("pull", {"model": "new"}),
        ("create", {"model": "c", "from": "m"}),
        ("copy", {"source": "c", "destination": "d"}),
        ("push", {"model": "d"}),
        ("delete", {"model": "d"}),
    ):
        answer = client.ask(do, body=body)
        if isinstance(front.behind, FakeOpenAI):
            assert answer["error"]["status"] == 501
        else:
            assert answer["error"] is None
            assert answer["value"] == "done" or answer["pieces"][-1]["status"] == "success"


def test_errors(front: Front, client: Script) -> None:
    """An unknown model is a 404, on which the command pulls; a failure in the stream ends it, whatever it is."""
    for do, body in (("chat", asked(model="none")), ("show", {"model": "none"})):
        told = client.ask(do, body=body)["error"]
        assert (told["status"], told["message"]) == (404, "model 'none' not found")
    for step, words in ((error("the runner broke"), "the runner broke"), (fin(), "closed the stream")):
        scripted(front, say("Hel"), step)
        answer = client.ask("chat", body=asked())
        assert [piece["message"]["content"] for piece in answer["pieces"]] == ["Hel"]
        assert words in answer["error"]["message"]
    scripted(front, status(500, {"error": "out of memory"}))
    told = client.ask("chat", body=asked())["error"]
    assert (told["status"], "out of memory" in told["message"]) == (500, True)


def test_leaving(front: Front, client: Script) -> None:
    """A context that is cancelled, as by Ctrl-C, frees the model."""
    path, before = scripted(front, say("Hel"), stall())
    (piece,) = client.ask("chat", body=asked(), leave=True)["pieces"]
    record = front.next(path, before)

    assert piece["message"]["content"] == "Hel"
    assert record.wait_until_left(PATIENCE)
    assert record.phase == "stalling"
