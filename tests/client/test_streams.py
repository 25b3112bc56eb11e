"""Streams as their readers see them: many readers, lazy starts, dropping, replies and figures; the helpers on top."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.client.wires import MESSAGES, Wire

import tailrace
from tailrace import (
    AsyncClient,
    AsyncStreamingChat,
    CancellableStream,
    Client,
    Metrics,
    Outcome,
    RequestError,
    StreamingChat,
    TruncatedError,
)
from tailrace.events import Ended, Loading, Prefill, Progress, Queued, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta
from tailrace.testing import (
    FakeOllama,
    Step,
    chunk,
    delay,
    done,
    error,
    fin,
    hold,
    raw,
    say,
    stall,
    status,
    think,
    tool_call,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("believed")


@pytest.fixture(params=["ollama", "openai"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A fake server of either wire."""
    wire = Wire(request.param)
    with wire.server:
        yield wire
    gc.collect()


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    """A fake Ollama."""
    with FakeOllama() as server:
        yield server
    gc.collect()


def chat(wire: Wire, *steps: Step, **options: Any) -> tailrace.ChatStream:
    """A synchronous stream of an answer with these steps."""
    wire.server.script(*steps)
    return Client(wire.host, **options).chat("m", MESSAGES, stream=True)


async def achat(wire: Wire, *steps: Step, **options: Any) -> tailrace.AsyncChatStream:
    """An asynchronous one."""
    wire.server.script(*steps)
    return await AsyncClient(wire.host, **options).chat("m", MESSAGES, stream=True)


def texts(chunks: Any) -> list[str]:
    return [chunk.message.content or "" for chunk in chunks if not chunk.done]


# -- several readers -------------------------------------------------------------------------------------------------


def test_each_iteration_sees_everything(wire: Wire) -> None:
    """Iterating again replays from the first chunk, as does every other way to read."""
    stream = chat(wire, say("a", "b", "c"))
    first = list(stream)
    assert texts(first) == ["a", "b", "c"]
    assert first[-1].done
    assert list(stream) == first
    assert list(stream.text_stream) == ["a", "b", "c"]
    assert stream.wait().text == "abc"
    assert len(wire.server.requests) == 1


async def test_each_iteration_sees_everything_async(wire: Wire) -> None:
    """The same for asyncio."""
    stream = await achat(wire, say("a", "b", "c"))
    first = [chunk async for chunk in stream]
    assert texts(first) == ["a", "b", "c"]
    assert [chunk async for chunk in stream] == first
    assert [text async for text in stream.text_stream] == ["a", "b", "c"]
    assert (await stream.wait()).text == "abc"
    assert len(wire.server.requests) == 1


def test_interleaved_iterations(wire: Wire) -> None:
    """Two iterations side by side each have their own place, also while the run goes on."""
    stream = chat(wire, say("a"), hold(), say("b"), hold(), say("c"))
    one, two = iter(stream), iter(stream)
    assert [next(one).message.content, next(two).message.content] == ["a", "a"]
    wire.server.release()
    assert next(one).message.content == "b"
    wire.server.release()
    assert texts(two) == ["b", "c"]
    assert texts(one) == ["c"]


def test_next_and_then_for(wire: Wire) -> None:
    """The `for` that follows a `next` goes on with it; one after that starts from the first chunk again."""
    stream = chat(wire, say("a", "b", "c"))
    assert next(stream).message.content == "a"
    assert texts(stream) == ["b", "c"]
    assert texts(stream) == ["a", "b", "c"]
    with pytest.raises(StopIteration):
        next(stream)


async def test_next_and_then_for_async(wire: Wire) -> None:
    """The same for asyncio."""
    stream = await achat(wire, say("a", "b", "c"))
    assert (await anext(stream)).message.content == "a"
    assert texts([chunk async for chunk in stream]) == ["b", "c"]
    assert texts([chunk async for chunk in stream]) == ["a", "b", "c"]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


def test_a_for_that_breaks_leaves_the_rest_to_next(wire: Wire) -> None:
    """Breaking out of the `for` that went on with `next` does not end it: `next` goes on where that stopped."""
    stream = chat(wire, say("a", "b", "c"))
    assert next(stream).message.content == "a"
    for piece in stream:
        assert piece.message.content == "b"
        break
    assert next(stream).message.content == "c"


