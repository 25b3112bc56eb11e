"""Cancel, in every phase: the model's server sees the client leave, and the partial answer stays (P9, promise 1)."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.client.wires import MESSAGES, Seen, Wire

from tailrace import AsyncClient, CancelReceipt, Client, Outcome
from tailrace.backends import ollama as ollama_backend
from tailrace.events import Ended, Event, Prefill, Progress, Queued, TextDelta, ThinkingDelta
from tailrace.testing import (
    FakeOllama,
    NeverAccepts,
    Record,
    Step,
    chunk,
    head,
    queue,
    say,
    slow_load,
    stall,
    status,
    think,
)


@dataclass(frozen=True)
class Phase:
    """Where a run is when it is cancelled.

    Attributes:
        script: what the server does.
        server: what the server is doing then.
        seen: an event that the reader has seen by then; None if there is none to see.
        silent: True if the server has sent nothing by then.
        text: what the reply keeps.
    """

    script: Callable[[Wire], list[Step]]
    server: Any
    seen: Callable[[Event], bool] | None = None
    silent: bool = False
    text: str = ""
    thinking: str = ""


def _is(kind: type[object], text: str | None = None) -> Callable[[Event], bool]:
    return lambda event: type(event) is kind and (text is None or getattr(event, "text", None) == text)


PHASES = {
    "queue of the server": Phase(lambda _: [queue()], "queued", silent=True),
    "loading": Phase(lambda _: [slow_load()], "loading", silent=True),
    "before the headers": Phase(lambda _: [stall()], "stalling", silent=True),
    "after the headers": Phase(lambda _: [head(now=True), stall()], "stalling"),
    "prefill": Phase(lambda wire: [wire.reading(3, 9), stall()], "stalling", _is(Prefill)),
    "thinking": Phase(lambda _: [think("Hm"), stall()], "stalling", _is(ThinkingDelta), thinking="Hm"),
    "decoding": Phase(lambda _: [say("Hel", "lo"), stall()], "stalling", _is(TextDelta, "lo"), text="Hello"),
}


pytestmark = pytest.mark.usefixtures("believed")


@pytest.fixture(params=["ollama", "openai"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A fake server of either wire."""
    wire = Wire(request.param)
    with wire.server:
        yield wire
    gc.collect()  # what was never closed says so now, and warnings are errors


@pytest.fixture(params=PHASES)
def phase(request: pytest.FixtureRequest) -> Phase:
    """Each phase in which the server can be when a run is cancelled."""
    return PHASES[request.param]


def in_thread(stream: Any, seen: Seen) -> threading.Thread:
    """Reads a stream's events on another thread, until they end."""

    def read() -> None:
        for event in stream.events():
            seen.add(event)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


async def in_task(stream: Any, seen: Seen) -> None:
    """Reads a stream's events in a task, until they end."""
    async for event in stream.events():
        seen.add(event)


def reach(wire: Wire, phase: Phase, seen: Seen) -> Record:
    """Waits until the run is in the phase, as the server and the reader see it."""
    record = wire.server.wait_for_request()
    assert record.wait_until_phase(phase.server)
    if phase.seen is not None:
        seen.until(phase.seen)
    assert not record.client_left
    return record


def is_let_go(wire: Wire, phase: Phase, record: Record) -> None:
    """The server saw the client leave, in this very phase, and nothing is open any more."""
    assert record.wait_until_left()
    assert record.phase == phase.server
    assert (record.sent.bytes == 0) is phase.silent
    assert not record.completed
    assert wire.server.wait_until_idle()
    # A server that is silent for long is asked what it is doing; the model is asked nothing more.
    assert [asked.path for asked in wire.server.requests if asked.path != "/api/ps"] == [record.path]


