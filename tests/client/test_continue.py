"""`continue_chat` and `continue_`: an answer goes on after every ending but one, and only what is new comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tailrace
from tailrace import AsyncClient, Client, errors
from tailrace.testing import FakeModel, FakeOllama, Step, done, error, fin, hold, rst, say, think, tool_call

USER = {"role": "user", "content": "Count."}


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=[FakeModel("m", template="{{ range .Messages }}{{ .Content }}{{ end }}")]) as server:
        yield server


def messages(server: FakeOllama) -> list[Any]:
    """What was asked, request by request."""
    return [record.json["messages"] for record in server.requests if record.path == "/api/chat"]


def sync(url: str, scripts: Callable[[], bool]) -> list[str]:
    """Reads an answer, continues it as long as there is a script, and returns what came each time."""
    stream: Any = Client(url).chat("m", [USER], stream=True)
    said = []
    while True:
        try:
            for text in stream.text_stream:
                if text == "STOP":
                    stream.cancel()
        except errors.TailraceError:
            pass
        said.append(stream.reply.text)
        if not scripts():
            return said
        stream = stream.continue_()


async def asynchronous(url: str, scripts: Callable[[], bool]) -> list[str]:
    stream: Any = await AsyncClient(url).chat("m", [USER], stream=True)
    said = []
    while True:
        try:
            async for text in stream.text_stream:
                if text == "STOP":
                    stream.cancel()
        except errors.TailraceError:
            pass
        said.append(stream.reply.text)
        if not scripts():
            return said
        stream = stream.continue_() if len(said) % 2 else await stream.continue_()


@pytest.mark.parametrize("face", ["sync", "async"])
@pytest.mark.parametrize(
    "ending",
    [(done("length"),), (rst(),), (fin(),), (error("out of memory"),), (say("STOP"), hold())],
    ids=["length", "truncated", "no-last-record", "failed", "cancelled"],
)
def test_every_ending_can_be_continued(server: FakeOllama, face: str, ending: tuple[Step, ...]) -> None:
    """Cut twice, an answer goes on from all that there is of it, and each stream yields what is new."""
    left = [(say("One, "), *ending), (say("two, "), *ending), (say("three."), done())]
    for script in left:
        server.script(*script)
    rounds = iter(range(2))

    def more() -> bool:
        return next(rounds, None) is not None

    said = sync(server.url, more) if face == "sync" else asyncio.run(asynchronous(server.url, more))

    assert "".join(said).replace("STOP", "") == "One, two, three."
    assert [each[1:] for each in messages(server)] == [
        [],
        [{"role": "assistant", "content": said[0]}],
        [{"role": "assistant", "content": said[0] + said[1]}],
    ]


def test_thinking_goes_on(server: FakeOllama) -> None:
    """Thoughts are part of what is continued."""
    server.script(think("Hm. "), say("One"), done("length"))
    server.script(say(", two"))
    stream = Client(server.url).chat("m", [USER], stream=True, think=True)
    stream.wait()
    rest = stream.continue_().wait()

    assert rest.text == ", two"
    assert messages(server)[1][1] == {"role": "assistant", "content": "One", "thinking": "Hm. "}


def test_what_cannot_be_continued(server: FakeOllama) -> None:
    """A complete answer, one that goes on, one that ended with calls: each is refused before anything is sent."""
    client = Client(server.url)
    server.script(say("One"), done())
    complete = client.chat("m", [USER], stream=True)
    complete.wait()
    server.script(tool_call("f", {}), done("length"))
    called = client.chat("m", [USER], stream=True)
    called.wait()
    server.script(say("One"), hold())
    with client.chat("m", [USER], stream=True) as running:
        next(running)
        for stream, words in ((complete, "complete"), (called, "calls of tools"), (running, "not over")):
            with pytest.raises(errors.RequestError, match=words):
                stream.continue_()
    count = len(server.requests)
    given: list[Any] = [
        [],
        [USER],
        [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}],
    ]
    for conversation in given:
        with pytest.raises(errors.RequestError, match="messages"):
            client.continue_chat("m", conversation)
    assert len(server.requests) == count


def test_continue_chat(server: FakeOllama) -> None:
    """The conversation with the partial answer, as dicts or as `reply.message`; whole or as a stream."""
    client = Client(server.url)
    server.script(say("One"), fin())
    with pytest.raises(errors.TruncatedError) as caught:
        client.chat("m", [USER])
    assert caught.value.reply is not None
    for _ in range(3):
        server.script(say(", two"))
    whole = client.continue_chat("m", [USER, caught.value.reply.message])
    stream = client.continue_chat("m", [USER, {"role": "assistant", "content": "One"}], stream=True)
    named = client.continue_chat([USER, {"role": "assistant", "content": "One"}], options={"seed": 1})

    assert (whole.message.content, whole.done, "".join(stream.text_stream)) == (", two", True, ", two")
    assert named.message.content == ", two"
    assert messages(server)[1:] == [[USER, {"role": "assistant", "content": "One"}]] * 3


async def test_continue_chat_asynchronously(server: FakeOllama) -> None:
    """The same on an event loop."""
    client = AsyncClient(server.url)
    for _ in range(2):
        server.script(say(", two"))
    given = [USER, {"role": "assistant", "content": "One"}]
    whole = await client.continue_chat("m", given)
    stream = await client.continue_chat("m", given, stream=True)

    assert (whole.message.content, [text async for text in stream.text_stream]) == (", two", [", two"])


def test_a_stream_of_somebody_elses_run(server: FakeOllama) -> None:
    """It knows no request, and says what to use instead."""
    stream = Client(server.url).chat("m", [USER], stream=True)
    with pytest.raises(errors.RequestError, match="does not know its request"):
        tailrace.ChatStream(stream._run).continue_()
