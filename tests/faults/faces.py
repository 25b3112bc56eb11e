"""Both faces of a client, driven by one function: what a test says once holds for sync and async alike."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from tailrace import AsyncClient, Client, Message
from tailrace.client.streams import AsyncStream, SyncStream
from tailrace.errors import TailraceError
from tailrace.events import Ended, Event, Outcome, Queued, TextDelta
from tailrace.run.metrics import Metrics
from tailrace.run.reply import Reply
from tailrace.run.timeouts import Timeouts
from tailrace.testing import FakeOllama, FakeOpenAI, FakeServer, Step, done, say, together
from tailrace.testing.records import Phase

__all__ = ["MESSAGES", "SOON", "Face", "Seen", "Upstream"]

MESSAGES = [Message("user", "hi")]
SOON = Timeouts(connect=60, first_token=60, idle=60)  # what hangs by mistake becomes a wrong outcome, not a stuck test

Watch = Callable[[Event], object]


@dataclass(frozen=True)
class Seen:
    """What a reader of one run saw.

    Attributes:
        events: all of them.
        ended: the last.
        error: what `wait()` raised.
        reply: the stream's own.
    """

    events: list[Event]
    ended: Ended
    error: TailraceError | None
    reply: Reply

    @property
    def texts(self) -> list[str]:
        """The pieces of text, in order."""
        return [event.text for event in self.events if type(event) is TextDelta]

    @property
    def queued(self) -> list[Queued]:
        """How often the run waited for its turn."""
        return [event for event in self.events if type(event) is Queued]

    def broke(self, kind: type[TailraceError], outcome: Outcome, text: str = "") -> str:
        """Asserts how the run broke off, and that its text is kept; returns the error's message."""
        assert self.ended.outcome is outcome, self.ended
        assert type(self.error) is kind, repr(self.error)
        assert self.reply.text == text
        return str(self.error)

    def whole(self, text: str, outcome: Outcome = Outcome.COMPLETE) -> Reply:
        """Asserts that the answer came whole; returns the reply."""
        assert self.error is None, repr(self.error)
        assert self.ended.outcome is outcome
        assert self.reply.text == text
        return self.reply


class Face:
    """A client of either kind, whose streams are read to the end."""

    def __init__(self, kind: str, host: str, **options: Any) -> None:
        options.setdefault("timeout", SOON)
        self.kind = kind
        self.client: Any = Client(host, **options) if kind == "sync" else AsyncClient(host, **options)

    def chat(self, watch: Watch | None = None, **options: Any) -> Seen:
        """Chats."""
        return self.stream("chat", "m", MESSAGES, watch=watch, **options)

    def generate(self, watch: Watch | None = None, **options: Any) -> Seen:
        """Completes a prompt."""
        return self.stream("generate", "m", "hi", watch=watch, **options)

    def pull(self, watch: Watch | None = None) -> Seen:
        """Pulls a model."""
        return self.stream("pull", "m", watch=watch)

    def stream(self, method: str, *args: Any, watch: Watch | None = None, **options: Any) -> Seen:
        """Reads a stream to its end; checks what holds for every run: one ending, last, and told alike everywhere."""
        call = getattr(self.client, method)
        if self.kind == "sync":
            seen = _read(call(*args, stream=True, **options), watch)
        else:

            async def read() -> Seen:
                return await _read_async(await call(*args, stream=True, **options), watch)

            seen = asyncio.run(read())
        assert [event for event in seen.events if isinstance(event, Ended)] == [seen.ended]
        assert seen.events[-1] is seen.ended
        assert seen.reply.outcome is seen.ended.outcome
        assert "".join(seen.texts) == seen.reply.text
        assert (seen.error is None) == (seen.ended.fault is None)
        if seen.error is not None:
            assert _said(seen.error.reply) == _said(seen.reply)
        return seen

    def cancelled(self, server: FakeServer, phase: Phase, text: str = "") -> Seen:
        """Chats, and cancels from outside when the server is in a phase and the text has been read."""
        if self.kind == "sync":
            stream = self.client.chat("m", MESSAGES, stream=True)
            seen: list[Seen] = []
            reader = threading.Thread(target=lambda: seen.append(_read(stream, None)))
            reader.start()
            assert server.wait_for_request().wait_until_phase(phase)
            while stream.reply.text != text:
                time.sleep(0)
            stream.cancel(wait=True)
            reader.join()
            return _seen(seen[0].events, seen[0].error, stream.reply)

        async def run() -> Seen:
            stream = await self.client.chat("m", MESSAGES, stream=True)
            reader = asyncio.create_task(_read_async(stream, None))
            assert await (await server.await_for_request()).await_until_phase(phase)
            while stream.reply.text != text:
                await asyncio.sleep(0)
            await stream.cancel(wait=True)
            seen = await reader
            return _seen(seen.events, seen.error, stream.reply)

        return asyncio.run(run())

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Calls a method that returns a whole answer."""
        result = getattr(self.client, method)(*args, **options)
        if not inspect.iscoroutine(result):
            return result

        async def wait() -> Any:
            return await result

        return asyncio.run(wait())


def _said(reply: Reply) -> Reply:
    """A reply without the times, which go on until the connection is closed."""
    return msgspec.structs.replace(reply, metrics=Metrics())


def _read(stream: SyncStream[Any], watch: Watch | None) -> Seen:
    events = []
    for event in stream.events():
        events.append(event)
        if watch is not None:
            watch(event)
    error = None
    try:
        stream.wait()
    except TailraceError as caught:
        error = caught
    return _seen(events, error, stream.reply)


async def _read_async(stream: AsyncStream[Any], watch: Watch | None) -> Seen:
    events = []
    async for event in stream.events():
        events.append(event)
        if watch is not None:
            watch(event)
    error = None
    try:
        await stream.wait()
    except TailraceError as caught:
        error = caught
    while not stream._run.is_released:  # the connection is closed after the ending; this loop must live so long
        await asyncio.sleep(0)
    return _seen(events, error, stream.reply)


def _seen(events: list[Event], error: TailraceError | None, reply: Reply) -> Seen:
    ended = events[-1]
    assert isinstance(ended, Ended)
    return Seen(events, ended, error, reply)


class Upstream:
    """A fake server of either wire, and the client's name for it."""

    def __init__(self, wire: str) -> None:
        self.wire = wire
        self.server: FakeServer = FakeOllama() if wire == "ollama" else FakeOpenAI()

    @property
    def host(self) -> str:
        """What the client is given."""
        return self.server.url if self.wire == "ollama" else f"openai:{self.server.url}/v1"

    def script(self, *steps: Step) -> None:
        """Lines up an answer."""
        self.server.script(*steps)

    def is_let_go(self, face: Face, requests: int = 1) -> None:
        """Asserts that our sockets are closed, that nothing was asked twice, and that the client works again."""
        assert self.server.wait_until_idle()
        assert self.asked() == requests
        self.server.script(together(say("once", " more"), done()))
        face.chat().whole("once more")
        assert self.server.wait_until_idle()
        assert self.asked() == requests + 1

    def asked(self) -> int:
        """How many requests came, but for the question what a server is doing that is silent for long."""
        return sum(1 for record in self.server.requests if record.path != "/api/ps")