def is_cancelled(stream: Any, phase: Phase, seen: Seen) -> None:
    """There is one ending, `cancelled`, and what had come is kept."""
    ended = seen.to_the_end()
    assert ended == Ended(Outcome.CANCELLED)
    assert [event for event in seen.events if isinstance(event, Ended)] == [ended]
    reply = stream.reply
    assert (reply.outcome, reply.fault, reply.interrupted) == (Outcome.CANCELLED, None, True)
    assert (reply.text, reply.thinking) == (phase.text, phase.thinking)
    assert stream.metrics.cancel is not None


@pytest.mark.parametrize("wait", [False, True], ids=["at once", "waiting"])
def test_from_another_thread(wire: Wire, phase: Phase, wait: bool) -> None:
    """A blocked synchronous reader is freed by another thread's cancel, and so is the model, whatever it was doing."""
    client, seen = Client(wire.host), Seen()
    wire.server.script(*phase.script(wire))
    stream = client.chat("m", MESSAGES, stream=True)
    reader = in_thread(stream, seen)
    record = reach(wire, phase, seen)

    receipt = stream.cancel(wait=True) if wait else stream.cancel()
    assert isinstance(receipt, CancelReceipt) is wait

    is_let_go(wire, phase, record)
    reader.join()
    stream.cancel()
    assert isinstance(stream.cancel(wait=True), CancelReceipt)
    is_cancelled(stream, phase, seen)
    assert "".join(chunk.message.content or "" for chunk in stream) == phase.text
    assert client.chat("m", MESSAGES).message.content == "Hello! I am a fake model."


@pytest.mark.parametrize("wait", [False, True], ids=["at once", "waiting"])
async def test_from_another_task(wire: Wire, phase: Phase, wait: bool) -> None:
    """A suspended reader is freed by another task's cancel, and so is the model, whatever it was doing."""
    client, seen = AsyncClient(wire.host), Seen()
    wire.server.script(*phase.script(wire))
    stream = await client.chat("m", MESSAGES, stream=True)
    reader = asyncio.create_task(in_task(stream, seen))
    record = await asyncio.to_thread(reach, wire, phase, seen)

    receipt = await stream.cancel(wait=wait)
    assert isinstance(receipt, CancelReceipt) is wait

    await asyncio.to_thread(is_let_go, wire, phase, record)
    await reader
    is_cancelled(stream, phase, seen)
    stream.cancel()
    assert isinstance(await stream.cancel(wait=True), CancelReceipt)
    assert "".join([chunk.message.content or "" async for chunk in stream]) == phase.text
    assert (await client.chat("m", MESSAGES)).message.content == "Hello! I am a fake model."


async def test_async_stream_from_another_thread(wire: Wire, phase: Phase) -> None:
    """A stream of asyncio may be cancelled from any thread; it takes no await."""
    client, seen = AsyncClient(wire.host), Seen()
    wire.server.script(*phase.script(wire))
    stream = await client.chat("m", MESSAGES, stream=True)
    reader = asyncio.create_task(in_task(stream, seen))

    def cancel() -> Record:
        record = reach(wire, phase, seen)
        stream.cancel()
        is_let_go(wire, phase, record)
        return record

    await asyncio.to_thread(cancel)
    await reader
    is_cancelled(stream, phase, seen)


async def test_async_stream_from_another_loop(wire: Wire, phase: Phase) -> None:
    """A cancel that is awaited on another event loop returns its receipt there."""
    client, seen = AsyncClient(wire.host), Seen()
    wire.server.script(*phase.script(wire))
    stream = await client.chat("m", MESSAGES, stream=True)
    reader = asyncio.create_task(in_task(stream, seen))

    async def cancel() -> CancelReceipt | None:
        return await stream.cancel(wait=True)

    def elsewhere() -> None:
        record = reach(wire, phase, seen)
        assert isinstance(asyncio.run(cancel()), CancelReceipt)
        is_let_go(wire, phase, record)

    await asyncio.to_thread(elsewhere)
    await reader
    is_cancelled(stream, phase, seen)


