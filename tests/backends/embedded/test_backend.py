"""The embedded backend, with a fake Ollama in the place of its worker: what it asks for, and what a crash is to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace import AsyncClient, errors
from tailrace.backends.embedded import supervisor
from tailrace.backends.embedded.supervisor import Endpoint
from tailrace.events import Outcome
from tailrace.testing import FakeOllama, closed_port, cut, hold, rst, say, status


class Pretended:
    """The program's one supervisor, as far as the backend sees it."""

    running = True

    def __init__(self, url: str) -> None:
        self.url = url
        self.crash: str | None = None
        self.asked: list[str | None] = []

    async def aendpoint(self, model: str | None = None, *, on_note: Callable[[str], None]) -> Endpoint:
        self.asked.append(model)
        on_note("fetching it once")
        return Endpoint(self.url, None, "secret", 1)

    def describe_crash(self) -> str | None:
        return self.crash


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama() as one:
        yield one


@pytest.fixture
def shared(server: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> Pretended:
    one = Pretended(server.url)
    monkeypatch.setattr(supervisor, "shared", lambda: one)
    return one


MESSAGES = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("named", [True, False], ids=["a path", "no model"])
async def test_what_it_asks_for(
    named: bool, server: FakeOllama, shared: Pretended, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The path that the upstream names is the model of every request, else the request's own; the key is shown."""
    client = AsyncClient(f"embedded:{tmp_path / 'mine.gguf'}" if named else "embedded:")
    server.always(status(200, {"embeddings": []}), path="/api/embed")
    server.always(status(200, {}), path="/api/show")
    for path in ("/api/chat", "/api/generate"):
        server.always(status(200, {"done": True, "message": {}}), path=path)

    await client.chat("m", MESSAGES)
    await client.generate("m", "Hi")
    await client.show("m")
    await client.embed("m", "Hi")

    model = str(tmp_path / "mine.gguf") if named else "m"
    asked = [(request.path, request.json["model"]) for request in server.requests]
    assert asked == [(path, model) for path in ("/api/chat", "/api/generate", "/api/show", "/api/embed")]
    assert {request.header("authorization") for request in server.requests} == {"Bearer secret"}
    assert "fetching it once" in capsys.readouterr().err


@pytest.mark.parametrize("crash", ["the engine process (pid 1) ended: killed by SIGKILL", None], ids=["crash", "alive"])
async def test_a_stream_that_breaks_off(crash: str | None, server: FakeOllama, shared: Pretended) -> None:
    """It is the engine's crash if the worker has gone, and a truncated answer if it has not; the text is kept."""
    shared.crash = crash
    server.script(say("Hel"), cut(), path="/api/chat")
    stream = await AsyncClient("embedded:").chat("m", MESSAGES, stream=True)

    with pytest.raises(errors.EngineError if crash else errors.TruncatedError, match=crash and r"pid 1\) ended"):
        async for _ in stream:
            pass

    assert stream.reply.text == "Hel"


async def test_a_worker_that_does_not_answer(server: FakeOllama, shared: Pretended) -> None:
    """One that closes without a word, or is not there, is told from a crash in the same way."""
    client = AsyncClient("embedded:")
    server.script(rst(), path="/api/chat")
    with pytest.raises(errors.TruncatedError):
        await client.chat("m", MESSAGES)

    shared.crash = "the engine process (pid 1) ended: exit code 1"
    shared.url = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(errors.EngineError, match="exit code 1") as caught:
        await client.chat("m", MESSAGES)
    assert "the next run starts it again" in caught.value.hint


async def test_leaving_is_no_crash(server: FakeOllama, shared: Pretended) -> None:
    """A worker that closes its side because we have closed ours has not crashed."""
    shared.crash = "nobody is to ask for this"
    server.script(say("Hel"), hold(), say("lo"), path="/api/chat")
    stream = await AsyncClient("embedded:").chat("m", MESSAGES, stream=True)
    async for _ in stream:
        break

    receipt = await stream.cancel(wait=True)

    assert receipt is not None
    assert stream.reply.outcome is Outcome.CANCELLED
