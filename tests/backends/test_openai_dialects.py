"""What a server of OpenAI's protocol is: how it is told apart, what it is sent, and what follows when it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, get_args

import pytest

from tailrace import AsyncClient, Client, errors
from tailrace.backends.openai_dialects import ANY, Server
from tailrace.events import Prefill, Queued
from tailrace.testing import FakeOllama, FakeOpenAI, Record, Step, done, hold, prompt_progress, say, status, think
from tailrace.testing.openai import Dialect

USER = [{"role": "user", "content": "hi"}]
CHAT = "/v1/chat/completions"
F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
DIALECTS: tuple[Dialect, ...] = ("llamacpp", "vllm", "mlx", "ollama")
G = {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAILRACE_UPSTREAM", "OLLAMA_HOST", "TAILRACE_API_KEY", "OLLAMA_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def client(server: FakeOpenAI) -> Client:
    return Client(f"openai:{server.base_url}")


def bodies(server: FakeOpenAI, path: str = CHAT) -> list[Any]:
    return [record.json for record in server.requests if record.path == path]


# -- what it is sent -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [False, True], ids=["at first", "once known"])
@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_thinking_is_switched_off(dialect: Any, known: bool) -> None:
    """Every server is told in its own way that the model is not to think, known or not; and lets it, if not told."""
    with FakeOpenAI(dialect, models=["m"]) as server:
        server.always(think("hm"), say("Yes"))
        one = client(server)
        if known:
            one.list()
        off = one.chat("m", USER, think=False)
        unset = one.chat("m", USER)

    assert (off.message.thinking, off.message.content) == (None, "Yes")
    assert unset.message.thinking == "hm"


@pytest.mark.parametrize("known", [False, True], ids=["at first", "once known"])
@pytest.mark.parametrize("dialect", get_args(Dialect))
def test_json(dialect: Any, known: bool) -> None:
    """Every server answers in JSON, the strict one too; a server that is known is asked once."""
    with FakeOpenAI(dialect, models=["m"]) as server:
        server.always(say("{}"))
        one = client(server)
        if known:
            one.list()
        answer = one.chat("m", USER, format="json")
        again = one.chat("m", USER, format="json")

    asked = [body["response_format"]["type"] for body in bodies(server)]
    strict, before = dialect == "lmstudio", dialect == "lmstudio" and not known
    assert (answer.message.content, again.message.content) == ("{}", "{}")
    assert asked == ["json_object"] * before + (["json_schema"] if strict else ["json_object"]) * 2


@pytest.mark.parametrize(
    ("dialect", "names"),
    [
        ("vllm", {"repetition_penalty"}),
        ("sglang", {"repetition_penalty"}),
        ("llamacpp", {"repeat_penalty"}),
        ("lmstudio", {"repeat_penalty"}),
        ("textgen", {"repeat_penalty", "repetition_penalty"}),  # what it says, many say
        ("koboldcpp", {"repeat_penalty", "rep_pen"}),
        ("mlx", {"repeat_penalty", "repetition_penalty"}),  # it does not say what it is
    ],
)
def test_penalty_on_repetition(dialect: Any, names: set[str]) -> None:
    """The penalty goes under the names that the server has for it, in chats and completions."""
    with FakeOpenAI(dialect, models=["m"]) as server:
        one = client(server)
        one.list()
        one.chat("m", USER, options={"repeat_penalty": 1.2})
        one.generate("m", "p", options={"repeat_penalty": 1.2})

    for body in (*bodies(server), *bodies(server, "/v1/completions")):
        assert {name: value for name, value in body.items() if "rep" in name} == dict.fromkeys(names, 1.2)


def test_servers_that_are_known_are_asked_for_no_more_than_they_have() -> None:
    """A server that is known not to tell how far a prompt is, is not asked for it; one that may be able is."""
    wanted = {}
    for dialect in DIALECTS:
        with FakeOpenAI(dialect, models=["m"]) as server:
            one = client(server)
            one.list()
            one.chat("m", USER)
            wanted[dialect] = bodies(server)[0].get("return_progress", False)

    assert wanted == {"llamacpp": True, "vllm": False, "mlx": True, "ollama": False}


@pytest.mark.parametrize("ask", ["chat", "generate"])
async def test_extra_body(ask: str) -> None:
    """Members that only this server knows are sent as they are, over ours; sets of switches are joined; it streams."""
    extra = {
        "min_p": 0.1,
        "chat_template_kwargs": {"style": "x"},
        "max_tokens": 7,
        "stream": False,
        "nested": [{"a": 1}],
    }
    with FakeOpenAI() as server:
        arguments: Any = {"think": False, "options": {"num_predict": 5}, "extra_body": extra}
        await getattr(AsyncClient(f"openai:{server.base_url}"), ask)("m", USER if ask == "chat" else "p", **arguments)
        getattr(client(server), ask)("m", USER if ask == "chat" else "p", **arguments)
        one, two = (record.json for record in server.requests)

    kwargs = {"style": "x"} if ask == "generate" else {"enable_thinking": False, "style": "x"}
    assert one == two
    assert (one["min_p"], one["max_tokens"], one["nested"], one["stream"]) == (0.1, 7, [{"a": 1}], True)
    assert one["chat_template_kwargs"] == kwargs


def test_extra_body_for_ollama() -> None:
    """At Ollama they are members of its own request, which it takes or passes over."""
    with FakeOllama() as server:
        Client(server.url).chat("m", USER, extra_body={"truncate": False, "anything": 1, "stream": True})
        Client(server.url).chat("m", USER, extra_body={})
        first, second = (record.json for record in server.requests)

    assert {name: first[name] for name in set(first) - set(second)} == {"truncate": False, "anything": 1}
    assert first["stream"] is second["stream"] is False


@pytest.mark.parametrize("extra", [[1], "x", {"a": object()}], ids=["list", "text", "object"])
def test_extra_body_that_is_none(extra: Any) -> None:
    """What is no dict of JSON is refused before anything is sent."""
    with FakeOpenAI() as server:
        with pytest.raises(errors.RequestError, match="extra_body"):
            client(server).chat("m", USER, extra_body=extra)
        assert server.requests == []


def test_openai_itself() -> None:
    """OpenAI's own server is known by its name, and gets what its documentation has and nothing else."""
    server = Server("https://api.openai.com/v1/")

    assert server.shaped({"model": "o9", "max_tokens": 5}) == {"model": "o9", "max_completion_tokens": 5}
    assert server.thinking(False) == {"reasoning_effort": "none"}