@pytest.mark.parametrize("name", ["ollama", "openai"])
def test_behind_a_busy_slot(name: str) -> None:
    """A run that waits for its turn leaves the queue; the one whose turn it is goes on untouched."""
    wire = Wire(name, parallel=1)
    with wire.server as server:
        server.script(say("first"), queue(gate="go"), say(" still"))
        server.script(say("never said"))
        client, seen = Client(wire.host), Seen()
        running = client.chat("m", MESSAGES, stream=True)
        chunks = iter(running)
        assert next(chunks).message.content == "first"
        waiting = client.chat("m", MESSAGES, stream=True)
        reader = in_thread(waiting, seen)
        record = server.wait_for_request(2)
        assert record.wait_until_phase("queued")

        assert isinstance(waiting.cancel(wait=True), CancelReceipt)

        assert record.wait_until_left()
        assert (record.phase, record.sent.steps, record.sent.bytes) == ("queued", 0, 0)
        reader.join()
        assert seen.to_the_end().outcome is Outcome.CANCELLED
        server.release("go")
        assert "".join(chunk.message.content or "" for chunk in chunks) == " still"
        assert running.outcome is Outcome.COMPLETE


@pytest.mark.parametrize("name", ["ollama", "openai"])
async def test_behind_a_busy_slot_async(name: str) -> None:
    """The same for asyncio."""
    wire = Wire(name, parallel=1)
    with wire.server as server:
        server.script(say("first"), queue(gate="go"), say(" still"))
        server.script(say("never said"))
        client = AsyncClient(wire.host)
        running = await client.chat("m", MESSAGES, stream=True)
        assert (await anext(running)).message.content == "first"
        waiting = await client.chat("m", MESSAGES, stream=True)
        reader = asyncio.create_task(waiting.wait())
        record = await server.await_for_request(2)
        assert await record.await_until_phase("queued")

        assert isinstance(await waiting.cancel(wait=True), CancelReceipt)

        assert await record.await_until_left()
        assert (record.phase, record.sent.steps, record.sent.bytes) == ("queued", 0, 0)
        assert (await reader).outcome is Outcome.CANCELLED
        server.release("go")
        assert "".join([chunk.message.content or "" async for chunk in running]) == " still"
        assert running.outcome is Outcome.COMPLETE


def test_while_a_busy_server_is_left_in_peace(wire: Wire) -> None:
    """In the wait between two tries at a busy server a cancel acts at once: the second try never comes."""
    wire.server.script(status(503, {"error": "server busy"}, {"Retry-After": "20"}))
    stream, seen = Client(wire.host).chat("m", MESSAGES, stream=True), Seen()
    reader = in_thread(stream, seen)
    assert seen.until(_is(Queued)) == Queued(retry_in=20.0)

    assert isinstance(stream.cancel(wait=True), CancelReceipt)

    reader.join()
    assert seen.to_the_end() == Ended(Outcome.CANCELLED)
    assert wire.server.wait_until_idle()
    assert len(wire.server.requests) == 1  # the owner is gone, and nobody else could ask


async def test_while_a_busy_server_is_left_in_peace_async(wire: Wire) -> None:
    """The same for asyncio."""
    wire.server.script(status(503, {"error": "server busy"}, {"Retry-After": "20"}))
    stream, seen = await AsyncClient(wire.host).chat("m", MESSAGES, stream=True), Seen()
    before = asyncio.all_tasks()
    reader = asyncio.create_task(in_task(stream, seen))
    assert await asyncio.to_thread(seen.until, _is(Queued)) == Queued(retry_in=20.0)

    assert isinstance(await stream.cancel(wait=True), CancelReceipt)

    await reader
    assert seen.to_the_end() == Ended(Outcome.CANCELLED)
    assert await wire.server.await_until_idle()
    assert asyncio.all_tasks() == before  # nobody is left who could ask again
    assert len(wire.server.requests) == 1


def _connecting(port: int) -> set[str]:
    """The kernel's sockets that wait for an answer to their SYN to this port."""
    lines = (line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:])
    return {fields[1] for fields in lines if fields[2].endswith(f":{port:04X}") and fields[3] == "02"}


linux = pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="asks Linux for its sockets")


