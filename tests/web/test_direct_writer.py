"""Direct writing: tokens sent from within the log's change are the same as those that the stream's task sends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, MutableMapping, Sequence
from typing import Any

import pytest

from tailrace.events import Ended, Event, Outcome, TextDelta
from tailrace.run.bounded_log import BoundedLog
from tailrace.run.exchange import Exchange, OnEvents, Report
from tailrace.run.run import Run
from tailrace.web.asgi import EventStream
from tailrace.web.direct_writer import DIRECT_WRITE
from tailrace.web.source import Feed, Source, Wire, plain_feed, runs_feed
from tailrace.web.stream_settings import StreamSettings


class Model:
    """An exchange that says what it is told to, when it is told to."""

    confirms = 0.0

    def __init__(self) -> None:
        self._queue: asyncio.Queue[list[Any]] = asyncio.Queue()

    def say(self, *texts: str, end: bool = False) -> None:
        self._queue.put_nowait([*map(TextDelta, texts), *([Ended(Outcome.COMPLETE, "stop")] if end else ())])

    async def open(self, _report: Report) -> Exchange:
        return self

    async def relay(self, on_events: OnEvents) -> None:
        while not on_events(await self._queue.get()):
            pass

    def half_close(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    async def finish(self) -> None:
        pass


class Server:
    """A server: what was sent, by whom, and a gate that a slow reader is."""

    def __init__(self) -> None:
        self.body = b""
        self.senders: list[Any] = []
        self.gate: asyncio.Event | None = None
        self.left = asyncio.Event()
        self.waits = 0
        self.error: Exception | None = None
        self.bug: Exception | None = None  # of its way to write without a task

    def write(self, data: bytes) -> bool:
        if self.bug is not None:
            raise self.bug
        if self.gate is not None or self.error is not None:
            return False
        self.body += data
        self.senders.append("pushed")
        return True

    def watch(self, left: Callable[[], object] | None) -> bool:
        return left is None  # `receive` will tell

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            return
        if self.error is not None:
            raise self.error
        if self.gate is not None:
            self.waits += 1
            await self.gate.wait()
        self.body += message["body"]
        self.senders.append(asyncio.current_task())

    async def receive(self) -> MutableMapping[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}


class Counting:
    """A wire that notes what it is to encode."""

    def __init__(self, wire: Wire) -> None:
        self.encoded: list[int] = []
        self.bug: Exception | None = None
        self.reset, self.lagged = wire.reset, wire.lagged
        self._encode = wire.encode

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        self.encoded.append(after)
        if self.bug is not None:
            raise self.bug
        return self._encode(events, after)


Parts = tuple[Model, Server, Run, "asyncio.Task[None]"]


@contextlib.asynccontextmanager
async def streaming(
    log: BoundedLog | None = None, stream_settings: StreamSettings | None = None
) -> AsyncIterator[Parts]:
    model, server = Model(), Server()
    run = Run(model.open, model="m", log=log)
    run.start(asyncio.get_running_loop())
    stream = EventStream(run, Source(plain_feed(run)), stream_settings=stream_settings)
    scope = {"type": "http", "method": "GET", DIRECT_WRITE: server}
    task = asyncio.ensure_future(stream(scope, server.receive, server.send))
    try:
        yield model, server, run, task
    finally:
        run.cancel()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(ready: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not ready():
            await asyncio.sleep(0)


def texts(server: Server) -> list[bytes]:
    return [
        line[18:-2]
        for line in server.body.split(b"\n")
        if line.startswith(b'data: {"content":"') and b"outcome" not in line
    ]


async def test_tokens_are_pushed() -> None:
    """While the stream's task waits, the run's owner sends; the ending is the task's, and the bytes are whole."""
    async with streaming() as (model, server, _, task):
        model.say("a")
        await until(lambda: b'"a"' in server.body)
        await until(lambda: getattr(task, "_fut_waiter", None) is not None)
        for count, text in enumerate("bcd", 2):
            model.say(text)
            await until(functools.partial(lambda count: len(texts(server)) == count, count))
        model.say(end=True)
        await task

    assert texts(server) == [b"a", b"b", b"c", b"d"]
    assert server.body.endswith(b"data: [DONE]\n\n")
    assert server.senders[-5:-2] == ["pushed"] * 3
    assert server.senders[-1] is task


