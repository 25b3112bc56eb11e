"""Faults of process, threads and loops, as far as one process shows them: P5 to P9, P11, P14, P15."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.faults.faces import MESSAGES, Upstream

import tailrace
from tailrace import AsyncClient, Client, Outcome, OwnerLostError, StreamingChat, Timeouts
from tailrace.client.streams import ChatStream
from tailrace.events import Ended, TextDelta
from tailrace.run.wakeups import Wakeups
from tailrace.testing import FakeOllama, Record, hold, say, stall, wait_for


def when_blocked(then: Callable[[], object]) -> threading.Thread:
    """Does something on another thread once this one is blocked inside tailrace, waiting for an answer."""
    blocked = threading.get_ident()

    def waits() -> bool:
        frame: FrameType | None = sys._current_frames()[blocked]
        while frame is not None:
            if frame.f_code in (Wakeups.wait.__code__, concurrent.futures.Future.result.__code__):
                return True
            frame = frame.f_back
        return False

    def watch() -> None:
        while not waits():
            time.sleep(0)
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def interrupt() -> None:
    """Ctrl-C, as the main thread gets it from a terminal."""
    ident = threading.main_thread().ident
    assert ident is not None
    signal.pthread_kill(ident, signal.SIGINT)


# -- P5: Ctrl-C ------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[ChatStream], object]] = {
    "next": next,
    "for": list,
    "text_stream": lambda stream: "".join(stream.text_stream),
    "events": lambda stream: list(stream.events()),
    "wait": lambda stream: stream.wait(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("heard", ["", "Hel"])
def test_p5_interrupt_while_reading(upstream: Upstream, way: str, heard: str) -> None:
    """Ctrl-C in the wait for a token comes out once and stops the model; what had come can be read, the rest not."""
    upstream.script(*([say(heard)] if heard else []), stall())
    stream = Client(upstream.host).chat("m", MESSAGES, stream=True)
    if heard:
        assert next(stream).message.content == heard

    def strike() -> None:
        assert upstream.server.wait_for_request().wait_until_phase("stalling")
        interrupt()

    thread = when_blocked(strike)
    with pytest.raises(KeyboardInterrupt):
        WAYS[way](stream)
    thread.join()

    assert upstream.server.wait_for_request().wait_until_left()
    assert upstream.server.wait_until_idle()
    assert (stream.outcome, stream.reply.text) == (Outcome.CANCELLED, heard)
    assert "".join(stream.text_stream) == heard  # reading on neither blocks nor raises


@pytest.mark.parametrize("method", ["chat", "generate", "list"])
def test_p5_interrupt_in_a_whole_call(method: str) -> None:
    """Ctrl-C in a call without a stream closes its connection, although the work is on another thread."""
    with FakeOllama() as server:
        paths = {"chat": "/api/chat", "generate": "/api/generate", "list": "/api/tags"}
        server.always(stall(), path=paths[method])
        client = Client(server.url)
        calls: dict[str, Callable[[], object]] = {
            "chat": lambda: client.chat("m", MESSAGES),
            "generate": lambda: client.generate("m", "hi"),
            "list": client.list,
        }

        def strike() -> None:
            assert server.wait_for_request().wait_until_phase("stalling")
            interrupt()

        thread = when_blocked(strike)
        with pytest.raises(KeyboardInterrupt):
            calls[method]()
        thread.join()
        assert server.wait_for_request().wait_until_left()
        assert server.wait_until_idle()


def test_p5_interrupt_in_a_conversation(upstream: Upstream) -> None:
    """Ctrl-C in a conversation stops the model, and the half answer is in the history, marked."""
    upstream.script(say("Hel"), stall())
    chat = StreamingChat("m", client=Client(upstream.host))
    thread: list[threading.Thread] = []
    with pytest.raises(KeyboardInterrupt):
        chat.send("hi", callback=lambda _: thread.append(when_blocked(interrupt)))
    thread[0].join()
    assert upstream.server.wait_for_request().wait_until_left()
    assert chat.messages == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hel", "interrupted": "cancelled"},
    ]


def test_p5_interrupt_of_asyncio(upstream: Upstream) -> None:
    """Ctrl-C under asyncio.run cancels the reading task, and the run ends with its loop."""
    upstream.script(say("Hel"), stall())
    streams = []

    async def read() -> None:
        stream = await AsyncClient(upstream.host).chat("m", MESSAGES, stream=True)
        streams.append(stream)
        async for _ in stream:
            asyncio.get_running_loop().call_soon(interrupt)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(read())
    assert upstream.server.wait_for_request().wait_until_left()
    assert (streams[0].outcome, streams[0].reply.text) == (Outcome.CANCELLED, "Hel")


# -- P6: abandoned ---------------------------------------------------------------------------------------------------


class BodyError(Exception):
    """What the body of a loop raises."""


def _break(client: Client) -> None:
    for _ in client.chat("m", MESSAGES, stream=True):
        break


def _return(client: Client) -> object:
    stream = client.chat("m", MESSAGES, stream=True)
    for chunk in stream:
        return chunk
    return None


def _raise(client: Client) -> None:
    try:
        for _ in client.chat("m", MESSAGES, stream=True).text_stream:
            raise BodyError
    except BodyError:
        pass


def _forget(client: Client) -> None:
    next(client.chat("m", MESSAGES, stream=True))


def _cycle(client: Client) -> None:
    stream = client.chat("m", MESSAGES, stream=True)
    next(stream)
    knot: list[Any] = [stream]
    knot.append(knot)
    del stream, knot
    gc.collect()


@pytest.mark.parametrize("way", [_break, _return, _raise, _forget, _cycle])
def test_p6_dropped(upstream: Upstream, way: Callable[[Client], object]) -> None:
    """A stream that nobody holds any more stops its model: after break, return, an exception, or none of them."""
    upstream.script(say("Hel"), stall())
    way(Client(upstream.host))
    assert upstream.server.wait_for_request().wait_until_left()
    assert upstream.server.wait_until_idle()


async def _abreak(client: AsyncClient) -> None:
    async for _ in await client.chat("m", MESSAGES, stream=True):
        break


async def _araise(client: AsyncClient) -> None:
    try:
        async for _ in (await client.chat("m", MESSAGES, stream=True)).text_stream:
            raise BodyError
    except BodyError:
        pass


async def _aforget(client: AsyncClient) -> None:
    await anext(await client.chat("m", MESSAGES, stream=True))


async def _ahalf(client: AsyncClient) -> None:
    stream = await client.chat("m", MESSAGES, stream=True)
    await anext(stream)
    async for _ in stream.events():
        break


@pytest.mark.parametrize("way", [_abreak, _araise, _aforget, _ahalf])
async def test_p6_dropped_async(upstream: Upstream, way: Callable[[AsyncClient], Any]) -> None:
    """The same for asyncio; no finaliser has to run on the loop for it."""
    upstream.script(say("Hel"), stall())
    await way(AsyncClient(upstream.host))
    record = await upstream.server.await_for_request()
    assert await record.await_until_left()
    assert await upstream.server.await_until_idle()


def test_p6_never_read(upstream: Upstream) -> None:
    """A stream that is never read sends nothing, however it is dropped."""
    client = Client(upstream.host)
    client.chat("m", MESSAGES, stream=True)
    iter(client.chat("m", MESSAGES, stream=True))
    client.chat("m", MESSAGES, stream=True).close()
    client.generate("m", "hi", stream=True)
    gc.collect()
    client.list()  # had the others sent anything, it would have come before this
    assert [record.method for record in upstream.server.requests] == ["GET"]


# -- P7: exceptions of callbacks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [BodyError, StopIteration, KeyboardInterrupt, SystemExit])
def test_p7_a_callback_raises(upstream: Upstream, kind: type[BaseException]) -> None:
    """What a callback raises comes out once, as it is; the model stops, and nothing more is handed out."""
    upstream.script(say("Hel"), hold(), say("lo"))
    error = kind("mine")
    heard = []

    def callback(text: str) -> None:
        heard.append(text)
        raise error

    with pytest.raises(kind) as caught:
        tailrace.stream_chat("m", MESSAGES, callback, client=Client(upstream.host))  # type: ignore[arg-type]
    assert caught.value is error
    assert heard == ["Hel"]
    if isinstance(error, Exception):
        assert error.reply.text == "Hel"  # type: ignore[attr-defined]
    assert upstream.server.wait_for_request().wait_until_left()


# -- P8: cancel, always and everywhere -------------------------------------------------------------------------------


class Dropped:
    """Cancels in its finaliser."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    def __del__(self) -> None:
        self._stream.cancel()