async def test_a_for_that_breaks_leaves_the_rest_to_next_async(wire: Wire) -> None:
    """The same for asyncio."""
    stream = await achat(wire, say("a", "b", "c"))
    assert (await anext(stream)).message.content == "a"
    async for piece in stream:
        assert piece.message.content == "b"
        break
    assert (await anext(stream)).message.content == "c"


@pytest.mark.parametrize("count", [8])
def test_threads_and_loops_read_one_stream(wire: Wire, count: int) -> None:
    """Threads, and loops in threads, read one run at once; each sees all of it, whenever it came, and one request."""
    words = [f"w{n} " for n in range(200)]
    stream = chat(wire, say(*words[:100]), wait_for("all"), say(*words[100:]))
    astream = tailrace.AsyncChatStream(stream._run)  # the asynchronous face of the same run
    ready = threading.Barrier(2 * count, action=lambda: wire.server.open("all"))

    def read() -> list[str]:
        heard = []
        for n, text in enumerate(stream.text_stream):
            if n == 50:
                ready.wait()  # all are in the middle
            heard.append(text)
        return heard

    async def aread() -> list[str]:
        heard = []
        n = 0
        async for text in astream.text_stream:
            if n == 50:
                ready.wait()
            n += 1
            heard.append(text)
        return heard

    stream.__enter__()
    with concurrent.futures.ThreadPoolExecutor(2 * count) as pool:
        told = [pool.submit(read) for _ in range(count)]
        told += [pool.submit(lambda: asyncio.run(aread())) for _ in range(count)]
        assert [future.result(60) for future in told] == [words] * (2 * count)
    assert len(wire.server.requests) == 1


async def test_tasks_read_one_stream(wire: Wire) -> None:
    """Tasks that read one stream do not take each other's chunks; one that is cancelled leaves the others be."""
    stream = await achat(wire, say("a"), hold(), say("b"))
    seen = asyncio.Event()

    async def read() -> list[str]:
        heard = []
        async for text in stream.text_stream:
            heard.append(text)
            seen.set()
        return heard

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await seen.wait()
    readers[0].cancel()
    await asyncio.wait({readers[0]})
    wire.server.release()
    assert await asyncio.gather(*readers[1:]) == [["a", "b"]] * 2


# -- starting and dropping -------------------------------------------------------------------------------------------


def test_nothing_is_sent_before_the_first_read(wire: Wire) -> None:
    """A stream is lazy: reply, metrics, outcome and repr ask nobody; the first read does."""
    stream = chat(wire, say("a"))
    assert (stream.reply.text, stream.outcome, stream.metrics.output_tokens) == ("", None, 0)
    assert repr(stream) == "<ChatStream m new>"
    chunks = iter(stream)
    stream.events(), stream.text_stream
    Client(wire.host).list()  # had the stream asked, that would have come before this
    assert [record.method for record in wire.server.requests] == ["GET"]
    assert next(chunks).message.content == "a"
    assert [record.method for record in wire.server.requests] == ["GET", "POST"]


async def test_nothing_is_sent_before_the_first_read_async(wire: Wire) -> None:
    """The same for asyncio."""
    stream = await achat(wire, say("a"))
    chunks = aiter(stream)
    stream.events(), stream.text_stream
    await AsyncClient(wire.host).list()
    assert [record.method for record in wire.server.requests] == ["GET"]
    assert (await anext(chunks)).message.content == "a"


def test_with_starts_and_ends(wire: Wire) -> None:
    """`with` sends the request on entering, and frees the model on leaving; the stream can still be read after."""
    with chat(wire, say("a"), stall()) as stream:
        record = wire.server.wait_for_request()
        assert next(stream.text_stream) == "a"
    assert record.wait_until_left()
    assert stream.outcome is Outcome.CANCELLED
    assert texts(stream) == ["a"]


async def test_with_starts_and_ends_async(wire: Wire) -> None:
    """The same for asyncio."""
    async with await achat(wire, say("a"), stall()) as stream:
        record = await wire.server.await_for_request()
        assert await anext(aiter(stream.text_stream)) == "a"
    assert await record.await_until_left()
    assert stream.outcome is Outcome.CANCELLED
    assert texts([chunk async for chunk in stream]) == ["a"]