@linux
@pytest.mark.parametrize("form", ["{}", "openai:{}/v1"])
def test_while_connecting(form: str) -> None:
    """A connection that nobody accepts is given up: the kernel stops trying."""
    with NeverAccepts() as server:
        before = _connecting(server.port)
        stream, seen = Client(form.format(server.url)).chat("m", MESSAGES, stream=True), Seen()
        reader = in_thread(stream, seen)
        while not _connecting(server.port) - before:
            assert stream.outcome is None

        assert isinstance(stream.cancel(wait=True), CancelReceipt)

        assert not _connecting(server.port) - before
        reader.join()
        assert seen.to_the_end() == Ended(Outcome.CANCELLED)


@linux
@pytest.mark.parametrize("form", ["{}", "openai:{}/v1"])
async def test_while_connecting_async(form: str) -> None:
    """The same for asyncio."""
    with NeverAccepts() as server:
        before = _connecting(server.port)
        stream = await AsyncClient(form.format(server.url)).chat("m", MESSAGES, stream=True)
        reader = asyncio.create_task(stream.wait())
        while not _connecting(server.port) - before:
            assert stream.outcome is None
            await asyncio.sleep(0)

        assert isinstance(await stream.cancel(wait=True), CancelReceipt)

        assert not _connecting(server.port) - before
        assert (await reader).outcome is Outcome.CANCELLED


def test_before_anything(wire: Wire) -> None:
    """A stream cancelled before it was read sends nothing, then or later, and is a cancelled stream."""
    stream, seen = Client(wire.host).chat("m", MESSAGES, stream=True), Seen()
    stream.cancel()
    assert isinstance(stream.cancel(wait=True), CancelReceipt)
    in_thread(stream, seen).join()
    assert seen.to_the_end() == Ended(Outcome.CANCELLED)
    assert list(stream) == []
    assert stream.wait().outcome is Outcome.CANCELLED
    assert wire.server.requests == []
    assert wire.server.open_connections == 0


async def test_before_anything_async(wire: Wire) -> None:
    """The same for asyncio."""
    stream = await AsyncClient(wire.host).chat("m", MESSAGES, stream=True)
    stream.cancel()
    assert isinstance(await stream.cancel(wait=True), CancelReceipt)
    assert [event async for event in stream.events()] == [Ended(Outcome.CANCELLED)]
    assert [chunk async for chunk in stream] == []
    assert (await stream.wait()).outcome is Outcome.CANCELLED
    assert wire.server.requests == []
    assert wire.server.open_connections == 0


def test_in_the_middle_of_a_flood(wire: Wire) -> None:
    """A server that sends without a pause is stopped as well; what had come by then is kept."""
    wire.server.script(say(*["x" * 1000] * 200_000))
    stream, seen = Client(wire.host).chat("m", MESSAGES, stream=True), Seen()
    reader = in_thread(stream, seen)
    record = wire.server.wait_for_request()
    seen.until(_is(TextDelta))

    stream.cancel(wait=True)

    assert record.wait_until_left()
    assert record.phase == "streaming"
    reader.join()
    assert seen.to_the_end() == Ended(Outcome.CANCELLED)
    kept = sum(1 for event in seen.events if type(event) is TextDelta)
    assert stream.reply.text == "x" * 1000 * kept
    assert wire.server.wait_until_idle()


