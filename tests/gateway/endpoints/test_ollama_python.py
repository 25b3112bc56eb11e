"""Ollama's Python client against the gateway: all that it can do, what it raises, and that leaving stops the model."""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ollama
import pydantic
import pytest
from tests.gateway.fronting import Front, fronting
from tests.web.reader import PATIENCE

from tailrace.testing import (
    FakeModel,
    FakeOllama,
    FakeOpenAI,
    Step,
    cut,
    done,
    error,
    fin,
    hold,
    say,
    stall,
    status,
    think,
    tool_call,
)

HI: list[Any] = [{"role": "user", "content": "hi"}]
SYSTEMONE = {
    "answers": {
        "team": {"type": "choice", "choice": "technical", "confidence": 0.9, "probabilities": {"technical": 0.9}}
    },
    "usage": {"input_tokens": 9, "output_tokens": 1},
}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


class Client:
    """One of the client's two faces.

    Args:
        host: of the gateway.
    """

    def __init__(self, host: str) -> None:
        self._host = host

    def call(self, method: str, *args: Any, **rest: Any) -> Any:
        """Calls a method; returns its answer, of a stream all of it."""
        raise NotImplementedError

    def leave(self, method: str, came: Callable[[], bool], **rest: Any) -> list[Any]:
        """Begins a stream and leaves it after its first chunk; then waits until that has come to the model."""
        raise NotImplementedError


class SyncClient(Client):
    def call(self, method: str, *args: Any, **rest: Any) -> Any:
        with ollama.Client(host=self._host) as client:
            answer = getattr(client, method)(*args, **rest)
            return list(answer) if rest.get("stream") else answer

    def leave(self, method: str, came: Callable[[], bool], **rest: Any) -> list[Any]:
        with ollama.Client(host=self._host) as client:
            stream = getattr(client, method)(stream=True, **rest)
            chunks = [next(stream)]
            stream.close()
            assert came()
        return chunks


class AsyncClient(Client):
    def call(self, method: str, *args: Any, **rest: Any) -> Any:
        async def calling() -> Any:
            async with ollama.AsyncClient(host=self._host) as client:
                answer = await getattr(client, method)(*args, **rest)
                return [chunk async for chunk in answer] if rest.get("stream") else answer

        return asyncio.run(calling())

    def leave(self, method: str, came: Callable[[], bool], **rest: Any) -> list[Any]:
        async def leaving() -> list[Any]:
            async with ollama.AsyncClient(host=self._host) as client:
                stream = await getattr(client, method)(stream=True, **rest)
                chunks = [await anext(stream)]
                await stream.aclose()
                assert await asyncio.to_thread(came)
            return chunks

        return asyncio.run(leaving())


@pytest.fixture(scope="module")
def over_ollama() -> Iterator[Front]:
    models: list[str | FakeModel] = ["m", FakeModel("plain", capabilities=("completion",))]
    with FakeOllama(models=models) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front
        assert server.wait_until_idle(PATIENCE)


@pytest.fixture(scope="module")
def over_openai() -> Iterator[Front]:
    with FakeOpenAI(models=["m"]) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front
        assert server.wait_until_idle(PATIENCE)


@pytest.fixture(params=["ollama", "openai"])
def front(request: pytest.FixtureRequest) -> Front:
    """A gateway, in front of each kind of server."""
    found: Front = request.getfixturevalue(f"over_{request.param}")
    return found


@pytest.fixture(params=[SyncClient, AsyncClient])
def face(request: pytest.FixtureRequest) -> type[Client]:
    found: type[Client] = request.param
    return found


def scripted(front: Front, *script: Step, chat: bool = True) -> tuple[str, int]:
    """Has the model answer as the script says; returns the path that will be asked, and how often it has been."""
    server: FakeOllama | FakeOpenAI
    if isinstance(front.behind, FakeOllama):
        server, path = front.behind, "/api/chat" if chat else "/api/generate"
    else:
        server, path = front.openai, "/v1/chat/completions"
    server.script(*script, path=path)
    return path, front.seen(path)


# -- answers -----------------------------------------------------------------------------------------------------------