def test_with_around_a_whole_answer(wire: Wire) -> None:
    """Leaving the `with` after the end changes nothing."""
    with chat(wire, say("a")) as stream:
        assert stream.wait().outcome is Outcome.COMPLETE
    assert stream.outcome is Outcome.COMPLETE


ITERATORS: dict[str, Callable[[Any], Any]] = {
    "stream": iter,
    "text_stream": lambda stream: iter(stream.text_stream),
    "events": lambda stream: iter(stream.events()),
}


@pytest.mark.parametrize("name", ITERATORS)
def test_an_iterator_keeps_its_stream(wire: Wire, name: str) -> None:
    """Who iterates holds the stream: it goes on without the name, and stops with the iterator."""
    wire.server.script(say("a"), hold(), say("b"), stall())
    iterator = ITERATORS[name](Client(wire.host).chat("m", MESSAGES, stream=True))
    next(iterator)
    gc.collect()
    record = wire.server.wait_for_request()
    assert not record.client_left
    wire.server.release()
    next(iterator)
    del iterator
    assert record.wait_until_left()


AITERATORS: dict[str, Callable[[Any], Any]] = {
    "stream": aiter,
    "text_stream": lambda stream: aiter(stream.text_stream),
    "events": lambda stream: aiter(stream.events()),
}


@pytest.mark.parametrize("name", AITERATORS)
async def test_an_iterator_keeps_its_stream_async(wire: Wire, name: str) -> None:
    """The same for asyncio."""
    wire.server.script(say("a"), hold(), say("b"), stall())
    iterator = AITERATORS[name](await AsyncClient(wire.host).chat("m", MESSAGES, stream=True))
    await anext(iterator)
    gc.collect()
    record = await wire.server.await_for_request()
    assert not record.client_left
    wire.server.release()
    await anext(iterator)
    del iterator
    assert await record.await_until_left()


def test_one_reader_leaves_and_the_other_stays(wire: Wire) -> None:
    """A reader that breaks off does not stop a run that somebody else holds."""
    stream = chat(wire, say("a"), hold(), say("b"))
    for _ in stream.text_stream:
        break
    gc.collect()
    record = wire.server.wait_for_request()
    wire.server.release()
    assert stream.wait().text == "ab"
    assert not record.client_left


def test_a_wait_that_is_shielded_can_be_taken_up_again(wire: Wire) -> None:
    """A wait for a chunk that was only looked at loses nothing; one that is cancelled ends the iteration."""

    async def read() -> list[str]:
        chunks = aiter(await achat(wire, say("a"), hold(), say("b"), stall()))
        heard = [(await anext(chunks)).message.content or ""]
        waiting = asyncio.ensure_future(anext(chunks))
        assert await asyncio.wait({waiting}, timeout=0) == (set(), {waiting})
        wire.server.release()
        heard.append((await waiting).message.content or "")
        waiting = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
        return heard + texts([chunk async for chunk in chunks])

    assert asyncio.run(read()) == ["a", "b"]
    assert wire.server.wait_for_request().wait_until_left()


# -- replies, events and figures -------------------------------------------------------------------------------------


def test_the_reply_while_it_runs(wire: Wire) -> None:
    """`reply` is what has been said until now, without waiting; `outcome` says whether there will be more."""
    stream = chat(wire, think("Hm"), say("a"), hold(), say("b"), done(prompt_eval_count=3, eval_count=2))
    chunks = iter(stream)
    next(chunks)
    next(chunks)
    early = stream.reply
    assert (early.text, early.thinking, early.outcome, early.usage) == ("a", "Hm", None, None)
    assert (early.finished, early.interrupted) == (False, False)
    assert early.run_id == stream.id
    wire.server.release()
    reply = stream.wait()
    assert (reply.text, reply.outcome, reply.reason) == ("ab", Outcome.COMPLETE, "stop")
    assert (reply.finished, reply.interrupted) == (True, False)
    assert (reply.message.role, reply.message.content, reply.message.thinking) == ("assistant", "ab", "Hm")
    assert early.text == "a"  # a reply is a value; it does not change under its holder
    assert stream.reply == reply
    assert reply.usage is not None
    assert (reply.usage.prompt_tokens, reply.usage.output_tokens) == (3, 2)