async def test_a_slow_reader_is_the_tasks() -> None:
    """The run goes on while a reader is slow, and the reader gets everything, once and in order."""
    async with streaming() as (model, server, run, task):
        model.say("a")
        await until(lambda: b'"a"' in server.body)
        server.gate = asyncio.Event()
        for text in "bcdefg":
            model.say(text)
        await until(lambda: run.log.end == 7 and server.waits > 0)
        assert server.waits == 1  # one send is under way, and no other passes it
        server.gate.set()
        await until(lambda: b'"g"' in server.body)
        server.gate = None
        model.say("h", end=True)
        await task

    assert b"".join(texts(server)) == b"abcdefgh"


async def test_a_reader_that_takes_nothing_is_let_go() -> None:
    """What could not be pushed has the same limit as any."""
    async with streaming(stream_settings=StreamSettings(send_timeout=0.05)) as (model, server, run, task):
        model.say("a")
        await until(lambda: b'"a"' in server.body)
        server.gate = asyncio.Event()
        model.say("b")
        async with asyncio.timeout(30):
            await task

    assert texts(server) == [b"a"]
    assert run.readers == 0


async def test_a_send_that_fails() -> None:
    """It is the stream's end, and does the run no harm."""
    async with streaming() as (model, server, run, task):
        model.say("a")
        await until(lambda: b'"a"' in server.body)
        server.error = ConnectionResetError()
        model.say("b")
        async with asyncio.timeout(30):
            await task
        assert run.ended is None
        model.say("c", end=True)
        await until(lambda: run.log.sealed)

    assert run.reply().text == "abc"


async def test_a_reader_that_leaves() -> None:
    """It is noticed in silence, and nothing more is sent."""
    async with streaming() as (model, server, run, task):
        model.say("a")
        await until(lambda: b'"a"' in server.body)
        server.left.set()
        async with asyncio.timeout(30):
            await task
        sent = len(server.senders)
        model.say("b")
        await until(lambda: run.log.end == 2)

    assert len(server.senders) == sent


async def test_what_was_evicted_while_a_send_waited() -> None:
    """The reader is told that it lags."""
    async with streaming(BoundedLog(4000)) as (model, server, run, task):
        model.say("a")
        await until(lambda: b'"a"' in server.body)
        server.gate = asyncio.Event()
        for _ in range(60):
            model.say("x" * 10)
        await until(lambda: run.log.first > 10)
        server.gate.set()
        async with asyncio.timeout(30):
            await task

    assert b"event: lagged" in server.body


async def test_pings_come_between() -> None:
    """Silence counts from the last push."""
    async with streaming(stream_settings=StreamSettings(ping=0.05)) as (model, server, _, task):
        model.say("a")
        await until(lambda: server.body.count(b": ping") == 2)
        model.say("b", end=True)
        await task

    assert texts(server) == [b"a", b"b"]


async def test_cancelled_while_a_send_waits() -> None:
    """A cancel from outside reaches the send that waits, and the stream ends."""
    reached: list[str] = []

    class Waiting(Server):
        async def send(self, message: MutableMapping[str, Any]) -> None:
            try:
                await super().send(message)
            except asyncio.CancelledError:
                reached.append("send")
                raise

    model, server = Model(), Waiting()
    run = Run(model.open, model="m")
    run.start(asyncio.get_running_loop())
    scope = {"type": "http", "method": "GET", DIRECT_WRITE: server}
    task = asyncio.ensure_future(EventStream(run, Source(plain_feed(run)))(scope, server.receive, server.send))
    model.say("a")
    await until(lambda: b'"a"' in server.body)
    server.gate = asyncio.Event()
    model.say("b")
    await until(lambda: server.waits == 1)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    run.cancel()

    assert reached == ["send"]
    assert run.readers == 0


