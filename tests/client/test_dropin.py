"""Drop-in for ollama-python: the same calls with the same arguments send the same JSON and give the same answers.

Both libraries talk to the same fake server. Where ours differs on purpose, a test says so and shows it.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import inspect
import json
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import ollama
import pydantic
import pytest

import tailrace
from tailrace import errors
from tailrace.client import base
from tailrace.testing import (
    FakeModel,
    FakeOllama,
    chunk,
    closed_port,
    cut,
    done,
    error,
    fin,
    half_line,
    html,
    raw,
    say,
    status,
    think,
    tool_call,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
USER = [{"role": "user", "content": "Why is the sky blue?"}]
BOTH = pytest.mark.parametrize("library", [ollama, tailrace], ids=["ollama", "tailrace"])
METHODS = [
    *("chat", "copy", "create", "create_blob", "delete", "embed", "embeddings", "generate", "list", "ps", "pull"),
    *("push", "show", "web_fetch", "web_search"),
]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TAILRACE_UPSTREAM", "OLLAMA_HOST", "TAILRACE_API_KEY", "OLLAMA_API_KEY"):
        monkeypatch.delenv(name, raising=False)


_open: list[Any] = []


def connect(library: ModuleType, *args: Any, **kwargs: Any) -> Any:
    """A client, closed after the test."""
    client = library.Client(*args, **kwargs)
    _open.append(client)
    return client


def connect_async(library: ModuleType, *args: Any, **kwargs: Any) -> Any:
    """An asynchronous client, closed after the test."""
    client = library.AsyncClient(*args, **kwargs)
    _open.append(client)
    return client


@pytest.fixture(autouse=True)
async def _closing() -> AsyncIterator[None]:
    yield
    while _open:
        closing = _open.pop().close()
        if closing is not None:
            await closing


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


# -- names and signatures --------------------------------------------------------------------------------------------


def shape(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    parameters = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["Client", "AsyncClient", "module"])
def test_signatures(kind: str, name: str) -> None:
    """Every method and function has the parameters of ollama-python's: names, order, kinds and defaults."""
    theirs, ours = (library if kind == "module" else getattr(library, kind) for library in (ollama, tailrace))
    if (kind, name) == ("module", "create_blob"):
        assert not hasattr(theirs, name)  # ollama-python has it on clients only
        theirs = ollama._client
    expected, actual = shape(getattr(theirs, name)), shape(getattr(ours, name))

    assert actual[: len(expected)] == expected
    assert [name for name, how, _ in actual[len(expected) :] if how is not inspect.Parameter.KEYWORD_ONLY] == []


@pytest.mark.parametrize("name", METHODS)
def test_both_clients_have_one_surface(name: str) -> None:
    """The asynchronous method is a coroutine function with the parameters of the synchronous one."""
    assert shape(getattr(tailrace.AsyncClient, name)) == shape(getattr(tailrace.Client, name))
    assert inspect.iscoroutinefunction(getattr(tailrace.AsyncClient, name))
    assert not inspect.iscoroutinefunction(getattr(tailrace.Client, name))


def test_the_client_itself() -> None:
    """A client takes host, follow_redirects, timeout and headers as ollama-python's does, where the rest is httpx's.

    The arguments of httpx have its meaning, or say what to use instead (tests/client/test_options.py). On purpose
    different: a timeout that is not given means our limits for each phase, not waiting for ever.
    """
    theirs = inspect.signature(ollama.Client.__bases__[0]).parameters
    for client in (tailrace.Client, tailrace.AsyncClient):
        ours = inspect.signature(client).parameters
        for name in ("host", "follow_redirects", "headers"):
            assert ours[name].kind == theirs[name].kind
            assert ours[name].default == theirs[name].default
        assert ours["timeout"].kind == theirs["timeout"].kind
        httpx_options = {"verify", "cert", "auth", "cookies", "params", "proxy", "trust_env", "limits"}
        assert httpx_options <= set(inspect.signature(httpx.Client).parameters)
        assert set(ours) - set(theirs) == {"api_key", "unsupported", *httpx_options}


# The questions and answers of /v1/systemone: plain dicts and one response class do here.
SYSTEM_ONE = {name for name in ollama.__all__ if name.startswith("SystemOne")} - {"SystemOneResponse"}


def test_exported_names() -> None:
    """Every name that ollama-python exports is ours too, but for the shapes of System One's questions."""
    assert {name for name in ollama.__all__ if not hasattr(tailrace, name)} == SYSTEM_ONE
    functions = {name for name, value in vars(ollama).items() if inspect.ismethod(value)}
    assert functions - {"systemone"} == set(METHODS) - {"create_blob", "systemone"}
    assert {name for name in functions if not callable(getattr(tailrace, name, None))} == set()


def test_the_module_has_the_functions_of_one_client(server: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's functions are those of one client, which is made at the first call and not at import."""
    monkeypatch.setattr("tailrace.client.default._client", None)
    monkeypatch.setenv("OLLAMA_HOST", server.url)

    assert tailrace.chat("m", USER).message.content == "Hello! I am a fake model."
    assert tailrace.default_client() is tailrace.default_client()
    assert tailrace.default_client().upstream == server.url


@BOTH
async def test_clients_are_context_managers(library: ModuleType, server: FakeOllama) -> None:
    """Both clients may be closed, and used in `with`."""
    with library.Client(server.url) as client:
        assert client.list().models[0].model == "fake:latest"
    client.close()
    async with library.AsyncClient(server.url) as other:
        assert (await other.list()).models[0].model == "fake:latest"
    await other.close()


# -- request bodies --------------------------------------------------------------------------------------------------


def weather(city: str, days: int) -> str:
    """Tells the weather.

    Args:
        city: Where.
        days: How far ahead.
    """
    return f"{city} {days}"


class Country(pydantic.BaseModel):
    name: str
    capital: str | None


TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"type": "string", "description": "x", "enum": ["p", "q"]}},
        },
    },
}
HISTORY = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "上海"}}}]},
    {"role": "tool", "content": "sunny", "tool_name": "weather"},
]
Call = Callable[[Any, ModuleType], Any]

