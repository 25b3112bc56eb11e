"""The OpenAI-compatible backend: what it sends, and what it makes of the answers of each dialect."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tailrace import AsyncClient, Client, Message, Options, errors
from tailrace.events import Ended, Event, Outcome, Prefill, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.testing import (
    FakeOpenAI,
    Step,
    chunk,
    closed_port,
    done,
    error,
    fin,
    html,
    ping,
    prompt_progress,
    raw,
    say,
    status,
    think,
    tool_call,
    tool_fragment,
)

DIALECTS = ["openai", "llamacpp", "ollama", "vllm", "lmstudio"]
USER = [{"role": "user", "content": "hi"}]
ALWAYS = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAILRACE_UPSTREAM", "OLLAMA_HOST", "TAILRACE_API_KEY", "OLLAMA_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


def client(server: FakeOpenAI) -> Client:
    return Client(f"openai:{server.base_url}")


def sent(server: FakeOpenAI, path: str = "/v1/chat/completions") -> Any:
    """The one request's body, less what every request has."""
    (record,) = server.requests
    assert (record.method, record.path) == ("POST", path)
    body = record.json
    assert {name: body.pop(name) for name in ALWAYS} == ALWAYS
    return body


# -- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {}),
        ({"tools": []}, {}),
        ({"think": True}, {"chat_template_kwargs": {"enable_thinking": True}}),
        (
            {"think": False},
            {
                "chat_template_kwargs": {"enable_thinking": False},
                "reasoning_effort": "none",
                "enable_thinking": False,
            },
        ),
        ({"think": "high"}, {"reasoning_effort": "high"}),
        ({"format": "json"}, {"response_format": {"type": "json_object"}}),
        ({"format": ""}, {}),
        (
            {"format": {"type": "object"}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "answer", "schema": {"type": "object"}},
                }
            },
        ),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"logprobs": True}, {"logprobs": True}),
        ({"logprobs": False, "top_logprobs": 2}, {}),
        ({"keep_alive": "5m"}, {}),
        ({"options": {"num_predict": 5, "stop": ["a"], "seed": 0}}, {"max_tokens": 5, "stop": ["a"], "seed": 0}),
        ({"options": {"num_predict": -1, "num_ctx": 4096, "num_gpu": 1, "repeat_last_n": 3}}, {}),
        ({"options": Options(temperature=0.0, top_k=1, min_p=0.5)}, {"temperature": 0.0, "top_k": 1, "min_p": 0.5}),
        ({"options": {"repeat_penalty": 1.1}}, {"repeat_penalty": 1.1, "repetition_penalty": 1.1}),
        ({"options": {"guided_choice": ["a"]}}, {"guided_choice": ["a"]}),
    ],
    ids=lambda value: json.dumps(value, default=repr)[:50],
)
def test_chat_requests(server: FakeOpenAI, arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    """Each argument of `chat` is written as this protocol writes it, and what it does not have is left out."""
    client(server).chat("m", USER, **arguments)

    assert sent(server) == {"model": "m", "messages": USER, **expected}


def test_tools(server: FakeOpenAI) -> None:
    """Tools are the same objects in both protocols."""

    def add(a: int) -> int:
        """Adds.

        Args:
            a: the first
        """
        return a

    client(server).chat("m", USER, tools=[add, {"function": {"name": "g"}}])

    assert sent(server)["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "add",
                "description": "Adds.",
                "parameters": {
                    "type": "object",
                    "required": ["a"],
                    "properties": {"a": {"type": "integer", "description": "the first"}},
                },
            },
        },
        {"type": "function", "function": {"name": "g"}},
    ]


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"), (b"RIFF", "webp"), (b"", "png")],
)
@pytest.mark.parametrize("length", [1, 5, 40])
def test_images(server: FakeOpenAI, start: bytes, kind: str, length: int) -> None:
    """Images become parts with data URLs of their kind, after the text."""
    image = start + bytes(length)
    url = f"data:image/{kind};base64,{base64.b64encode(image).decode()}"

    client(server).chat("m", [{"role": "user", "content": "what?", "images": [image]}])

    assert sent(server)["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": url}}],
        }
    ]