def test_the_events_in_their_order(wire: Wire) -> None:
    """`events()` yields what a run waits for, what it says, and one `Ended`, in the order in which they came."""
    busy = status(503, {"error": "busy"}, {"Retry-After": "0"})
    wire.server.script(busy)
    stream = chat(wire, wire.reading(1, 2), think("Hm"), say("a"), tool_call("f", {"x": 1}), done())
    whole = list(stream.events())
    events = [event for event in whole if not isinstance(event, ToolCallDelta)]  # only OpenAI sends pieces
    kinds = [type(event) for event in events]
    assert kinds == [Queued, Prefill, ThinkingDelta, TextDelta, ToolCall, Ended]
    assert events[0] == Queued(retry_in=0.0)
    assert events[1] == Prefill(1, 2)
    call = events[4]
    assert isinstance(call, ToolCall)
    assert (call.name, call.arguments) == ("f", {"x": 1})
    assert list(stream.events()) == whole
    assert stream.reply.tool_calls == [call]
    message = stream.reply.message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.arguments == {"x": 1}


def test_loading_is_an_event(ollama: FakeOllama) -> None:
    """What the embedded engine reports of loading and of the queue becomes an event too."""
    reports: list[dict[str, Any]] = [{"status": "queued", "position": 2}, {"status": "loading"}]
    ollama.script(*(chunk({"tailrace": report}) for report in reports), say("a"))
    events = list(Client(ollama.url).chat("m", MESSAGES, stream=True).events())
    assert events[:3] == [Queued(2), Loading(), TextDelta("a")]


def test_a_failed_run_raises_where_it_is_read_but_not_from_its_events(wire: Wire) -> None:
    """Every way to read raises the same ending with the partial reply on it; `events()` shows it instead."""
    stream = chat(wire, say("a"), fin())
    events = list(stream.events())
    ended = events[-1]
    assert isinstance(ended, Ended)
    assert (events[:-1], ended.outcome) == ([TextDelta("a")], Outcome.TRUNCATED)
    ways: list[Callable[[], object]] = [lambda: list(stream), lambda: list(stream.text_stream), stream.wait]
    for way in ways:
        with pytest.raises(TruncatedError) as caught:
            way()
        assert (caught.value.reply.text, caught.value.reply.outcome) == ("a", Outcome.TRUNCATED)
    assert stream.reply.interrupted


async def test_a_failed_run_raises_where_it_is_read_async(wire: Wire) -> None:
    """The same for asyncio; what came before the ending is handed out first."""
    stream = await achat(wire, say("a"), error("out of memory"))
    assert [type(event) async for event in stream.events()] == [TextDelta, Ended]
    heard = []

    async def read() -> None:
        async for text in stream.text_stream:
            heard.append(text)

    with pytest.raises(tailrace.ResponseError, match="out of memory") as caught:
        await read()
    assert heard == ["a"]
    assert caught.value.reply.text == "a"
    with pytest.raises(tailrace.ResponseError):
        await stream.wait()


def test_figures_of_a_whole_answer(wire: Wire) -> None:
    """Counts are the server's where it told them, and times are in their order."""
    stream = chat(wire, delay(0.01), say("a", "b"), hold(), say("c"), done(prompt_eval_count=7, eval_count=5))
    for text in stream.text_stream:
        if text == "b":  # so that "c" is a read of its own, and there is time between two pieces
            wire.server.release()
    metrics = stream.metrics
    assert (metrics.prompt_tokens, metrics.output_tokens, metrics.estimated) == (7, 5, False)
    assert metrics.time_to_first_token is not None
    assert 0.01 <= metrics.time_to_first_token <= metrics.elapsed
    assert metrics.connecting is not None
    assert 0 <= metrics.connecting <= metrics.time_to_first_token
    assert metrics.inter_token_p50 is not None
    assert metrics.inter_token_p95 is not None
    assert 0 <= metrics.inter_token_p50 <= metrics.inter_token_p95 <= metrics.elapsed
    assert metrics.tokens_per_second is not None
    assert metrics.tokens_per_second > 0
    assert (metrics.queued, metrics.cancel) == (None, None)
    assert stream.metrics == metrics  # the clock stands still after the end