SAME: dict[str, Call] = {
    "chat": lambda c, lib: c.chat("m", USER),
    "chat by keyword": lambda c, lib: c.chat(model="m", messages=USER, stream=False),
    "chat history": lambda c, lib: c.chat("m", HISTORY),
    "chat messages": lambda c, lib: c.chat("m", [lib.Message(role="user", content="hi"), USER[0]]),
    "chat message calls": lambda c, lib: c.chat(
        "m",
        [
            lib.Message(
                role="assistant",
                thinking="hm",
                tool_calls=[
                    lib.Message.ToolCall(function=lib.Message.ToolCall.Function(name="f", arguments={"a": [1]}))
                ],
            )
        ],
    ),
    "chat image bytes": lambda c, lib: c.chat("m", [{"role": "user", "content": "?", "images": [PNG]}]),
    "chat image object": lambda c, lib: c.chat(
        "m", [lib.Message(role="user", content="?", images=[lib.Image(value=PNG)])]
    ),
    "chat image base64": lambda c, lib: c.chat(
        "m", [{"role": "user", "content": "?", "images": [base64.b64encode(PNG).decode()]}]
    ),
    "chat tool function": lambda c, lib: c.chat("m", USER, tools=[weather]),
    "chat tool dict": lambda c, lib: c.chat("m", USER, tools=[TOOL]),
    "chat tool object": lambda c, lib: c.chat(
        "m",
        USER,
        tools=[
            lib.Tool(
                function=lib.Tool.Function(
                    name="f",
                    description="d",
                    parameters=lib.Tool.Function.Parameters(
                        required=["a"],
                        properties={"a": lib.Tool.Function.Parameters.Property(type="string", description="x")},
                    ),
                )
            )
        ],
    ),
    "chat tool without type": lambda c, lib: c.chat("m", USER, tools=[{"function": {"name": "f"}}]),
    "chat json": lambda c, lib: c.chat("m", USER, format="json"),
    "chat no format": lambda c, lib: c.chat("m", USER, format=""),
    "chat schema": lambda c, lib: c.chat("m", USER, format=Country.model_json_schema()),
    "chat options dict": lambda c, lib: c.chat("m", USER, options={"temperature": 0, "stop": ["a"], "min_p": 0.1}),
    "chat options object": lambda c, lib: c.chat("m", USER, options=lib.Options(temperature=0.5, num_predict=3)),
    "chat empty options": lambda c, lib: c.chat("m", USER, options={}),
    "chat think": lambda c, lib: c.chat("m", USER, think=True),
    "chat no think": lambda c, lib: c.chat("m", USER, think=False),
    "chat think hard": lambda c, lib: c.chat("m", USER, think="high"),
    "chat logprobs": lambda c, lib: c.chat("m", USER, logprobs=True, top_logprobs=3),
    "chat keep": lambda c, lib: c.chat("m", USER, keep_alive=5),
    "chat keep text": lambda c, lib: c.chat("m", USER, keep_alive="1h30m"),
    "chat keep fraction": lambda c, lib: c.chat("m", USER, keep_alive=0.5),
    "generate unload": lambda c, lib: c.generate("m", keep_alive=0),
    "generate": lambda c, lib: c.generate("m", "p"),
    "generate load": lambda c, lib: c.generate("m"),
    "generate everything": lambda c, lib: c.generate(
        "m",
        "p",
        "s",
        system="y",
        template="{{ .Prompt }}",
        context=[1, 2],
        think="low",
        logprobs=True,
        top_logprobs=1,
        raw=True,
        format={"type": "object"},
        images=[PNG, lib.Image(value=PNG)],
        options=lib.Options(seed=1),
        keep_alive="5m",
        width=64,
        height=32,
        steps=4,
    ),
    "generate nothing much": lambda c, lib: c.generate("m", "", "", system="", raw=False, images=[], context=[]),
    "embed": lambda c, lib: c.embed("m", "text"),
    "embed batch": lambda c, lib: c.embed("m", ["a", "b"], True, {"seed": 1}, 5, 4),
    "embed nothing": lambda c, lib: c.embed("m"),
    "embeddings": lambda c, lib: c.embeddings("m", "p", lib.Options(seed=1), "5m"),
    "pull": lambda c, lib: c.pull("m"),
    "pull insecure": lambda c, lib: c.pull("m", insecure=True),
    "push": lambda c, lib: c.push("fake"),
    "create": lambda c, lib: c.create("m", from_="fake"),
    "create everything": lambda c, lib: c.create(
        "m",
        "q4_K_M",
        "fake",
        {"a.gguf": "sha256:0"},
        {"b.gguf": "sha256:1"},
        "{{ .Prompt }}",
        ["MIT", "Apache-2.0"],
        "sys",
        lib.Options(seed=1),
        [lib.Message(role="user", content="hi"), {"role": "assistant", "content": "ho"}],
    ),
    "show": lambda c, lib: c.show("fake"),
    "delete": lambda c, lib: c.delete("fake"),
    "copy": lambda c, lib: c.copy("fake", "other"),
    "list": lambda c, lib: c.list(),
    "ps": lambda c, lib: c.ps(),
}