def test_images_without_text(server: FakeOpenAI) -> None:
    """Without a text there is no empty text part."""
    client(server).chat("m", [Message("user", images=[PNG])])

    assert [part["type"] for part in sent(server)["messages"][0]["content"]] == ["image_url"]


def test_tool_calls_and_answers(server: FakeOpenAI) -> None:
    """Calls go with their arguments as text, answers with the id of their call, thoughts as reasoning."""
    messages: list[Any] = [
        {
            "role": "assistant",
            "thinking": "hm",
            "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": {"城": 1}}}],
        },
        {"role": "tool", "content": "5", "tool_call_id": "x", "tool_name": "f"},
    ]

    client(server).chat("m", messages)

    assert sent(server)["messages"] == [
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": '{"城":1}'}}],
        },
        {"role": "tool", "content": "5", "tool_call_id": "x"},
    ]


def test_answers_without_ids_are_paired(server: FakeOpenAI) -> None:
    """A conversation in Ollama's manner, which pairs by name and order, gets the ids that this protocol demands."""

    def calls(*names: str) -> dict[str, Any]:
        return {"role": "assistant", "tool_calls": [{"function": {"name": name, "arguments": {}}} for name in names]}

    def answer(content: str, **rest: str) -> dict[str, Any]:
        return {"role": "tool", "content": content, **rest}

    messages = [
        calls("f", "g", "f"),
        answer("g", tool_name="g"),
        answer("f1", tool_name="f"),
        answer("f2", tool_name="f"),
        calls("f", "g"),
        answer("first"),
        answer("second"),
        answer("none left"),
    ]

    client(server).chat("m", messages)

    written = sent(server)["messages"]
    ids = [call["id"] for message in written for call in message.get("tool_calls", ())]
    assert len(set(ids)) == 5
    assert [message.get("tool_call_id") for message in written if message["role"] == "tool"] == [
        *(ids[1], ids[0], ids[2]),
        *(ids[3], ids[4], None),
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"prompt": "p"}, {"prompt": "p"}),
        ({}, {"prompt": ""}),
        ({"prompt": "p", "suffix": "s", "options": {"seed": 1}}, {"prompt": "p", "suffix": "s", "seed": 1}),
        ({"prompt": "p", "logprobs": True, "top_logprobs": 3}, {"prompt": "p", "logprobs": 3}),
        ({"prompt": "p", "logprobs": True}, {"prompt": "p", "logprobs": 1}),
    ],
)
def test_generate_requests(server: FakeOpenAI, arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    """A plain completion is one here too."""
    client(server).generate("m", **arguments)

    assert sent(server, "/v1/completions") == {"model": "m", **expected}


def test_generate_with_a_system_prompt_or_images(server: FakeOpenAI) -> None:
    """With a system prompt or images a completion is a chat of one message: this protocol has no other way."""
    client(server).generate("m", "p", system="s", images=[PNG], think="low", format="json", logprobs=True)

    body = sent(server)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert [part["type"] for part in body["messages"][1]["content"]] == ["text", "image_url"]
    assert (body["reasoning_effort"], body["response_format"]) == ("low", {"type": "json_object"})
    assert body["logprobs"] is True


def test_the_openai_library_sends_the_same(server: FakeOpenAI) -> None:
    """The request is the one that openai-python would send for it, but for the question how far the prompt is."""
    with openai.OpenAI(base_url=server.base_url, api_key="k") as theirs:
        for _ in theirs.chat.completions.create(
            model="m",
            messages=[{"role": "user", "content": "hi"}],
            stream=True,
            stream_options={"include_usage": True},
            temperature=0.5,
            max_tokens=9,
            response_format={"type": "json_object"},
        ):
            pass

    client(server).chat("m", USER, format="json", options={"temperature": 0.5, "num_predict": 9})

    first, second = server.requests
    assert second.json == {**first.json, "return_progress": True}
    assert (second.method, second.path) == (first.method, first.path)


# -- answers ---------------------------------------------------------------------------------------------------------


def events_of(server: FakeOpenAI, *script: Step) -> list[Event]:
    server.script(*script)
    events = list(client(server).chat("m", USER, stream=True).events())
    assert isinstance(events[-1], Ended)
    return [event for event in events if not isinstance(event, ToolCallDelta)]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_text_reasoning_and_counts(dialect: Any) -> None:
    """In every dialect text, reasoning and counts arrive, one event a chunk, with one whole ending."""
    with FakeOpenAI(dialect) as server:
        *events, last = events_of(
            server, ping("wait"), think("hm", "."), say("Yes", "!"), done(prompt_eval_count=7, eval_count=4)
        )

    assert events == [ThinkingDelta("hm"), ThinkingDelta("."), TextDelta("Yes"), TextDelta("!")]
    assert isinstance(last, Ended)
    assert last.usage is not None
    assert (last.outcome, last.reason, last.warnings) == (Outcome.COMPLETE, "stop", ())
    assert (last.usage.prompt_tokens, last.usage.output_tokens) == (7, 4)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fragments", [1, 2, 5])
def test_tool_calls(dialect: Any, fragments: int) -> None:
    """In every dialect calls arrive whole, in order, with their ids, whatever their fragments."""
    calls = [tool_call(name, {"城市": "上海", "n": 1}, id=f"id_{name}", fragments=fragments) for name in "fg"]
    with FakeOpenAI(dialect) as server:
        server.script(*calls, done())
        response = client(server).chat("m", USER)

    assert response.done_reason == "tool_calls"
    assert [
        (call.id, call.function.index, call.function.name, call.function.arguments)
        for call in response.message.tool_calls or ()
    ] == [("id_f", 0, "f", {"城市": "上海", "n": 1}), ("id_g", 1, "g", {"城市": "上海", "n": 1})]


def test_interleaved_fragments(server: FakeOpenAI) -> None:
    """Fragments of two calls may interleave."""
    events = events_of(
        server,
        tool_fragment(0, "", name="f", id="a"),
        tool_fragment(1, '{"x"', name="g", id="b"),
        tool_fragment(0, "{}"),
        tool_fragment(1, ":1}"),
        done(),
    )

    assert events[:-1] == [ToolCall("f", {}, "a", 0), ToolCall("g", {"x": 1}, "b", 1)]


def test_arguments_that_are_no_json(server: FakeOpenAI) -> None:
    """Arguments that are no JSON do not break the answer: they are kept as the model wrote them."""
    events = events_of(server, tool_call("f", "{oops", id="a"), done())

    assert events[0] == ToolCall("f", {}, "a", 0, "{oops")
    assert isinstance(events[-1], Ended)
    assert events[-1].outcome is Outcome.COMPLETE


def test_prefill_of_llamacpp() -> None:
    """Progress of the prompt is shown where a server tells it."""
    progress = {"choices": [], "prompt_progress": {"total": 12, "cache": 0, "processed": 6, "time_ms": 1}}
    with FakeOpenAI("llamacpp") as server:
        events = events_of(server, prompt_progress(1, 2), chunk(progress), say("a"), done())

    assert events[:-1] == [Prefill(1, 2), Prefill(6, 12), TextDelta("a")]


@pytest.mark.parametrize(
    ("dialect", "code"), [("openai", -1), ("llamacpp", 500), ("vllm", 500)], ids=lambda value: str(value)
)
def test_errors_in_the_stream(dialect: Any, code: int) -> None:
    """An error in the stream is raised with its text, and what was said until then is on it."""
    with FakeOpenAI(dialect) as server:
        server.script(say("Hel"), error("Context size has been exceeded."))
        with pytest.raises(errors.ResponseError) as caught:
            client(server).chat("m", USER)

    assert (caught.value.error, caught.value.status_code) == ("Context size has been exceeded.", code)
    assert caught.value.reply.text == "Hel"


def test_the_hidden_error_of_ollama() -> None:
    """Ollama's /v1 hides errors of the model; that is truncated, with the place where the cause is to be found."""
    with FakeOpenAI("ollama") as server:
        server.script(say("Hel"), error("boom"))
        with pytest.raises(errors.TruncatedError, match="its log has the cause") as caught:
            client(server).chat("m", USER)

    assert caught.value.reply.text == "Hel"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_that_stops(dialect: Any) -> None:
    """In every dialect a stream that merely stops is truncated, never a success."""
    with FakeOpenAI(dialect) as server:
        server.script(say("Hel"), fin())
        with pytest.raises(errors.TruncatedError, match="without a finish_reason or"):
            client(server).chat("m", USER)


def test_a_server_that_does_not_stream(server: FakeOpenAI) -> None:
    """A server that answers with one JSON object, although a stream was asked for, is understood."""
    answer = {"choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "length"}]}
    server.script(status(200, answer))

    response = client(server).chat("m", USER)

    assert (response.message.content, response.done_reason, response.done) == ("Hello", "length", True)


def test_probabilities_of_completions(server: FakeOpenAI) -> None:
    """Completions tell probabilities in a form of their own, older than that of chats; both are the same here."""
    older = {"tokens": ["He", "y"], "token_logprobs": [-0.5, None], "top_logprobs": [{"He": -0.5, "Ha": -2.0}]}
    server.script(chunk({"choices": [{"index": 0, "text": "Hey", "logprobs": older}]}), done())

    answer = client(server).generate("m", "p", logprobs=True)

    tops = [{"token": "He", "logprob": -0.5}, {"token": "Ha", "logprob": -2.0}]
    assert answer.response == "Hey"
    first, second = answer.logprobs or ()
    assert (first["token"], first["logprob"]) == ("He", -0.5)
    assert [{"token": top["token"], "logprob": top["logprob"]} for top in first["top_logprobs"]] == tops
    assert second["token"] == "y"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_generate(dialect: Any) -> None:
    """In every dialect a plain completion streams."""
    with FakeOpenAI(dialect) as server:
        server.script(say("a", "b"), done("length"))
        chunks = list(client(server).generate("m", "p", stream=True))

    assert [(part.response, part.done) for part in chunks] == [("a", False), ("b", False), ("", True)]
    assert chunks[-1].done_reason == "length"


# -- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", ["openai", "ollama", "vllm"])
def test_an_unknown_model(dialect: Any) -> None:
    """In every dialect a model that is not there is told as such."""
    with FakeOpenAI(dialect, models=["m"]) as server, pytest.raises(errors.ModelNotFoundError) as caught:
        client(server).chat("other", USER)

    assert caught.value.status_code == 404
    assert "other" in caught.value.error


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_wrong_key(dialect: Any) -> None:
    """In every dialect a wrong key is told with the server's own words; the right one opens."""
    with FakeOpenAI(dialect, api_key="right") as server:
        with pytest.raises(errors.ResponseError, match=r"API [Kk]ey") as caught:
            Client(f"openai:{server.base_url}", api_key="wrong").chat("m", USER)
        assert caught.value.status_code == 401
        assert Client(f"openai:{server.base_url}", api_key="right").chat("m", USER).done


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (status(400, {"error": {"code": 400, "message": "too long", "type": "x"}}), errors.ResponseError),
        (status(500, {"error": {"message": "boom"}}), errors.ResponseError),
        (html(), errors.NotModelServerError),
    ],
)
def test_refusals(server: FakeOpenAI, step: Step, kind: type[errors.ResponseError]) -> None:
    """A refusal before the stream has its status and its kind."""
    server.script(step)
    with pytest.raises(errors.ResponseError) as caught:
        client(server).chat("m", USER)
    assert type(caught.value) is kind
    assert caught.value.reply.text == ""


