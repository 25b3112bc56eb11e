"""The stream as an ASGI application, called by the test: what servers do badly, and what happens between two tokens."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
from tests.run.spoken import COMPLETE, spoken, until, until_ended
from tests.web.reader import text

from tailrace import AsyncClient
from tailrace.events import Outcome
from tailrace.protocols.sse import ServerSentEvent, SSEDecoder
from tailrace.run.bounded_log import BoundedLog
from tailrace.run.run import Run
from tailrace.testing import FakeOllama, hold, say
from tailrace.web import frames, sse
from tailrace.web.asgi import EventStream
from tailrace.web.source import Source, plain_feed
from tailrace.web.stream_settings import StreamSettings

SCOPE = {"type": "http", "method": "GET", "http_version": "1.1"}
MESSAGES = [{"role": "user", "content": "hi"}]


class Server:
    """An ASGI server: what it was sent, and a reader that leaves when the test says so."""

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.whole = False
        self.gone = asyncio.Event()
        self.sent = asyncio.Event()

    async def receive(self) -> MutableMapping[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            self.body += message["body"]
            self.whole = not message["more_body"]
        self.sent.set()

    async def until(self, mark: bytes) -> None:
        """Waits until something was sent."""
        while mark not in self.body:
            self.sent.clear()
            await self.sent.wait()

    @property
    def events(self) -> list[ServerSentEvent]:
        return SSEDecoder().feed(self.body)


def stream_of(run: Run, **more: Any) -> EventStream:
    """A reader of a run, which is abandoned as soon as nobody reads it."""
    stream = EventStream(run, Source(plain_feed(run)), stream_settings=StreamSettings(**more))
    run.set_linger(0.0)
    return stream


def started(stream: EventStream, server: Server) -> asyncio.Task[None]:
    return asyncio.create_task(stream(SCOPE, server.receive, server.send))


async def test_whole() -> None:
    """The server gets a head, the opening, each piece as it is made, and a proper end; the reader is gone then."""
    run, model = spoken()
    server = Server()
    task = started(stream_of(run), server)
    await server.until(b": tailrace\n\n")
    model.say("Hel")
    await server.until(b"Hel")
    model.say("lo", COMPLETE)
    await task

    assert (server.status, server.whole, text(server.events)) == (200, True, "Hello")
    assert run.readers == 0


async def test_a_reader_counts_from_the_response_on() -> None:
    """A response is a reader as soon as it is made; one that is dropped instead of sent has left."""
    run, model = spoken()
    stream = stream_of(run)
    await asyncio.sleep(0)
    assert (run.readers, run.ended) == (1, None)
    del stream
    gc.collect()

    assert (await until_ended(run)).outcome is Outcome.ABANDONED
    assert model.closed.is_set()


@pytest.mark.parametrize("error", [OSError, ConnectionResetError, BrokenPipeError])
async def test_c2_a_server_that_raises_when_the_reader_has_gone(error: type[OSError]) -> None:
    """What a server raises when there is nobody to send to ends the stream in silence, and the run with it."""
    run, model = spoken()
    server = Server()

    async def fails(message: MutableMapping[str, Any]) -> None:
        await server.send(message)
        if b"one" in message.get("body", b""):
            raise error

    model.say("one")
    await stream_of(run)(SCOPE, server.receive, fails)

    assert (await until_ended(run)).outcome is Outcome.ABANDONED
    assert model.closed.is_set()


async def test_c16_a_middleware_that_cannot_receive() -> None:
    """What a middleware raises instead of listening ends the stream, and is seen; the run is not left alone."""
    run, _ = spoken()

    async def receive() -> MutableMapping[str, Any]:
        raise RuntimeError("nothing to receive")

    with pytest.raises(RuntimeError, match="nothing to receive"):
        await stream_of(run)(SCOPE, receive, Server().send)
    assert (await until_ended(run)).outcome is Outcome.ABANDONED


async def test_the_rest_of_the_body_is_no_leaving() -> None:
    """A request's body that nobody read before is passed over."""
    run, model = spoken()
    server = Server()
    parts = [{"type": "http.request", "body": b"x", "more_body": True}] * 3 + [{"type": "http.request"}]

    async def receive() -> MutableMapping[str, Any]:
        return parts.pop() if parts else await Server.receive(server)

    task = asyncio.create_task(stream_of(run)(SCOPE, receive, server.send))
    await server.until(b": tailrace\n\n")
    model.say("Hello", COMPLETE)
    await task

    assert text(server.events) == "Hello"
    assert parts == []