def test_chat(front: Front, face: type[Client]) -> None:
    """A stream and a whole answer say the same, under the name that was asked for."""
    script = [think("Hm."), say("Hel", "lo"), done("length", prompt_eval_count=5, eval_count=3)]
    scripted(front, *script)
    chunks = face(front.url).call("chat", "llama3.2", HI, stream=True, think=True)
    scripted(front, *script)
    whole = face(front.url).call("chat", "llama3.2", HI, think=True)

    assert "".join(chunk.message.content for chunk in chunks) == whole.message.content == "Hello"
    assert "".join(chunk.message.thinking or "" for chunk in chunks) == whole.message.thinking == "Hm."
    assert {chunk.model for chunk in chunks} == {"llama3.2"}
    for last in (chunks[-1], whole):
        assert (last.done, last.done_reason) == (True, "length")
        assert (last.prompt_eval_count, last.eval_count) == (5, 3)
        assert last.eval_count / last.eval_duration * 1e9 > 0


def test_generate(front: Front, face: type[Client]) -> None:
    """The same for a prompt."""
    script = [say("Hel", "lo"), done("stop", prompt_eval_count=5, eval_count=2)]
    scripted(front, *script, chat=False)
    chunks = face(front.url).call("generate", "llama3.2", "hi", stream=True)
    scripted(front, *script, chat=False)
    whole = face(front.url).call("generate", "llama3.2", "hi", system="s", options={"seed": 1})

    assert "".join(chunk.response for chunk in chunks) == whole.response == "Hello"
    assert (whole.model, whole.done_reason, whole.eval_count) == ("llama3.2", "stop", 2)


def weather(city: str) -> str:
    """Tells the weather.

    Args:
        city: where
    """
    return f"rain in {city}"


def test_tools(front: Front, face: type[Client]) -> None:
    """A function is a tool; its call comes back with its arguments, and its result goes to the model."""
    scripted(front, say("Let me look."), tool_call("weather", {"city": "苏州"}))
    first = face(front.url).call("chat", "m", HI, tools=[weather])
    (call,) = first.message.tool_calls
    result = {"role": "tool", "content": weather(**call.function.arguments), "tool_name": call.function.name}
    path, before = scripted(front, say("Rain."))
    second = face(front.url).call("chat", "m", [*HI, first.message, result], tools=[weather])

    assert (call.function.name, call.function.arguments) == ("weather", {"city": "苏州"})
    assert second.message.content == "Rain."
    sent = front.next(path, before).json
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][2]["content"] == "rain in 苏州"
    assert sent["tools"][0]["function"]["name"] == "weather"


def test_calls_in_a_stream(front: Front, face: type[Client]) -> None:
    """A call is whole when it comes, however its server sends it."""
    scripted(front, tool_call("weather", {"city": "x"}), tool_call("weather", {"city": "y"}))
    chunks = face(front.url).call("chat", "m", HI, tools=[weather], stream=True)
    calls = [call for chunk in chunks for call in chunk.message.tool_calls or ()]

    assert [call.function.arguments["city"] for call in calls] == ["x", "y"]


class Colour(pydantic.BaseModel):
    name: str
    dark: bool


def test_structured_output(front: Front, face: type[Client]) -> None:
    """A schema reaches the model."""
    path, before = scripted(front, say('{"name":"navy",', '"dark":true}'))
    answer = face(front.url).call("chat", "m", HI, format=Colour.model_json_schema())

    assert Colour.model_validate_json(answer.message.content) == Colour(name="navy", dark=True)
    sent = front.next(path, before).json
    schema = sent["format"] if "format" in sent else sent["response_format"]["json_schema"]["schema"]
    assert schema == Colour.model_json_schema()


def test_images(front: Front, face: type[Client], tmp_path: Path) -> None:
    """The client sends a file as base64, and so it reaches the model."""
    picture = tmp_path / "x.png"
    picture.write_bytes(PNG)
    packed = base64.b64encode(PNG).decode()
    for image in (str(picture), PNG, packed):
        path, before = scripted(front, say("A mill."))
        face(front.url).call("chat", "m", [{"role": "user", "content": "see", "images": [image]}])
        assert packed in front.next(path, before).body.decode()
    path, before = scripted(front, say("A mill."), chat=False)
    face(front.url).call("generate", "m", "see", images=[PNG])
    assert packed in front.next(path, before).body.decode()