def test_nobody_there() -> None:
    """Where nothing listens the error is a ConnectionError."""
    with pytest.raises(ConnectionError, match="nothing answers"):
        Client(f"openai:http://127.0.0.1:{closed_port()}/v1").chat("m", USER)


# -- single answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
def test_list(dialect: Any) -> None:
    """Models are listed by their ids."""
    with FakeOpenAI(dialect, models=["a", "b"]) as server:
        names = [model.model for model in client(server).list().models]
        assert server.requests[0].path == "/v1/models"

    assert names == (["a:latest", "b:latest"] if dialect == "ollama" else ["a", "b"])


def test_embed(server: FakeOpenAI) -> None:
    """Embeddings are asked for and read; what this protocol does not know is not sent."""
    response = client(server).embed("m", ["a", "b"], truncate=True, dimensions=4, keep_alive=5, options={"seed": 1})

    (record,) = server.requests
    assert record.path == "/v1/embeddings"
    assert record.json == {"model": "m", "input": ["a", "b"], "dimensions": 4}
    assert [len(vector) for vector in response.embeddings] == [4, 4]
    assert (response.model, response.prompt_eval_count) == ("m", 2)
    assert client(server).embed("m", "b", dimensions=4).embeddings[0] == response.embeddings[1]


@pytest.mark.parametrize(
    ("usage", "count"), [({"prompt_tokens": 7.0}, 7), ({"prompt_tokens": "7"}, 7), ([], None), (5, None)]
)
@pytest.mark.parametrize("index", [None, "x", "0"])
def test_u37_embeddings_with_odd_figures(server: FakeOpenAI, index: Any, usage: Any, count: int | None) -> None:
    """Figures of another type cost no vectors."""
    rows = [{"index": index, "embedding": [1]}, {"index": 1.0, "embedding": [2]}]
    server.script(status(200, {"data": rows, "usage": usage}), path="/v1/embeddings")

    response = client(server).embed("m", ["a", "b"])

    assert (response.embeddings, response.prompt_eval_count) == ([[1.0], [2.0]], count)


