"""OpenAI's JavaScript client against the gateway: what it reads, what it throws, and that leaving stops the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.node import Script, installed, script
from tests.gateway.renewed import Renewed, renewed

from tailrace.testing import FakeOllama, done, error, fin, say, stall, status, think, tool_call

HI = [{"role": "user", "content": "hi"}]
ASKED: dict[str, Any] = {"model": "m", "messages": HI}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def served() -> Iterator[Renewed]:
    with renewed() as one:
        yield one


@pytest.fixture
def fake(served: Renewed) -> Iterator[FakeOllama]:
    with served.upstream() as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Renewed, test_home: Path) -> Iterator[Script]:
    with script(installed(test_home), "openai.mjs", f"{served.url}/v1") as one:
        assert one.hear() == "ready"
        yield one


def test_a_stream(fake: FakeOllama, client: Script) -> None:
    """Text, reasoning, the reason for the end and the counts; what it waited for is passed over."""
    fake.script(status(503, {"error": "busy"}, {"Retry-After": "0"}))
    fake.script(think("Hm."), say("Hel", "lo"), done("length", prompt_eval_count=26, eval_count=3))

    chunks = client.ask("stream", **ASKED, stream_options={"include_usage": True})["chunks"]

    deltas = [each["choices"][0]["delta"] for each in chunks[:-1]]
    assert "".join(delta.get("content", "") for delta in deltas) == "Hello"
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Hm."
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"] == {"prompt_tokens": 26, "completion_tokens": 3, "total_tokens": 29}


def test_a_whole_answer(fake: FakeOllama, client: Script) -> None:
    """The same as one object."""
    fake.script(say("Hel", "lo"))

    answer = client.ask("create", **ASKED)

    assert (answer["choices"][0]["message"]["content"], answer["model"]) == ("Hello", "m")


def test_the_helper(fake: FakeOllama, client: Script) -> None:
    """The client's own stream helper puts calls and text together."""
    fake.script(say("Let me ", "look."), tool_call("weather", {"city": "苏州"}))

    told = client.ask("helper", **ASKED, tools=[WEATHER])

    message = told["final"]["choices"][0]["message"]
    assert (told["texts"], message["content"]) == (["Let me ", "look."], "Let me look.")
    assert message["tool_calls"][0]["function"]["arguments"] == '{"city":"苏州"}'


def test_tools(fake: FakeOllama, client: Script) -> None:
    """The client's own loop calls the function and sends its result back, until the model is content."""
    fake.script(tool_call("weather", {"city": "Oslo"}))
    fake.script(say("It rains."))

    told = client.ask("tools", **ASKED, tools=[WEATHER], result="rain")

    assert told == {"called": [{"city": "Oslo"}], "text": "It rains."}
    messages = fake.requests[-1].json["messages"]
    assert (messages[-1]["role"], messages[-1]["tool_name"], messages[-1]["content"]) == ("tool", "weather", "rain")


def test_structured_output(fake: FakeOllama, client: Script) -> None:
    """The client's parse helper has its schema sent on, and its object back."""
    fake.script(say('{"city": "Oslo"}'))

    assert client.ask("create", **ASKED, schema=["city"]) == {"city": "Oslo"}
    assert fake.requests[-1].json["format"]["required"] == ["city"]


def test_the_rest(fake: FakeOllama, client: Script) -> None:
    """Completions, models and embeddings, which this client asks for packed."""
    fake.script(say("Hello"))

    assert client.ask("complete", model="m", prompt="Say")["choices"][0]["text"] == "Hello"
    assert client.ask("models") == ["m:latest", "plain:latest"]
    assert client.ask("model", id="m")["id"] == "m"
    packed = client.ask("embed", model="m", input=["a", "b"])
    floats = client.ask("embed", model="m", input=["a", "b"], encoding_format="float")
    assert packed == [pytest.approx(row, rel=1e-6) for row in floats]


def test_what_it_throws_before_a_stream(fake: FakeOllama, client: Script) -> None:
    """An unknown model, a full server and a request that cannot be honoured, each by its class."""
    for _ in range(3):
        fake.script(status(503, {"error": "server busy"}, {"Retry-After": "0"}))

    unknown = client.ask("stream", model="none", messages=HI)["error"]
    assert (unknown["class"], unknown["status"], unknown["code"]) == ("NotFoundError", 404, "model_not_found")
    busy = client.ask("stream", **ASKED)["error"]
    assert (busy["class"], busy["status"], busy["type"]) == ("InternalServerError", 503, "api_error")
    wrong = client.ask("create", **ASKED, n=17)["error"]
    assert (wrong["class"], wrong["param"]) == ("BadRequestError", "n")
    assert client.ask("model", id="none")["error"]["class"] == "NotFoundError"


@pytest.mark.parametrize(
    ("steps", "code", "message"),
    [
        ([error("model runner has unexpectedly stopped")], "failed", "model runner has unexpectedly stopped"),
        ([fin()], "truncated", "the server closed the stream without"),
    ],
    ids=["error", "no final record"],
)
def test_what_it_throws_in_a_stream(
    fake: FakeOllama, client: Script, steps: list[Any], code: str, message: str
) -> None:
    """A stream that breaks throws after what had come."""
    fake.script(say("Hel"), *steps)

    told = client.ask("stream", **ASKED)

    assert "".join(each["choices"][0]["delta"].get("content", "") for each in told["chunks"]) == "Hel"
    assert (told["error"]["class"], told["error"]["code"]) == ("APIError", code)
    assert message in told["error"]["message"]


def test_leaving_stops_the_model(fake: FakeOllama, client: Script) -> None:
    """A loop over a stream that is left frees the model."""
    fake.script(say("Hel"), stall())

    assert client.ask("begin", **ASKED)["choices"][0]["delta"]["content"] == "Hel"

    record = fake.wait_for_request(path="/api/chat")
    assert record.wait_until_left()
    assert record.phase == "stalling"
