"""`StreamingChat.continue_`: the last answer goes on, and joins the history as one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace import AsyncClient, AsyncStreamingChat, Client, StreamingChat, errors
from tailrace.testing import FakeModel, FakeOllama, done, fin, say, think, tool_call

OPEN = "{{ range .Messages }}{{ .Content }}{{ end }}"


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=[FakeModel("m", template=OPEN)]) as server:
        yield server


class Face:
    """A conversation, synchronous or not."""

    def __init__(self, server: FakeOllama, asynchronous: bool, **rest: Any) -> None:
        self.printed: list[str] = []
        rest = {"print": self.printed.append, **rest}
        self.chat: Any
        if asynchronous:
            self.chat = AsyncStreamingChat("m", client=AsyncClient(server.url), **rest)
        else:
            self.chat = StreamingChat("m", client=Client(server.url), **rest)
        self._run: Any = asyncio.run if asynchronous else lambda value: value

    def send(self, text: str) -> Any:
        return self._run(self.chat.send(text))

    def go_on(self) -> Any:
        return self._run(self.chat.continue_())


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_broken_answer_goes_on(server: FakeOllama, asynchronous: bool) -> None:
    """What is new is printed and returned; the history has one answer, marked until it is complete."""
    server.script(think("Hm."), say("One, "), fin())
    server.script(say("two, "), done("length"))
    server.script(say("three."), done())
    face = Face(server, asynchronous)
    with pytest.raises(errors.TruncatedError):
        face.send("Count.")
    broken = face.chat.messages[-1]
    del face.printed[:]
    second = face.go_on()
    limited = (face.chat.messages[-1], face.chat.interrupted)
    third = face.go_on()

    assert broken == {"role": "assistant", "content": "One, ", "thinking": "Hm.", "interrupted": "truncated"}
    assert (second, third) == ("two, ", "three.")
    assert limited == (broken | {"content": "One, two, ", "interrupted": "length"}, True)
    assert face.chat.messages == [
        {"role": "user", "content": "Count."},
        {"role": "assistant", "content": "One, two, three.", "thinking": "Hm."},
    ]
    assert ("".join(face.printed), face.chat.interrupted) == ("two, \nthree.\n", False)
    with pytest.raises(errors.RequestError, match="complete"):
        face.go_on()


def test_a_rest_that_fails_leaves_the_answer(server: FakeOllama, asynchronous: bool) -> None:
    """What there was is still in the history, marked, and can be tried again."""
    server.script(say("One, "), done("length"))
    server.script(fin())
    server.script(say("two."), done())
    face = Face(server, asynchronous)
    face.send("Count.")
    before = list(face.chat.messages)
    with pytest.raises(errors.TailraceError):
        face.go_on()
    assert before == face.chat.messages
    face.go_on()

    assert face.chat.messages[-1] == {"role": "assistant", "content": "One, two."}


def test_a_rest_that_calls_tools(server: FakeOllama, asynchronous: bool) -> None:
    """The rest may call tools, and the turn goes on as any other."""

    def add(a: int, b: int) -> int:
        """Adds."""
        return a + b

    server.script(say("Let me "), done("length"))
    server.script(say("see."), tool_call("add", {"a": 1, "b": 2}), done())
    server.script(say("Three."), done())
    face = Face(server, asynchronous, tools=[add])
    face.send("1 + 2?")
    assert face.go_on() == "Three."

    assert [(message["role"], message["content"]) for message in face.chat.messages] == [
        ("user", "1 + 2?"),
        ("assistant", "Let me see."),
        ("tool", "3"),
        ("assistant", "Three."),
    ]


def test_a_loaded_conversation_goes_on(server: FakeOllama, tmp_path: Path) -> None:
    """The mark is kept in the file."""
    server.script(say("One, "), done("length"))
    server.script(say("two."), done())
    face = Face(server, False)
    face.send("Count.")
    face.chat.save(tmp_path / "chat.json")
    again = StreamingChat.load(tmp_path / "chat.json", client=Client(server.url), print=lambda _: None)

    assert (again.continue_(), again.messages[-1]["content"]) == ("two.", "One, two.")


def test_nothing_to_continue(server: FakeOllama) -> None:
    """An empty conversation."""
    with pytest.raises(errors.RequestError, match="nothing to continue"):
        StreamingChat("m", client=Client(server.url)).continue_()