# -- the wait --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["chat", "generate"])
def test_the_first_prompt_is_seen(ask: str) -> None:
    """The first request already shows how far the prompt is: nobody has to know before that it is llama-server."""
    with FakeOpenAI("llamacpp") as server:
        server.script(prompt_progress(0, 10), prompt_progress(10, 10), say("Yes"), done())
        one = client(server)
        stream = one.chat("m", USER, stream=True) if ask == "chat" else one.generate("m", "p", stream=True)
        events = list(stream.events())

    assert [event for event in events if isinstance(event, Prefill)] == [Prefill(0, 10), Prefill(10, 10)]
    assert len(server.requests) == 1


async def test_a_full_server_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A llama-server whose slots are all busy sends not even a head; its list of slots tells what is waited for."""
    monkeypatch.setattr("tailrace.backends.silence._AFTER", 0.01)
    monkeypatch.setattr("tailrace.backends.openai._SLOTS_EVERY", 0.01)
    with FakeOpenAI("llamacpp", parallel=1) as server:
        server.script(hold(), say("first"))
        server.script(say("second"))
        upstream = f"openai:{server.base_url}"
        first = await AsyncClient(upstream).chat("m", USER, stream=True)
        waiting = asyncio.ensure_future(first.wait())
        await server.await_for_request(path=CHAT)
        second = await AsyncClient(upstream).chat("m", USER, stream=True)
        seen = []
        async for event in second.events():
            seen.append(event)
            if isinstance(event, Queued):
                server.release()
        await waiting

    assert seen[0] == Queued()
    assert [event.text for event in seen if hasattr(event, "text")] == ["second"]


# -- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refused", "arguments", "without"),
    [
        ("stream_options", {}, {"stream_options"}),
        ("return_progress", {}, {"return_progress"}),
        ("chat_template_kwargs", {"think": False}, {"chat_template_kwargs"}),
        ("reasoning_effort", {"think": False}, {"reasoning_effort"}),
        ("enable_thinking", {"think": False}, {"enable_thinking"}),
        ("repeat_penalty", {"options": {"repeat_penalty": 1.1}}, {"repeat_penalty"}),
        ("repetition_penalty", {"options": {"repeat_penalty": 1.1}}, {"repetition_penalty"}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refused_once(refused: str, arguments: dict[str, Any], without: set[str]) -> None:
    """What a server refuses is left out of a second try and of all that follow, and nothing else is."""
    with FakeOpenAI(refuses=[refused]) as server:
        server.always(say("Yes"))
        one = client(server)
        answers = [one.chat("m", USER, **arguments).message.content for _ in range(3)]

    first, *others = bodies(server)
    assert answers == ["Yes"] * 3
    assert len(others) == 3
    for body in others:
        assert set(first) - set(body) == without


def test_a_server_that_refuses_everything_of_ours() -> None:
    """A strict server, which names one member at a time, is asked until nothing is left that it does not know."""
    extras = ["stream_options", "return_progress", "chat_template_kwargs", "enable_thinking", "reasoning_effort"]
    with FakeOpenAI(refuses=extras) as server:
        server.always(say("Yes"))
        one = client(server)
        one.chat("m", USER, think=False)
        before = len(server.requests)
        one.chat("m", USER, think=False)

    assert before == len(extras) + 1
    assert set(bodies(server)[-1]) == {"model", "messages", "stream"}
    assert len(server.requests) == before + 1


@pytest.mark.parametrize(
    "said",
    [
        {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs"}]},
        {"error": {"message": "Unrecognized request argument supplied: stream_options", "param": None}},
        {"error": 'json: unknown field "stream_options"'},
        {"object": "error", "message": "stream_options is not supported", "code": 400},
        {"error": {"message": "Extra inputs are not permitted", "type": "invalid_request_error"}},
        "unknown parameter",
    ],
    ids=["pydantic", "openai", "go", "vllm", "unnamed", "text"],
)
@pytest.mark.parametrize("code", [400, 422])
def test_the_words_of_refusals(said: Any, code: int) -> None:
    """Refusals are understood in whatever form they come, those that do not name the member too."""

    def answer(record: Record) -> list[Step]:
        return [status(code, said)] if "stream_options" in record.json else [say("Yes"), done()]

    with FakeOpenAI() as server:
        server.respond(answer)
        answered = client(server).chat("m", USER)

    assert answered.message.content == "Yes"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("code", "said"),
    [(400, "the prompt is too long"), (400, "stream_options are fine, the model is not"), (404, "no such model")],
)
def test_other_errors_are_told(code: int, said: str) -> None:
    """An error that another form does not mend is told as the server told it, and nothing is remembered."""
    with FakeOpenAI() as server:
        server.always(status(code, {"error": {"message": said}}))
        one = client(server)
        with pytest.raises(errors.ResponseError, match=said):
            one.chat("m", USER)
        server.always(say("Yes"))
        one.chat("m", USER)

    assert "stream_options" in bodies(server)[-1]
    assert len(server.requests) <= 3


def test_errors_that_show_the_request() -> None:
    """An error that repeats the whole request is not taken for a refusal of all that is in it."""

    def answer(record: Record) -> list[Step]:
        wrong = {"type": "missing", "loc": ["body", "x"], "msg": "Field required", "input": record.json}
        return [status(422, {"detail": [wrong]})]

    with FakeOpenAI() as server:
        server.respond(answer)
        with pytest.raises(errors.ResponseError):
            client(server).chat("m", USER, think=False)

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("level", "levels", "tries"),
    [("max", ["max", "high"], 2), ("high", ["high"], 1)],
)
def test_levels_of_thinking(level: str, levels: list[str], tries: int) -> None:
    """The highest level is the highest that the server has."""

    def answer(record: Record) -> list[Step]:
        known = record.json["reasoning_effort"] in ("low", "medium", "high")
        return [say("Yes")] if known else [status(400, {"error": "reasoning_effort is 'low', 'medium' or 'high'"})]

    with FakeOpenAI() as server:
        server.respond(answer)
        client(server).chat("m", USER, think=level)

    assert [body["reasoning_effort"] for body in bodies(server)] == levels
    assert len(server.requests) == tries


def test_a_level_that_is_refused_is_an_error() -> None:
    """A level of thinking that was asked for is not left out quietly."""
    with FakeOpenAI(refuses=["reasoning_effort"]) as server, pytest.raises(errors.ResponseError):
        client(server).chat("m", USER, think="high")


def test_the_newer_limit() -> None:
    """A server that knows the longest answer by its newer name only is asked by that one."""

    def answer(record: Record) -> list[Step]:
        text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        return [status(400, {"error": {"message": text}})] if "max_tokens" in record.json else [say("Yes")]

    with FakeOpenAI() as server:
        server.respond(answer)
        client(server).chat("m", USER, options={"num_predict": 5})

    assert bodies(server)[-1]["max_completion_tokens"] == 5


@pytest.mark.parametrize("refuse", [False, True], ids=["llama-server", "a server that refuses it"])
def test_named_tools(refuse: bool) -> None:
    """Where a server takes words only, the one tool that is meant is offered alone, and required."""
    body = {"tools": [F, G], "tool_choice": {"type": "function", "function": {"name": "g"}}}
    server = Server("http://127.0.0.1:1/v1/")
    if refuse:
        changed = server.otherwise(body, '{"error": "Invalid tool_choice"}')
        assert changed is not None
        shaped = changed[1]
    else:
        server.answered({"server": "llama.cpp"})
        shaped = server.shaped(body)

    assert (shaped["tools"], shaped["tool_choice"]) == ([G], "required")


# -- what it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tell", "name"),
    [
        (lambda server: server.answered({"server": "llama.cpp"}), "llama-server"),
        (lambda server: server.answered({"server": "uvicorn"}), ""),
        (lambda server: server.listed({"vllm"}), "vLLM"),
        (lambda server: server.listed({"library", "vllm"}), ""),
        (lambda server: server.listed(set()), ""),
        (lambda server: server.listed({"somebody"}), ""),
    ],
    ids=["head", "another head", "list", "several", "nothing", "unknown"],
)
def test_recognition(tell: Callable[[Server], None], name: str) -> None:
    """A server is known by the head of an answer or by whom all of its models belong to, and stays what it is."""
    server = Server("http://127.0.0.1:1/v1/")
    assert server.dialect is ANY

    tell(server)
    assert server.dialect.name == name

    if name:
        server.listed({"sglang"})
        assert server.dialect.name == name
