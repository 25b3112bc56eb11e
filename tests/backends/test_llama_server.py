"""A real llama-server behind the OpenAI-compatible backend, with the default model."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.backends.llama_server import llama_server
from tests.gateway.serving import serving

from tailrace import AsyncClient, Client, errors
from tailrace.backends.embedded import models
from tailrace.events import Ended, Outcome, Prefill, Queued, TextDelta
from tailrace.transport.http_client import Http

USER = [{"role": "user", "content": "Count to five."}]
LONG = [{"role": "user", "content": "Is this a list? " + " ".join(f"word{number}" for number in range(60))}]
SHORT = {"num_predict": 8, "temperature": 0}
ENDLESS = {"num_predict": 2000, "temperature": 0, "repeat_penalty": 1.0}
PLACE = {
    "type": "object",
    "properties": {"name": {"enum": ["here", "there"]}, "number": {"type": "integer", "maximum": 9, "minimum": 0}},
    "required": ["name", "number"],
}
F: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": PLACE}}


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    pytest.importorskip("xllamacpp")
    with llama_server(models.default_path()) as one:
        yield one


@pytest.fixture
def client(address: str) -> Client:
    return Client(f"openai:{address}/v1")


async def _predicted(address: str) -> int:
    """How many tokens the server has made since it was started."""
    exchange = await Http(address).open("GET", "/metrics")
    try:
        text = (await exchange.read_all()).decode()
    finally:
        exchange.abort()
    return int(text.partition("\nllamacpp:tokens_predicted_total ")[2].partition("\n")[0])


def test_streaming(client: Client) -> None:
    """Text comes in pieces, and then exact counts and the server's own times."""
    *events, last = list(client.chat("m", USER, stream=True, options=SHORT).events())

    assert isinstance(last, Ended)
    usage = last.usage
    assert usage is not None
    assert (last.outcome, last.warnings) == (Outcome.LENGTH, ())
    assert len([event for event in events if isinstance(event, TextDelta)]) == usage.output_tokens == 8
    assert usage.prompt_tokens > 20
    assert min(usage.prompt_duration, usage.output_duration) > 0


@pytest.mark.parametrize("ask", ["chat", "generate"])
def test_the_prompt_is_seen(address: str, ask: str) -> None:
    """How far a long prompt is, is seen before the first word, of the first request too."""
    client = Client(f"openai:{address}/v1")
    if ask == "chat":
        events = list(client.chat("m", LONG, stream=True, options=SHORT).events())
    else:
        events = list(client.generate("m", LONG[0]["content"] * 2, stream=True, options=SHORT).events())

    seen = [event for event in events if isinstance(event, Prefill)]
    numbers = [event.processed or 0 for event in seen]
    assert len(seen) >= 3
    assert numbers == sorted(numbers)
    assert numbers[-1] == seen[-1].total
    assert isinstance(events[0], Prefill)


@pytest.mark.parametrize("format", ["json", PLACE], ids=["json", "schema"])
def test_structured_output(client: Client, format: Any) -> None:
    """The answer is of the form that was asked for."""
    asked = [{"role": "user", "content": "Answer in JSON: a name and a number."}]
    answer = client.chat("m", asked, format=format, options={"num_predict": 200, "temperature": 0, "seed": 1})

    said = json.loads(answer.message.content or "")
    assert isinstance(said, dict)
    if format == PLACE:
        assert (set(said), said["name"] in ("here", "there")) == ({"name", "number"}, True)


def test_stop_words(client: Client) -> None:
    """A stop word ends the answer before it is said."""
    whole = client.chat("m", USER, options=SHORT).message.content or ""
    word = whole.split()[2]

    answer = client.chat("m", USER, options={**SHORT, "stop": [word]})

    assert answer.message.content == whole[: whole.index(word)]
    assert answer.done_reason == "stop"


def test_probabilities(client: Client) -> None:
    """Each token has its probability, and the alternatives that were asked for."""
    answer = client.chat("m", USER, logprobs=True, top_logprobs=2, options={**SHORT, "num_predict": 3})

    tokens = list(answer.logprobs or ())
    assert "".join(token["token"] for token in tokens) == answer.message.content
    assert all(math.exp(token["logprob"]) <= 1.0001 for token in tokens)
    assert [len(token["top_logprobs"]) for token in tokens] == [2, 2, 2]


def test_what_only_this_server_knows(client: Client) -> None:
    """A grammar is none of OpenAI's or Ollama's, and goes through `extra_body`."""
    answer = client.chat("m", USER, options=SHORT, extra_body={"grammar": 'root ::= "yes" | "no"'})

    assert answer.message.content in ("yes", "no")


def test_tools(client: Client) -> None:
    """Tools, and a choice that names one, are taken; what the model makes of them is its own affair."""
    choice = {"type": "function", "function": {"name": "f"}}

    answer = client.chat("m", USER, tools=[F], options=SHORT, extra_body={"tool_choice": choice})

    assert answer.message.content or answer.message.tool_calls


def test_refusals(client: Client, address: str) -> None:
    """What it refuses is told in its words, after one try, and the next request is as the first."""
    with pytest.raises(errors.ResponseError, match="Field 'n'"):
        client.chat("m", USER, extra_body={"n": 99})
    with pytest.raises(errors.UnsupportedError, match="embeddings"):
        client.embed("m", "text")
    with pytest.raises(errors.ResponseError, match="the context holds 4096"):
        client.chat("m", [{"role": "user", "content": "word " * 5000}])


@pytest.mark.parametrize("phase", ["prompt", "answer"])
async def test_cancel(address: str, phase: str) -> None:
    """A cancel frees the only slot, while the prompt is read and while the answer is written."""
    before = await _predicted(address)
    messages = LONG if phase == "answer" else [{"role": "user", "content": f"{phase} " * 1500}]
    stream = await AsyncClient(f"openai:{address}/v1").chat("m", messages, stream=True, options=ENDLESS)
    wanted = TextDelta if phase == "answer" else Prefill
    async for event in stream.events():
        if isinstance(event, wanted):
            break
    await stream.cancel()
    await AsyncClient(f"openai:{address}/v1").chat("m", USER, options=SHORT)

    assert stream.outcome is Outcome.CANCELLED
    assert await _predicted(address) - before < ENDLESS["num_predict"]


async def test_waiting_for_a_slot(address: str) -> None:
    """While all slots are busy the server sends nothing, and its list of slots says why."""
    upstream = f"openai:{address}/v1"
    first = await AsyncClient(upstream).chat("m", USER, stream=True, options={**ENDLESS, "num_predict": 3000})
    async for event in first.events():
        if isinstance(event, TextDelta):
            break
        assert not isinstance(event, Ended)
    first_run = asyncio.ensure_future(_drained(first))
    second = await AsyncClient(upstream).chat("m", USER, stream=True, options=SHORT)
    seen = []
    async for event in second.events():
        seen.append(event)
        if isinstance(event, Queued):
            await first.cancel()
    await first_run

    assert isinstance(seen[0], Queued)
    assert isinstance(seen[-1], Ended)


async def _drained(stream: Any) -> None:
    async for _ in stream.events():
        pass


def test_through_the_gateway(address: str) -> None:
    """The gateway before it shows the same, and passes on what only it knows."""
    with serving("--no-page", address=f"openai:{address}/v1") as gateway:
        more = {"grammar": 'root ::= "yes"', "stream": True, "max_tokens": 4}
        answer = gateway.call("POST", "/v1/chat/completions", {"model": "m", "messages": LONG, **more})

    assert answer.status == 200
    assert b'"content":"yes"' in answer.body
    assert b": prefill" in answer.body
