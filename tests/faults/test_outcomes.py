"""Every outcome a run can have, each produced: the reply, the figures, exactly one ending, and nothing after it."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.faces import MESSAGES, SOON, Face, Seen, Upstream

from tailrace import AsyncClient, Client
from tailrace.client.portal import portal
from tailrace.errors import OwnerLostError, ResponseError, TailraceError, TimedOutError, TruncatedError
from tailrace.events import Ended, Event, Outcome, Progress, TextDelta, ToolCall, Usage
from tailrace.run.exchange import Exchange, OnEvents, Report
from tailrace.run.reader import Reader
from tailrace.run.run import Run, error_of
from tailrace.run.state import State
from tailrace.run.timeouts import Timeouts
from tailrace.testing import (
    NeverAccepts,
    Step,
    delay,
    done,
    error,
    fin,
    head,
    hold,
    raw,
    say,
    stall,
    status,
    think,
    together,
    tool_call,
)

# What a server says, and what becomes of it: outcome, reason, error.
ENDINGS: dict[str, tuple[list[Step], Outcome, str, type[TailraceError] | None]] = {
    "complete": ([done("stop", eval_count=2, prompt_eval_count=7)], Outcome.COMPLETE, "stop", None),
    "length": ([done("length", eval_count=2, prompt_eval_count=7)], Outcome.LENGTH, "length", None),
    "timed_out": ([stall()], Outcome.TIMED_OUT, "idle", TimedOutError),
    "truncated": ([fin()], Outcome.TRUNCATED, "", TruncatedError),
    "failed": ([error("boom")], Outcome.FAILED, "", ResponseError),
}
PHASES: dict[str, tuple[Timeouts, list[Step], str]] = {
    "first_token": (Timeouts(first_token=0.2), [stall()], "no first token within 0.2 s"),
    "idle": (Timeouts(idle=0.2), [together(say("Hel", "lo")), stall()], "no further token for 0.2 s"),
    "total": (Timeouts(total=1.5), [together(say("Hel", "lo")), stall()], "the answer took longer than 1.5 s"),
    "total_before_the_first_token": (Timeouts(total=0.2), [stall()], "the answer took longer than 0.2 s"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_what_the_server_ends(upstream: Upstream, kind: str, name: str) -> None:
    """Each ending of the server's: the reply is whole or partial, and says how it ended."""
    steps, outcome, reason, kind_of_error = ENDINGS[name]
    face = Face(kind, upstream.host, timeout=Timeouts(idle=0.3) if name == "timed_out" else SOON)
    upstream.script(together(think("Hm"), say("Hel", "lo")), *steps)
    seen = face.chat()
    assert (seen.ended.outcome, seen.ended.reason) == (outcome, reason)
    assert (None if seen.error is None else type(seen.error)) is kind_of_error
    reply = seen.reply
    assert (reply.outcome, reply.reason, reply.text, reply.thinking) == (outcome, reason, "Hello", "Hm")
    assert (reply.finished, reply.interrupted) == (outcome.finished, not outcome.finished)
    assert (reply.message.content, reply.message.thinking) == ("Hello", "Hm")
    assert reply.fault is seen.ended.fault
    upstream.is_let_go(face)


@pytest.mark.parametrize("name", ENDINGS)
def test_figures_come_with_every_ending(upstream: Upstream, kind: str, name: str) -> None:
    """Counts are the server's where it told them, else ours and marked as estimated; times are there in any case."""
    steps, outcome, _, _ = ENDINGS[name]
    upstream.script(together(say("Hel", "lo", "!")), *steps)
    limits = Timeouts(idle=0.3) if name == "timed_out" else SOON
    metrics = Face(kind, upstream.host, timeout=limits).chat().reply.metrics
    told = outcome.finished
    assert (metrics.output_tokens, metrics.estimated) == ((2, False) if told else (3, True))
    assert metrics.prompt_tokens == (7 if told else None)
    assert metrics.time_to_first_token is not None
    assert metrics.connecting is not None
    assert 0 < metrics.connecting <= metrics.time_to_first_token <= metrics.elapsed
    assert metrics.inter_token_p50 is not None
    assert metrics.inter_token_p95 is not None


