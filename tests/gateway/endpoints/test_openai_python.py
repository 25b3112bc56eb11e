"""OpenAI's Python client against the gateway: what it reads, what it raises, and that leaving stops the model."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionChunk
from tests.gateway.renewed import Renewed, renewed
from tests.web.reader import Reader

from tailrace.testing import (
    FakeOllama,
    Step,
    chunk,
    cut,
    done,
    error,
    fin,
    hold,
    raw,
    rst,
    say,
    slow_load,
    stall,
    status,
    think,
    tool_call,
)

HI: list[Any] = [{"role": "user", "content": "hi"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()


@pytest.fixture(scope="module")
def served() -> Iterator[Renewed]:
    with renewed() as one:
        yield one


@pytest.fixture
def fake(served: Renewed) -> Iterator[FakeOllama]:
    with served.upstream() as server:
        yield server


@pytest.fixture
def client(served: Renewed) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as one:
        yield one


@pytest.fixture
async def aclient(served: Renewed) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key="any", max_retries=0) as one:
        yield one


def text(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def sent(server: FakeOllama) -> Any:
    """The body of the last generation that the gateway asked for."""
    bodies = [record.json for record in server.requests if record.path in ("/api/chat", "/api/generate")]
    return bodies[-1]


# -- answers -----------------------------------------------------------------------------------------------------------


def test_a_stream(fake: FakeOllama, client: openai.OpenAI) -> None:
    """Text comes as it is said; then why it ended, and exact counts on a chunk of their own."""
    fake.script(say("Hel"), hold(), say("lo"), done("stop", prompt_eval_count=26, eval_count=2))
    stream = client.chat.completions.create(model="m", messages=HI, stream=True, stream_options={"include_usage": True})

    begun = [next(stream), next(stream)]  # the role and the first word, while the model has not said the second
    fake.release()
    chunks = [*begun, *stream]

    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.content for chunk in chunks[:-1]] == ["", "Hel", "lo", None]
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None, None, None, "stop"]
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (26, 2, 28)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert (chunks[0].model, chunks[0].object) == ("m", "chat.completion.chunk")


def test_what_it_waited_for_is_passed_over(fake: FakeOllama, client: openai.OpenAI) -> None:
    """What the run waited for comes as comments, which the client skips."""
    busy = status(503, {"error": "busy"}, {"Retry-After": "0"})
    fake.script(busy)
    fake.script(say("Yes"), done())

    with client.chat.completions.with_streaming_response.create(model="m", messages=HI, stream=True) as response:
        lines = list(response.iter_lines())
    fake.script(busy)
    fake.script(say("Yes"), done())
    chunks = list(client.chat.completions.create(model="m", messages=HI, stream=True))

    assert lines[:2] == [": queued", ""]
    assert text(chunks) == "Yes"


def test_a_whole_answer(fake: FakeOllama, client: openai.OpenAI) -> None:
    """Without stream the same comes as one object."""
    fake.script(think("Hm."), say("Hel", "lo"), done("length", prompt_eval_count=26, eval_count=3))

    answer = client.chat.completions.create(model="m", messages=HI)

    choice = answer.choices[0]
    assert (choice.message.content, choice.finish_reason, answer.model) == ("Hello", "length", "m")
    assert choice.message.model_extra == {"reasoning_content": "Hm."}
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (26, 3)


async def test_a_stream_for_asyncio(fake: FakeOllama, aclient: openai.AsyncOpenAI) -> None:
    """The asynchronous client reads the same, reasoning included."""
    fake.script(think("H", "m."), say("Yes"))

    stream = await aclient.chat.completions.create(model="m", messages=HI, stream=True)
    chunks = [chunk async for chunk in stream]

    thinking = [(chunk.choices[0].delta.model_extra or {}).get("reasoning_content", "") for chunk in chunks]
    assert ("".join(thinking), text(chunks)) == ("Hm.", "Yes")
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_usage_that_nobody_told_is_absent(fake: FakeOllama, client: openai.OpenAI) -> None:
    """Where the upstream does not count, nothing is made up."""
    fake.script(say("Hello"), done(prompt_eval_count=None, eval_count=None))
    fake.script(say("Hello"), done(prompt_eval_count=None, eval_count=None))

    answer = client.chat.completions.create(model="m", messages=HI)
    stream = client.chat.completions.create(model="m", messages=HI, stream=True, stream_options={"include_usage": True})

    assert answer.usage is None
    assert all(chunk.usage is None for chunk in stream)


def test_ids_are_those_of_runs(served: Renewed, fake: FakeOllama, client: openai.OpenAI) -> None:
    """Each answer has an id of its own, which is its run's; the run can be read as any other."""
    fake.script(say("Hello"))
    response = client.chat.completions.with_raw_response.create(model="m", messages=HI)
    run = response.headers["x-run-id"]

    assert f"chatcmpl-{run.removeprefix('run_')}" == response.parse().id
    with Reader(served.url, f"/runs/{run}/events", method="GET") as reader:
        assert [event.type for event in reader.all()] == ["text_delta", "ended"]


