"""Faults of whole processes: a fork after use (P12), the interpreter's exit in the middle of a stream (P13)."""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.faces import MESSAGES, Upstream

import tailrace
from tailrace import AsyncClient, Client, Outcome, OwnerLostError
from tailrace.testing import hold, say, stall

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    # From Python 3.12 on a fork with threads warns; here that is what is tested.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

GREETING = "Hello! I am a fake model."


def forked(child: Callable[[], Any]) -> Any:
    """Runs a function in a forked child and returns what it returned; fails if the child failed or hung."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            signal.alarm(120)  # a child that hangs ends
            os.close(read)
            told = json.dumps(child()).encode()
            gc.collect()  # what the child drops must not reach the parent's sockets
            os.write(write, told)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return json.loads(told)


# -- P12 -------------------------------------------------------------------------------------------------------------


def _lost(stream: tailrace.ChatStream) -> dict[str, Any]:
    """What a forked child sees of its parent's stream."""
    raised = None
    try:
        stream.wait()
    except OwnerLostError as error:
        raised = error.reply.text
    stream.cancel()
    receipt = stream.cancel(wait=True)
    return {
        "raised": raised,
        "outcome": stream.outcome,
        "events": [type(event).__name__ for event in stream.events()],
        "confirmed": receipt.confirmed,
    }


LOST = {"raised": "Hel", "outcome": "owner_lost", "events": ["TextDelta", "Ended"], "confirmed": False}


def test_p12_fork_after_use(upstream: Upstream) -> None:
    """A client that was used before a fork works in the child, in the child's child, and still in the parent."""
    client = Client(upstream.host)

    def use() -> str:
        client.list()
        return client.chat("m", MESSAGES).message.content or ""

    assert use() == GREETING
    assert forked(use) == GREETING
    assert forked(lambda: [use(), forked(use)]) == [GREETING, GREETING]
    assert use() == GREETING
    assert upstream.server.wait_until_idle()


def test_p12_fork_in_mid_stream(upstream: Upstream) -> None:
    """The child sees that the run's owner is lost to it, whatever it does; the parent's stream goes on untouched."""
    upstream.script(say("Hel"), hold(), say("lo"))
    client = Client(upstream.host)
    stream = client.chat("m", MESSAGES, stream=True)
    chunks = iter(stream)
    assert next(chunks).message.content == "Hel"
    record = upstream.server.wait_for_request()

    assert forked(lambda: _lost(stream)) == LOST
    assert forked(lambda: client.chat("m", MESSAGES).message.content) == GREETING

    assert not record.client_left
    assert stream.reply.outcome is None
    upstream.server.release()
    assert [chunk.message.content for chunk in chunks] == ["lo", ""]
    assert stream.outcome is Outcome.COMPLETE
    assert record.wait_until_ended()
    assert not record.client_left


def test_p12_fork_while_others_wait(upstream: Upstream) -> None:
    """A fork while other threads wait for tokens does them no harm, and the child is not held up by them."""
    upstream.server.always(say("Hel"), hold(), say("lo"))
    client = Client(upstream.host)
    streams = [client.chat("m", MESSAGES, stream=True) for _ in range(4)]
    told: list[str] = []

    def read(stream: tailrace.ChatStream) -> None:
        told.append(stream.wait().text)

    readers = [threading.Thread(target=read, args=(stream,)) for stream in streams]
    for reader in readers:
        reader.start()
    for n in range(1, 5):
        assert upstream.server.wait_for_request(n).wait_until_phase("holding")

    models = forked(lambda: [model.model for model in client.list().models])
    assert len(models) == 1

    upstream.server.release(count=4)
    for reader in readers:
        reader.join()
    assert told == ["Hello"] * 4


def test_p12_fork_before_the_first_read(upstream: Upstream) -> None:
    """A stream that has not begun belongs to whoever reads it: parent and child each get an answer of their own."""
    stream = Client(upstream.host).chat("m", MESSAGES, stream=True)
    assert forked(lambda: stream.wait().text) == GREETING
    assert stream.wait().text == GREETING
    assert len(upstream.server.requests) == 2