def test_complete_has_the_servers_figures(ollama: Upstream, kind: str) -> None:
    """Durations are Ollama's nanoseconds; the rate is by its own time."""
    figures: dict[str, Any] = {"total_duration": 5_000_000_000, "load_duration": 1_000_000_000, "prompt_eval_count": 9}
    figures |= {"prompt_eval_duration": 500_000_000, "eval_count": 40, "eval_duration": 2_000_000_000}
    ollama.script(say("Hello"), done("stop", **figures))
    reply = Face(kind, ollama.host).chat().whole("Hello")
    assert reply.usage == Usage(9, 40, 5_000_000_000, 1_000_000_000, 500_000_000, 2_000_000_000)
    metrics = reply.metrics
    assert (metrics.tokens_per_second, metrics.loading, metrics.prefill) == (20.0, 1.0, 0.5)


@pytest.mark.parametrize("phase", PHASES)
def test_timed_out_in_each_phase(upstream: Upstream, kind: str, phase: str) -> None:
    """A time-out names its phase, in the event, the reply and the error, which is the built-in class too."""
    limits, steps, message = PHASES[phase]
    upstream.script(*steps)
    seen = Face(kind, upstream.host, timeout=limits).chat()
    timed_out(seen, phase.partition("_before")[0], message)
    assert seen.reply.text == ("Hello" if len(steps) == 2 else "")
    assert upstream.server.requests[0].wait_until_left()
    assert upstream.server.wait_until_idle()


def test_timed_out_while_connecting(kind: str) -> None:
    """The phase `connect` has a limit of its own."""
    with NeverAccepts() as server:
        seen = Face(kind, server.url, timeout=Timeouts(connect=0.2)).chat()
    timed_out(seen, "connect", "no connection within 0.2 s")


def test_timed_out_in_the_queue(upstream: Upstream, kind: str) -> None:
    """The wait for a busy server counts against the first token."""
    upstream.script(status(503, {"error": "busy"}, {"Retry-After": "25"}))
    seen = Face(kind, upstream.host, timeout=Timeouts(first_token=0.3)).chat()
    timed_out(seen, "first_token", "no first token within 0.3 s")
    assert len(seen.queued) == 1


def timed_out(seen: Seen, phase: str, message: str) -> None:
    text = seen.reply.text
    assert seen.broke(TimedOutError, Outcome.TIMED_OUT, text) == message
    assert isinstance(seen.error, TimedOutError)
    assert issubclass(TimedOutError, TimeoutError)
    assert (seen.ended.reason, seen.reply.reason, seen.error.phase) == (phase, phase, phase)
    assert seen.error.hint == f"raise it with timeout=Timeouts({phase}=SECONDS)"


@pytest.mark.parametrize("method", ["chat", "generate"])
def test_timed_out_without_a_stream(ollama: Upstream, kind: str, method: str) -> None:
    """Without a stream the limit for the first token is that of the whole answer."""
    ollama.script(say("never"), stall())
    with pytest.raises(TimedOutError) as caught:
        Face(kind, ollama.host, timeout=Timeouts(first_token=0.2)).call(
            method, "m", MESSAGES if method == "chat" else "x"
        )
    assert caught.value.phase == "first_token"
    assert ollama.server.wait_for_request().wait_until_left()


SINGLE: dict[str, tuple[str, tuple[Any, ...]]] = {
    "show": ("/api/show", ("m",)),
    "list": ("/api/tags", ()),
    "ps": ("/api/ps", ()),
    "version": ("/api/version", ()),
    "embed": ("/api/embed", ("m", "hi")),
    "embeddings": ("/api/embeddings", ("m", "hi")),
    "delete": ("/api/delete", ("m",)),
    "copy": ("/api/copy", ("m", "n")),
}


@pytest.mark.parametrize("method", SINGLE)
@pytest.mark.parametrize("begun", [False, True])
def test_timed_out_in_a_single_answer(ollama: Upstream, kind: str, method: str, begun: bool) -> None:
    """Single answers have limits too: a server that is silent for ever is let go."""
    path, arguments = SINGLE[method]
    ollama.server.script(*([head(now=True), raw(b"{")] if begun else []), stall(), path=path)
    with pytest.raises(TimedOutError) as caught:
        Face(kind, ollama.host, timeout=Timeouts(first_token=0.5)).call(method, *arguments)
    assert caught.value.phase == "first_token"
    assert ollama.server.wait_for_request().wait_until_left()
    assert ollama.server.wait_until_idle()