def test_a_running_stream_is_read_elsewhere(served: Renewed, fake: FakeOllama, client: openai.OpenAI) -> None:
    """While its client reads it, a run is read at /runs too, from the start."""
    fake.script(say("Hel"), hold(), say("lo"))
    with client.chat.completions.with_streaming_response.create(model="m", messages=HI, stream=True) as response:
        with Reader(served.url, f"/runs/{response.headers['x-run-id']}/events", method="GET") as reader:
            reader.until(b"Hel")
            fake.release()
            events = reader.all()
        assert [event.type for event in events] == ["text_delta", "text_delta", "ended"]


def test_any_run_is_an_answer(served: Renewed, fake: FakeOllama, client: openai.OpenAI) -> None:
    """A run that another protocol started is had as a completion, once it has ended."""
    fake.script(say("Hel"), hold(), say("lo"), done("length", prompt_eval_count=3, eval_count=2))
    with Reader(served.url, "/runs", {"message": "hi", "model": "m"}) as reader:
        run = reader.json["id"]
    with Reader(served.url, f"/v1/chat/completions/{run}", method="GET") as waiting:
        fake.wait_for_request(path="/api/chat").wait_until_phase("holding")
        fake.release()
        whole = waiting.json

    answer = client.chat.completions.retrieve(f"chatcmpl-{run.removeprefix('run_')}")

    assert answer.to_dict() == whole
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "length")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.retrieve("chatcmpl-0")


def test_tools(fake: FakeOllama, client: openai.OpenAI) -> None:
    """Calls are streamed, put together by the client's own helper, and their results go back to the model."""
    fake.script(say("Let me look."), tool_call("weather", {"city": "苏州"}), tool_call("weather", {"city": "Oslo"}))
    fake.script(say("Rain."))

    with client.chat.completions.stream(model="m", messages=HI, tools=[WEATHER]) as stream:
        final = stream.get_final_completion().choices[0]

    calls = final.message.tool_calls or []
    assert sent(fake)["tools"] == [WEATHER]
    assert final.finish_reason == "tool_calls"
    assert [call.function.arguments for call in calls] == ['{"city":"苏州"}', '{"city":"Oslo"}']
    assert len({call.id for call in calls}) == 2

    results = [{"role": "tool", "tool_call_id": call.id, "content": "rain"} for call in calls]
    asked = [*HI, final.message.model_dump(exclude_none=True), *results]
    answer = client.chat.completions.create(model="m", messages=asked, tools=[WEATHER])

    assert answer.choices[0].message.content == "Rain."
    messages = sent(fake)["messages"]
    assert [call["function"]["arguments"] for call in messages[1]["tool_calls"]] == [{"city": "苏州"}, {"city": "Oslo"}]
    assert {"role": "tool", "content": "rain", "tool_name": "weather", "tool_call_id": calls[1].id} == messages[3]


class Place(pydantic.BaseModel):
    city: str
    people: int


def test_structured_output(fake: FakeOllama, client: openai.OpenAI) -> None:
    """The client's parse helper has its schema sent on, and its object back."""
    fake.script(say('{"city": "Suzhou",', ' "people": 3}'))

    answer = client.chat.completions.parse(model="m", messages=HI, response_format=Place)

    assert Place(city="Suzhou", people=3) == answer.choices[0].message.parsed
    assert {"city", "people"} == set(sent(fake)["format"]["properties"])