async def test_c4_a_send_that_does_not_end() -> None:
    """A send that takes too long is given up, without a proper end; the run and other readers go on."""
    run, model = spoken()
    run.attach()
    stuck, other = Server(), Server()

    async def never(message: MutableMapping[str, Any]) -> None:
        await Server.send(stuck, message)
        if b"one" in message.get("body", b""):
            await asyncio.Event().wait()

    stream = stream_of(run, send_timeout=0.05)
    reading = asyncio.create_task(stream(SCOPE, stuck.receive, never))
    second = started(stream_of(run), other)
    await stuck.until(b": tailrace\n\n")
    model.say("one")
    await reading
    assert (stuck.whole, run.readers, run.ended) == (False, 2, None)
    model.say("two", COMPLETE)
    await second

    assert text(other.events) == "onetwo"
    assert b"two" not in stuck.body


async def test_c4_a_reader_that_leaves_while_it_takes_nothing() -> None:
    """A server that lets a blocked send go when the reader has left ends the stream."""
    run, model = spoken()
    server = Server()

    async def blocked(message: MutableMapping[str, Any]) -> None:
        await Server.send(server, message)
        if b"one" in message.get("body", b""):
            await server.gone.wait()

    reading = asyncio.create_task(stream_of(run)(SCOPE, server.receive, blocked))
    model.say("one")
    await server.until(b"one")
    server.gone.set()
    await reading

    assert not server.whole
    assert (await until_ended(run)).outcome is Outcome.ABANDONED


async def test_c4_a_slow_reader_is_not_one_that_takes_nothing() -> None:
    """A reader that takes a large piece slowly, but takes it, gets all of it, however long that lasts."""
    run, model = spoken()
    server = Server()

    async def slow(message: MutableMapping[str, Any]) -> None:
        await asyncio.sleep(len(message.get("body", b"")) / 400_000)
        await Server.send(server, message)

    model.say("x" * (10 * 64 * 1024), COMPLETE)
    await stream_of(run, send_timeout=0.1)(SCOPE, server.receive, slow)

    assert (server.whole, text(server.events)) == (True, "x" * (10 * 64 * 1024))


async def test_p15_a_loop_that_was_blocked_is_no_slow_reader() -> None:
    """When the program itself blocks the loop for longer than a send may take, no reader is let go for that."""
    run, model = spoken()
    server = Server()
    loop = asyncio.get_running_loop()

    async def behind(message: MutableMapping[str, Any]) -> None:
        if b"one" in message.get("body", b""):
            loop.call_soon(time.sleep, 0.3)  # somebody's blocking code
            await asyncio.sleep(0.01)
        await Server.send(server, message)

    reading = asyncio.create_task(stream_of(run, send_timeout=0.05)(SCOPE, server.receive, behind))
    model.say("one", COMPLETE)
    await reading

    assert (server.whole, text(server.events)) == (True, "one")


async def test_c4_lagged() -> None:
    """A reader so slow that what it wants is no longer kept is told that it lags, by an event that has no number."""
    run, model = spoken(BoundedLog(20_000))
    run.attach()
    server, go_on = Server(), asyncio.Event()

    async def slow(message: MutableMapping[str, Any]) -> None:
        await Server.send(server, message)
        if b"first" in message.get("body", b""):
            await go_on.wait()

    reading = asyncio.create_task(stream_of(run)(SCOPE, server.receive, slow))
    model.say("first")
    await server.until(b"first")
    for number in range(1000):
        model.say(f"{number} ")
    await until(run, 1001)
    go_on.set()
    await reading
    events = server.events

    assert [event.type for event in events] == ["message", "lagged"]
    assert events[-1].id == events[0].id
    assert server.whole
    model.say(COMPLETE)
    await until_ended(run)