@pytest.mark.parametrize("method", SINGLE)
def test_u42_a_single_answer_has_a_limit_of_its_own(ollama: Upstream, kind: str, method: str) -> None:
    """What no model works for waits no longer than `answer`; what one does, as long as for a first token."""
    path, arguments = SINGLE[method]
    ollama.server.script(stall(), path=path)
    with pytest.raises(TimedOutError) as caught:
        Face(kind, ollama.host, timeout=Timeouts(answer=0.1, first_token=0.3)).call(method, *arguments)
    assert caught.value.phase == ("first_token" if method.startswith("embed") else "answer")
    assert ollama.server.wait_for_request().wait_until_left()


@pytest.mark.parametrize("method", SINGLE)
def test_u42_a_single_answer_keeps_to_the_limit_of_connecting(kind: str, method: str) -> None:
    """A server that takes no connection is given up after `connect`, whatever is asked."""
    with NeverAccepts() as server:
        for host in (server.url, f"openai:{server.url}/v1"):
            if host != server.url and method not in ("list", "embed"):
                continue  # which that protocol does not have
            with pytest.raises(TimedOutError) as caught:
                Face(kind, host, timeout=Timeouts(connect=0.1)).call(method, *SINGLE[method][1])
            assert caught.value.phase == "connect"
            assert caught.value.hint == "raise it with timeout=Timeouts(connect=SECONDS)"


def test_u42_a_blob_is_given_up_when_nothing_takes_it(ollama: Upstream, kind: str, tmp_path: Path) -> None:
    """A server that is silent about a file is let go; the limit counts from piece to piece."""
    file = tmp_path / "blob"
    file.write_bytes(b"x" * 600_000)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    ollama.server.always(stall(), path=f"/api/blobs/sha256:{digest}")
    with pytest.raises(TimedOutError) as caught:
        Face(kind, ollama.host, timeout=Timeouts(first_token=0.3)).call("create_blob", file)
    assert caught.value.phase == "first_token"


def test_cancelled(upstream: Upstream, kind: str) -> None:
    """Cancelled by our side: no error, the text is kept, and the time it took is told."""
    face = Face(kind, upstream.host)
    upstream.script(together(say("Hel", "lo")), hold(), say("never"))
    seen = face.cancelled(upstream.server, "holding", "Hello")
    assert seen.ended == Ended(Outcome.CANCELLED)
    assert seen.error is None
    assert (seen.reply.outcome, seen.reply.interrupted) == (Outcome.CANCELLED, True)
    assert seen.reply.metrics.cancel is not None
    assert upstream.server.requests[0].wait_until_left()
    upstream.is_let_go(face)


@pytest.mark.parametrize("times", [1, 2])
def test_cancelled_before_it_began(upstream: Upstream, times: int) -> None:
    """A run cancelled before anybody read it never talks to the server; to cancel again changes nothing."""
    stream = Client(upstream.host).chat("m", MESSAGES, stream=True)
    for _ in range(times):
        assert stream.cancel(wait=True).seconds == 0.0
    assert list(stream.events()) == [Ended(Outcome.CANCELLED)]
    assert stream.reply.outcome is Outcome.CANCELLED
    assert upstream.server.requests == []


def test_cancelled_after_the_ending(upstream: Upstream) -> None:
    """A cancel after the ending changes nothing."""
    upstream.script(say("Hello"))
    stream = Client(upstream.host).chat("m", MESSAGES, stream=True)
    before = list(stream.events())
    stream.cancel(wait=True)
    stream.close()
    assert list(stream.events()) == before
    assert stream.outcome is Outcome.COMPLETE


def run_of(upstream: Upstream, **options: Any) -> Run:
    """A run as a client makes it, with options that clients do not have."""
    run = Client(upstream.host, timeout=SOON).chat("m", MESSAGES, stream=True)._run
    return Run(run._open, model="m", **options)