def test_json_object(fake: FakeOllama, client: openai.OpenAI) -> None:
    """json_object is Ollama's json; text is no format at all."""
    fake.always(say("{}"))

    client.chat.completions.create(model="m", messages=HI, response_format={"type": "json_object"})
    assert sent(fake)["format"] == "json"
    client.chat.completions.create(model="m", messages=HI, response_format={"type": "text"})
    assert "format" not in sent(fake)


def test_options(fake: FakeOllama, client: openai.OpenAI) -> None:
    """What sets how the model speaks is passed on under Ollama's names; what is not set is left to the model."""
    fake.always(say("x"))

    client.chat.completions.create(
        model="m",
        messages=HI,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop="END",
        max_tokens=5,
        presence_penalty=0.1,
        frequency_penalty=0.2,
        reasoning_effort="minimal",
        user="somebody",
        n=1,
    )

    expected = {
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["END"],
        "num_predict": 5,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
    }
    assert expected == sent(fake)["options"]
    assert sent(fake)["think"] == "low"

    client.chat.completions.create(model="m", messages=HI, max_completion_tokens=6, stop=["A", "B"])
    assert sent(fake)["options"] == {"num_predict": 6, "stop": ["A", "B"]}

    client.chat.completions.create(model="m", messages=HI, reasoning_effort="none")
    assert sent(fake)["think"] is False
    assert "options" not in sent(fake)


def test_messages(fake: FakeOllama, client: openai.OpenAI) -> None:
    """Parts become text and images; developers speak as the system does; reasoning is given back as such."""
    fake.always(say("x"))
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        {"type": "text", "text": "this?"},
    ]
    messages: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "reasoning_content": "Hm."},
        {"role": "user", "content": [{"type": "text", "text": "Well?"}]},
    ]

    client.chat.completions.create(model="m", messages=messages)

    assert sent(fake)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is\nthis?", "images": [PNG]},
        {"role": "assistant", "content": "", "thinking": "Hm."},
        {"role": "user", "content": "Well?"},
    ]


def test_tool_choice_none(fake: FakeOllama, client: openai.OpenAI) -> None:
    """A model that must not call is not told of tools."""
    fake.script(say("x"))

    client.chat.completions.create(model="m", messages=HI, tools=[WEATHER], tool_choice="none")

    assert not sent(fake)["tools"]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_tool_choice_is_passed_over(fake: FakeOllama, client: openai.OpenAI, choice: Any) -> None:
    """A call that must be made is asked of Ollama as one that may be, as its own /v1 does."""
    fake.script(tool_call("weather", {"city": "Oslo"}))

    answer = client.chat.completions.create(model="m", messages=HI, tools=[WEATHER], tool_choice=choice)

    assert sent(fake)["tools"] == [WEATHER]
    assert "tool_choice" not in sent(fake)
    assert answer.choices[0].finish_reason == "tool_calls"


def test_what_ollama_passes_over(fake: FakeOllama, client: openai.OpenAI) -> None:
    """What Ollama's own /v1 takes no notice of stays here; its options are taken by its names."""
    fake.always(say("x"))
    more = {"options": {"num_ctx": 8192, "temperature": 0.1}, "keep_alive": 0, "anything": {"at": "all"}}

    client.chat.completions.create(
        model="m",
        messages=HI,
        n=2,
        logit_bias={"50256": -100},
        functions=[{"name": "f"}],
        temperature=0.5,
        extra_body=more,
    )

    assert set(sent(fake)) == {"model", "messages", "tools", "stream", "options"} - ({"tools"} - set(sent(fake)))
    assert sent(fake)["options"] == {"num_ctx": 8192, "temperature": 0.5}


def test_logprobs(fake: FakeOllama, client: openai.OpenAI) -> None:
    """Probabilities of tokens, where the upstream gives them, are where this protocol has them."""
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Ho", "logprob": -2.0}]}
    said = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False, "logprobs": [token]}
    fake.always(chunk(said), done())

    stream = client.chat.completions.create(model="m", messages=HI, stream=True, logprobs=True, top_logprobs=1)
    streamed = [each.choices[0].logprobs for each in stream if each.choices[0].logprobs is not None]
    whole = client.chat.completions.create(model="m", messages=HI, logprobs=True).choices[0].logprobs

    assert (fake.requests[0].json["logprobs"], fake.requests[0].json["top_logprobs"]) == (True, 1)
    for each in (*streamed, whole):
        assert each is not None
        assert each.content is not None
        assert (
            each.content[0].token,
            each.content[0].logprob,
            each.content[0].top_logprobs[0].token,
        ) == ("Hi", -0.5, "Ho")