class Cancels(RuleBasedStateMachine):
    """One stream, and every way to cancel it, in any order with reading it and with the server going on."""

    server: FakeOllama
    words = ("one", "two", "three")

    def __init__(self) -> None:
        super().__init__()
        self.count = len(self.server.requests)
        self.gate = f"gate {id(self)} {time.monotonic_ns()}"
        steps = [step for word in self.words for step in (hold(self.gate), say(word))]
        self.server.script(*steps, hold(self.gate))
        self.stream = Client(self.server.url).chat("m", MESSAGES, stream=True)
        self.started = False
        self.released = 0
        self.told: Outcome | None = None
        self.cancelled = False

    @property
    def record(self) -> Record:
        return self.server.wait_for_request(self.count + 1)

    def _after_cancel(self) -> None:
        self.cancelled = True
        assert self.stream.outcome in (Outcome.CANCELLED, Outcome.COMPLETE)

    @rule()
    def starts(self) -> None:
        begins = not self.started and not self.cancelled
        self.stream.__enter__()
        if begins:
            self.started = True
            assert self.record  # else a cancel may be there before the request was ever sent

    @precondition(lambda self: self.started and self.released < 4)
    @rule()
    def server_goes_on(self) -> None:
        self.released += 1
        self.server.release(self.gate)

    @precondition(lambda self: self.cancelled or self.released == 4)
    @rule()
    def reads_to_the_end(self) -> None:
        self.stream.wait()
        assert self.stream.outcome is not None

    @precondition(lambda self: self.released or self.cancelled)
    @rule()
    def reads_a_piece(self) -> None:
        first = next(iter(self.stream), None)
        assert first is None or first.message.content in (self.words[0], "")
        assert first is not None or self.cancelled

    @rule()
    def cancels(self) -> None:
        self.stream.cancel()
        self._after_cancel()

    @rule()
    def cancels_and_waits(self) -> None:
        assert isinstance(self.stream.cancel(wait=True), tailrace.CancelReceipt)
        self._after_cancel()

    @rule()
    def closes(self) -> None:
        self.stream.close()
        self._after_cancel()

    @rule()
    def leaves_its_block(self) -> None:
        self.stream.__exit__(None, None, None)
        self._after_cancel()

    @rule(threads=st.integers(1, 3))
    def is_cancelled_by_threads(self, threads: int) -> None:
        running = [threading.Thread(target=self.stream.cancel) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        self._after_cancel()

    @rule()
    def is_cancelled_by_a_signal_handler(self) -> None:
        before = signal.signal(signal.SIGUSR1, lambda *_: self.stream.cancel())
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        self._after_cancel()

    @rule()
    def is_cancelled_by_a_finaliser(self) -> None:
        Dropped(self.stream)
        self._after_cancel()

    @precondition(lambda self: self.released)
    @rule()
    def is_cancelled_by_its_own_reader(self) -> None:
        for event in self.stream.events():
            if isinstance(event, (TextDelta, Ended)):
                self.stream.cancel()
                self._after_cancel()

    @invariant()
    def has_at_most_one_ending(self) -> None:
        outcome = self.stream.outcome
        assert self.told in (None, outcome)
        self.told = outcome
        assert "".join(self.words).startswith(self.stream.reply.text)

    def teardown(self) -> None:
        self.stream.cancel(wait=True)
        if self.started:
            assert self.record.wait_until_ended()
            # A server that had sent everything has nobody to miss.
            left = self.stream.outcome is Outcome.CANCELLED and not self.record.completed
            assert self.record.client_left is left
        assert self.server.wait_until_idle()
        assert len(self.server.requests) == self.count + self.started
        self.server._scripts.clear()  # of a run that never asked for it


def test_p8_cancel_at_any_time_in_any_way() -> None:
    """Cancel is idempotent and never raises or hangs: twice, before the start, after the end, from wherever."""
    with FakeOllama() as server:
        bounds = settings(max_examples=60, stateful_step_count=10, deadline=None, derandomize=True)
        run_state_machine_as_test(type("CancelsThis", (Cancels,), {"server": server}), settings=bounds)


# -- P9: cancel from another thread ----------------------------------------------------------------------------------


def test_p9_cancel_while_another_thread_is_blocked(upstream: Upstream) -> None:
    """A thread blocked in `next` comes back when another cancels, and the server sees us leave."""
    upstream.script(stall())
    stream = Client(upstream.host).chat("m", MESSAGES, stream=True)
    thread = when_blocked(stream.cancel)
    assert next(stream, None) is None
    thread.join()
    if upstream.server.requests:  # the cancel may have come before the request had gone
        assert upstream.server.requests[0].wait_until_left()
    assert upstream.server.wait_until_idle()


# -- P11: several loops ----------------------------------------------------------------------------------------------


def test_p11_one_client_on_one_loop_after_the_other(upstream: Upstream) -> None:
    """A client works under asyncio.run again and again: nothing of it belongs to the first loop."""
    client = AsyncClient(upstream.host)

    async def ask() -> str:
        await client.list()
        return (await client.chat("m", MESSAGES)).message.content or ""

    assert [asyncio.run(ask()) for _ in range(3)] == ["Hello! I am a fake model."] * 3
    assert upstream.server.wait_until_idle()


def test_p11_one_client_on_two_loops_at_once(upstream: Upstream) -> None:
    """A client works on two loops in two threads at the same time."""
    upstream.server.always(say("Hel"), wait_for("both"), say("lo"))
    client = AsyncClient(upstream.host)
    together = threading.Barrier(2)

    async def ask() -> str:
        stream = await client.chat("m", MESSAGES, stream=True)
        text = (await anext(stream)).message.content or ""
        together.wait()  # both runs are in the middle now
        upstream.server.open("both")
        return text + "".join([chunk.message.content or "" async for chunk in stream])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: asyncio.run(ask()), range(2))) == ["Hello", "Hello"]


