"""Readers that an exception ends: the model stops at once, whoever keeps the exception, its task or the stream (P19).

The collector is off, and everything is kept alive: reference counts have nothing to say here.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest
from tests.client.wires import MESSAGES, Wire

import tailrace
from tailrace import AsyncClient, Client, Outcome
from tailrace.testing import Record, hold, say, stall

kept: list[object] = []


class BodyError(Exception):
    """What the body of a loop raises."""


@pytest.fixture(params=["ollama", "openai"])
def bare(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A fake server of either wire, while the collector is off."""
    wire = Wire(request.param)
    with wire.server:
        gc.disable()
        try:
            yield wire
        finally:
            gc.enable()
            kept.clear()
    gc.collect()


@pytest.fixture
def wire(bare: Wire) -> Wire:
    """The same, whose model says something and then hangs."""
    bare.server.script(say("[1,"), stall())
    return bare


async def is_stalling(wire: Wire) -> Record:
    """Waits until the model has nothing more to say."""
    record = await wire.server.await_for_request()
    assert await record.await_until_phase("stalling")
    return record


# -- asynchronous: who waits for a token -----------------------------------------------------------------------------

READS: dict[str, Callable[[Any], Any]] = {
    "stream": lambda stream: stream,
    "text_stream": lambda stream: stream.text_stream,
    "events": lambda stream: stream.events(),
    "partial": lambda stream: stream.partial(),
    "tool_calls": lambda stream: stream.tool_calls(),
}


def reading(how: str, name: str, wire: Wire) -> Callable[[], Coroutine[Any, Any, object]]:
    """Returns a program that reads a stream until the model hangs, and keeps it."""
    client = AsyncClient(wire.host)

    async def streamed() -> Any:
        stream = await (
            client.chat("m", MESSAGES, stream=True) if how == "chat" else client.generate("m", "hi", stream=True)
        )
        kept.append(stream)
        return stream

    async def loop() -> None:
        stream = await streamed()
        async for _ in READS[name](stream):
            pass

    async def generator() -> None:
        async def words() -> AsyncIterator[object]:
            stream = await streamed()
            async for word in READS[name](stream):
                yield word

        body = words()
        kept.append(body)
        async for _ in body:
            pass

    async def nexts() -> None:
        stream = await streamed()
        while True:
            await anext(stream)

    async def next_and_loop() -> None:
        stream = await streamed()
        kept.append(await anext(stream))
        async for _ in stream:
            pass

    async def wait() -> None:
        await (await streamed()).wait()

    async def whole() -> None:
        await (client.chat("m", MESSAGES) if how == "chat" else client.generate("m", "hi"))

    special = {"wait": wait, "whole": whole, "generator": generator, "nexts": nexts, "next and loop": next_and_loop}
    if name == "generator":
        name = "stream"  # what the generator reads
        return generator
    return special.get(name, loop)


async def cancelled(read: Callable[[], Coroutine[Any, Any, object]], wire: Wire) -> None:
    task = asyncio.ensure_future(read())
    kept.append(task)
    await is_stalling(wire)
    task.cancel()
    await asyncio.wait({task})


async def in_a_task_group(read: Callable[[], Coroutine[Any, Any, object]], wire: Wire) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await is_stalling(wire)
        group.cancel_scope.cancel()


async def in_a_scope(read: Callable[[], Coroutine[Any, Any, object]], wire: Wire) -> None:
    with anyio.CancelScope() as scope:

        async def cancel() -> None:
            await is_stalling(wire)
            scope.cancel()

        kept.append(asyncio.ensure_future(cancel()))
        try:
            await read()
        except BaseException as error:
            kept.append(error)
            raise


async def out_of_time(read: Callable[[], Coroutine[Any, Any, object]], wire: Wire) -> None:
    try:
        async with asyncio.timeout(None) as limit:

            async def cancel() -> None:
                await is_stalling(wire)
                limit.reschedule(0)

            kept.append(asyncio.ensure_future(cancel()))
            await read()
    except TimeoutError as error:
        kept.append(error)