def test_completions(fake: FakeOllama, client: openai.OpenAI) -> None:
    """A text is completed as it is, streamed and whole, with what comes after a gap if that is given."""
    fake.always(say("Hel", "lo"), done("stop", prompt_eval_count=3, eval_count=2))

    stream = client.completions.create(model="m", prompt="Say", stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(each.choices[0].text for each in chunks if each.choices) == "Hello"
    assert (sent(fake)["raw"], sent(fake)["prompt"]) == (True, "Say")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5

    whole = client.completions.create(model="m", prompt=["Say"], suffix="!", max_tokens=4)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("Hello", "stop")
    assert (sent(fake)["suffix"], sent(fake).get("raw"), sent(fake)["options"]) == ("!", None, {"num_predict": 4})


def test_embeddings(fake: FakeOllama, client: openai.OpenAI) -> None:
    """The same numbers come as floats, and packed, which is what this client asks for by itself."""
    packed = client.embeddings.create(model="m", input=["a", "b"])
    floats = client.embeddings.create(model="m", input=["a", "b"], encoding_format="float")

    assert [row.index for row in floats.data] == [0, 1]
    for one, other in zip(packed.data, floats.data, strict=True):
        assert one.embedding == list(
            struct.unpack(f"<{len(other.embedding)}f", struct.pack(f"<{len(other.embedding)}f", *other.embedding))
        )
    assert floats.usage.prompt_tokens == floats.usage.total_tokens > 0
    assert floats.model == "m"
    assert len(client.embeddings.create(model="m", input="a", dimensions=4).data[0].embedding) == 4


def test_models(fake: FakeOllama, client: openai.OpenAI) -> None:
    """The upstream's models are listed, and each is found by its name, with and without its tag."""
    assert [model.id for model in client.models.list()] == ["m:latest", "plain:latest"]
    assert client.models.retrieve("m").id == "m"
    assert client.models.retrieve("plain:latest").id == "plain:latest"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("library/none:1b")


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_an_unknown_model(fake: FakeOllama, client: openai.OpenAI, stream: bool) -> None:
    """It is a 404 before any stream."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="none", messages=HI, stream=stream)

    assert (caught.value.code, caught.value.type) == ("model_not_found", "not_found_error")
    assert "model 'none' not found" in caught.value.message


PARTS = [{"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}]
REFUSED: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "n": ({"n": 0}, "n", "integer_out_of_range"),
    "many": ({"n": 1000}, "n", "integer_out_of_range"),
    "an option": ({"options": {"top_k": "many"}}, "options", None),
    "no messages": ({"messages": []}, "messages", "empty_array"),
    "no model": ({"model": ""}, "model", None),
    "a role": ({"messages": [{"role": "king", "content": ""}]}, "messages[0].role", "invalid_value"),
    "an address": (
        {"messages": [{"role": "user", "content": PARTS}]},
        "messages[0].content[0].image_url",
        "invalid_image_url",
    ),
    "sound": (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages[0].content[0].type",
        "unsupported_value",
    ),
    "arguments": (
        {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "["}}]}]},
        "messages[0].tool_calls[0].function.arguments",
        None,
    ),
    "a tool": ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type", "unsupported_value"),
    "a tool without name": ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function", None),
    "a format": ({"response_format": {"type": "xml"}}, "response_format.type", "unsupported_value"),
    "a schema": ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", None),
    "an effort": ({"reasoning_effort": "heroic"}, "reasoning_effort", "unsupported_value"),
    "top_logprobs": ({"top_logprobs": 3}, "top_logprobs", None),
    "too many top_logprobs": ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", None),
    "no tokens": ({"max_tokens": 0}, "max_tokens", "integer_below_min_value"),
    "fewer tokens": ({"max_completion_tokens": -2}, "max_completion_tokens", "integer_below_min_value"),
    "a voice": ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
    "a type": ({"temperature": "hot"}, "temperature", None),
    "a type further in": ({"messages": [{"role": 1}]}, "messages[0].role", None),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_honoured(fake: FakeOllama, client: openai.OpenAI, name: str) -> None:
    """It is refused before the model is asked, and the error names the member."""
    body, param, code = REFUSED[name]

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="m", messages=HI, extra_body=body)

    assert (param, code, "invalid_request_error") == (caught.value.param, caught.value.code, caught.value.type)
    assert fake.requests == []


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/completions", {"prompt": ["a", "b"]}, "prompt"),
        ("/completions", {"prompt": [1, 2]}, "prompt"),
        ("/completions", {}, "prompt"),
        ("/completions", {"prompt": "a", "best_of": 1000}, "best_of"),
        ("/completions", {"prompt": "a", "logprobs": 99}, "logprobs"),
        ("/embeddings", {}, "input"),
        ("/embeddings", {"input": []}, "input"),
        ("/embeddings", {"input": [[1, 2]]}, "input"),
        ("/embeddings", {"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ("/embeddings", {"input": "a", "model": None}, "model"),
    ],
)
def test_what_the_others_cannot_honour(
    fake: FakeOllama, client: openai.OpenAI, path: str, body: dict[str, Any], param: str
) -> None:
    """Completions and embeddings refuse in the same way."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.post(path, body={"model": "m", **body}, cast_to=object)

    assert param == caught.value.param
    assert fake.requests == []


def test_what_is_no_json(served: Renewed) -> None:
    """Bytes that are no JSON, no UTF-8, or nothing at all get the protocol's error too."""
    for body in (b"{", b"\xff", b"[]", b"null", b""):
        with Reader(served.url, "/v1/chat/completions", body) as reader:
            assert (reader.status, reader.headers["content-type"]) == (400, "application/json")
            assert reader.json["error"]["type"] == "invalid_request_error"


def test_what_is_not_there(served: Renewed) -> None:
    """Other paths and methods below /v1 answer in the protocol's form."""
    for method, path, expected in (("GET", "/v1/nothing", 404), ("GET", "/v1/chat/completions", 405)):
        with Reader(served.url, path, method=method) as reader:
            assert expected == reader.status
            assert {"message", "type", "param", "code"} == set(reader.json["error"])


def test_what_the_model_cannot(fake: FakeOllama, client: openai.OpenAI) -> None:
    """The upstream's refusal of a request is a refusal here, in its words."""
    with pytest.raises(openai.BadRequestError, match="does not support tools"):
        client.chat.completions.create(model="plain", messages=HI, tools=[WEATHER], stream=True)


def test_a_full_upstream(fake: FakeOllama, client: openai.OpenAI) -> None:
    """A server that stays busy is a 503 with Retry-After, which this client knows how to wait for."""
    for _ in range(3):
        fake.script(status(503, {"error": "server busy"}, {"Retry-After": "0"}))

    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="m", messages=HI, stream=True)

    assert (caught.value.status_code, caught.value.type) == (503, "api_error")
    assert int(caught.value.response.headers["retry-after"]) >= 1