async def test_p12_fork_in_mid_stream_of_asyncio(upstream: Upstream) -> None:
    """The same from a coroutine: the child makes a loop of its own, and the parent's loop is not touched."""
    upstream.script(say("Hel"), hold(), say("lo"))
    client = AsyncClient(upstream.host)
    stream = await client.chat("m", MESSAGES, stream=True)
    assert (await anext(stream)).message.content == "Hel"
    record = await upstream.server.await_for_request()

    async def in_the_child() -> list[Any]:
        raised = None
        try:
            async for _ in stream.text_stream:
                pass
        except OwnerLostError as error:
            raised = error.reply.text
        await stream.cancel(wait=True)
        return [raised, stream.outcome, (await client.chat("m", MESSAGES)).message.content]

    assert forked(lambda: asyncio.run(in_the_child())) == ["Hel", "owner_lost", GREETING]

    assert not record.client_left
    upstream.server.release()
    assert [chunk.message.content async for chunk in stream] == ["lo", ""]
    assert stream.outcome is Outcome.COMPLETE


def test_p12_multiprocessing(upstream: Upstream) -> None:
    """A worker process of multiprocessing that was forked in mid-stream works, ends, and leaves the parent's stream."""
    upstream.script(say("Hel"), hold(), say("lo"))
    client = Client(upstream.host)
    stream = client.chat("m", MESSAGES, stream=True)
    assert next(stream).message.content == "Hel"
    context = multiprocessing.get_context("fork")
    told = context.SimpleQueue()
    worker = context.Process(target=lambda: told.put([_lost(stream), client.chat("m", MESSAGES).message.content]))
    worker.start()
    assert told.get() == [LOST, GREETING]
    worker.join()
    assert worker.exitcode == 0
    upstream.server.release()
    assert [chunk.message.content for chunk in stream] == ["lo", ""]


# -- scripts ---------------------------------------------------------------------------------------------------------


class Program:
    """A Python program that talks to a server, in a process of its own."""

    def __init__(self, source: str, upstream: Upstream, folder: Path) -> None:
        script = folder / "program.py"
        script.write_text("import sys, tailrace\nHOST, M = sys.argv[1], [{'role': 'user', 'content': 'hi'}]\n")
        with script.open("a") as file:
            file.write(textwrap.dedent(source))
        command = [sys.executable, "-W", "error", str(script), upstream.host]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self, code: int = 0, stderr: str = "") -> str:
        """Waits for its end and asserts how it ended; returns what it printed."""
        out, err = self.process.communicate(timeout=120)
        assert (err, self.process.returncode) == (stderr, code)
        return out


