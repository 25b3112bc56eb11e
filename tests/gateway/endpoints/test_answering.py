"""The head that waits for the model's first word: how long, what it says then, and who leaves meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from tests.web.inside import inside
from tests.web.reader import Reader

from tailrace.client.aio import AsyncClient
from tailrace.gateway.endpoint import Endpoints
from tailrace.gateway.endpoints import openai
from tailrace.gateway.endpoints.answering import DeferredHeadResponse, DisconnectListener
from tailrace.protocols.openai.encode import Answer, ChatWire
from tailrace.run.run import Run
from tailrace.testing import FakeOllama, Step, chunk, error, hold, say, stall
from tailrace.web.asgi import EventStream
from tailrace.web.asgi_types import Scope
from tailrace.web.source import Feed, Source
from tailrace.web.stream_settings import Medium, StreamSettings

QUEUED = chunk({"tailrace": {"status": "queued", "position": 3}})
LOADING = chunk({"tailrace": {"status": "loading"}})
pytestmark = pytest.mark.usefixtures("believed")


@contextlib.contextmanager
def holding(server: FakeOllama, patience: float) -> Iterator[tuple[str, list[Run]]]:
    """Serves one answer on OpenAI's wire, whose head waits so many seconds; yields the address and the runs."""
    runs: list[Run] = []

    async def endpoint(request: Request) -> DeferredHeadResponse:
        stream = await AsyncClient(server.url).chat("m", [{"role": "user", "content": "hi"}], stream=True)
        run = stream.hand_over()
        runs.append(run)
        source = Source(Feed(run.log, ChatWire(Answer(run=run.id, created=1, model="m"))))
        events = EventStream(run, source, stream_settings=StreamSettings(ping=0.05), medium=Medium(opening=b""))
        run.set_linger(0.0)
        return DeferredHeadResponse(run, events, patience=patience)

    app = Starlette(routes=[Route("/v1/chat/completions", endpoint)])
    app.state.endpoints = Endpoints([openai.ENDPOINTS])
    with inside(app) as url:
        yield url, runs


def read(url: str) -> Reader:
    return Reader(url, "/v1/chat/completions", method="GET")


def test_a_head_waits_for_the_first_word(fake_ollama: FakeOllama) -> None:
    """What a run waits for is no word yet: an error after it has its own status."""
    fake_ollama.script(QUEUED, LOADING, error("out of memory"))
    with holding(fake_ollama, 60) as (url, _), read(url) as reader:
        assert reader.status == 502
        assert reader.json["error"]["type"] == "api_error"


def test_what_it_waited_for_comes_with_the_first_word(fake_ollama: FakeOllama) -> None:
    """Once the head goes out, what the run waited for comes first, as comments."""
    fake_ollama.script(QUEUED, LOADING, say("Yes"))
    with holding(fake_ollama, 60) as (url, _), read(url) as reader:
        assert reader.status == 200
        assert reader.body().startswith(b': queued 3\n\n: loading\n\ndata: {"id":"chatcmpl-')


def test_a_head_does_not_wait_for_ever(fake_ollama: FakeOllama) -> None:
    """After a while it goes out all the same, comments follow, and an error that comes then is told in the stream."""
    fake_ollama.script(LOADING, hold(), error("out of memory"))
    with holding(fake_ollama, 0.01) as (url, _), read(url) as reader:
        assert reader.status == 200
        reader.until(b": loading\n\n")
        reader.until(b": ping\n\n")
        fake_ollama.release()
        body = reader.body()

    assert b'data: {"error":{"message":"out of memory' in body
    assert b"[DONE]" not in body


@pytest.mark.parametrize("script", [[stall()], [LOADING, stall()]], ids=["silent", "loading"])
def test_who_leaves_before_the_head(fake_ollama: FakeOllama, script: list[Step]) -> None:
    """Leaving while the head waits is leaving: the model is let go."""
    fake_ollama.script(*script)
    with holding(fake_ollama, 60) as (url, runs):
        with read(url):
            record = fake_ollama.wait_for_request(path="/api/chat")
            assert record.wait_until_phase("stalling")
        assert record.wait_until_left()
        assert runs[0].readers == 0


async def test_a_middleware_that_cannot_receive() -> None:
    """What it raises is raised, and is a leaving."""

    async def broken() -> dict[str, str]:
        raise RuntimeError("no more messages")

    async def answer() -> None:
        async with DisconnectListener(broken) as listener:
            assert await listener.receive() == {"type": "http.disconnect"}
            assert listener.left

    with pytest.raises(RuntimeError, match="no more messages"):
        await answer()


async def test_an_answer_that_is_cancelled(fake_ollama: FakeOllama) -> None:
    """A server that cancels an answer while its head waits has left the run."""
    import asyncio

    fake_ollama.script(stall())
    stream = await AsyncClient(fake_ollama.url).chat("m", [{"role": "user", "content": "hi"}], stream=True)
    run = stream.hand_over()
    source = Source(Feed(run.log, ChatWire(Answer(run=run.id, created=1, model="m"))))
    answer = DeferredHeadResponse(run, EventStream(run, source))
    run.set_linger(0.0)

    async def receive() -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def send(message: object) -> None:
        raise AssertionError(message)

    scope: Scope = {"type": "http", "method": "GET", "path": "/v1/chat/completions"}
    task = asyncio.ensure_future(answer(scope, receive, send))
    await fake_ollama.await_for_request(path="/api/chat")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await fake_ollama.requests[0].await_until_left()
