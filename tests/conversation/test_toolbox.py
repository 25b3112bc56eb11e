"""Tools that a conversation lets its model call: rounds, errors, and stops between and inside."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tailrace import AsyncClient, AsyncStreamingChat, Client, StreamingChat, Toolbox, errors
from tailrace.testing import FakeOllama, done, hold, rst, say, tool_call


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


def broken() -> None:
    """Fail."""
    raise ZeroDivisionError("no")


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=["m"]) as server:
        yield server


class Face:
    """A conversation, synchronous or not."""

    def __init__(self, server: FakeOllama, asynchronous: bool, *tools: Any, **rest: Any) -> None:
        self.printed: list[str] = []
        rest = {"tools": tools, "print": self.printed.append, **rest}
        self.chat: Any
        self.send: Callable[[str], str]
        if asynchronous:
            self.chat = AsyncStreamingChat("m", client=AsyncClient(server.url), **rest)
            self.send = lambda text: asyncio.run(self.chat.send(text))
        else:
            self.chat = StreamingChat("m", client=Client(server.url), **rest)
            self.send = self.chat.send

    @property
    def history(self) -> list[tuple[str, str]]:
        return [(message["role"], message["content"]) for message in self.chat.messages]


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def bodies(server: FakeOllama) -> list[Any]:
    return [record.json for record in server.requests if record.path == "/api/chat"]


def test_a_round(server: FakeOllama, asynchronous: bool) -> None:
    """The call is made, its result goes back with the call's id, and the answer that follows is returned."""
    server.script(tool_call("add", {"a": 10, "b": 32}, id="c1"), done()).script(say("It is 42."))
    face = Face(server, asynchronous, add)

    assert face.send("10 + 32?") == "It is 42."
    assert face.history == [("user", "10 + 32?"), ("assistant", ""), ("tool", "42"), ("assistant", "It is 42.")]
    first, second = bodies(server)
    assert first["tools"][0]["function"]["name"] == "add"
    assert second["messages"][-1] == {"role": "tool", "content": "42", "tool_name": "add", "tool_call_id": "c1"}
    assert second["messages"][-2]["tool_calls"][0]["function"]["arguments"] == {"a": 10, "b": 32}


def test_several_calls_and_rounds(server: FakeOllama, asynchronous: bool) -> None:
    """All calls of an answer are made in their order, and the model may call again."""
    server.script(tool_call("add", {"a": 1, "b": 1}), tool_call("add", {"a": 2, "b": 2}), done())
    server.script(tool_call("add", {"a": 2, "b": 4}), done()).script(say("6"))
    face = Face(server, asynchronous, add)

    assert face.send("?") == "6"
    assert [content for role, content in face.history if role == "tool"] == ["2", "4", "6"]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (tool_call("broken", {}), "error: ZeroDivisionError: no"),
        (tool_call("nothing", {}), "error: LookupError: there is no tool called 'nothing'; there are: add, broken"),
        (tool_call("add", {"a": 1}), "error: ValueError: add: missing a required argument: 'b'"),
        (tool_call("add", {"a": 1, "b": 2, "c": 3}), "error: ValueError: add: got an unexpected keyword argument 'c'"),
    ],
)
def test_errors_to_the_model(server: FakeOllama, asynchronous: bool, call: Any, told: str) -> None:
    """A call that fails tells the model why, and the conversation goes on."""
    server.script(call, done()).script(say("Sorry."))
    face = Face(server, asynchronous, add, broken)

    assert face.send("?") == "Sorry."
    assert ("tool", told) in face.history


def test_errors_to_the_caller(server: FakeOllama, asynchronous: bool) -> None:
    """With ``on_error="raise"`` the exception is the cause; no call is left without a result."""
    server.script(tool_call("broken", {}), done())
    face = Face(server, asynchronous, tools=Toolbox([broken], on_error="raise"))

    with pytest.raises(errors.ToolError) as caught:
        face.send("?")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert caught.value.call.name == "broken"
    assert face.history[-1] == ("tool", "stopped before it had a result")
    assert face.chat.messages[1]["interrupted"] == "cancelled"


def test_rounds_are_bounded(server: FakeOllama, asynchronous: bool) -> None:
    """A model that never stops calling is stopped."""
    server.always(tool_call("add", {"a": 1, "b": 1}), done(), path="/api/chat")
    face = Face(server, asynchronous, add, max_rounds=3)

    with pytest.raises(errors.ToolError, match="after 3 rounds"):
        face.send("?")
    assert len(bodies(server)) == 4