@pytest.fixture
def program(upstream: Upstream, tmp_path: Path) -> Iterator[Callable[[str], Program]]:
    """Starts programs."""
    started: list[Program] = []

    def start(source: str) -> Program:
        started.append(Program(source, upstream, tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def test_p12_a_child_that_ends_like_any_program(upstream: Upstream, program: Callable[[str], Program]) -> None:
    """A forked child that goes through the interpreter's whole exit does not touch its parent's stream either."""
    upstream.script(say("Hel"), hold(), say("lo"))
    run = program("""
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of the fork
        stream = tailrace.Client(HOST).chat("m", M, stream=True)
        print(next(stream).message.content, flush=True)
        pid = os.fork()
        if not pid:
            tailrace.Client(HOST).list()
            sys.exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        print(stream.wait().text, flush=True)
    """)
    assert run.process.stdout is not None
    assert [run.process.stdout.readline(), run.process.stdout.readline()] == ["Hel\n", "0\n"]
    record = upstream.server.wait_for_request()
    assert not record.client_left
    upstream.server.release()
    assert run.end() == "Hello\n"
    assert record.completed


# -- P13 -------------------------------------------------------------------------------------------------------------

EXITS = {
    "sync, held": """
        stream = tailrace.Client(HOST).chat("m", M, stream=True)
        next(stream)
    """,
    "sync, exit code": """
        for chunk in tailrace.Client(HOST).chat("m", M, stream=True):
            sys.exit(3)
    """,
    "sync, not begun": """
        tailrace.Client(HOST).list()
        stream = tailrace.Client(HOST).chat("m", M, stream=True)
        stream.__enter__()
    """,
    "sync, in a daemon thread": """
        import threading
        stream = tailrace.Client(HOST).chat("m", M, stream=True)
        next(stream)
        threading.Thread(target=stream.wait, daemon=True).start()
    """,
    "sync, many": """
        client = tailrace.Client(HOST)
        streams = [client.chat("m", M, stream=True) for _ in range(20)]
        for stream in streams:
            next(stream)
        sys.exit(3)
    """,
    "async, held": """
        import asyncio
        kept = []
        async def main():
            stream = await tailrace.AsyncClient(HOST).chat("m", M, stream=True)
            kept.append(stream)
            async for chunk in stream:
                break
        asyncio.run(main())
        assert kept[0].outcome == "cancelled", kept
    """,
    "async, exit code": """
        import asyncio
        async def main():
            async for chunk in await tailrace.AsyncClient(HOST).chat("m", M, stream=True):
                sys.exit(3)
        asyncio.run(main())
    """,
    "async, in a task": """
        import asyncio
        async def read(first):
            async for chunk in await tailrace.AsyncClient(HOST).chat("m", M, stream=True):
                first.set()
        async def main():
            first = asyncio.Event()
            task = asyncio.create_task(read(first))
            await first.wait()
        asyncio.run(main())
    """,
    "both": """
        import asyncio
        stream = tailrace.Client(HOST).chat("m", M, stream=True)
        next(stream)
        async def main():
            stream = await tailrace.AsyncClient(HOST).chat("m", M, stream=True)
            await anext(stream)
            sys.exit(3)
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("name", EXITS)
def test_p13_exit_in_mid_stream(upstream: Upstream, program: Callable[[str], Program], name: str) -> None:
    """A program may end in the middle of a stream: at once, with its own exit code, and without a word on stderr."""
    upstream.server.always(say("Hel"), stall())
    run = program(EXITS[name])
    assert run.end(3 if "sys.exit(3)" in EXITS[name] else 0) == ""
    for record in upstream.server.requests:
        if record.method == "POST":
            assert record.wait_until_left()
    assert upstream.server.wait_until_idle()
    assert any(record.method == "POST" for record in upstream.server.requests) or name == "sync, not begun"


def test_p13_a_thread_that_is_no_daemon_is_waited_for(upstream: Upstream, program: Callable[[str], Program]) -> None:
    """As Python does: a plain thread that reads a stream reads it to its end, although the main thread is through."""
    upstream.script(say("Hel"), hold(), say("lo"))
    run = program("""
        import threading
        stream = tailrace.Client(HOST).chat("m", M, stream=True)
        next(stream)
        threading.Thread(target=lambda: print(stream.wait().text)).start()
    """)
    assert upstream.server.wait_for_request().wait_until_phase("holding", timeout=30)
    upstream.server.release()
    assert run.end() == "Hello\n"


def test_p5_interrupt_of_a_program(upstream: Upstream, program: Callable[[str], Program]) -> None:
    """A program that Ctrl-C ends in the middle of a stream can read what had come, and frees the model."""
    upstream.script(say("Hel"), stall())
    run = program("""
        stream = tailrace.Client(HOST).chat("m", M, stream=True)
        try:
            for chunk in stream:
                print("begun", flush=True)
        except KeyboardInterrupt:
            print(stream.reply.text)
            sys.exit(130)
    """)
    assert run.process.stdout is not None
    assert run.process.stdout.readline() == "begun\n"
    run.process.send_signal(signal.SIGINT)
    assert run.end(130) == "Hel\n"
    assert upstream.server.wait_for_request().wait_until_left()


def test_p5_interrupt_at_exit(upstream: Upstream, program: Callable[[str], Program]) -> None:
    """A second Ctrl-C, while the program waits at its exit for connections to close, ends the wait without a word."""
    upstream.script(say("Hel"), stall())
    run = program("""
        import signal
        from tailrace.client.portal import Portal
        wait = Portal.close
        def close(self):
            signal.raise_signal(signal.SIGINT)
            wait(self)
        Portal.close = close
        stream = tailrace.Client(HOST).chat("m", M, stream=True)
        next(stream)
        sys.exit(130)
    """)
    assert run.end(130) == ""
    assert upstream.server.wait_for_request().wait_until_left()


def test_p17_importing_does_nothing(ollama: Upstream, program: Callable[[str], Program]) -> None:
    """Importing starts no thread, opens no socket, makes no loop and sets up no logging; nor does making a client."""
    run = program("""
        import gc, logging, os, threading, asyncio
        tailrace.Client(HOST), tailrace.AsyncClient(HOST), tailrace.StreamingChat("m"), tailrace.Client()
        print(threading.active_count())
        print([fd for fd in os.listdir("/proc/self/fd") if "socket" in os.path.realpath(f"/proc/self/fd/{fd}")])
        print([value for value in gc.get_objects() if isinstance(value, asyncio.AbstractEventLoop)])
        print(logging.root.handlers, logging.getLogger("tailrace").handlers)
    """)
    assert run.end() == "1\n[]\n[]\n[] []\n"
    assert ollama.server.requests == []