def sent(server: FakeOllama) -> list[tuple[str, str, Any]]:
    return [(record.method, record.path, record.json if record.body else None) for record in server.requests]


@pytest.mark.parametrize("name", SAME)
def test_the_same_call_sends_the_same(server: FakeOllama, name: str) -> None:
    """The same call of either library sends the same method, path and JSON."""
    SAME[name](connect(ollama, server.url), ollama)
    SAME[name](connect(tailrace, server.url), tailrace)

    theirs, ours = sent(server)
    assert ours == theirs


@pytest.mark.parametrize("name", SAME)
async def test_the_same_asynchronously(name: str) -> None:
    """Both of our clients send the same."""
    with FakeOllama() as server:
        await asyncio.to_thread(SAME[name], connect(tailrace, server.url), tailrace)
        await SAME[name](connect_async(tailrace, server.url), tailrace)
        first, second = sent(server)

    assert second == first


STREAMED: dict[str, Call] = {
    "chat": lambda c, lib: c.chat("m", USER, stream=True),
    "generate": lambda c, lib: c.generate("m", "p", stream=True),
    "pull": lambda c, lib: c.pull("m", stream=True),
    "push": lambda c, lib: c.push("fake", stream=True),
    "create": lambda c, lib: c.create("m", from_="fake", stream=True),
}


@pytest.mark.parametrize("name", STREAMED)
def test_streams_send_the_same_when_first_read(server: FakeOllama, name: str) -> None:
    """A stream of either library sends nothing before it is first read, and then the same."""
    for library in (ollama, tailrace):
        stream = STREAMED[name](connect(library, server.url), library)
        before = len(server.requests)
        for _ in stream:
            pass
        assert len(server.requests) == before + 1

    theirs, ours = sent(server)
    assert ours == theirs
    assert ours[2]["stream"] is True


def test_files_are_sent_the_same(server: FakeOllama, tmp_path: Path) -> None:
    """A blob is the same bytes under the same digest."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(600_000))

    digests = [connect(library, server.url).create_blob(file) for library in (ollama, tailrace)]
    digests.append(connect(tailrace, server.url).create_blob(str(file)))

    assert len(set(digests)) == 1
    assert {(record.method, record.path, record.body) for record in server.requests} == {
        ("POST", f"/api/blobs/{digests[0]}", file.read_bytes())
    }


def test_image_paths_are_sent_the_same(server: FakeOllama, tmp_path: Path) -> None:
    """Images are read from a path, or from the text of one."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    for library in (ollama, tailrace):
        client = connect(library, server.url)
        client.chat("m", [{"role": "user", "content": "?", "images": [path, str(path)]}])
        client.generate("m", "?", images=[path, str(path)])

    theirs, ours = sent(server)[:2], sent(server)[2:]
    assert ours == theirs
    assert ours[0][2]["messages"][0]["images"] == [base64.b64encode(PNG).decode()] * 2


# What ollama-python drops and we keep: its request, and ours.
KEPT: dict[str, tuple[Call, Callable[[Any], Any], Any, Any]] = {
    "ids of tool calls": (
        lambda c, lib: c.chat(
            "m",
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "x", "function": {"name": "f", "index": 0, "arguments": {}}}],
                }
            ],
        ),
        lambda body: body["messages"][0]["tool_calls"][0],
        {"function": {"name": "f", "arguments": {}}},
        {"id": "x", "function": {"name": "f", "index": 0, "arguments": {}}},
    ),
    "ids of tool answers": (
        lambda c, lib: c.chat("m", [{"role": "tool", "content": "5", "tool_call_id": "x"}]),
        lambda body: body["messages"][0],
        {"role": "tool", "content": "5"},
        {"role": "tool", "content": "5", "tool_call_id": "x"},
    ),
    "empty content": (
        lambda c, lib: c.chat("m", [{"role": "assistant", "content": ""}]),
        lambda body: body["messages"][0],
        {"role": "assistant"},
        {"role": "assistant", "content": ""},
    ),
    "what a tool's parameter is": (
        lambda c, lib: c.chat(
            "m",
            USER,
            tools=[
                {
                    "type": "function",
                    "function": {
                        "name": "f",
                        "strict": True,
                        "parameters": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}},
                        },
                    },
                }
            ],
        ),
        lambda body: body["tools"][0]["function"],
        {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "object"}}}},
        {
            "name": "f",
            "strict": True,
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}}},
            },
        },
    ),
    "what a function's parameter is": (
        lambda c, lib: c.chat("m", USER, tools=[pick]),
        lambda body: body["tools"][0]["function"]["parameters"]["properties"]["kind"],
        {"type": "string", "description": ""},
        {"type": "string", "description": "", "enum": ["a", "b"]},
    ),
}


def pick(kind: str) -> str:
    return kind


pick.__annotations__["kind"] = typing.Literal["a", "b"]  # ollama-python reads no annotation that is still a string


@pytest.mark.parametrize("name", KEPT)
def test_what_we_keep(server: FakeOllama, name: str) -> None:
    """On purpose different: what ollama-python drops on the way, we keep; the rest of the request is the same."""
    call, part, theirs, ours = KEPT[name]
    call(connect(ollama, server.url), ollama)
    call(connect(tailrace, server.url), tailrace)

    first, second = (body for _, _, body in sent(server))
    assert (part(first), part(second)) == (theirs, ours)
    part(first).clear()
    part(second).clear()
    assert second == first


