"""The official clients against the gateway on the embedded engine: the same features, with a real model behind them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from tests.clients.node import installed, script
from tests.web.process import Running, running
from tests.web.reader import Reader

HI: list[Any] = [{"role": "user", "content": "Name three colours."}]
ASKED: dict[str, Any] = {"messages": HI, "temperature": 0, "seed": 1, "max_tokens": 12}


@pytest.fixture(scope="module")
def served(home: Path) -> Iterator[Running]:
    pytest.importorskip("xllamacpp")

    def command(port: int) -> list[str]:
        options = ["--port", str(port), "--upstream", "embedded:", "--no-page"]
        return [sys.executable, "-m", "tailrace", "serve", *options]

    with running(command, {"TAILRACE_HOME": str(home)}) as one:
        yield one


@pytest.fixture(scope="module")
def model(served: Running) -> str:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any") as client:
        return client.models.list().data[0].id


@pytest.fixture
def client(served: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as one:
        yield one


@pytest.fixture
async def aclient(served: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as one:
        yield one


async def test_streamed_and_whole(client: openai.OpenAI, aclient: openai.AsyncOpenAI, model: str) -> None:
    """The same request has the same answer, streamed and whole, from both clients, with the same exact counts."""
    whole = client.chat.completions.create(model=model, **ASKED)
    streaming = await aclient.chat.completions.create(
        model=model, stream=True, stream_options={"include_usage": True}, **ASKED
    )
    chunks = [chunk async for chunk in streaming]

    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert whole.choices[0].message.content == "".join(said)
    assert whole.usage is not None
    assert whole.usage == chunks[-1].usage
    assert whole.usage.prompt_tokens > 0
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12


class Colour(pydantic.BaseModel):
    name: str
    dark: bool


def test_structured_output(client: openai.OpenAI, model: str) -> None:
    """The engine keeps to the schema of the client's parse helper."""
    answer = client.chat.completions.parse(
        model=model, messages=HI, temperature=0, max_tokens=60, response_format=Colour
    )

    assert isinstance(answer.choices[0].message.parsed, Colour)


def test_logprobs(client: openai.OpenAI, model: str) -> None:
    """Each token has its probability and as many others as were asked for."""
    answer = client.chat.completions.create(model=model, logprobs=True, top_logprobs=2, **ASKED)

    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert "".join(token.token for token in logprobs.content) == answer.choices[0].message.content
    assert {len(token.top_logprobs) for token in logprobs.content} == {2}


def test_completion(client: openai.OpenAI, model: str) -> None:
    """A text goes on as it is, until its stop word."""
    answer = client.completions.create(model=model, prompt="1, 2, 3, 4,", temperature=0, max_tokens=20, stop=["7"])

    assert answer.choices[0].text.strip().startswith("5")
    assert "7" not in answer.choices[0].text
    assert answer.choices[0].finish_reason == "stop"


def test_an_unknown_model(client: openai.OpenAI) -> None:
    """It is a 404, as of any upstream."""
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="none", stream=True, **ASKED)


def test_closing_a_stream_frees_the_engine(served: Running, client: openai.OpenAI, model: str) -> None:
    """A client that leaves a long answer ends its run."""
    with client.chat.completions.with_streaming_response.create(
        model=model, messages=HI, stream=True, max_tokens=1000, extra_body={"stop": []}
    ) as response:
        run = response.headers["x-run-id"]
        next(response.parse())

    while (told := _told(served, run))["state"] != "ended":
        pass  # to read its events would keep it going
    assert told["outcome"] == "abandoned"


def _told(served: Running, run: str) -> Any:
    with Reader(served.url, f"/runs/{run}", method="GET") as reader:
        return reader.json


def test_npm_openai(served: Running, test_home: Path, model: str) -> None:
    """JavaScript's client reads what Python's reads."""
    with script(installed(test_home), "openai.mjs", f"{served.url}/v1") as page:
        assert page.hear() == "ready"
        whole = page.ask("create", model=model, **ASKED)
        chunks = page.ask("stream", model=model, **ASKED, stream_options={"include_usage": True})["chunks"]

    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"])
    assert (said, chunks[-1]["usage"]) == (whole["choices"][0]["message"]["content"], whole["usage"])


@pytest.mark.parametrize("version", ["ai50", "ai5", "ai6", "ai7"])
def test_npm_ai(served: Running, test_home: Path, model: str, version: str) -> None:
    """A chat of the AI SDK's that is left in the middle, and loaded anew, has all of its answer in the end."""
    body = {"model": model, "options": {"temperature": 0, "seed": 1, "num_predict": 150}}
    with script(installed(test_home), "chat.mjs", version, f"{served.url}/ai/chat") as page:
        assert page.hear() == "ready"
        page.ask("begin", id=f"engine-{version}", body=body)
        page.tell("send", text="Tell me a long story.")
        page.ask("until", text=" ")
        page.tell("stop")
        left = page.hear()["messages"]
        page.ask("begin", id=f"engine-{version}", messages=left[:1], body=body)
        told = page.ask("resume")

    answer = told["messages"][1]
    assert answer["parts"][-1]["text"].startswith(left[1]["parts"][-1]["text"])
    assert (answer["parts"][-1]["state"], told["status"], told["error"]) == ("done", "ready", None)
    assert answer["metadata"]["usage"]["outputTokens"] > 0
