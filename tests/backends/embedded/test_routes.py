"""What the worker answers when the engine does what a real one seldom does."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.backends.embedded.exchanges import exchanging, rest_of
from tests.backends.embedded.store import make_store

from tailrace.backends.embedded import models
from tailrace.backends.embedded.engine import Engine, Facts, Kind
from tailrace.backends.embedded.models import ModelFile
from tailrace.backends.embedded.pool import Pool
from tailrace.backends.embedded.routes import Routes


class Pretended(Engine):
    """An engine that says what the test has it say, and then returns or fails."""

    def __init__(self, model: ModelFile, embedding: bool) -> None:
        self.model = model
        self.slots = 1
        self.embedding = embedding
        self.asked_context = 4096
        self.facts = Facts(n_ctx=4096, n_params=7)
        self.says: list[bytes] = []
        self.fails: Exception | None = None
        self.go = threading.Event()

    def call(self, kind: Kind, payload: bytes, take: Callable[[bytes], bool]) -> None:
        self.go.wait(60)
        for chunk in self.says:
            take(chunk)
        if self.fails is not None:
            raise self.fails

    def close(self) -> None:
        pass


class House:
    """Routes over a pool of such engines; every one says and fails alike."""

    def __init__(self) -> None:
        self.says: list[bytes] = []
        self.fails: Exception | None = None
        self.go = threading.Event()
        self.go.set()
        self.pool = Pool(self._load)
        self.routes = Routes(self.pool, "1.0")

    def _load(self, model: ModelFile, context: int, embedding: bool) -> Engine:
        one = Pretended(model, embedding)
        one.says, one.fails, one.go = self.says, self.fails, self.go
        return one

    async def ask(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The status and the body of an answer."""
        async with exchanging(request(path, body)) as (client, exchange):
            complete = await self.routes.answer(exchange)
            await exchange.close(complete=complete)
            head, _, answer = (await rest_of(client)).partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(answer)


def request(path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (path.encode(), len(data), data)


@pytest.fixture
def gguf(tmp_path: Path) -> str:
    """The path of what looks like a model from outside."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(models.MIN_SIZE))
    return str(path)


async def test_show_loads_what_nobody_has_loaded(gguf: str) -> None:
    """What a model can do is the engine's word, so it is loaded for the answer, and given back."""
    house = House()

    status, shown = await house.ask("/api/show", {"model": gguf})

    assert (status, shown["model_info"]["general.parameter_count"]) == (200, 7)
    assert [loaded.users for loaded in house.pool.loaded.values()] == [0]


async def test_an_engine_that_returns_too_soon(gguf: str) -> None:
    """An answer without its end is an error, and not a short answer."""
    body = {"model": gguf, "messages": [{"role": "user", "content": "Hi"}], "stream": False}

    status, answer = await House().ask("/api/chat", body)

    assert (status, "before the answer was complete" in answer["error"]) == (500, True)


@pytest.mark.parametrize(
    ("says", "fails", "status", "text"),
    [
        ([], RuntimeError("no room"), 400, "no room"),
        ([], None, 500, "the engine gave no embeddings"),
        ([b'{"error":{"code":400,"message":"too large"}}'], None, 400, "too large"),
    ],
    ids=["raised", "nothing", "error"],
)
async def test_embeddings_that_fail(gguf: str, says: list[bytes], fails: Any, status: int, text: str) -> None:
    """What the engine says of a text that it cannot embed is the answer, and the model is given back."""
    house = House()
    house.says, house.fails = says, fails

    assert await house.ask("/api/embed", {"model": gguf, "input": "x"}) == (status, {"error": text})
    assert [loaded.users for loaded in house.pool.loaded.values()] == [0]


async def test_a_client_that_leaves_before_its_embeddings(gguf: str) -> None:
    """It gets no answer, and the model is given back once the engine, which cannot be stopped, has returned."""
    house = House()
    house.go.clear()
    async with exchanging(request("/api/embed", {"model": gguf, "input": "x"})) as (client, exchange):
        answering = asyncio.ensure_future(house.routes.answer(exchange))
        while not house.pool.busy():
            await asyncio.sleep(0)
        client.shutdown(socket.SHUT_WR)
        await exchange.gone.wait()
        house.go.set()

        assert await answering is False
    assert [loaded.users for loaded in house.pool.loaded.values()] == [0]


async def test_a_model_with_an_adapter(gguf: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is only right with its adapter is refused: without it the answers would be another's."""
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "ollama"))
    make_store(tmp_path / "ollama", Path(gguf), "tuned", size=Path(gguf).stat().st_size, extra={"adapter": b"x"})

    status, answer = await House().ask("/api/chat", {"model": "tuned", "messages": [{"role": "user", "content": "Hi"}]})

    assert (status, "adapter (LoRA)" in answer["error"]) == (501, True)