async def test_pings() -> None:
    """In a silence comments come, before the first token and after it, and they are no events."""
    run, model = spoken()
    server = Server()
    task = started(stream_of(run, ping=0.02), server)
    await server.until(b": ping\n\n: ping\n\n")
    model.say("one")
    await server.until(b'{"content":"one"}\n\n: ping\n\n: ping\n\n')
    model.say("two", COMPLETE)
    await task

    assert [event.type for event in server.events] == ["message", "message", "ended", "message"]


async def test_neither_pings_nor_limits() -> None:
    """Without a time for pings and sends there are none, and the stream is whole."""
    run, model = spoken()
    server = Server()
    task = started(stream_of(run, ping=math.inf, send_timeout=math.inf), server)
    await server.until(b": tailrace\n\n")
    model.say("Hello", COMPLETE)
    await task

    assert text(server.events) == "Hello"


def test_an_owner_on_a_loop_that_dies() -> None:
    """A run that was started on another loop, which is closed then, ends for its readers too: none waits for ever."""

    async def begin() -> Run:
        run, model = spoken()
        model.say("half")
        await until(run, 1)
        return run

    async def read(run: Run) -> Server:
        server = Server()
        task = started(EventStream(run, Source(plain_feed(run))), server)
        await server.until(b"half")
        abandon(loop)
        await task
        return server

    loop = asyncio.new_event_loop()
    server = asyncio.run(read(loop.run_until_complete(begin())))

    assert [event.type for event in server.events] == ["message", "message", "ended"]
    assert b'"type":"OwnerLostError"' in server.events[1].data


def abandon(loop: asyncio.AbstractEventLoop) -> None:
    """Closes a loop whose tasks have not ended, as a program does that dies badly."""
    for pending in asyncio.all_tasks(loop):
        pending._log_destroy_pending = False  # type: ignore[attr-defined]  # or it is told on stderr
    loop.close()


async def test_a_synchronous_stream() -> None:
    """A synchronous client's stream, whose owner lives on another thread, is read out and let go like any other."""
    from tailrace import Client

    with FakeOllama() as upstream:
        upstream.script(say("Hel", "lo"))
        upstream.script(say("one"), hold())
        client = Client(upstream.url)
        server = Server()
        await sse(client.chat("m", MESSAGES, stream=True))(SCOPE, server.receive, server.send)
        assert text(server.events) == "Hello"

        server = Server()
        task = started(sse(client.chat("m", MESSAGES, stream=True)), server)
        await server.until(b"one")
        server.gone.set()
        await task
        assert await upstream.requests[1].await_until_left(timeout=60)


async def test_frames() -> None:
    """The pieces of an async iterator are those of the response; who closes it is a reader that has left."""
    with FakeOllama() as upstream:
        upstream.script(say("Hel", "lo"))
        upstream.script(say("one"), hold())
        client = AsyncClient(upstream.url)
        pieces = [piece async for piece in frames(await client.chat("m", MESSAGES, stream=True))]
        assert pieces[0].startswith(b"retry: ")
        assert text(SSEDecoder().feed(b"".join(pieces))) == "Hello"

        iterator = frames(await client.chat("m", MESSAGES, stream=True))
        async for piece in iterator:
            if b"one" in piece:
                break
        await iterator.aclose()
        assert await upstream.requests[1].await_until_left(timeout=60)


async def test_frames_that_nobody_asks_for() -> None:
    """An iterator that is never iterated asks nothing of the model."""
    with FakeOllama() as upstream:
        frames(await AsyncClient(upstream.url).chat("m", MESSAGES, stream=True))
        with pytest.raises(ValueError, match="on_leave"):
            sse(await AsyncClient(upstream.url).chat("m", MESSAGES, stream=True), on_leave="linger=x")
    assert upstream.requests == []
