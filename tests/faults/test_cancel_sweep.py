"""P10: a task is cancelled at every step of the event loop, and nothing is left behind at any of them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tailrace import AsyncClient, Message, Outcome
from tailrace.backends import ollama as ollama_backend
from tailrace.client.streams import AsyncStream
from tailrace.testing import FakeOllama, FakeOpenAI, FakeServer, Record, Step, chunk, hold, say, status

MESSAGES = [Message("user", "hi")]


class SteppingLoop(asyncio.SelectorEventLoop):
    """An event loop that does something just before its k-th step.

    A step is one turn of the loop: what is ready runs once. Between two turns a task may be due although what it waited
    for is there already, which is where cancelling goes wrong.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left = -1
        self.disturb: Callable[[], object] = lambda: None
        self.complaints: list[str] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(str(context)))

    def _run_once(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.disturb()
        super()._run_once()  # type: ignore[misc]  # private, and in every version of Python we support


@dataclass
class Trial:
    """What is cancelled, and what it said.

    Attributes:
        client: the client.
        streams: the streams that the call opened.
        text: what the call has read.
    """

    client: AsyncClient
    streams: list[AsyncStream[Any]] = field(default_factory=list)
    text: str = ""


async def chat_stream(trial: Trial) -> None:
    async for piece in await trial.client.chat("m", MESSAGES, stream=True):
        trial.text += piece.message.content or ""


async def chat_stream_kept(trial: Trial) -> None:
    stream = await trial.client.chat("m", MESSAGES, stream=True)
    trial.streams.append(stream)
    async with stream:
        async for text in stream.text_stream:
            trial.text += text


async def chat_whole(trial: Trial) -> None:
    trial.text = (await trial.client.chat("m", MESSAGES)).message.content or ""


async def pull_stream(trial: Trial) -> None:
    async for line in await trial.client.pull("m", stream=True):
        trial.text += line.status or ""


async def pull_whole(trial: Trial) -> None:
    trial.text = (await trial.client.pull("m")).status or ""


async def list_models(trial: Trial) -> None:
    trial.text = ",".join(model.model or "" for model in (await trial.client.list()).models)


@dataclass(frozen=True)
class Case:
    """A call to sweep over.

    Attributes:
        call: the call.
        text: what it says, undisturbed.
        script: what the server says each time; empty if it knows by itself.
        path: where.
        wire: the server's kind.
        host: what the client calls it.
    """

    call: Callable[[Trial], Awaitable[None]]
    text: str
    script: tuple[Step, ...] = ()
    path: str | None = None
    wire: type[FakeServer] = FakeOllama
    host: str = "http://127.0.0.1:{port}"


HELLO = (say("Hel", "lo"),)
LINES = tuple(chunk({"status": text}) for text in ("pulling", " ", "success"))
OPENAI = "openai:http://127.0.0.1:{port}/v1"
STREAMS = {
    "stream": Case(chat_stream_kept, "Hello", HELLO),
    "stream, openai": Case(chat_stream_kept, "Hello", HELLO, wire=FakeOpenAI, host=OPENAI),
    "stream, by name": Case(chat_stream_kept, "Hello", HELLO, host="http://localhost:{port}"),
}
CASES = STREAMS | {
    "stream that nobody holds": Case(chat_stream, "Hello", HELLO),
    "whole answer": Case(chat_whole, "Hello", HELLO),
    "whole answer, openai": Case(chat_whole, "Hello", HELLO, wire=FakeOpenAI, host=OPENAI),
    "pull": Case(pull_stream, "pulling success", LINES, path="/api/pull"),
    "whole pull": Case(pull_whole, "success", LINES, path="/api/pull"),
    "list": Case(list_models, "fake:latest"),
    "list, openai": Case(list_models, "fake", wire=FakeOpenAI, host=OPENAI),
}


def descriptors() -> dict[str, str]:
    """This process's open files, sockets and pipes."""
    found = {}
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found[descriptor.name] = str(descriptor.readlink())
    return found


async def run_one(case: Case, server: FakeServer, step: int, how: str) -> bool:
    """Runs the call and disturbs it at one step; returns True if it was over before that step came."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    trial = Trial(AsyncClient(case.host.format(port=server.port)))
    before = descriptors()
    task: asyncio.Task[None] | None = asyncio.ensure_future(case.call(trial))
    assert task is not None
    struck: list[bool] = []

    def disturb() -> None:
        if how == "task":
            struck.append(task is not None and task.cancel())
        elif how == "stream":
            struck.append(bool(trial.streams and trial.streams[0]._run.cancel()))
        else:
            owner = trial.streams[0]._run._task if trial.streams else None
            struck.append(owner is not None and owner.cancel())

    loop.disturb, loop.left = disturb, step
    cancelled = False
    try:
        await task
    except asyncio.CancelledError:
        cancelled = True
    over = not struck
    loop.left = -1
    task = None  # a task that is held keeps its exception, its frames, and with them the stream

    assert cancelled is (how == "task" and struck == [True])  # never swallowed, and never out of nothing
    if over:
        assert trial.text == case.text
    assert case.text.startswith(trial.text)
    for stream in trial.streams:
        assert stream.outcome in (Outcome.COMPLETE, Outcome.CANCELLED)
        assert over <= (stream.outcome is Outcome.COMPLETE)
    model = "fake:latest" if case.wire is FakeOllama else "fake"
    # A connection may still wait to be accepted; one that comes after it is accepted after it.
    assert model in [listed.model for listed in (await trial.client.list()).models]
    assert await server.await_until_idle()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=60)
    assert {other for other in others if not other.done()} == set()
    until = loop.time() + 60
    while descriptors() != before and loop.time() < until:
        # A transport that was closed closes its socket in the loop's next turn; a look-up of a name that nobody waits
        # for any more goes on in its thread, and closes its files when it is through.
        await asyncio.sleep(0)
    assert descriptors() == before
    return over


def sweep(case: Case, server: FakeServer, how: str) -> int:
    """Disturbs the call at each step in turn, until it is over before the step comes; returns how many there were."""
    complaints: list[str] = []
    for step in itertools.count(1):
        with asyncio.Runner(loop_factory=SteppingLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, SteppingLoop)
            loop.complaints = complaints
            over = runner.run(run_one(case, server, step, how))
        if over:
            gc.collect()  # what was never closed says so now, and warnings are errors
            assert complaints == []
            return step - 1
    raise AssertionError


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Callable[[Case], FakeServer]]:
    """Starts the server of a case."""
    servers: list[FakeServer] = []

    def start(case: Case) -> FakeServer:
        server = case.wire().start()
        if case.script:
            server.always(*case.script, path=case.path)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()
        assert server.errors == []


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_p10_the_consumer_is_cancelled_at_every_step(case: Case, served: Callable[[Case], FakeServer]) -> None:
    """Whenever the consuming task is cancelled, no task, descriptor or connection is left, and the next call works."""
    assert sweep(case, served(case), "task") > 5


@pytest.mark.parametrize("case", STREAMS.values(), ids=STREAMS)
def test_p10_the_run_is_cancelled_at_every_step(case: Case, served: Callable[[Case], FakeServer]) -> None:
    """Whenever the stream is cancelled, its reader ends well and nothing is left."""
    assert sweep(case, served(case), "stream") > 5


@pytest.mark.parametrize("case", STREAMS.values(), ids=STREAMS)
def test_p10_the_owner_is_cancelled_at_every_step(case: Case, served: Callable[[Case], FakeServer]) -> None:
    """Whenever an outsider cancels the owner's task, as a loop does that shuts down, readers see an ending."""
    assert sweep(case, served(case), "owner") > 5


def test_p10_while_a_busy_server_is_asked_again(served: Callable[[Case], FakeServer]) -> None:
    """Retries leave nothing behind either, whenever they are cut short."""
    case = Case(chat_stream_kept, "Hello")
    server = served(case)
    busy = status(503, {"error": "busy"}, {"Retry-After": "0"})

    def respond(_: Record) -> list[Step]:
        """Busy at first: each trial ends with a call to another path."""
        again = [record.path for record in server.requests[-2:]] == ["/api/chat", "/api/chat"]
        return [*HELLO] if again else [busy]

    server.respond(respond)
    for how in ("task", "stream", "owner"):
        assert sweep(case, server, how) > 5


@pytest.mark.parametrize("how", ["task", "stream", "owner"])
def test_p10_while_the_watch_asks(
    served: Callable[[Case], FakeServer], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The question what a silent server is doing ends with its run, at whatever step that is cancelled."""
    monkeypatch.setattr(ollama_backend._Watch, "__aenter__", _watch_at_once)
    case = Case(chat_stream_kept, "Hello")
    server = served(case)
    # The answer comes while the watch is asking: the server answers the watch only after the run is over.
    server.respond(lambda _: [*HELLO])
    server.always(hold("never"), path="/api/ps")
    assert sweep(case, server, how) > 5


async def _watch_at_once(self: ollama_backend._Watch) -> None:
    self._start(asyncio.get_running_loop())