@pytest.mark.parametrize("keep_alive", [None, 0])
def test_no_messages(server: FakeOllama, keep_alive: int | None) -> None:
    """A chat without messages loads or unloads the model, and says so in the same words."""
    for library in (ollama, tailrace):
        response = connect(library, server.url).chat("m", keep_alive=keep_alive)
        assert response.done_reason == ("load" if keep_alive is None else "unload")

    theirs, ours = (body for _, _, body in sent(server))
    assert theirs == ours


def test_options_by_name(server: FakeOllama) -> None:
    """On purpose different: our `Options` has the names that ollama-python's lacks and silently drops."""
    connect(ollama, server.url).chat("m", USER, options=ollama.Options(min_p=0.5, seed=1))  # type: ignore[call-arg]
    connect(tailrace, server.url).chat("m", USER, options=tailrace.Options(min_p=0.5, seed=1))

    assert [body["options"] for _, _, body in sent(server)] == [{"seed": 1}, {"min_p": 0.5, "seed": 1}]


# -- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "headers", "expected"),
    [
        (None, {}, None),
        ("k", {}, "Bearer k"),
        ("k", {"Authorization": "Basic x"}, "Basic x"),
        ("k", {"authorization": "Basic x"}, "Basic x"),
        ("k", {"AUTHORIZATION": "Basic x"}, "Basic x"),
        ("k", {"Authorization": ""}, "Bearer k"),
        (None, {"x-some-header": "some-value"}, None),
    ],
)
def test_headers(
    server: FakeOllama, monkeypatch: pytest.MonkeyPatch, key: str | None, headers: dict[str, str], expected: str | None
) -> None:
    """OLLAMA_API_KEY becomes the Authorization header unless one is given; headers of the caller's are sent."""
    if key is not None:
        monkeypatch.setenv("OLLAMA_API_KEY", key)
    for library in (ollama, tailrace):
        connect(library, server.url, headers=headers).chat("m", USER)

    theirs, ours = server.requests
    for name in ("authorization", "content-type", "accept", "x-some-header"):
        assert ours.header(name) == theirs.header(name)
    assert ours.header("authorization") == expected
    assert (ours.header("user-agent") or "").startswith("tailrace/")


@BOTH
def test_the_web_wants_a_key(library: ModuleType) -> None:
    """A web search without a key is a ValueError that says what is missing, and nothing is sent."""
    for name in ("web_search", "web_fetch"):
        with pytest.raises(ValueError, match="Authorization header with Bearer token is required for web"):
            getattr(connect(library), name)("q")