async def read_to_the_end(run: Run) -> list[Event]:
    reader, events = Reader(run), list[Event]()
    while batch := await reader.read_async():
        events.extend(batch)
    return events


def test_abandoned(upstream: Upstream) -> None:
    """A run that nobody reads for the linger time ends, and the server is let go; its text is kept."""

    async def go() -> None:
        upstream.script(together(say("Hel", "lo")), stall())
        run = run_of(upstream, linger=0.1)
        run.start(asyncio.get_running_loop())
        run.attach()
        record = await upstream.server.await_for_request()
        assert await record.await_until_phase("stalling")
        assert not run.ended
        run.detach()
        events = await read_to_the_end(run)
        assert await record.await_until_left()
        assert events[-1] == Ended(Outcome.ABANDONED, reason="no reader for 0.1 s")
        assert error_of(events[-1]) is None
        assert (run.reply().text, run.reply().outcome) == ("Hello", Outcome.ABANDONED)

    asyncio.run(go())


def test_abandoned_before_anybody_came(upstream: Upstream) -> None:
    """A run to which no reader ever comes is abandoned too."""

    async def go() -> None:
        upstream.script(stall())
        run = run_of(upstream, linger=0.1)
        run.start(asyncio.get_running_loop())
        assert (await read_to_the_end(run))[-1].outcome is Outcome.ABANDONED  # type: ignore[union-attr]

    asyncio.run(go())


def test_not_abandoned_while_somebody_reads(upstream: Upstream) -> None:
    """A reader that comes back within the linger time saves the run; so does one of two that stays."""

    async def go() -> None:
        upstream.script(say("Hel"), hold(), delay(0.4), say("lo"))
        run = run_of(upstream, linger=0.2)
        run.start(asyncio.get_running_loop())
        run.attach()
        run.attach()
        run.detach()
        run.detach()
        run.attach()
        upstream.server.release()
        assert (await read_to_the_end(run))[-1].outcome is Outcome.COMPLETE  # type: ignore[union-attr]
        assert run.reply().text == "Hello"

    asyncio.run(go())


def lost(upstream: Upstream) -> Any:
    """A stream whose loop is closed in the middle of the answer."""
    upstream.script(together(say("Hel", "lo")), stall())
    loop = asyncio.new_event_loop()

    async def begin() -> Any:
        stream = await AsyncClient(upstream.host, timeout=SOON).chat("m", MESSAGES, stream=True)
        assert (await anext(stream)).message.content == "Hel"
        return stream

    stream = loop.run_until_complete(begin())
    stream._run._task._log_destroy_pending = False  # the test means it
    loop.close()
    return stream


READERS: dict[str, Callable[[Any], Any]] = {
    "wait": lambda stream: asyncio.run(wait(stream)),
    "another_thread": lambda stream: in_a_thread(lambda: asyncio.run(wait(stream))),
}


async def wait(stream: Any) -> None:
    await stream.wait()


def in_a_thread(call: Callable[[], None]) -> None:
    caught: list[BaseException] = []

    def target() -> None:
        try:
            call()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    raise caught[0]


@pytest.fixture
def tidy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Collects what a closed loop left open, which asyncio would complain of later."""
    yield
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.usefixtures("tidy")
def test_owner_lost_with_its_loop(upstream: Upstream, reader: str) -> None:
    """A run whose loop was closed ends for its readers, with the text it had; nobody waits for ever."""
    stream = lost(upstream)
    texts = []
    try:
        READERS[reader](stream)
    except OwnerLostError as error:
        texts.append(error.reply.text)
        error.__traceback__ = None  # it would keep the stream, and so the socket, beyond this test
    assert texts == ["Hello"]
    assert (stream.outcome, stream.reply.outcome) == (Outcome.OWNER_LOST, Outcome.OWNER_LOST)
    assert [event for event in stream._run.log.read(0) if isinstance(event, Ended)] == [stream._run.ended]
    assert stream._run.state is State.ENDED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_owner_lost_in_a_forked_child(upstream: Upstream) -> None:
    """In a forked child the run ends as owner_lost at once; in the parent it goes on, and the child's own runs work."""
    upstream.script(together(say("Hel", "lo")), hold(), say("!"), done())
    client = Client(upstream.host, timeout=SOON)
    stream = client.chat("m", MESSAGES, stream=True)
    assert next(stream).message.content == "Hel"
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            stream_reply = stream.reply
            caught = ""
            try:
                stream.wait()
            except OwnerLostError as error:
                caught = f"{type(error).__name__} {error.reply.text}"
            own = client.chat("m", MESSAGES)["message"]["content"]
            os.write(write, f"{stream_reply.outcome} {caught} {own}".encode())
        finally:
            os._exit(0)
    os.close(write)
    upstream_ready = upstream.server
    upstream_ready.always(say("own"))
    with os.fdopen(read) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert told == "owner_lost OwnerLostError Hello own"
    upstream.server.release()
    assert stream.wait().text == "Hello!"
    assert stream.outcome is Outcome.COMPLETE


