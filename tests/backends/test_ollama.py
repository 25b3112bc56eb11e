"""The Ollama backend: what it makes of the server's silence."""

from __future__ import annotations

import asyncio

import pytest

from tailrace import AsyncClient
from tailrace.events import Event, Loading, Prefill
from tailrace.testing import FakeOllama, say, slow_load, status

MESSAGES = [{"role": "user", "content": "Hi"}]
LOADED = {"models": [{"name": "m:latest", "model": "m:latest"}]}


async def test_a_silence_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked again and again what it does, and the reader is told once so long as that is the same."""
    monkeypatch.setattr("tailrace.backends.ollama._WATCH_AFTER", 0.01)
    with FakeOllama() as server:
        server.always(status(200, {"models": []}), path="/api/ps")
        server.script(slow_load(), say("Hello"), path="/api/chat")

        def asked() -> int:
            return [request.path for request in server.requests].count("/api/ps")

        told: list[Event] = []
        async for event in (await AsyncClient(server.url).chat("m", MESSAGES, stream=True)).events():
            told.append(event)
            if isinstance(event, Loading):
                before = asked()
                while asked() < before + 2:
                    await asyncio.sleep(0.01)  # the test's own time limit bounds this
                server.always(status(200, LOADED), path="/api/ps")
            elif isinstance(event, Prefill):
                server.release("load")

    assert told[:2] == [Loading("m"), Prefill()]