async def test_the_web(server: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key, searches and pages come from ollama.com, wherever the upstream is."""
    monkeypatch.setattr(base, "_WEB", f"{server.url}/api")
    result = {"title": "t", "url": "u", "content": "c"}
    page = {"title": "t", "content": "c", "links": ["l"]}
    for _ in range(2):
        server.script(status(200, {"results": [result]}), path="/api/web_search")
        server.script(status(200, page), path="/api/web_fetch")
    client = connect(tailrace, "http://elsewhere.invalid", api_key="k")
    other = connect_async(tailrace, "http://elsewhere.invalid", api_key="k")

    found = await asyncio.to_thread(client.web_search, "q")
    fetched = await asyncio.to_thread(client.web_fetch, "u")

    assert found.results[0].url == found["results"][0]["url"] == "u"
    assert found.model_dump() == ollama.WebSearchResponse.model_validate({"results": [result]}).model_dump()
    assert fetched.model_dump() == ollama.WebFetchResponse.model_validate(page).model_dump()
    assert (await other.web_search("q"), await other.web_fetch("u")) == (found, fetched)
    assert sent(server)[:2] == [
        ("POST", "/api/web_search", {"query": "q", "max_results": 3}),
        ("POST", "/api/web_fetch", {"url": "u"}),
    ]
    assert {record.header("authorization") for record in server.requests} == {"Bearer k"}


@pytest.mark.parametrize("body", [b"", b"[]", b"not json", b"\xff", b'{"results":5}'])
def test_a_web_that_is_none(server: FakeOllama, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    """An answer of the web services that is none is an error of ours."""
    monkeypatch.setattr(base, "_WEB", f"{server.url}/api")
    server.script(status(200, body), path="/api/web_search")

    with pytest.raises(errors.ProtocolError):
        connect(tailrace, server.url, api_key="k").web_search("q")


# -- errors ----------------------------------------------------------------------------------------------------------


def raised(call: Callable[..., Any], *args: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        call(*args)
    return caught.value


def drained(stream: Any) -> None:
    for _ in stream:
        pass


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("code", "body", "text"),
    [
        (404, {"error": "model 'm' not found"}, "model 'm' not found"),
        (400, {"error": "bad"}, "bad"),
        (500, {"error": 'option "stop" must be of type array'}, 'option "stop" must be of type array'),
        (401, {"error": "unauthorized", "signin_url": "u"}, "unauthorized"),
        (500, "plain text", "plain text"),
        (400, {"other": 1}, '{"other":1}'),
    ],
)
def test_http_errors(server: FakeOllama, stream: bool, code: int, body: Any, text: str) -> None:
    """An HTTP error is a ResponseError with the server's text and status, streaming or not, and reads the same."""
    for library in (ollama, tailrace):
        server.script(status(code, body))

        def call(library: ModuleType = library) -> None:
            answer = connect(library, server.url).chat("m", USER, stream=stream)
            if stream:
                drained(answer)

        caught = raised(call)
        assert isinstance(caught, library.ResponseError)
        assert (caught.error, caught.status_code) == (text, code)
        assert str(caught) == f"{text} (status code: {code})"


def test_a_web_page(server: FakeOllama) -> None:
    """On purpose different: a web page is a ResponseError too, but names what it is, not the page's source."""
    server.script(html()).script(html())

    theirs = raised(lambda: connect(ollama, server.url).chat("m", USER))
    ours = raised(lambda: connect(tailrace, server.url).chat("m", USER))

    assert isinstance(theirs, ollama.ResponseError)
    assert theirs.error.startswith("<html>")
    assert isinstance(ours, tailrace.ResponseError)
    assert isinstance(ours, tailrace.NotModelServerError)
    assert (theirs.status_code, ours.status_code) == (502, 502)


@pytest.mark.parametrize("name", ["show", "delete", "push", "copy", "embed", "embeddings"])
def test_models_that_are_not_there(name: str) -> None:
    """Whatever asks for a model that is not there gets the server's 404, with the same text."""
    arguments = {"copy": ("no", "other"), "embed": ("no", "a")}.get(name, ("no",))
    with FakeOllama(models=["m"]) as server:
        theirs, ours = (
            raised(getattr(connect(library, server.url), name), *arguments) for library in (ollama, tailrace)
        )

    assert isinstance(theirs, ollama.ResponseError)
    assert isinstance(ours, tailrace.ModelNotFoundError)
    assert (ours.error, ours.status_code, str(ours)) == (theirs.error, 404, str(theirs))


def test_errors_in_the_stream(server: FakeOllama) -> None:
    """An error in the stream comes after the text before it, as ResponseError with status -1, even if it tells one."""
    for library in (ollama, tailrace):
        server.script(say("Hel"), error("boom", status_code=500))
        texts: list[str] = []

        def call(library: ModuleType = library, texts: list[str] = texts) -> None:
            for part in connect(library, server.url).chat("m", USER, stream=True):
                texts.append(part.message.content)

        caught = raised(call)
        assert isinstance(caught, library.ResponseError)
        assert (texts, caught.error, caught.status_code) == (["Hel"], "boom", -1)


def test_errors_that_are_objects(server: FakeOllama) -> None:
    """On purpose different: an error that is an object is a ResponseError, where ollama-python fails with TypeError."""
    for _ in range(2):
        server.script(error({"message": "boom"}))

    assert isinstance(raised(lambda: drained(connect(ollama, server.url).chat("m", USER, stream=True))), TypeError)
    ours = raised(lambda: drained(connect(tailrace, server.url).chat("m", USER, stream=True)))
    assert isinstance(ours, tailrace.ResponseError)
    assert ours.error == "boom"


def test_nobody_there() -> None:
    """Where nothing listens it is the builtin ConnectionError; streaming too, unlike ollama-python's."""
    url = f"http://127.0.0.1:{closed_port()}"
    theirs, ours = connect(ollama, url), connect(tailrace, url)

    for call in (
        lambda c: c.chat("m", USER),
        lambda c: c.generate("m", "p"),
        lambda c: c.list(),
        lambda c: c.pull("m"),
    ):
        for client in (theirs, ours):
            assert isinstance(raised(call, client), ConnectionError)
    assert isinstance(raised(lambda: drained(theirs.chat("m", USER, stream=True))), httpx.ConnectError)
    assert isinstance(raised(lambda: drained(ours.chat("m", USER, stream=True))), ConnectionError)


NO_MODEL: dict[str, Call] = {
    "chat": lambda c, lib: c.chat(messages=USER),
    "chat stream": lambda c, lib: drained(c.chat("", USER, stream=True)),
    "generate": lambda c, lib: c.generate(prompt="p"),
    "embed": lambda c, lib: c.embed(input="a"),
    "embeddings": lambda c, lib: c.embeddings(prompt="a"),
    "pull": lambda c, lib: c.pull(""),
    "push": lambda c, lib: c.push(""),
    "create": lambda c, lib: c.create(""),
    "create stream": lambda c, lib: drained(c.create("", stream=True)),
    "delete": lambda c, lib: c.delete(""),
    "show": lambda c, lib: c.show(""),
}


@BOTH
@pytest.mark.parametrize("name", NO_MODEL)
def test_no_model(server: FakeOllama, library: ModuleType, name: str) -> None:
    """Without a model's name every call is a ValueError, and nothing is sent; ours is the documented RequestError."""
    caught = raised(lambda: NO_MODEL[name](connect(library, server.url), library))

    assert isinstance(caught, ValueError)
    assert server.requests == []
    if library is tailrace:
        assert isinstance(caught, tailrace.RequestError)
        assert "model" in caught.error


@BOTH
@pytest.mark.parametrize(
    "messages", [[{"content": "no role"}], ["text"], [{"role": "user", "images": ["no.png"], "content": "?"}], [5]]
)
def test_messages_that_are_none(server: FakeOllama, library: ModuleType, messages: Sequence[Any]) -> None:
    """Messages without a role, images that are not there and the like are refused before anything is sent."""
    caught = raised(lambda: connect(library, server.url).chat("m", messages))

    assert isinstance(caught, (ValueError, TypeError))
    assert server.requests == []


@pytest.mark.parametrize("tool", [5, "text", [TOOL], None])
def test_tools_that_are_none(server: FakeOllama, tool: Any) -> None:
    """Tools that are none are refused before anything is sent."""
    for library in (ollama, tailrace):
        chat = functools.partial(connect(library, server.url).chat, "m", USER, tools=[tool])
        assert isinstance(raised(chat), ValueError)
    assert server.requests == []


@pytest.mark.parametrize(
    ("script", "theirs", "ours"),
    [
        ([say("a"), cut()], httpx.RemoteProtocolError, tailrace.TruncatedError),
        ([say("a"), half_line(), fin()], json.JSONDecodeError, tailrace.TruncatedError),
        ([say("a"), raw(b"\n"), say("b"), done()], json.JSONDecodeError, None),
        ([say("a\u2028b"), done()], json.JSONDecodeError, None),
        ([say("a\u0085b"), done()], json.JSONDecodeError, None),
        ([say("a"), fin()], None, tailrace.TruncatedError),
        ([say("a"), chunk("not an object"), done()], AttributeError, tailrace.ProtocolError),
    ],
    ids=["cut", "half line", "blank line", "U+2028", "U+0085", "no done", "not an object"],
)
def test_streams_that_break(
    server: FakeOllama, script: list[Any], theirs: type[BaseException] | None, ours: type[BaseException] | None
) -> None:
    """On purpose different: a stream that breaks is an error of ours, and what only looks broken is none."""
    for library, expected in ((ollama, theirs), (tailrace, ours)):
        server.script(*script)
        stream = connect(library, server.url).chat("m", USER, stream=True)
        if expected is None:
            drained(stream)
        else:
            assert type(raised(drained, stream)) is expected


# -- answers ---------------------------------------------------------------------------------------------------------

METRICS: dict[str, Any] = {
    "total_duration": 210000000,
    "load_duration": 9000000,
    "prompt_eval_count": 12,
    "prompt_eval_duration": 80000000,
    "eval_count": 2,
    "eval_duration": 40000000,
}


def without(value: Any, *names: str) -> Any:
    """The value as JSON types, without the named members and without what is not set."""
    if hasattr(value, "model_dump"):
        value = json.loads(value.model_dump_json())
    if isinstance(value, dict):
        return {k: without(v, *names) for k, v in value.items() if k not in names and v is not None}
    if isinstance(value, list):
        return [without(item, *names) for item in value]
    return value


# What ollama-python's classes have no room for: tool-call ids and indices, and names and capabilities of models.
OURS = ("created_at", "id", "index", "name", "capabilities")
ANSWERS: dict[str, tuple[list[Any], Call]] = {
    "chat": ([say("Hel", "lo"), done(**METRICS)], lambda c, lib: c.chat("m", USER)),
    "chat thinking": ([think("hm"), say("4"), done(**METRICS)], lambda c, lib: c.chat("m", USER, think=True)),
    "chat nothing": ([done(**METRICS)], lambda c, lib: c.chat("m", USER)),
    "chat length": ([say("a"), done("length", **METRICS)], lambda c, lib: c.chat("m", USER)),
    "chat tools": (
        [tool_call("weather", {"city": "上海"}), tool_call("weather", {"city": "Oslo"}), done(**METRICS)],
        lambda c, lib: c.chat("m", USER, tools=[weather]),
    ),
    "chat load": ([], lambda c, lib: c.chat("m")),
    "chat unload": ([], lambda c, lib: c.chat("m", keep_alive=0)),
    "generate": ([say("Hel", "lo"), done(**METRICS)], lambda c, lib: c.generate("m", "p")),
    "generate thinking": ([think("hm"), say("4"), done(**METRICS)], lambda c, lib: c.generate("m", "p")),
    "generate load": ([], lambda c, lib: c.generate("m")),
    "embed": ([], lambda c, lib: c.embed("m", "a")),
    "embed batch": ([], lambda c, lib: c.embed("m", ["a", "b"])),
    "embeddings": ([], lambda c, lib: c.embeddings("m", "a")),
    "pull": ([], lambda c, lib: c.pull("m")),
    "push": ([], lambda c, lib: c.push("fake")),
    "create": ([], lambda c, lib: c.create("m", from_="fake")),
    "list": ([], lambda c, lib: c.list()),
    "show": ([], lambda c, lib: c.show("fake")),
    "copy": ([], lambda c, lib: c.copy("fake", "b")),
    "delete": ([], lambda c, lib: c.delete("fake")),
    "ps": ([], lambda c, lib: (c.chat("fake"), c.ps())[1]),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_the_same_answers(name: str) -> None:
    """The same answer of the server has the same fields with the same values in both libraries."""
    script, call = ANSWERS[name]
    values = []
    for library in (ollama, tailrace):
        with FakeOllama(models=["fake", "m"]) as server:
            if script:
                server.script(*script)
            values.append(without(call(connect(library, server.url), library), *OURS))

    assert values[1] == values[0]
    assert values[1] != {}


STREAMS: dict[str, tuple[list[Any], Call]] = {
    "chat": ([say("Hel", "lo"), done(**METRICS)], STREAMED["chat"]),
    "chat thinking": ([think("h", "m"), say("4"), done("length", **METRICS)], STREAMED["chat"]),
    "chat tools": ([say("a"), tool_call("f", {"a": 1}), done(**METRICS)], STREAMED["chat"]),
    "generate": ([say("Hel", "lo"), done(**METRICS)], STREAMED["generate"]),
    "generate thinking": ([think("hm"), say("4"), done(**METRICS)], STREAMED["generate"]),
    "pull": ([], STREAMED["pull"]),
    "push": ([], STREAMED["push"]),
    "create": ([], STREAMED["create"]),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_the_same_chunks(server: FakeOllama, name: str) -> None:
    """The same stream of the server is the same chunks in both libraries, synchronous and asynchronous."""
    script, call = STREAMS[name]
    values: list[Any] = []
    for library in (ollama, tailrace):
        if script:
            server.script(*script).script(*script)
        parts = call(connect(library, server.url), library)
        values.append(await asyncio.to_thread(list, parts))
        stream = call(connect_async(library, server.url), library)
        values.append([part async for part in await stream])

    first, *others = ([without(part, *OURS) for part in parts] for parts in values)
    assert others == [first] * 3
    assert len(first) > 1


@BOTH
def test_chunks_answer_to_attributes_and_items(server: FakeOllama, library: ModuleType) -> None:
    """The tutorial's ways of reading a chunk: attributes, items, get and in; the last one has the counts."""
    server.script(say("Hi"), done(**METRICS))
    first, last = connect(library, server.url).chat("m", USER, stream=True)

    assert first.message.content == first["message"]["content"] == first.get("message").get("content") == "Hi"
    assert (first.done, first["done"], first.get("done"), "done" in first) == (False, False, False, True)
    assert ("total_duration" in first, "message" in first, "nothing" in first) == (False, True, False)
    assert last.get("total_duration", 0) / 1e9 == 0.21
    assert (last["eval_count"], last.eval_count, last.done_reason, last["message"]["role"]) == (
        2,
        2,
        "stop",
        "assistant",
    )
    assert (first.model, isinstance(first.created_at, str)) == ("m", True)


def test_ids_of_tool_calls_arrive(server: FakeOllama) -> None:
    """On purpose different: our answers keep the ids of tool calls, which ollama-python drops."""
    server.script(tool_call("f", {}, id="x"), done())

    [call] = connect(tailrace, server.url).chat("m", USER).message.tool_calls

    assert (call.id, call["id"], call.function.index) == ("x", "x", 0)


@BOTH
def test_an_answer_goes_back_as_a_message(server: FakeOllama, library: ModuleType) -> None:
    """A message of an answer can be put into the history and sent as it is."""
    client = connect(library, server.url)
    server.script(say("Hi"), tool_call("f", {"a": 1}, id="x"), done())
    message = client.chat("m", USER).message

    client.chat("m", [*USER, message, {"role": "tool", "content": "5", "tool_name": "f"}])

    call: dict[str, Any] = {"function": {"name": "f", "arguments": {"a": 1}}}
    if library is tailrace:
        call = {"id": "x", "function": {"index": 0, "name": "f", "arguments": {"a": 1}}}
    assert server.requests[1].json["messages"][1] == {"role": "assistant", "content": "Hi", "tool_calls": [call]}


# -- the examples of ollama-python's README, in our words ---------------------------------------------------------


@BOTH
def test_example_chat(server: FakeOllama, library: ModuleType) -> None:
    """A question and its answer, read as an item and as an attribute."""
    response = connect(library, server.url).chat(model="gemma3", messages=USER)

    assert response["message"]["content"] == response.message.content == "Hello! I am a fake model."


@BOTH
def test_example_streaming(server: FakeOllama, library: ModuleType) -> None:
    """The answer comes in pieces."""
    stream = connect(library, server.url).chat(model="gemma3", messages=USER, stream=True)

    assert "".join(part["message"]["content"] for part in stream) == "Hello! I am a fake model."


@BOTH
def test_example_custom_client(server: FakeOllama, library: ModuleType) -> None:
    """A client with a host and headers of one's own."""
    client = connect(library, host=server.url, headers={"x-some-header": "some-value"})

    assert client.chat(model="gemma3", messages=USER).done is True
    assert server.requests[0].header("x-some-header") == "some-value"


@BOTH
async def test_example_async(server: FakeOllama, library: ModuleType) -> None:
    """The asynchronous client answers, and streams with `async for part in await`."""
    client = connect_async(library, server.url)
    message = {"role": "user", "content": "Why is the sky blue?"}

    response = await client.chat(model="gemma3", messages=[message])
    parts = [
        part["message"]["content"] async for part in await client.chat(model="gemma3", messages=[message], stream=True)
    ]

    assert response.message.content == "".join(parts) == "Hello! I am a fake model."


@BOTH
def test_example_generate(server: FakeOllama, library: ModuleType) -> None:
    """A prompt and its completion, whole and streamed."""
    client = connect(library, server.url)
    prompt = "Why is the sky blue?"

    assert client.generate(model="gemma3", prompt=prompt)["response"] == "Hello! I am a fake model."
    assert "".join(p.response for p in client.generate("gemma3", prompt, stream=True)) == "Hello! I am a fake model."


@BOTH
def test_example_models(library: ModuleType) -> None:
    """The life of a model: made from another, listed, shown, copied, deleted; and what runs."""
    with FakeOllama(models=["gemma3"]) as server:
        client = connect(library, server.url)
        made = client.create(model="example", from_="gemma3", system="You are Mario from Super Mario Bros.")
        shown = client.show("gemma3")
        copied = client.copy("gemma3", "user/gemma3")
        listed = [model.model for model in client.list().models]
        deleted = client.delete("user/gemma3")
        client.chat("gemma3", USER)
        running = client.ps()

        assert (made.status, copied.status, deleted.status) == ("success",) * 3
        assert shown.modelinfo["general.architecture"] == "llama"
        assert (shown.details.family, shown.capabilities[0]) == ("llama", "completion")
        assert listed == ["gemma3:latest", "example:latest", "user/gemma3:latest"]
        assert [model["model"] for model in client.list()["models"]] == ["gemma3:latest", "example:latest"]
        assert [model.model for model in running.models] == ["gemma3:latest"]
        assert (running.models[0].context_length, running["models"][0]["size_vram"]) == (4096, 0)


@BOTH
def test_example_pull_and_push(server: FakeOllama, library: ModuleType) -> None:
    """Pull and push, at once and with their progress."""
    client = connect(library, server.url)

    assert client.pull("gemma3").status == client.push("user/gemma3").status == "success"
    lines = list(client.pull("gemma3", stream=True))
    assert lines[0]["status"] == "pulling manifest"
    assert max(line.get("completed") or 0 for line in lines) == lines[1].total
    assert [line.status for line in client.push("user/gemma3", stream=True)][-1] == "success"


@BOTH
def test_example_embed(server: FakeOllama, library: ModuleType) -> None:
    """Embeddings of one text, and of several."""
    client = connect(library, server.url)
    text = "The sky is blue because of Rayleigh scattering"

    single = client.embed(model="gemma3", input=text)
    batch = client.embed(model="gemma3", input=[text, "Grass is green because of chlorophyll"])

    assert batch["embeddings"][0] == single.embeddings[0]
    assert len(batch.embeddings) == 2


@BOTH
def test_example_errors(library: ModuleType) -> None:
    """A model that is not there is a 404, which leads to a pull, after which it is there."""
    model = "does-not-yet-exist"
    with FakeOllama(models=[]) as server:
        client = connect(library, server.url)
        with pytest.raises(library.ResponseError) as caught:
            client.chat(model, USER)
        assert (caught.value.error, caught.value.status_code) == ("model 'does-not-yet-exist' not found", 404)
        client.pull(model)

        assert client.chat(model, USER).message.content == "Hello! I am a fake model."


@BOTH
def test_example_tools(server: FakeOllama, library: ModuleType) -> None:
    """The model calls a function, gets its result, and answers."""

    def add_two_numbers(a: int, b: int) -> int:
        """Add two numbers.

        Args:
            a (int): The first number
            b (int): The second number

        Returns:
            int: The sum
        """
        return int(a) + int(b)

    server.script(tool_call("add_two_numbers", {"a": 3, "b": 1}), done()).script(say("4"), done())
    client = connect(library, server.url)
    messages: list[Any] = [{"role": "user", "content": "What is three plus one?"}]
    functions = {"add_two_numbers": add_two_numbers}

    response = client.chat("llama3.1", messages=messages, tools=[add_two_numbers])
    for call in response.message.tool_calls or ():
        output = functions[call.function.name](**call.function.arguments)
        messages += [response.message, {"role": "tool", "content": str(output), "tool_name": call.function.name}]
    final = client.chat("llama3.1", messages=messages)

    assert final.message.content == "4"
    assert server.requests[1].json["messages"][2] == {"role": "tool", "content": "4", "tool_name": "add_two_numbers"}
    assert server.requests[0].json["tools"][0]["function"]["parameters"]["properties"] == {
        "a": {"type": "integer", "description": "The first number"},
        "b": {"type": "integer", "description": "The second number"},
    }


@BOTH
def test_example_structured_outputs(server: FakeOllama, library: ModuleType) -> None:
    """A pydantic schema goes out, and its model reads the answer."""
    server.script(say('{"name":"Canada",', '"capital":"Ottawa"}'), done())

    response = connect(library, server.url).chat(
        model="llama3.1", messages=USER, format=Country.model_json_schema(), options={"temperature": 0}
    )

    assert Country.model_validate_json(response.message.content) == Country(name="Canada", capital="Ottawa")
    assert server.requests[0].json["format"] == Country.model_json_schema()


@BOTH
def test_example_thinking(server: FakeOllama, library: ModuleType) -> None:
    """Thoughts and answer come apart."""
    server.script(think("10 + 23 = 33"), say("33"), done())

    response = connect(library, server.url).chat("deepseek-r1", messages=USER, think=True)

    assert (response.message.thinking, response.message.content) == ("10 + 23 = 33", "33")


@BOTH
def test_example_images(server: FakeOllama, library: ModuleType, tmp_path: Path) -> None:
    """An image is asked about by its path."""
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)

    connect(library, server.url).chat(
        model="gemma3", messages=[{"role": "user", "content": "What is in this image?", "images": [str(path)]}]
    )

    assert server.requests[0].json["messages"][0]["images"] == [base64.b64encode(PNG).decode()]


@BOTH
def test_example_cloud(server: FakeOllama, library: ModuleType) -> None:
    """A host that wants a key gets it by a header."""
    client = connect(library, host=server.url, headers={"Authorization": "Bearer key"})

    for _ in client.chat("gpt-oss:120b", messages=USER, stream=True):
        pass

    assert server.requests[0].header("authorization") == "Bearer key"


@BOTH
def test_example_refusal_of_a_capability(library: ModuleType) -> None:
    """A model that cannot think says so, in the server's words."""
    with FakeOllama(models=[FakeModel("plain", capabilities=("completion",))]) as server:
        caught = raised(lambda: connect(library, server.url).chat("plain", USER, think=True))

    assert isinstance(caught, library.ResponseError)
    assert str(caught) == '"plain" does not support thinking (status code: 400)'