def test_load_and_unload(over_ollama: Front, face: type[Client]) -> None:
    """Without messages the model is loaded, and with `keep_alive=0` unloaded."""
    client = face(over_ollama.url)
    assert client.call("chat", "m").done_reason == "load"
    assert [model.model for model in client.call("ps").models] == ["m:latest"]
    assert client.call("generate", "m", keep_alive=0).done_reason == "unload"
    assert client.call("ps").models == []


def test_embeddings(front: Front, face: type[Client]) -> None:
    """One text, several, and the older form."""
    client = face(front.url)
    both = client.call("embed", "llama3.2", ["a", "b"], dimensions=4)
    assert [len(row) for row in both.embeddings] == [4, 4]
    assert client.call("embed", "m", "a", dimensions=4).embeddings == both.embeddings[:1]
    assert len(client.call("embeddings", "m", "a").embedding) == 8


def test_models(front: Front, face: type[Client]) -> None:
    """The lists, and what a model is."""
    client = face(front.url)
    names = {model.model.removesuffix(":latest") for model in client.call("list").models}
    assert names >= {"m", "llama3.2"}
    assert "completion" in client.call("show", "llama3.2").capabilities
    assert client.call("chat", "m").done_reason == "load"
    loaded = [model.model for model in client.call("ps").models]
    assert loaded == (["m:latest"] if isinstance(front.behind, FakeOllama) else [])


def test_systemone(over_ollama: Front, face: type[Client]) -> None:
    """What only Ollama has is passed on to it."""
    over_ollama.ollama.script(status(200, {"model": "m", **SYSTEMONE}), path="/v1/systemone")
    questions = {"team": {"type": "choice", "instructions": "Which?", "criteria": {"technical": "errors"}}}
    answer = face(over_ollama.url).call("systemone", "llama3.2", "broken", questions)
    assert (answer.model, answer.answers["team"].choice) == ("llama3.2", "technical")


# -- keeping models ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_work(over_ollama: Front, face: type[Client], stream: bool, tmp_path: Path) -> None:
    """Blob, create, copy, push, pull and delete, with progress and without."""
    client = face(over_ollama.url)
    file = tmp_path / "x.gguf"
    file.write_bytes(b"GGUF" * 1000)
    digest = client.call("create_blob", file)

    def last(answer: Any) -> str:
        said: str = (answer[-1] if stream else answer).status
        return said

    assert last(client.call("create", "c", files={"x.gguf": digest}, stream=stream)) == "success"
    assert client.call("copy", "c", "user/d").status == "success"
    assert last(client.call("push", "user/d", stream=stream)) == "success"
    pulled = client.call("pull", "new", stream=stream)
    assert last(pulled) == "success"
    if stream:
        assert any(line.total and line.completed and line.digest for line in pulled)
    for name in ("c", "user/d", "new"):
        assert client.call("delete", name).status == "success"
    with pytest.raises(ollama.ResponseError) as caught:
        client.call("delete", "new")
    assert caught.value.status_code == 404


def test_work_elsewhere(over_openai: Front, face: type[Client]) -> None:
    """A server that keeps no models says so: 501."""
    client = face(over_openai.url)
    calls: list[tuple[Any, ...]] = [("pull", "m"), ("push", "m"), ("create", "m"), ("copy", "m", "d"), ("delete", "m")]
    for method, *args in calls:
        with pytest.raises(ollama.ResponseError, match="which keeps models") as caught:
            client.call(method, *args)
        assert caught.value.status_code == 501
    with pytest.raises(ollama.ResponseError) as caught:
        list(client.call("pull", "m", stream=True))
    assert caught.value.status_code == 501


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_an_unknown_model(front: Front, face: type[Client], stream: bool) -> None:
    """404, which is what code looks for that pulls a model it lacks; streamed too."""
    calls: list[tuple[Any, ...]] = [("chat", "none", HI), ("generate", "none", "hi")]
    for method, *args in calls:
        with pytest.raises(ollama.ResponseError) as caught:
            face(front.url).call(method, *args, stream=stream)
        assert (caught.value.status_code, caught.value.error) == (404, "model 'none' not found")
    for method in ("show", "embed"):
        with pytest.raises(ollama.ResponseError) as caught:
            face(front.url).call(method, "none")
        assert caught.value.status_code == 404


