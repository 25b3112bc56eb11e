"""Streams that go on when all that stood around their request has returned."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from tests.run.spoken import COMPLETE, spoken, until_ended

from tailrace.run.run import Run
from tailrace.web.asgi import EventStream, streams
from tailrace.web.detach import detach_response, with_detached_responses
from tailrace.web.source import Source, plain_feed

Message = MutableMapping[str, Any]


async def said(*texts: str) -> Run:
    """Returns a run that has said these, and has ended."""
    run, model = spoken()
    model.say(*texts, COMPLETE)
    await until_ended(run)
    return run


class Client:
    """What a server calls an application with: what it sends, and a client that stays."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/x", "headers": [], "state": {}}
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


async def test_layers_return_first() -> None:
    """What stood around has returned when the answer begins; what it changes in a head is changed all the same."""
    order: list[str] = []
    client = Client()

    async def answer(scope: Message, receive: Any, send: Any) -> None:
        if detach_response(answer, scope, receive, send):
            order.append("put off")
            return
        order.append(f"answers with {sorted(scope)}")
        await send({"type": "http.response.start"})

    async def layer(scope: Message, receive: Any, send: Any) -> None:
        async def sending(message: Message) -> None:
            await send({**message, "more": True})

        await answer(scope, receive, sending)
        order.append("has returned")

    await with_detached_responses(layer, "headers", "unknown")(client.scope, client.receive, client.send)

    assert order == ["put off", "has returned", "answers with ['headers', 'method', 'path', 'type']"]
    assert client.sent == [{"type": "http.response.start", "more": True}]


async def test_whoever_does_not_put_off() -> None:
    """An ordinary answer is given at once, and keeps its scope."""
    client = Client()

    async def app(scope: Message, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start"})

    await with_detached_responses(app)(client.scope, client.receive, client.send)

    assert client.sent
    assert client.scope["path"] == "/x"


async def test_a_stream() -> None:
    """It is the same, put off or not, and its reader is counted until it is over."""
    run = await said("a", "b")
    bodies = []
    for around in (lambda app: app, with_detached_responses):
        client = Client()
        stream = EventStream(run, Source(plain_feed(run)))
        assert run.readers == 1
        await around(stream)(client.scope, client.receive, client.send)
        bodies.append(client.body.partition(b"\n\n")[2])  # without how soon to come back, which is drawn by lot

    assert b'"a"' in bodies[0]
    assert bodies[0] == bodies[1]
    assert run.readers == 0


async def test_a_layer_that_fails_after_all() -> None:
    """Its error is the server's to see; the stream is never begun, and nobody reads the run."""
    run = await said("a")
    client, before = Client(), streams()

    async def layer(scope: Message, receive: Any, send: Any) -> None:
        await EventStream(run, Source(plain_feed(run)))(scope, receive, send)
        raise LookupError("a layer's")

    with pytest.raises(LookupError):
        await with_detached_responses(layer)(client.scope, client.receive, client.send)

    assert client.sent == []
    assert run.readers == 0
    assert streams() == before