@pytest.mark.parametrize("script", ["prefill", "decoding"])
def test_the_receipt_is_confirmed_by_the_server(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A confirmed receipt means that the server itself let go: it has noted the leaving when the cancel returns."""
    monkeypatch.setattr(ollama_backend.OllamaBackend, "confirms", 20.0)
    wire, phase, seen = Wire("ollama"), PHASES[script], Seen()
    with wire.server as server:
        server.script(*phase.script(wire))
        stream = Client(wire.host).chat("m", MESSAGES, stream=True)
        reader = in_thread(stream, seen)
        record = reach(wire, phase, seen)

        receipt = stream.cancel(wait=True)

        assert receipt.confirmed
        assert (record.client_left, record.left_how) == (True, "fin")
        assert receipt.seconds == stream.metrics.cancel
        reader.join()
        assert stream.cancel(wait=True).confirmed  # asked again, the same answer


def test_a_server_that_does_not_let_go_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server keeps its side open our side closes after a moment, and the receipt does not claim more."""

    class Deaf(FakeOllama):
        """Keeps its side open when the client ends its own."""

        async def _answer(self, connection: Any, record: Record) -> bool:
            left, connection.left = connection.left, asyncio.get_running_loop().create_future()
            answer = asyncio.ensure_future(super()._answer(connection, record))
            await left
            while not connection.left.done():  # the half close is not heard; only a broken connection is
                try:
                    await connection.send(b"1\r\n\n\r\n")
                except Exception:
                    connection.left.set_result("rst")
                await asyncio.sleep(0)
            return await answer

    with Deaf() as server:
        server.script(say("Hel"), stall())
        stream, seen = Client(server.url).chat("m", MESSAGES, stream=True), Seen()
        reader = in_thread(stream, seen)
        seen.until(_is(TextDelta))

        receipt = stream.cancel(wait=True)

        assert not receipt.confirmed
        reader.join()
        assert server.wait_for_request().wait_until_left()
        assert stream.reply.text == "Hel"


def test_a_pull() -> None:
    """A pull stops like an answer: Ollama drops the work when its client leaves."""
    with FakeOllama() as server:
        server.script(chunk({"status": "pulling manifest"}), stall(), path="/api/pull")
        stream, seen = Client(server.url).pull("m", stream=True), Seen()
        reader = in_thread(stream, seen)
        seen.until(_is(Progress))
        stream.cancel(wait=True)
        assert server.wait_for_request().wait_until_left()
        reader.join()
        assert seen.to_the_end() == Ended(Outcome.CANCELLED)


def test_a_completion(wire: Wire) -> None:
    """Generate stops like chat."""
    wire.server.script(say("Hel"), stall())
    stream, seen = Client(wire.host).generate("m", "hi", stream=True), Seen()
    reader = in_thread(stream, seen)
    seen.until(_is(TextDelta))
    stream.cancel(wait=True)
    assert wire.server.wait_for_request().wait_until_left()
    reader.join()
    assert (stream.reply.text, stream.outcome) == ("Hel", Outcome.CANCELLED)


def test_while_the_watch_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question what a silent server is doing is dropped with the run that asked it."""
    monkeypatch.setattr(ollama_backend, "_WATCH_AFTER", 0.2)
    with FakeOllama() as server:
        server.script(stall())
        server.always(stall(), path="/api/ps")
        stream, seen = Client(server.url).chat("m", MESSAGES, stream=True), Seen()
        reader = in_thread(stream, seen)
        chat = server.wait_for_request(path="/api/chat")
        asked = server.wait_for_request(path="/api/ps")
        assert asked.wait_until_phase("stalling")

        stream.cancel(wait=True)

        assert chat.wait_until_left()
        assert asked.wait_until_left()
        reader.join()
        assert seen.to_the_end() == Ended(Outcome.CANCELLED)
        assert server.wait_until_idle()


@pytest.mark.parametrize("method", ["chat", "generate", "pull"])
async def test_a_task_that_waits_for_a_whole_answer(method: str) -> None:
    """Cancelling a task frees the model also without a stream, and while somebody still holds the task."""
    with FakeOllama() as server:
        server.script(stall(), path=f"/api/{method}")
        client = AsyncClient(server.url)
        arguments = {"chat": ("m", MESSAGES), "generate": ("m", "hi"), "pull": ("m",)}[method]
        task = asyncio.ensure_future(getattr(client, method)(*arguments))
        record = await server.await_for_request()
        assert await record.await_until_phase("stalling")

        task.cancel()

        assert await record.await_until_left()
        assert await server.await_until_idle()
        with pytest.raises(asyncio.CancelledError):
            await task