def test_a_full_gateway() -> None:
    """A gateway that runs as many as it may refuses the next one in the same way."""
    with renewed("--max-runs", "1") as full, full.upstream() as server:
        server.script(say("Hel"), stall())
        with openai.OpenAI(base_url=f"{full.url}/v1", api_key="any", max_retries=0) as client:
            stream = client.chat.completions.create(model="m", messages=HI, stream=True)
            next(stream)

            with pytest.raises(openai.InternalServerError, match="too many runs at once") as caught:
                client.chat.completions.create(model="m", messages=HI)
            stream.close()

    assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (503, "1")


def test_keys_and_aliases() -> None:
    """A gateway with keys takes them as OpenAI's client sends them; a model answers to its alias, and by that name."""
    options = ("--api-key", "alice:secret-of-alice", "--alias", "gpt-4o=m")
    with renewed(*options) as closed, closed.upstream() as server:
        server.script(say("Hello"))
        with openai.OpenAI(base_url=f"{closed.url}/v1", api_key="secret-of-alice", max_retries=0) as alice:
            answer = alice.chat.completions.create(model="gpt-4o", messages=HI)
            assert "gpt-4o" in [model.id for model in alice.models.list()]
            assert alice.models.retrieve("gpt-4o").id == "gpt-4o"
        other = openai.OpenAI(base_url=f"{closed.url}/v1", api_key="somebody-else", max_retries=0)
        with other, pytest.raises(openai.AuthenticationError) as caught:
            other.chat.completions.create(model="gpt-4o", messages=HI)

        assert (answer.model, sent(server)["model"]) == ("gpt-4o", "m")
        assert caught.value.type == "authentication_error"