def test_figures_are_estimated_where_nothing_was_told(wire: Wire) -> None:
    """A cut run has counts too: our own, marked as estimated; a run that said nothing has none to estimate."""
    stream = chat(wire, say("a", "b", "c"), fin())
    with pytest.raises(TruncatedError) as caught:
        stream.wait()
    metrics = caught.value.reply.metrics
    assert (metrics.output_tokens, metrics.estimated, metrics.prompt_tokens) == (3, True, None)
    nothing = chat(wire, fin())
    with pytest.raises(TruncatedError) as caught:
        nothing.wait()
    metrics = caught.value.reply.metrics
    assert (metrics.output_tokens, metrics.estimated, metrics.time_to_first_token) == (0, False, None)
    assert (metrics.inter_token_p50, metrics.tokens_per_second) == (None, None)


def test_figures_while_it_runs_and_after_a_cancel(wire: Wire) -> None:
    """Figures go on with the run, and stop with it; a cancelled run says how long the letting go took."""
    stream = chat(wire, say("a"), stall())
    fresh = stream.metrics
    assert fresh.time_to_first_token is None
    next(stream)
    one, two = stream.metrics, stream.metrics
    assert (one.output_tokens, one.estimated, one.cancel) == (1, True, None)
    assert one.elapsed <= two.elapsed
    receipt = stream.cancel(wait=True)
    metrics = stream.metrics
    assert metrics.cancel == receipt.seconds
    assert (metrics.output_tokens, metrics.estimated) == (1, True)
    assert stream.metrics == metrics == stream.reply.metrics


def test_figures_split_the_wait(wire: Wire) -> None:
    """The wait for a busy server counts as queued; what the server told of load and prefill is taken over."""
    wire.server.script(status(503, {"error": "busy"}, {"Retry-After": "0"}))
    stream = chat(wire, say("a"), done(load_duration=2_000_000_000, prompt_eval_duration=500_000_000))
    metrics = stream.wait().metrics
    assert metrics.queued is not None
    assert metrics.connecting is not None
    assert metrics.time_to_first_token is not None
    assert metrics.queued + metrics.connecting <= metrics.time_to_first_token
    if wire.name == "ollama":
        assert (metrics.loading, metrics.prefill) == (2.0, 0.5)


def test_figures_of_nothing() -> None:
    """Figures of a stream that never began are all empty."""
    stream = Client("http://127.0.0.1:9").chat("m", MESSAGES, stream=True)
    metrics = stream.metrics
    assert metrics == Metrics(elapsed=metrics.elapsed)


def test_a_pull_is_a_stream_too(ollama: FakeOllama) -> None:
    """Progress is read like an answer: lines, events, several iterations, one request."""
    stream = Client(ollama.url).pull("m", stream=True)
    lines = [line.status for line in stream]
    assert (lines[0], lines[-1]) == ("pulling manifest", "success")
    assert [line.status for line in stream] == lines
    kinds = {type(event) for event in stream.events()}
    assert kinds == {Progress, Ended}
    assert len(ollama.requests) == 1


# -- stream_chat and the tutorial's helpers --------------------------------------------------------------------------


class CallbackError(Exception):
    """What a callback raises."""


def test_stream_chat(wire: Wire) -> None:
    """Each piece goes to the callback once and in order, and the whole comes back."""
    wire.server.script(think("Hm"), say("a", "", "b"))
    heard: list[str] = []
    assert tailrace.stream_chat("m", MESSAGES, heard.append, client=Client(wire.host)) == "ab"
    assert heard == ["a", "b"]
    wire.server.script(say("a"))
    assert tailrace.stream_chat("m", MESSAGES, client=Client(wire.host)) == "a"


def test_stream_chat_whose_callback_raises(wire: Wire) -> None:
    """The callback's own exception comes out with the partial reply on it, and the model has stopped."""
    wire.server.script(say("a"), hold(), say("b"))
    mine = CallbackError("mine")

    def callback(_: str) -> None:
        raise mine

    with pytest.raises(CallbackError) as caught:
        tailrace.stream_chat("m", MESSAGES, callback, client=Client(wire.host))
    assert caught.value is mine
    reply = mine.reply  # type: ignore[attr-defined]
    assert (reply.text, reply.outcome) == ("a", Outcome.CANCELLED)
    assert wire.server.wait_for_request().wait_until_left()