def test_without_tools_calls_are_left_to_the_caller(server: FakeOllama, asynchronous: bool) -> None:
    """A conversation that has none makes none."""
    server.script(say("I call."), tool_call("add", {"a": 1, "b": 1}), done())
    face = Face(server, asynchronous)

    assert face.send("?") == "I call."
    assert face.chat.last.tool_calls[0].name == "add"


def test_cancelled_inside_a_tool(server: FakeOllama, asynchronous: bool) -> None:
    """A tool that takes its time is not waited for; the history is whole, and the next turn works."""
    begun, release = threading.Event(), threading.Event()

    def slow() -> str:
        """Take long."""
        begun.set()
        release.wait(30)
        return "late"

    server.script(tool_call("slow", {}), done()).script(say("Fine."))
    face = Face(server, asynchronous, slow)

    def stop() -> None:
        begun.wait(30)
        face.chat.cancel()
        if asynchronous:  # its thread is waited for when the loop closes
            release.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    face.send("?")
    stopper.join()
    release.set()

    assert face.history == [("user", "?"), ("assistant", ""), ("tool", "stopped before it had a result")]
    assert face.chat.messages[1]["interrupted"] == "cancelled"
    assert face.send("And now?") == "Fine."
    sent = bodies(server)[-1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "user"]
    assert not any("interrupted" in message for message in sent)


def test_cancelled_between(server: FakeOllama, asynchronous: bool) -> None:
    """A cancel while the model answers again keeps what there is."""
    server.script(tool_call("add", {"a": 1, "b": 1}), done()).script(say("It "), hold(), say("is 2"))
    face = Face(server, asynchronous, add)
    face.chat._print = lambda text: face.chat.cancel() if text == "It " else None

    assert face.send("?") == "It "
    assert [role for role, _ in face.history] == ["user", "assistant", "tool", "assistant"]
    assert face.chat.messages[-1]["interrupted"] == "cancelled"
    assert server.wait_for_request(2, path="/api/chat").wait_until_left()


def test_a_stream_that_breaks_after_a_round(server: FakeOllama, asynchronous: bool) -> None:
    """What had come is kept, marked, and the error raised."""
    server.script(tool_call("add", {"a": 1, "b": 1}), done()).script(say("It is"), rst())
    face = Face(server, asynchronous, add)

    with pytest.raises(errors.TruncatedError):
        face.send("?")
    assert face.history[-1] == ("assistant", "It is")
    assert face.chat.messages[-1]["interrupted"] == "truncated"


async def test_coroutine_functions(server: FakeOllama) -> None:
    """They are awaited, and cancelled by a stop."""
    begun = asyncio.Event()
    ended: list[str] = []

    async def look() -> str:
        """Look."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")
        return ""

    server.script(tool_call("look", {}), done())
    chat = AsyncStreamingChat("m", client=AsyncClient(server.url), tools=[look], print=lambda _: None)
    sending = asyncio.ensure_future(chat.send("?"))
    await begun.wait()
    chat.cancel()
    await sending

    assert ended == ["ended"]
    assert chat.messages[-1]["content"] == "stopped before it had a result"


async def test_cancelled_by_the_task(server: FakeOllama) -> None:
    """A task that is cancelled inside a tool ends as cancelled, and the tool with it."""
    begun = asyncio.Event()

    async def look() -> None:
        """Look."""
        begun.set()
        await asyncio.Event().wait()

    server.script(tool_call("look", {}), done())
    chat = AsyncStreamingChat("m", client=AsyncClient(server.url), tools=[look], print=lambda _: None)
    sending = asyncio.ensure_future(chat.send("?"))
    await begun.wait()
    sending.cancel()

    with pytest.raises(asyncio.CancelledError):
        await sending
    assert chat.messages[-1]["role"] == "tool"


def test_two_of_one_name() -> None:
    """They could not be told apart."""
    with pytest.raises(errors.RequestError, match="two tools are called add"):
        Toolbox([add, add])


@pytest.mark.parametrize(
    ("result", "text"),
    [("as it is", "as it is"), (1.5, "1.5"), (True, "True"), ({"a": [1]}, '{"a":[1]}'), (None, "null"), (object, None)],
)
def test_results_as_text(server: FakeOllama, result: Any, text: str | None) -> None:
    """Text stays text; what JSON can hold is JSON; anything else is what `str` makes of it."""

    def give() -> Any:
        """Give."""
        return result

    server.script(tool_call("give", {}), done()).script(say("."))
    face = Face(server, False, give)
    face.send("?")

    assert face.history[2] == ("tool", text if text is not None else str(result))
