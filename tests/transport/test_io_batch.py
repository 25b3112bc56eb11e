"""Batches: what came together is read, worked on and written together, in order, and one stream's bug is its own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from tailrace.transport.connection import Connection
from tailrace.transport.io_batch import IOBatch, batch_of, start_batching

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def test_all_work_comes_before_all_writes() -> None:
    """Each in the order in which it came; what is written elsewhere is written at once."""
    batch = IOBatch(asyncio.get_running_loop())
    done: list[str] = []

    def write(data: bytes) -> None:
        done.append(f"write {data.decode()}")

    def work(data: bytes) -> None:
        done.append(f"work {data.decode()}")
        batch.write(write, data)

    batch.later(work, b"a")
    batch.later(work, b"b")
    assert done == []
    await asyncio.sleep(0)

    assert done == ["work a", "work b", "write a", "write b"]
    batch.write(write, b"c")
    assert done[4:] == ["write c"]


async def test_what_has_to_come_before_something_else() -> None:
    """It is dealt with when that is asked for, and not again."""
    batch = IOBatch(asyncio.get_running_loop())
    done: list[bytes] = []
    batch.later(done.append, b"a")
    batch.deal()
    batch.later(done.append, b"b")
    assert done == [b"a"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert done == [b"a", b"b"]


async def test_a_bug_is_one_streams_own() -> None:
    """It is told to the loop, and the others go on."""
    loop = asyncio.get_running_loop()
    batch = IOBatch(loop)
    told: list[BaseException] = []
    done: list[bytes] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    def work(data: bytes) -> None:
        batch.write(fail if data == b"b" else done.append, data)

    for step in ((work, b"a"), (fail, b""), (work, b"b"), (work, b"c")):
        batch.later(*step)
    await asyncio.sleep(0)

    assert done == [b"a", b"c"]
    assert [type(error) for error in told] == [ZeroDivisionError, ZeroDivisionError]


async def test_only_where_they_are_taken() -> None:
    """A loop has batches from when it was told to; another has none."""
    loop = asyncio.get_running_loop()
    assert batch_of(loop) is None
    start_batching()
    batch = batch_of(loop)
    start_batching()

    assert batch is not None
    assert batch_of(loop) is batch


class Nowhere(asyncio.Transport):
    """A transport that goes nowhere."""

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        pass


@pytest.mark.parametrize("end", ["whole", "closed", "lost", "much"])
async def test_an_answer_is_in_order(end: str) -> None:
    """Little waits for the end of the turn; more, and the end of the connection, come behind it all the same."""
    start_batching()
    connection = Connection("the server")
    connection.connection_made(Nowhere())
    taken: list[bytes] = []
    connection.data_received(HEAD)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:

        async def deliver() -> None:
            with contextlib.suppress(Exception):
                await connection.deliver(lambda data: taken.append(data) or not data)  # type: ignore[func-returns-value]

        group.create_task(deliver())
        await asyncio.sleep(0)
        connection.data_received(frame(b"a"))
        connection.data_received(frame(b"b"))
        assert taken == []
        if end == "whole":
            connection.data_received(b"0\r\n\r\n")
        elif end == "closed":
            connection.eof_received()
        elif end == "lost":
            connection.connection_lost(None)
        else:
            connection.data_received(frame(b"c" * 20_000))
            assert taken == [b"a", b"b", b"c" * 20_000]
            connection.data_received(b"0\r\n\r\n")

    assert b"".join(taken) == b"ab" + (b"c" * 20_000 if end == "much" else b"")
    assert connection.over
