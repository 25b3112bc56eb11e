"""OpenAI's API in front of servers that speak it too: what goes on as it is, and what comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.gateway.serving import serving

from tailrace import Client
from tailrace.testing import FakeOllama, FakeOpenAI, chunk, done, say, think

HI: list[Any] = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
OTHER: Any = {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "http://example.com/a.png"}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
CHAT = "/v1/chat/completions"


class Stand:
    """A gateway, a server of OpenAI's protocol behind it, and OpenAI's client before it."""

    def __init__(self, url: str, server: FakeOpenAI, client: openai.OpenAI) -> None:
        self.url = url
        self.server = server
        self.client = client

    def asked(self, path: str = CHAT) -> Any:
        """The body of the last request to a path of the server behind."""
        return [record.json for record in self.server.requests if record.path == path][-1]


@contextlib.contextmanager
def standing(server: FakeOpenAI, *options: str) -> Iterator[Stand]:
    with (
        serving("--no-page", *options, address=f"openai:{server.base_url}") as gateway,
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="any", max_retries=0) as client,
    ):
        yield Stand(gateway.url, server, client)


@pytest.fixture(scope="module")
def started() -> Iterator[Stand]:
    with FakeOpenAI("vllm") as server, standing(server) as stand:
        yield stand


@pytest.fixture
def stand(started: Stand) -> Stand:
    started.server.always(say("Yes"), done())
    return started


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL, OTHER], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        {"tools": [TOOL], "tool_choice": "none"},
        {"tools": [{"type": "custom", "custom": {"name": "c"}}]},
        {"tools": [TOOL], "parallel_tool_calls": False},
        {"n": 2},
        {"logit_bias": {"50256": -100}},
        {"functions": [{"name": "f", "parameters": {"type": "object"}}], "function_call": "auto"},
        {"top_k": 5, "min_p": 0.1, "chat_template_kwargs": {"enable_thinking": False}},
        {"guided_choice": ["a", "b"], "user": "u", "metadata": {"a": "b"}, "store": False},
        {"reasoning_effort": "minimal"},
        {"reasoning_effort": "heroic"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {}}}},
        {"response_format": {"type": "grammar", "grammar": "root ::= x"}},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}], "name": "x"}, *HI]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, IMAGE]}]},
        {"messages": [{"role": "user", "content": [SOUND]}]},
        {"messages": [{"role": "critic", "content": "a"}]},
        {"temperature": 0.5, "stop": "END", "seed": 7, "top_p": 0.1},
    ],
    ids=lambda more: " ".join(more),
)
def test_goes_on_as_it_is(stand: Stand, more: dict[str, Any]) -> None:
    """Whatever a request has, known to us or not, reaches a server of its own protocol unchanged."""
    answer = stand.client.chat.completions.create(model="m", messages=HI, extra_body=more)

    asked = stand.asked()
    assert answer.choices[0].message.content == "Yes"
    assert {name: asked[name] for name in more} == more
    assert (asked["model"], asked["stream"]) == ("m", True)


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": [1, 2, 3]},
        {"prompt": ["a"]},
        {"prompt": [["a"]]},
        {"prompt": "a", "echo": True, "best_of": 2, "logit_bias": {"1": 1}, "top_k": 3},
    ],
    ids=str,
)
def test_completions_go_on_as_they_are(stand: Stand, more: dict[str, Any]) -> None:
    """So do completions, prompts in tokens among them."""
    stand.client.post("/completions", body={"model": "m", **more}, cast_to=object)

    asked = stand.asked("/v1/completions")
    assert {name: asked[name] for name in more} == more


@pytest.mark.parametrize("input", [[1, 2, 3], [[1], [2, 3]], ["a", "b"], "a"], ids=str)
def test_embeddings_go_on_as_they_are(stand: Stand, input: Any) -> None:
    """So do requests for embeddings, in tokens or texts."""
    more = {"input": input, "user": "u", "truncate_prompt_tokens": 8}
    stand.client.post("/embeddings", body={"model": "m", **more}, cast_to=object)

    assert stand.asked("/v1/embeddings") == {"model": "m", **more}


def test_what_the_upstream_refuses(stand: Stand) -> None:
    """What the upstream refuses is refused in its words, and no sooner."""
    with FakeOpenAI("vllm", refuses=["logit_bias"]) as server, standing(server) as one:
        with pytest.raises(openai.BadRequestError, match="logit_bias"):
            one.client.chat.completions.create(model="m", messages=HI, logit_bias={"1": 1})
        assert one.client.chat.completions.create(model="m", messages=HI).choices[0].message.content


def test_functions(stand: Stand) -> None:
    """A call in the form that is older than tools comes back in that form, streamed and whole."""
    pieces = [{"name": "f", "arguments": ""}, {"arguments": '{"a":'}, {"arguments": "1}"}]
    deltas = [{"index": 0, "delta": {"function_call": piece}, "finish_reason": None} for piece in pieces]
    last = {"index": 0, "delta": {}, "finish_reason": "function_call"}
    stand.server.always(*(chunk({"choices": [each]}) for each in (*deltas, last)))
    more: Any = {"model": "m", "messages": HI, "functions": [{"name": "f", "parameters": {"type": "object"}}]}

    whole = stand.client.chat.completions.create(**more).choices[0]
    chunks = [each.choices[0] for each in stand.client.chat.completions.create(**more, stream=True)]

    assert whole.message.function_call is not None
    assert (whole.message.function_call.name, whole.message.function_call.arguments) == ("f", '{"a":1}')
    assert (whole.finish_reason, chunks[-1].finish_reason) == ("function_call", "function_call")
    said = [each.delta.function_call for each in chunks if each.delta.function_call is not None]
    assert (said[0].name, "".join(each.arguments or "" for each in said)) == ("f", '{"a":1}')


def test_the_limit_of_tokens_is_kept() -> None:
    """What goes on as it is stays within the limits, whatever it is called; what is ours stays ours."""
    with FakeOpenAI("vllm") as server, standing(server, "--max-tokens", "50") as stand:
        for more in ({"max_tokens": 900}, {"n_predict": -1}, {"max_completion_tokens": 900}, {}):
            stand.client.chat.completions.create(model="m", messages=HI, extra_body=more)
            asked = stand.asked()
            assert asked["max_tokens"] == 50
            assert all(asked.get(name, 50) == 50 for name in ("n_predict", "max_completion_tokens"))
        deep: dict[str, Any] = {}
        for _ in range(40):
            deep = {"properties": {"a": deep}}
        with pytest.raises(openai.BadRequestError, match="guided_json is nested deeper"):
            stand.client.chat.completions.create(model="m", messages=HI, extra_body={"guided_json": deep})


def test_options_of_models() -> None:
    """Options that the server has for a model count where a request does not say; so do those under ``options``."""
    options = ("--model-option", "m:8b:num_predict=9", "--model-option", "m:8b:top_k=3", "--model-option", "*:seed=1")
    with FakeOpenAI("vllm") as server, standing(server, *options, "--alias", "big=m:8b") as stand:
        create = stand.client.chat.completions.create
        create(model="big", messages=HI)
        first = stand.asked()
        create(model="m:8b", messages=HI, max_tokens=4, extra_body={"options": {"top_k": 7, "min_p": 0.5}})
        second = stand.asked()
        create(model="other", messages=HI)
        third = stand.asked()

    assert (first["model"], first["max_tokens"], first["top_k"], first["seed"]) == ("m:8b", 9, 3, 1)
    assert (second["max_tokens"], second["top_k"], second["min_p"], second["seed"]) == (4, 7, 0.5, 1)
    assert "options" not in second
    assert (third["seed"], third.get("top_k"), third.get("max_tokens")) == (1, None, None)


def test_members_of_ollamas_api(stand: Stand) -> None:
    """A request in Ollama's form brings its own members too: those of `extra_body` come through the gateway."""
    extra = {"min_p": 0.2, "tools": [TOOL], "tool_choice": "required"}

    Client(stand.url).chat("m", HI, extra_body=extra)
    assert {name: stand.asked()[name] for name in extra} == extra
    Client(stand.url).generate("m", "p", raw=True, extra_body={"min_p": 0.2})
    assert stand.asked("/v1/completions")["min_p"] == 0.2


def test_several_kinds_of_upstreams() -> None:
    """What Ollama cannot be asked goes to the server that can, whatever the order; the rest goes to either."""
    with (
        FakeOllama(models=["m"]) as ollama,
        FakeOpenAI("vllm", models=["m"]) as server,
        standing(server, "--upstream", ollama.url) as stand,
    ):
        for _ in range(3):
            message = {"role": "user", "content": [IMAGE]}
            stand.client.post("/chat/completions", body={"model": "m", "messages": [message]}, cast_to=object)
            assert stand.asked()["messages"] == [message]
            stand.client.post("/embeddings", body={"model": "m", "input": [[1, 2]]}, cast_to=object)
            assert stand.asked("/v1/embeddings")["input"] == [[1, 2]]
        assert [record.path for record in ollama.requests if record.method == "POST"] == []


def test_thinking_is_switched_off(stand: Stand) -> None:
    """No effort is no thinking, also for a server that has another word for it."""
    stand.server.always(think("hm"), say("Yes"), done())

    answer = stand.client.chat.completions.create(model="m", messages=HI, reasoning_effort="none")

    assert answer.choices[0].message.model_extra == {}
    assert stand.asked()["chat_template_kwargs"] == {"enable_thinking": False}