def test_stream_chat_that_breaks_off(wire: Wire) -> None:
    """The stream's own error comes out with the partial reply on it."""
    wire.server.script(say("a"), fin())
    with pytest.raises(TruncatedError) as caught:
        tailrace.stream_chat("m", MESSAGES, client=Client(wire.host))
    assert caught.value.reply.text == "a"


WORDS = {"en": ("Model: m", "2 characters written"), "zh": ("模型: m", "共输出 2 个字符")}


@pytest.mark.parametrize("language", WORDS)
@pytest.mark.parametrize("ending", [done(), fin()], ids=["whole", "broken off"])
def test_stream_with_progress(
    wire: Wire, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, language: str, ending: Step
) -> None:
    """It prints what the tutorial's own prints, in Chinese in its very words, also of an answer that breaks off."""
    monkeypatch.setenv("TAILRACE_LANG", language)
    wire.server.script(say("春", "天"), ending)
    client = Client(wire.host)
    if ending == done():
        reply = tailrace.stream_with_progress("hi", "m", client=client)
    else:
        with pytest.raises(TruncatedError) as caught:
            tailrace.stream_with_progress("hi", "m", client=client)
        reply = caught.value.reply
    assert reply.text == "春天"
    assert wire.server.requests[0].json["messages"] == [{"role": "user", "content": "hi"}]
    rule = "-" * 40
    model, count = WORDS[language]
    assert capsys.readouterr().out == f"{model}\n{rule}\n春天\n{rule}\n{count}\n"