ENDS = {"task": cancelled, "task group": in_a_task_group, "scope": in_a_scope, "timeout": out_of_time}


@pytest.mark.parametrize("name", [*READS, "wait", "whole", "generator", "nexts", "next and loop"])
@pytest.mark.parametrize("how", ["chat", "generate"])
async def test_p19_a_task_that_waits(wire: Wire, how: str, name: str) -> None:
    """A task that waits for a token, in whatever way, and is cancelled stops the model, though all of it is kept."""
    if how == "generate" and name == "tool_calls":
        name = "text_stream"
    await cancelled(reading(how, name, wire), wire)

    assert await (await wire.server.await_for_request()).await_until_left()


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ["stream", "generator", "wait"])
async def test_p19_every_cancel(wire: Wire, name: str, end: str) -> None:
    """Whatever cancels, asyncio's or anyio's: the model stops."""
    await ENDS[end](reading("chat", name, wire), wire)

    assert await (await wire.server.await_for_request()).await_until_left()


# -- asynchronous: who is elsewhere ----------------------------------------------------------------------------------


async def sending(stream: Any, name: str, send: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Reads, and sends what comes."""
    async for _ in READS[name](stream):
        await send()


@pytest.mark.parametrize("name", ["stream", "text_stream", "events", "partial"])
@pytest.mark.parametrize("end", ["cancel", "error", "caught error", "timeout"])
async def test_p19_in_the_body_of_a_loop(wire: Wire, name: str, end: str) -> None:
    """What ends a loop in its body stops the model: also if the same task catches it, and goes on."""
    stream = await AsyncClient(wire.host).chat("m", MESSAGES, stream=True)
    sent = asyncio.Event()
    limits: list[asyncio.Timeout] = []

    async def send() -> None:
        await is_stalling(wire)
        sent.set()
        for limit in limits:
            limit.reschedule(0)
        if "error" in end:
            raise BodyError
        await asyncio.Event().wait()

    async def read() -> None:
        if end == "timeout":
            try:
                async with asyncio.timeout(None) as limit:
                    limits.append(limit)
                    await sending(stream, name, send)
            except TimeoutError as error:
                kept.append(error)
        elif end == "caught error":
            try:
                await sending(stream, name, send)
            except BodyError as error:
                kept.append(error)
            await (await wire.server.await_for_request()).await_until_left()
        else:
            await sending(stream, name, send)

    task = asyncio.ensure_future(read())
    kept.extend((task, stream))
    await is_stalling(wire)
    if end == "cancel":
        await sent.wait()
        task.cancel()
    await asyncio.wait({task})

    assert await (await wire.server.await_for_request()).await_until_left()
    assert stream.outcome is Outcome.CANCELLED
    if end == "error":
        assert isinstance(task.exception(), BodyError)


@pytest.mark.parametrize("end", ["cancel", "swallowed cancel", "error"])
async def test_p19_a_generator_whose_reader_is_elsewhere(wire: Wire, end: str) -> None:
    """A task that iterates over an async generator over the stream, and is ended while it sends, stops the model."""
    stream = await AsyncClient(wire.host).chat("m", MESSAGES, stream=True)
    sent = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        async for text in stream.text_stream:
            yield text

    body = words()  # as a response keeps it

    async def respond() -> None:
        async for _ in body:
            sent.set()
            if end == "error":
                raise BodyError
            await asyncio.Event().wait()

    async def serve() -> None:
        try:
            await respond()
        except asyncio.CancelledError as error:
            kept.append(error)
            if end == "cancel":
                raise

    task = asyncio.ensure_future(serve())
    kept.extend((task, body, stream))
    await sent.wait()
    if end != "error":
        task.cancel()
    await asyncio.wait({task})

    assert await (await wire.server.await_for_request()).await_until_left()
    assert [text async for text in body] == []


async def test_p19_a_generator_that_another_task_closes(wire: Wire) -> None:
    """An async generator that is closed, by whomever, stops the model, though its stream is in a registry."""
    stream = await AsyncClient(wire.host).chat("m", MESSAGES, stream=True)
    kept.append(stream)

    async def words() -> AsyncIterator[str]:
        async for text in stream.text_stream:
            yield text

    body: Any = words()
    assert await anext(body) == "[1,"
    await asyncio.ensure_future(body.aclose())

    assert await (await wire.server.await_for_request()).await_until_left()


# -- asynchronous: who else reads ------------------------------------------------------------------------------------


async def test_p19_the_last_reader_counts(wire: Wire) -> None:
    """A reader that is cancelled leaves the others be; the last one stops the model."""
    stream = await AsyncClient(wire.host).chat("m", MESSAGES, stream=True)
    first = asyncio.ensure_future(stream.wait())
    second = asyncio.ensure_future(sending(stream, "stream", lambda: asyncio.sleep(0)))
    kept.extend((first, second, stream))
    record = await is_stalling(wire)
    first.cancel()
    await asyncio.wait({first})
    await AsyncClient(wire.host).list()
    assert not record.client_left
    second.cancel()

    assert await record.await_until_left()


async def test_a_task_may_leave_the_rest_to_another(bare: Wire) -> None:
    """A task that has read some and ends well hands its place on: whoever takes it up gets the rest."""
    bare.server.script(say("a"), hold(), say("b"))
    stream = await AsyncClient(bare.host).chat("m", MESSAGES, stream=True)
    texts = aiter(stream.text_stream)

    async def first() -> str:
        return await anext(texts)

    assert await asyncio.ensure_future(first()) == "a"
    bare.server.release()
    assert [text async for text in texts] == ["b"]
    assert stream.outcome is Outcome.COMPLETE


async def test_a_loop_that_is_left_in_order_stops_nothing(bare: Wire) -> None:
    """After `break`, `return` or a plain `anext` the stream can be read on, as long as somebody has it."""
    bare.server.script(say("a"), hold(), say("b"))
    stream = await AsyncClient(bare.host).chat("m", MESSAGES, stream=True)

    async def returns() -> str:
        async for text in stream.text_stream:
            return text
        return ""

    async for _ in stream:
        break
    assert await returns() == "a"
    assert await anext(aiter(stream.text_stream)) == "a"
    bare.server.release()
    assert (await stream.wait()).text == "ab"


async def test_a_handed_over_run_is_not_stopped(bare: Wire) -> None:
    """Whoever took the run over decides: a reader that is cancelled does not."""
    bare.server.script(say("a"), hold(), say("b"))
    stream = await AsyncClient(bare.host).chat("m", MESSAGES, stream=True)
    run = stream.hand_over()
    task = asyncio.ensure_future(stream.wait())
    await bare.server.await_for_request()
    task.cancel()
    await asyncio.wait({task})
    bare.server.release()

    assert [text async for text in stream.text_stream] == ["a", "b"]
    assert run.ended is not None
    assert run.ended.outcome is Outcome.COMPLETE


async def test_a_failed_task_is_still_reported(wire: Wire) -> None:
    """Looking at how a task ended does not hide its exception from asyncio's report."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    stream = await AsyncClient(wire.host).chat("m", MESSAGES, stream=True)

    async def fail() -> None:
        raise BodyError

    task = asyncio.ensure_future(sending(stream, "stream", fail))
    await asyncio.wait({task})
    assert await (await wire.server.await_for_request()).await_until_left()
    del task, fail
    gc.collect()
    assert [report["message"] for report in reports] == ["Task exception was never retrieved"]


# -- synchronous -----------------------------------------------------------------------------------------------------


def loops(stream: Any, name: str) -> None:
    """Reads until the body fails, with the stream in a variable of its own."""
    for _ in READS[name](stream):
        raise BodyError


def nested(stream: Any, name: str) -> None:
    for n, _ in enumerate(READS[name](stream)):
        for _ in itertools.count(n):
            raise BodyError


def in_a_with(stream: Any, name: str) -> None:
    with contextlib.ExitStack():
        for _ in READS[name](stream):
            try:
                [].pop()
            finally:
                kept.append(stream)


def next_and_for(stream: Any, name: str) -> None:
    next(iter(READS[name](stream)))
    for _ in READS[name](stream):
        raise BodyError


@pytest.mark.parametrize("name", ["stream", "text_stream", "events", "partial"])
@pytest.mark.parametrize("body", [loops, nested, in_a_with, next_and_for])
def test_p19_an_exception_in_a_loop(wire: Wire, name: str, body: Callable[[Any, str], None]) -> None:
    """An exception that leaves a loop stops the model, though its traceback and the stream are kept."""
    stream = Client(wire.host).chat("m", MESSAGES, stream=True)
    kept.append(stream)
    try:
        body(stream, name)
    except (BodyError, IndexError) as error:
        kept.append(error)

    assert wire.server.wait_for_request().wait_until_left()
    assert stream.outcome is Outcome.CANCELLED


def test_p19_a_break_in_a_for_after_next(bare: Wire) -> None:
    """The `for` that goes on with `next` ends both when its body fails."""
    stream = Client(bare.host).generate("m", "hi", stream=True)
    bare.server.script(say("a", "b"), stall())
    next(stream)
    try:
        for _ in stream:
            raise BodyError
    except BodyError as error:
        kept.extend((error, stream))

    assert bare.server.wait_for_request().wait_until_left()


def test_a_loop_that_is_left_in_order_stops_nothing_sync(bare: Wire) -> None:
    """After `break`, `return`, `next`, `zip`, `islice` or a dropped generator the stream can be read on."""
    bare.server.script(say("a"), hold(), say("b"))
    stream = Client(bare.host).chat("m", MESSAGES, stream=True)

    def returns() -> str:
        for text in stream.text_stream:
            return text
        return ""

    for _ in stream:
        break
    assert returns() == "a"
    assert next(text for text in stream.text_stream if text) == "a"
    assert list(itertools.islice(stream.text_stream, 1)) == ["a"]
    for text, _ in zip(stream.text_stream, "x", strict=False):
        assert text == "a"
        break
    bare.server.release()
    assert stream.wait().text == "ab"


def test_p19_another_thread_reads_on(bare: Wire) -> None:
    """An exception in one thread's loop leaves the reader on another thread be."""
    bare.server.script(say("a"), hold(), say("b"))
    stream = Client(bare.host).chat("m", MESSAGES, stream=True)
    seen, heard = threading.Event(), list[str]()

    def read() -> None:
        for text in stream.text_stream:
            heard.append(text)
            seen.set()

    thread = threading.Thread(target=read)
    thread.start()
    assert seen.wait(60)
    with pytest.raises(BodyError):
        loops(stream, "stream")
    bare.server.release()
    thread.join()
    assert heard == ["a", "b"]


async def test_p19_a_thread_that_a_cancelled_task_waits_for(wire: Wire) -> None:
    """A synchronous reader in a thread of anyio's is freed when the task that waits for it is cancelled."""
    stream = Client(wire.host).chat("m", MESSAGES, stream=True)
    kept.append(stream)

    waits = threading.Event()

    def words() -> Iterator[str]:
        for text in stream.text_stream:
            yield text
            waits.set()

    body = words()

    async def respond() -> None:
        while True:
            await anyio.to_thread.run_sync(next, body)

    async with anyio.create_task_group() as group:
        group.start_soon(respond)
        assert await asyncio.to_thread(waits.wait, 60)
        group.cancel_scope.cancel()

    record = await wire.server.await_for_request()

    assert await record.await_until_left()
    assert isinstance(stream, tailrace.ChatStream)