def test_p11_a_stream_outlives_its_loop(upstream: Upstream) -> None:
    """A stream whose loop has ended is cancelled with it; what had come can be read on the next loop."""
    upstream.script(say("Hel"), stall())

    async def begin() -> tailrace.AsyncChatStream:
        stream = await AsyncClient(upstream.host).chat("m", MESSAGES, stream=True)
        await anext(stream)
        return stream

    async def go_on(stream: tailrace.AsyncChatStream) -> str:
        await stream.cancel(wait=True)
        return "".join([text async for text in stream.text_stream])

    stream = asyncio.run(begin())
    assert upstream.server.wait_for_request().wait_until_left()
    assert asyncio.run(go_on(stream)) == "Hel"
    assert stream.outcome is Outcome.CANCELLED


dying = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


def _begun(upstream: Upstream) -> tuple[asyncio.AbstractEventLoop, tailrace.AsyncChatStream]:
    """A loop that stands still, with a run on it that has said something."""
    upstream.script(say("Hel"), stall())
    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(AsyncClient(upstream.host).chat("m", MESSAGES, stream=True))
    loop.run_until_complete(anext(stream))
    return loop, stream


def _close(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # we know: its loop is closed under it
    loop.close()


@dying
def test_p11_a_loop_dies_under_a_reader(upstream: Upstream) -> None:
    """A reader on another loop learns that the owner's loop was closed under the run, and does not wait for ever."""
    loop, stream = _begun(upstream)

    async def read() -> None:
        reader = asyncio.ensure_future(stream.wait())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not reader.done()  # it has read what there is, and waits
        _close(loop)
        with pytest.raises(OwnerLostError) as caught:
            await reader
        assert caught.value.reply.text == "Hel"

    asyncio.run(read())
    assert stream.outcome is Outcome.OWNER_LOST


@dying
@pytest.mark.parametrize("turns", [0, 1], ids=["before it heard", "after it heard"])
def test_p11_a_loop_dies_under_a_cancel(upstream: Upstream, turns: int) -> None:
    """Who waits for a cancel comes back when the loop that was to carry it out is closed, at whatever point."""
    loop, stream = _begun(upstream)

    async def cancel() -> None:
        cancelling = stream.cancel(wait=True)
        for _ in range(turns):
            loop.call_soon(loop.stop)
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            thread.join()
        waiting = asyncio.ensure_future(cancelling._receipt())
        await asyncio.sleep(0)
        assert not waiting.done()
        _close(loop)
        assert not (await waiting).confirmed  # type: ignore[union-attr]

    asyncio.run(cancel())
    assert (stream.outcome, stream.reply.text) == (Outcome.CANCELLED, "Hel")


# -- P14: many threads -----------------------------------------------------------------------------------------------


def test_p14_many_streams_in_a_small_pool() -> None:
    """200 synchronous streams in 40 threads complete, and while they fill the pool another thread's call answers."""
    with FakeOllama() as server:
        server.always(say("Hel"), wait_for("gate"), say("lo"))
        client = Client(server.url)
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            answers = [pool.submit(lambda: client.chat("m", MESSAGES, stream=True).wait().text) for _ in range(200)]
            for n in range(1, 41):
                assert server.wait_for_request(n).wait_until_phase("holding", timeout=20)

            assert [model.model for model in client.list().models] == ["fake:latest"]

            assert not any(answer.done() for answer in answers)
            server.open("gate")
            assert [answer.result(60) for answer in answers] == ["Hello"] * 200
        assert server.wait_until_idle()


# -- P15: a blocked loop ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("longer", [0.02, 0.3])
async def test_p15_a_blocked_loop_is_no_silent_server(upstream: Upstream, longer: float) -> None:
    """User code that blocks the loop beyond the idle limit makes no time-out of what the server sent in time."""
    idle = 0.2
    upstream.script(say("Hel"), hold(), say("lo"))
    client = AsyncClient(upstream.host, timeout=Timeouts(idle=idle))
    stream = await client.chat("m", MESSAGES, stream=True)
    heard = []
    async for text in stream.text_stream:
        since = time.monotonic()
        heard.append(text)
        if text == "Hel":
            upstream.server.release()
            assert upstream.server.wait_for_request().wait_until_ended()  # all is sent, and this loop stands still
            time.sleep(max(0.0, since + idle + longer - time.monotonic()))
    assert heard == ["Hel", "lo"]
    assert stream.outcome is Outcome.COMPLETE


async def test_p15_a_blocked_loop_hides_no_silent_server(upstream: Upstream) -> None:
    """A server that was silent all the while is timed out all the same, soon after the loop goes on."""
    upstream.script(say("Hel"), stall())
    client = AsyncClient(upstream.host, timeout=Timeouts(idle=0.1))
    stream = await client.chat("m", MESSAGES, stream=True)

    async def read() -> None:
        async for _ in stream:
            time.sleep(0.3)

    with pytest.raises(tailrace.TimedOutError) as caught:
        await read()
    assert (caught.value.phase, caught.value.reply.text) == ("idle", "Hel")
    assert await (await upstream.server.await_for_request()).await_until_left()


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """What was never closed says so, and warnings are errors."""
    yield
    gc.collect()