def test_cancellable_stream_before_it_streams(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    """A cancel that comes before `stream` is kept: it sends nothing and returns an empty answer."""
    stream = CancellableStream(client=Client(wire.host))
    assert not stream.reply
    stream.cancel()
    stream.cancel()
    assert stream.cancelled
    assert stream.stream("m", MESSAGES) == ""
    assert wire.server.requests == []
    assert wire.server.open_connections == 0
    assert stream.reply is not None
    assert stream.reply.outcome is Outcome.CANCELLED
    assert capsys.readouterr().out.strip() == tailrace.i18n.say("helper.cancelled")


@pytest.mark.parametrize("said", [(), ("a",)], ids=["before the first token", "in the middle"])
def test_cancellable_stream(wire: Wire, capsys: pytest.CaptureFixture[str], said: tuple[str, ...]) -> None:
    """Another thread's cancel acts at once, also while nothing has come; what had come is returned and kept."""
    wire.server.script(*map(say, said), stall())
    stream = CancellableStream(client=Client(wire.host))

    def cancel() -> None:
        assert wire.server.wait_for_request().wait_until_phase("stalling")
        while said and not (stream._stream is not None and stream._stream.reply.text):
            pass
        stream.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert stream.stream("m", MESSAGES) == "".join(said)
    thread.join()
    assert wire.server.wait_for_request().wait_until_left()
    assert stream.reply is not None
    assert (stream.reply.text, stream.reply.outcome) == ("".join(said), Outcome.CANCELLED)
    assert capsys.readouterr().out == "".join(said) + "\n" + tailrace.i18n.say("helper.cancelled") + "\n"


def test_cancellable_stream_undisturbed(wire: Wire, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a cancel it prints and returns the answer; a cancel after it changes nothing."""
    wire.server.script(say("a", "b"))
    stream = CancellableStream(client=Client(wire.host))
    assert stream.stream("m", MESSAGES) == "ab"
    stream.cancel()
    assert stream.reply is not None
    assert stream.reply.outcome is Outcome.COMPLETE
    assert capsys.readouterr().out == "ab"


# -- conversations ---------------------------------------------------------------------------------------------------


class Talk:
    """A conversation of either face, driven alike."""

    def __init__(self, wire: Wire, kind: str, system: str | None = None) -> None:
        self.wire = wire
        self.printed: list[str] = []
        options: dict[str, Any] = {"print": self.printed.append}
        self.chat: StreamingChat | AsyncStreamingChat = (
            StreamingChat("m", system, client=Client(wire.host), **options)
            if kind == "sync"
            else AsyncStreamingChat("m", system, client=AsyncClient(wire.host), **options)
        )

    def send(self, text: str, *steps: Step, **options: Any) -> str:
        """One turn."""
        if steps:
            self.wire.server.script(*steps)
        if isinstance(self.chat, StreamingChat):
            return self.chat.send(text, **options)
        return asyncio.run(self.chat.send(text, **options))

    def sent(self) -> Any:
        """The messages of the last request."""
        return self.wire.server.requests[-1].json["messages"]


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """The face."""
    return str(request.param)


@pytest.fixture
def talk(wire: Wire, kind: str) -> Talk:
    """A conversation with a system prompt."""
    return Talk(wire, kind, "Be brief.")


SYSTEM = {"role": "system", "content": "Be brief."}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str, **marks: str) -> dict[str, str]:
    return {"role": "assistant", "content": text, **marks}


def test_a_conversation(talk: Talk) -> None:
    """Answers are printed as they come, and the history goes along with each question."""
    assert talk.send("one?", say("O", "ne.")) == "One."
    assert talk.printed == [tailrace.i18n.say("helper.assistant"), "O", "ne.", "\n"]
    assert talk.send("two?", say("Two.")) == "Two."
    assert talk.sent() == [SYSTEM, user("one?"), assistant("One."), user("two?")]
    assert talk.chat.messages == [*talk.sent(), assistant("Two.")]
    assert not talk.chat.interrupted
    assert talk.chat.last is not None
    assert talk.chat.last.text == "Two."
    talk.chat.clear()
    assert talk.chat.messages == [SYSTEM]
    assert talk.chat.last is None


def test_a_turn_that_broke_off(talk: Talk) -> None:
    """What had come stays in the history and is marked; the mark is ours and is not sent."""
    with pytest.raises(TruncatedError) as caught:
        talk.send("one?", say("O"), fin())
    assert caught.value.reply.text == "O"
    assert talk.chat.messages == [SYSTEM, user("one?"), assistant("O", interrupted="truncated")]
    assert talk.chat.interrupted
    assert talk.send("go on", say("ne.")) == "ne."
    assert talk.sent() == [SYSTEM, user("one?"), assistant("O"), user("go on")]
    assert not talk.chat.interrupted


@pytest.mark.parametrize("step", [fin(), status(500, {"error": "no"}), error("no")], ids=["fin", "status", "error"])
def test_a_turn_that_came_to_nothing(talk: Talk, step: Step) -> None:
    """A turn that failed before the model said anything leaves no dangling question."""
    with pytest.raises(tailrace.TailraceError):
        talk.send("one?", step)
    assert talk.chat.messages == [SYSTEM]
    assert talk.chat.last is not None
    assert talk.chat.last.interrupted
    assert talk.send("again?", say("Yes.")) == "Yes."
    assert talk.sent() == [SYSTEM, user("again?")]


def test_a_turn_that_is_no_request(talk: Talk) -> None:
    """A question that cannot be sent leaves the history as it was."""
    with pytest.raises(RequestError):
        talk.send("look", images=[Path("no/such/image.png")])
    assert talk.chat.messages == [SYSTEM]
    assert talk.wire.server.requests == []


def test_a_callback_instead_of_printing(talk: Talk) -> None:
    """A callback gets the pieces, and nothing is printed."""
    heard: list[str] = []
    assert talk.send("one?", say("O", "ne."), callback=heard.append) == "One."
    assert (heard, talk.printed) == (["O", "ne."], [])


def test_a_callback_that_raises(talk: Talk) -> None:
    """What a callback raises comes out with the partial reply; the model stops; the half answer stays, marked."""

    def callback(_: str) -> None:
        raise CallbackError

    with pytest.raises(CallbackError) as caught:
        talk.send("one?", say("O"), stall(), callback=callback)
    assert caught.value.reply.text == "O"  # type: ignore[attr-defined]
    assert talk.wire.server.wait_for_request().wait_until_left()
    assert talk.chat.messages == [SYSTEM, user("one?"), assistant("O", interrupted="cancelled")]


@pytest.mark.parametrize("said", ["", "O"])
def test_a_cancel_from_another_thread(talk: Talk, said: str) -> None:
    """`send` returns what had come; the history keeps it, marked, or keeps nothing if nothing had come."""

    def cancel() -> None:
        assert talk.wire.server.wait_for_request().wait_until_phase("stalling")
        while said not in talk.printed and said:
            pass
        talk.chat.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    assert talk.send("one?", *([say(said)] if said else []), stall()) == said
    thread.join()
    assert talk.wire.server.wait_for_request().wait_until_left()
    kept = [user("one?"), assistant(said, interrupted="cancelled")] if said else []
    assert talk.chat.messages == [SYSTEM, *kept]
    talk.chat.cancel()  # nothing to stop is fine
    assert talk.send("again?", say("Yes.")) == "Yes."


async def test_a_cancelled_task(wire: Wire) -> None:
    """Cancelling the task that sends stops the model, and the half answer is in the history."""
    conversation = AsyncStreamingChat("m", client=AsyncClient(wire.host))
    wire.server.script(say("O"), stall())
    heard = asyncio.Event()
    task = asyncio.create_task(conversation.send("one?", callback=lambda _: heard.set()))
    await heard.wait()
    task.cancel()
    record = await wire.server.await_for_request()
    assert await record.await_until_left()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert conversation.messages == [user("one?"), assistant("O", interrupted="cancelled")]


def test_save_and_load(talk: Talk, kind: str, tmp_path: Path) -> None:
    """A saved conversation goes on where it was, marks and all; saving leaves nothing beside its file."""
    talk.send("one?", say("One."))
    with pytest.raises(TruncatedError):
        talk.send("two?", say("Tw 水"), fin())
    path = tmp_path / "talk.json"
    talk.chat.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["talk.json"]
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved["messages"] == talk.chat.messages
    again = Talk(talk.wire, kind)
    loaded = type(talk.chat).load(path, client=again.chat._client, print=again.printed.append)
    again.chat = loaded
    assert (loaded.messages, loaded.model, loaded.interrupted) == (talk.chat.messages, "m", True)
    assert again.send("three?", say("Three.")) == "Three."
    assert again.sent()[-1] == user("three?")
    assert len(again.sent()) == 6


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b"{}",
        b'{"tailrace":1}',
        b'{"tailrace":1,"messages":null}',
        b'{"tailrace":1,"messages":"x"}',
        b'{"tailrace":1,"messages":[1]}',
        b'{"tailrace":1,"messages":[{"content":"x"}]}',
        b'{"tailrace":1,"messages":[{"role":1}]}',
        b'{"tailrace":1,"model":3,"messages":[]}',
        b'{"tailrace":99,"messages":[]}',
        b'{"messages":[]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_corrupt_file(tmp_path: Path, content: bytes) -> None:
    """A file that holds no conversation is refused by name, whatever is in it."""
    path = tmp_path / "talk.json"
    path.write_bytes(content)
    for face in (StreamingChat, AsyncStreamingChat):
        with pytest.raises(RequestError, match=r"talk\.json is not a saved conversation"):
            face.load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is an OSError, as everywhere in Python."""
    with pytest.raises(FileNotFoundError):
        StreamingChat.load(tmp_path / "nothing.json")


def test_a_save_that_fails(tmp_path: Path) -> None:
    """A save that fails leaves the old file whole, and nothing beside it."""
    conversation = StreamingChat("m", "Be brief.")
    path = tmp_path / "talk.json"
    conversation.save(path)
    before = path.read_bytes()
    conversation.messages.append({"role": "user", "content": object()})
    with pytest.raises(TypeError):
        conversation.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["talk.json"]


def test_an_image_that_is_made() -> None:
    """A model for images tells its steps, and its image at the end, streamed or whole."""
    last = chunk({"response": "", "image": "aGk=", "done": True, "done_reason": "stop"})
    steps = [chunk({"response": "", "done": False, "completed": count, "total": 2}) for count in (1, 2)]
    with FakeOllama(models=["m"]) as server:
        server.script(*steps, last, path="/api/generate").script(
            raw(b'{"response":"","image":"aGk=","done":true}\n'), path="/api/generate"
        )
        client = Client(server.url)
        chunks = list(client.generate("m", "a cat", width=8, height=8, steps=2, stream=True))
        whole = client.generate("m", "a cat")

    assert [(each.completed, each.total, each.image) for each in chunks] == [
        (1, 2, None),
        (2, 2, None),
        (None, None, "aGk="),
    ]
    assert (whole.image, whole.done) == ("aGk=", True)