def test_embeddings_are_sorted(server: FakeOpenAI) -> None:
    """Vectors come in the order of the inputs, whatever the order of the answer."""
    rows = [{"index": 1, "embedding": [1]}, {"index": 0, "embedding": [0.5]}]
    server.script(status(200, {"data": rows}), path="/v1/embeddings")

    assert client(server).embed("m", ["a", "b"]).embeddings == [[0.5], [1.0]]


@pytest.mark.parametrize(
    "body",
    [
        *({}, [], None, "text", {"data": None}, {"data": 5}, {"data": [5]}, {"data": [{}]}),
        *({"data": [{"embedding": ["a"]}]}, {"data": [{"embedding": "AAAA"}]}, {"data": [{"embedding": None}]}),
    ],
    ids=json.dumps,
)
def test_answers_that_are_none(server: FakeOpenAI, body: Any) -> None:
    """An answer that is not the protocol's is a ProtocolError that shows it, never another exception."""
    server.script(status(200, json.dumps(body).encode()), path="/v1/embeddings")

    with pytest.raises(errors.ProtocolError, match="not OpenAI's protocol"):
        client(server).embed("m", "a")


@pytest.mark.parametrize("body", [b"[]", b'{"data":5}', b'{"data":[5]}', b"not json", b"\xff", b"[" * 100_000])
def test_lists_that_are_none(server: FakeOpenAI, body: bytes) -> None:
    """The same for the list of models."""
    server.script(status(200, body), path="/v1/models")

    with pytest.raises(errors.ProtocolError, match="not OpenAI's protocol"):
        client(server).list()


UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "ps": (),
    "show": ("m",),
    "version": (),
    "pull": ("m",),
    "push": ("m",),
    "create": ("m",),
    "delete": ("m",),
    "copy": ("a", "b"),
    "embeddings": ("m", "p"),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
async def test_what_this_protocol_does_not_have(server: FakeOpenAI, name: str) -> None:
    """What the protocol does not have is UnsupportedError, in both clients, and nothing is sent."""
    upstream = f"openai:{server.base_url}"
    with pytest.raises(errors.UnsupportedError, match=f"has no '{name}'") as caught:
        await getattr(AsyncClient(upstream), name)(*UNSUPPORTED[name])
    assert caught.value.status_code == 501
    assert caught.value.hint != ""
    with pytest.raises(errors.UnsupportedError, match=f"has no '{name}'"):
        getattr(Client(upstream), name)(*UNSUPPORTED[name])
    assert server.requests == []


def test_unknown_media(server: FakeOpenAI) -> None:
    """A body that is no stream at all is not taken for an answer."""
    server.script(raw(b"hello\n\n"))

    with pytest.raises(errors.StreamError):
        client(server).chat("m", USER)