def test_refused(over_ollama: Front, face: type[Client]) -> None:
    """What the model cannot do, and an option of a wrong type."""
    for rest, code in (({"think": True}, 400), ({"options": {"stop": "x"}}, 500), ({"keep_alive": "1"}, 400)):
        with pytest.raises(ollama.ResponseError) as caught:
            face(over_ollama.url).call("chat", "plain", HI, **rest)
        assert caught.value.status_code == code


@pytest.mark.parametrize("step", [error("the runner broke"), cut(), fin()])
@pytest.mark.parametrize("stream", [True, False])
def test_broken_off(front: Front, face: type[Client], step: Step, stream: bool) -> None:
    """A broken answer raises, also one that merely stops, which this client takes for whole when it asks directly."""
    scripted(front, say("Hel"), step)
    with pytest.raises(ollama.ResponseError) as caught:
        face(front.url).call("chat", "m", HI, stream=stream)
    assert caught.value.error
    # Within a stream it has no status; a whole answer that broke off is a bad gateway.
    assert caught.value.status_code in (-1, 502)


# -- leaving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["chat", "generate"])
def test_leaving(front: Front, face: type[Client], method: str) -> None:
    """Who closes the stream frees the model."""
    path, before = scripted(front, say("Hel"), stall(), chat=method == "chat")
    asked = {"messages": HI} if method == "chat" else {"prompt": "hi"}

    def left() -> bool:
        return front.next(path, before).wait_until_left(PATIENCE)

    (chunk,) = face(front.url).leave(method, left, model="m", **asked)
    assert (chunk.message.content if method == "chat" else chunk.response) == "Hel"
    record = front.next(path, before)
    assert record.phase == "stalling"


async def test_cancelling(front: Front) -> None:
    """A task that is cancelled while it waits for a whole answer frees the model too."""
    path, before = scripted(front, hold())
    async with ollama.AsyncClient(host=front.url) as client:
        task = asyncio.ensure_future(client.chat("m", HI))
        record = await asyncio.to_thread(front.next, path, before)
        assert await record.await_until_phase("holding")
        task.cancel()
        assert await record.await_until_left(PATIENCE)
    assert task.cancelled()


# -- its own examples --------------------------------------------------------------------------------------------------

_RUN = """
import json, sys
import ollama
for number, code in enumerate(json.load(sys.stdin)):
    exec(compile(code, f"example {number}", "exec"), {"ollama": ollama, "__name__": "__main__"})
    print(f"\\n-- example {number}: done")
"""


def test_the_examples_of_its_readme() -> None:
    """Every example of ollama-python's own README runs through the gateway, but for those that need an account."""
    readme = importlib.metadata.distribution("ollama").read_text("METADATA") or ""
    found = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(found) >= 18
    with FakeOllama(models=["gemma4", "gpt-oss:120b-cloud", "nimble"]) as server, fronting(server) as front:
        server.script(status(200, {"model": "nimble", **SYSTEMONE}), path="/v1/systemone")
        examples = [
            code.replace("http://localhost:11434", front.url)
            for code in found
            if "host='https://ollama.com'" not in code
        ]
        run = subprocess.run(
            [sys.executable, "-c", _RUN],
            input=json.dumps(examples),
            env={"OLLAMA_HOST": front.url, "PATH": "", "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.count(": done") == len(examples)
        assert run.stdout.count("Hello! I am a fake model.") >= 4
        assert "model 'does-not-yet-exist' not found" in run.stdout
        assert "does-not-yet-exist" in [model.name for model in server.catalogue]