async def test_readers_of_one_run() -> None:
    """Readers who keep up get what is new together; one who is slow, one who comes late and one who leaves do not mind.

    What is new is encoded once, and each has all of it in order.
    """
    model, quick, slow, late, leaving = Model(), Server(), Server(), Server(), Server()
    run = Run(model.open, model="m", log=BoundedLog(1 << 20))
    run.start(asyncio.get_running_loop())
    feed = plain_feed(run)
    feed.wire = wire = Counting(feed.wire)

    def reading(server: Server) -> asyncio.Task[None]:
        scope = {"type": "http", "method": "GET", DIRECT_WRITE: server}
        return asyncio.ensure_future(EventStream(run, Source(feed))(scope, server.receive, server.send))

    tasks = [reading(server) for server in (quick, slow, leaving)]
    model.say("a")
    await until(lambda: all(texts(server) == [b"a"] for server in (quick, slow, leaving)))
    slow.gate = asyncio.Event()
    model.say("b")
    await until(lambda: texts(quick) == [b"a", b"b"] and bool(slow.waits))
    leaving.left.set()
    await tasks[2]
    tasks.append(reading(late))
    await until(lambda: texts(late) == [b"a", b"b"])
    once = len(wire.encoded)
    model.say("c")
    await until(lambda: all(texts(server) == [b"a", b"b", b"c"] for server in (quick, late)))
    assert len(wire.encoded) == once + 1
    slow.gate.set()
    slow.gate = None
    model.say("d", end=True)
    await asyncio.gather(*tasks)

    assert [texts(server) for server in (quick, slow, late)] == [[b"a", b"b", b"c", b"d"]] * 3
    assert texts(leaving) == [b"a", b"b"]
    assert all("pushed" in server.senders for server in (quick, late))
    assert run.readers == 0
    assert feed.direct is None


def reading(run: Run, feed: Feed, server: Server) -> asyncio.Task[None]:
    scope = {"type": "http", "method": "GET", DIRECT_WRITE: server}
    return asyncio.ensure_future(EventStream(run, Source(feed))(scope, server.receive, server.send))


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "together"])
async def test_a_server_that_cannot_push(others: int) -> None:
    """What it raises costs nothing: the stream's task sends the same piece, to this reader and no other."""
    model, servers = Model(), [Server() for _ in range(1 + others)]
    run = Run(model.open, model="m")
    run.start(asyncio.get_running_loop())
    tasks = [reading(run, plain_feed(run), server) for server in servers]
    model.say("a")
    await until(lambda: all(texts(server) == [b"a"] for server in servers))
    servers[0].bug = RuntimeError("a bug of the server")
    model.say("b")
    await until(lambda: all(texts(server) == [b"a", b"b"] for server in servers))
    model.say("c", end=True)
    await asyncio.gather(*tasks)

    assert [b"".join(texts(server)) for server in servers] == [b"abc"] * len(servers)
    assert "pushed" not in servers[0].senders[-3:]


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "together"])
async def test_an_encoder_that_fails(others: int) -> None:
    """It ends the readers of its wire: their tasks raise what it raised. Those on another wire, and the run, go on."""
    model, other = Model(), Server()
    run = Run(model.open, model="m")
    run.start(asyncio.get_running_loop())
    feed = plain_feed(run)
    feed.wire = wire = Counting(feed.wire)
    servers = [Server() for _ in range(1 + others)]
    tasks = [reading(run, feed, server) for server in servers]
    well = reading(run, runs_feed(run), other)
    model.say("a")
    await until(lambda: all(texts(server) == [b"a"] for server in servers))
    wire.bug = RuntimeError("a bug of the encoder")
    model.say("b")
    ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    model.say("c", end=True)
    await well

    assert [str(error) for error in ended] == ["a bug of the encoder"] * len(servers)
    assert other.body.count(b"event: text_delta") == 3
    assert run.reply().text == "abc"
    assert run.readers == 0