class Scripted:
    """An exchange that hands out batches, and then what no server should."""

    confirms = 0.1

    def __init__(self, *batches: Any) -> None:
        self.batches = list(batches)
        self.closed: list[str] = []

    async def relay(self, on_events: OnEvents) -> None:
        while True:
            batch = self.batches.pop(0)
            if isinstance(batch, BaseException):
                raise batch
            if on_events(batch):
                return

    def half_close(self) -> bool:
        return False

    def abort(self) -> None:
        self.closed.append("abort")

    async def finish(self) -> None:
        self.closed.append("finish")


def own(exchange: Scripted) -> Run:
    """Runs an exchange to its end."""

    async def open(_report: Report) -> Exchange:
        return exchange

    async def go() -> Run:
        run = Run(open)
        run.start(asyncio.get_running_loop())
        await read_to_the_end(run)
        await run.released.wait_async(lambda: run.is_released)
        return run

    return asyncio.run(go())


def test_failed_by_a_bug_of_ours() -> None:
    """An exception that is none of ours fails the run too: its readers get an error, never silence."""
    exchange = Scripted([TextDelta("Hel")], ZeroDivisionError("oops"))
    run = own(exchange)
    assert run.ended is not None
    assert (run.ended.outcome, run.reply().text) == (Outcome.FAILED, "Hel")
    error = error_of(run.ended, run.cause)
    assert (type(error), str(error)) == (TailraceError, "ZeroDivisionError: oops")
    assert error is not None
    assert isinstance(error.__cause__, ZeroDivisionError)
    assert exchange.closed == ["abort"]


def test_nothing_comes_after_the_ending() -> None:
    """What an exchange would still say after its ending is never asked for."""
    exchange = Scripted([TextDelta("Hello"), Ended(Outcome.COMPLETE)], [TextDelta("ghost")])
    run = own(exchange)
    assert [type(event) for event in run.log.read(0)] == [TextDelta, Ended]
    assert exchange.batches == [[TextDelta("ghost")]]
    assert exchange.closed == ["finish"]


def test_a_pull_has_outcomes_too(ollama: Upstream, kind: str) -> None:
    """A pull is a run: complete after `success`, with its lines as events."""
    seen = Face(kind, ollama.host).pull()
    assert (seen.ended.outcome, seen.ended.reason) == (Outcome.COMPLETE, "success")
    assert seen.events[-2] == Progress("success")


def test_tool_calls_are_kept(ollama: Upstream, kind: str) -> None:
    """Complete tool calls of a truncated answer are kept, and are in its message."""
    ollama.script(tool_call("f", {"a": 1}, id="c0"), fin())
    seen = Face(kind, ollama.host).chat()
    seen.broke(TruncatedError, Outcome.TRUNCATED)
    assert seen.reply.tool_calls == [ToolCall("f", {"a": 1}, "c0", 0)]
    calls = seen.reply.message.tool_calls
    assert calls is not None
    assert (calls[0].function.name, calls[0].id) == ("f", "c0")


def test_the_portal_outlives_all(ollama: Upstream) -> None:
    """After all of it the background loop still serves."""
    assert portal().alive
    assert Client(ollama.host).chat("m", MESSAGES).done
