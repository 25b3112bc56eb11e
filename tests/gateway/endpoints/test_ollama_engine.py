"""Ollama's Python client against the gateway on the embedded engine: its features, with a real model behind them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import pydantic
import pytest
from tests.gateway.fronting import Front, fronting

from tailrace.backends.embedded.models import DEFAULT_MODEL

HI: list[Any] = [{"role": "user", "content": "Name three colours."}]
OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 12}
ASKED: dict[str, Any] = {"model": "llama3.2", "messages": HI, "options": OPTIONS}


@pytest.fixture(scope="module")
def front(home: Path) -> Iterator[Front]:
    """A gateway on the engine, for code that was written for another model."""
    pytest.importorskip("xllamacpp")
    options = ("--no-page", "--alias", f"llama3.2={DEFAULT_MODEL}")
    with fronting("embedded:", options=options, TAILRACE_HOME=str(home)) as one:
        yield one


@pytest.fixture
def client(front: Front) -> Iterator[ollama.Client]:
    with ollama.Client(host=front.url) as one:
        yield one


async def test_streamed_and_whole(front: Front, client: ollama.Client) -> None:
    """The same request has the same answer, streamed and whole, from both clients, with the same exact counts."""
    whole = client.chat(**ASKED)
    async with ollama.AsyncClient(host=front.url) as aclient:
        chunks = [chunk async for chunk in await aclient.chat(**ASKED, stream=True)]
    last = chunks[-1]

    assert whole.message.content == "".join(chunk.message.content or "" for chunk in chunks)
    assert (whole.done_reason, whole.eval_count) == (last.done_reason, last.eval_count) == ("length", 12)
    assert whole.prompt_eval_count == last.prompt_eval_count
    assert {chunk.model for chunk in chunks} == {"llama3.2"}
    assert (last.total_duration or 0) >= (last.eval_duration or 0) > 0


def test_generate(client: ollama.Client) -> None:
    """A prompt goes through the model's template, and a raw one goes on as it is, until its stop word."""
    answer = client.generate("llama3.2", "Name three colours.", options=OPTIONS)
    chunks = list(client.generate("llama3.2", "Name three colours.", options=OPTIONS, stream=True))
    raw = client.generate(
        "llama3.2", "1, 2, 3, 4,", raw=True, options={"temperature": 0, "num_predict": 20, "stop": ["7"]}
    )

    assert answer.response
    assert answer.response == "".join(chunk.response or "" for chunk in chunks)
    assert (raw.response or "").strip().startswith("5")
    assert "7" not in (raw.response or "")
    assert raw.done_reason == "stop"


class Colour(pydantic.BaseModel):
    name: str
    dark: bool


def test_structured_output(client: ollama.Client) -> None:
    """The engine keeps to a schema."""
    answer = client.chat(
        "llama3.2", HI, format=Colour.model_json_schema(), options={"temperature": 0, "num_predict": 60}
    )
    assert isinstance(Colour.model_validate_json(answer.message.content or ""), Colour)


def test_logprobs(client: ollama.Client) -> None:
    """Each token has its probability and as many others as were asked for."""
    answer = client.chat(**ASKED, logprobs=True, top_logprobs=2)
    assert answer.logprobs is not None
    assert len(answer.logprobs) == 12
    assert {len(token.top_logprobs or ()) for token in answer.logprobs} == {2}


def test_models(front: Front, client: ollama.Client) -> None:
    """What there is, what it can, what is loaded, and what unloads it; each under the names it goes by."""
    names = [model.model for model in client.list().models]
    assert set(names) >= {DEFAULT_MODEL, "llama3.2"}
    assert all(len(model.digest or "") >= 12 for model in client.list().models)
    assert "completion" in (client.show("llama3.2").capabilities or ())
    assert client.chat("llama3.2").done_reason == "load"
    assert [model.model for model in client.ps().models] == [DEFAULT_MODEL]
    assert client.chat("llama3.2", keep_alive=0).done_reason == "unload"
    assert client.ps().models == []


def test_embeddings(client: ollama.Client) -> None:
    """Rows of length one, for one text and several, and the older form."""
    rows = client.embed("llama3.2", ["blue", "green"]).embeddings
    assert [round(sum(value * value for value in row), 3) for row in rows] == [1.0, 1.0]
    assert len(client.embeddings("llama3.2", "blue").embedding) == len(rows[0])


def test_refusals(client: ollama.Client) -> None:
    """As Ollama's: an unknown model, what the model cannot, and what the engine cannot."""
    calls: list[tuple[str, dict[str, Any], int, str]] = [
        ("chat", {"model": "none", "messages": HI}, 404, "model 'none' not found"),
        ("generate", {"model": "none", "prompt": "hi"}, 404, "model 'none' not found"),
        ("chat", {**ASKED, "think": True}, 400, "does not support thinking"),
        ("pull", {"model": "none"}, 501, "can only pull"),
        ("push", {"model": "llama3.2"}, 501, "cannot push"),
        ("copy", {"source": "llama3.2", "destination": "x"}, 501, "cannot copy"),
        ("delete", {"model": "llama3.2"}, 501, "cannot delete"),
    ]
    for method, arguments, code, words in calls:
        with pytest.raises(ollama.ResponseError, match=words) as caught:
            getattr(client, method)(**arguments)
        assert caught.value.status_code == code


def test_leaving_frees_the_engine(front: Front) -> None:
    """A client that leaves a long answer ends its run, and the engine answers the next."""
    with httpx.Client(base_url=front.url, timeout=60) as http:
        body = {"model": "llama3.2", "messages": HI, "options": {"num_predict": 1000, "stop": []}}
        with http.stream("POST", "/api/chat", json=body) as response:
            run = response.headers["x-run-id"]
            assert json.loads(next(response.iter_lines()))["done"] is False
    assert front.ended(run)["outcome"] == "abandoned"
    assert front.call("/api/chat", {**ASKED, "stream": False}).json["eval_count"] == 12