def test_an_upstream_that_fails_at_once(fake: FakeOllama, client: openai.OpenAI) -> None:
    """It is a bad gateway, with the upstream's words."""
    fake.script(status(500, {"error": "llama-server process has terminated"}))

    with pytest.raises(openai.InternalServerError, match="llama-server process has terminated") as caught:
        client.chat.completions.create(model="m", messages=HI, stream=True)

    assert caught.value.status_code == 502


BROKEN: dict[str, tuple[list[Step], str]] = {
    "error": ([error("an error was encountered while running the model")], "failed"),
    "no final record": ([fin()], "truncated"),
    "cut": ([cut()], "truncated"),
    "reset": ([rst()], "truncated"),
    "no JSON": ([raw(b"{]\n")], "failed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_stream_that_breaks(fake: FakeOllama, client: openai.OpenAI, name: str) -> None:
    """A stream that fails in the middle raises after what had come; it never just stops."""
    steps, code = BROKEN[name]
    fake.script(say("Hel"), hold(), *steps)
    stream = client.chat.completions.create(model="m", messages=HI, stream=True)
    said = [next(stream), next(stream)]
    fake.release()

    with pytest.raises(openai.APIError) as caught:
        said += stream

    assert ("Hel", code, "api_error") == (text(said), caught.value.code, caught.value.type)


@pytest.mark.parametrize("name", BROKEN)
def test_a_whole_answer_that_breaks(fake: FakeOllama, client: openai.OpenAI, name: str) -> None:
    """Without stream half an answer is an error with a status."""
    fake.script(say("Hel"), *BROKEN[name][0])

    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="m", messages=HI)

    assert caught.value.status_code == 502
    assert caught.value.response.headers["x-run-id"].startswith("run_")


def test_a_stop_from_elsewhere(served: Renewed, fake: FakeOllama, client: openai.OpenAI) -> None:
    """Who reads an answer that somebody else stops is told so."""
    fake.script(say("Hel"), stall())
    with client.chat.completions.with_streaming_response.create(model="m", messages=HI, stream=True) as response:
        stream = response.parse()
        said = [next(stream), next(stream)]
        with Reader(served.url, f"/runs/{response.headers['x-run-id']}", method="DELETE") as stopping:
            assert stopping.json["outcome"] == "cancelled"
        with pytest.raises(openai.APIError, match="the answer was stopped") as caught:
            said += stream

    assert (text(said), caught.value.code) == ("Hel", "cancelled")


# -- leaving -----------------------------------------------------------------------------------------------------------


def test_closing_a_stream_stops_the_model(fake: FakeOllama, client: openai.OpenAI) -> None:
    """A client that closes its stream frees the model at once."""
    fake.script(say("Hel"), stall())
    stream = client.chat.completions.create(model="m", messages=HI, stream=True)
    next(stream)

    stream.close()

    record = fake.wait_for_request(path="/api/chat")
    assert record.wait_until_left()
    assert record.phase == "stalling"


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("script", "phase"),
    [([slow_load(), say("x")], "loading"), ([say("x"), stall()], "stalling")],
    ids=["load", "answer"],
)
def test_leaving_stops_the_model(
    served: Renewed, fake: FakeOllama, script: list[Step], phase: str, stream: bool
) -> None:
    """A client that goes while it has heard nothing yet frees the model too, whichever answer it waits for."""
    fake.script(*script)
    with Reader(served.url, "/v1/chat/completions", {"model": "m", "messages": HI, "stream": stream}) as reader:
        record = fake.wait_for_request(path="/api/chat")
        assert record.wait_until_phase(phase)  # type: ignore[arg-type]
        reader.leave("rst")

        assert record.wait_until_left()
        assert phase == record.phase


def test_leaving_stops_an_embedding(served: Renewed, fake: FakeOllama) -> None:
    """A client that goes while it waits for numbers frees the upstream."""
    fake.script(hold(), path="/api/embed")
    with Reader(served.url, "/v1/embeddings", {"model": "m", "input": "a"}) as reader:
        record = fake.wait_for_request(path="/api/embed")
        reader.leave()

        assert record.wait_until_left()
