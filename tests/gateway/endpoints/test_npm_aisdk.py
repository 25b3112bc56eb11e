"""The AI SDK's own chat and transport against the gateway: the strictest version, the last 5 and 6, and the newest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.clients.node import Script, installed, script
from tests.gateway.renewed import Renewed, renewed
from tests.protocols.answers import RUNS, golden
from tests.web.reader import Reader

from tailrace.events import Ended
from tailrace.protocols.event_json import ending_text
from tailrace.run.reply import Reply, fold
from tailrace.testing import FakeOllama, error, fin, hold, say, slow_load, stall, think, tool_call

VERSIONS = ["ai50", "ai5", "ai6", "ai7"]  # 5.0 refuses a part with a member that it does not know


@pytest.fixture(scope="module")
def served() -> Iterator[Renewed]:
    with renewed("--linger", "60") as one:
        yield one


@pytest.fixture
def fake(served: Renewed) -> Iterator[FakeOllama]:
    with served.upstream() as server:
        yield server


@pytest.fixture(scope="module", params=VERSIONS)
def page(served: Renewed, test_home: Path, request: pytest.FixtureRequest) -> Iterator[Script]:
    """A script that has one chat at a time, as a page has."""
    with script(installed(test_home), "chat.mjs", request.param, f"{served.url}/ai/chat") as one:
        assert one.hear() == "ready"
        yield one


@pytest.fixture
def chat(page: Script, request: pytest.FixtureRequest) -> Script:
    """A page with a chat that nobody had before."""
    page.ask("begin", id=request.node.name, body={"model": "m"})
    return page


def shown(message: Any) -> list[tuple[str, Any]]:
    """The kinds and texts of a message's parts."""
    return [(part["type"], part.get("text")) for part in message["parts"]]


def test_a_message(fake: FakeOllama, chat: Script) -> None:
    """An answer with reasoning becomes a message, whose parts are done, and whose end is told."""
    fake.script(think("H", "m."), say("Hel", "lo"))

    told = chat.ask("send", text="hi")

    message = told["messages"][1]
    assert shown(message) == [("step-start", None), ("reasoning", "Hm."), ("text", "Hello")]
    assert [part.get("state") for part in message["parts"]] == [None, "done", "done"]
    assert (message["role"], message["metadata"]["finishReason"]) == ("assistant", "stop")
    assert (told["status"], told["error"]) == ("ready", None)


def test_a_conversation(fake: FakeOllama, chat: Script) -> None:
    """What was said goes back with the next question, and asking again takes the place of an answer."""
    fake.script(say("one"))
    fake.script(say("two"))
    fake.script(say("three"))

    chat.ask("send", text="hi")
    chat.ask("send", text="and?")
    told = chat.ask("regenerate")

    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "user", "assistant"]
    assert shown(told["messages"][3])[-1] == ("text", "three")
    assert fake.requests[-1].json["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "and?"},
    ]


def test_coming_back(fake: FakeOllama, chat: Script, request: pytest.FixtureRequest) -> None:
    """A page that is loaded anew in the middle of an answer has all of it in the end, and the model was not stopped."""
    fake.script(say("Hel"), hold(), say("lo"))
    chat.tell("send", text="hi")
    chat.tell("until", text="Hel")
    before = chat.hear()["messages"]

    chat.ask("begin", id=request.node.name, messages=before[:1], body={"model": "m"})
    chat.tell("resume")
    chat.tell("until", text="Hel")
    assert shown(chat.hear()["messages"][1])[-1] == ("text", "Hel")
    fake.release()
    # The page that was left still reads in this process: its answer and the new one's come in any order.
    ends = [chat.hear(), chat.hear()]

    for told in ends:
        assert shown(told["messages"][1]) == [("step-start", None), ("text", "Hello")]
    assert not fake.requests[-1].client_left


def test_coming_back_with_a_part_of_it(fake: FakeOllama, chat: Script, request: pytest.FixtureRequest) -> None:
    """A page that has a part of the answer already has it written anew; but 5.0 puts it behind that part."""
    fake.script(say("Hel"), hold(), say("lo"))
    chat.tell("send", text="hi")
    chat.ask("until", text="Hel")
    chat.tell("stop")
    assert shown(chat.hear()["messages"][1])[-1] == ("text", "Hel")

    chat.tell("resume")
    fake.release()
    told = chat.hear()

    part, whole = [("step-start", None), ("text", "Hel")], [("step-start", None), ("text", "Hello")]
    assert [message["role"] for message in told["messages"]] == ["user", "assistant"]
    assert shown(told["messages"][1]) == ([*part, *whole] if "ai50" in request.node.name else whole)


def test_nothing_to_come_back_to(fake: FakeOllama, chat: Script) -> None:
    """Where nothing is under way, coming back changes nothing."""
    fake.script(say("Hello"))
    before = chat.ask("send", text="hi")

    told = chat.ask("resume")

    assert (told["messages"], told["error"]) == (before["messages"], None)


def test_leaving_is_no_stop(served: Renewed, fake: FakeOllama, chat: Script, request: pytest.FixtureRequest) -> None:
    """The chat's own stop only leaves; the server's stops the model, and there is nothing to come back to."""
    fake.script(say("Hel"), stall())
    chat.tell("send", text="hi")
    chat.ask("until", text="Hel")
    chat.tell("stop")
    told = chat.hear()
    assert (told["status"], shown(told["messages"][1])[-1]) == ("ready", ("text", "Hel"))
    assert not fake.requests[-1].client_left

    with Reader(served.url, f"/ai/chat/{request.node.name}/stop") as stopping:
        assert stopping.json["outcome"] == "cancelled"
    assert fake.requests[-1].wait_until_left()
    assert shown(chat.ask("resume")["messages"][1])[-1] == ("text", "Hel")


def test_a_stop_ends_the_message(
    served: Renewed, fake: FakeOllama, chat: Script, request: pytest.FixtureRequest
) -> None:
    """A stop while the page reads leaves what was said as a whole message, and is no error."""
    fake.script(say("Hel"), stall())
    chat.tell("send", text="hi")
    chat.ask("until", text="Hel")
    with Reader(served.url, f"/ai/chat/{request.node.name}/stream", method="DELETE") as stopping:
        assert stopping.status == 200

    told = chat.hear()

    assert (told["status"], told["error"]) == ("ready", None)
    assert told["messages"][1]["parts"][-1]["text"] == "Hel"
    assert told["messages"][1]["parts"][-1]["state"] == "done"


def test_tools(fake: FakeOllama, page: Script, request: pytest.FixtureRequest) -> None:
    """A call is answered by the page, its result sent back by itself, and the answer goes on in the same message."""
    fake.script(say("Look."), tool_call("weather", {"city": "Oslo"}))
    fake.script(say("It rains."))
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    body = {"model": "m", "tools": tools}
    page.ask("begin", id=request.node.name, body=body, tools={"weather": {"rain": True}}, automatic=True)

    page.tell("send", text="hi")
    page.tell("until", text="It rains.")
    answers = [page.hear(), page.hear()]

    assert all(len(told["messages"]) == 2 for told in answers)
    last = max((told["messages"][1] for told in answers), key=lambda message: len(message["parts"]))
    call = next(part for part in last["parts"] if part["type"] == "tool-weather")
    assert (call["state"], call["input"], call["output"]) == ("output-available", {"city": "Oslo"}, {"rain": True})
    assert fake.requests[-1].json["messages"][1:] == [
        {
            "role": "assistant",
            "content": "Look.",
            "tool_calls": [{"id": call["toolCallId"], "function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
        },
        {"role": "tool", "content": '{"rain":true}', "tool_name": "weather", "tool_call_id": call["toolCallId"]},
    ]


def test_what_it_waits_for(fake: FakeOllama, chat: Script) -> None:
    """What a run waits for reaches onData, and leaves nothing in the message."""
    fake.script(slow_load(), say("Yes"))
    chat.tell("send", text="hi")
    fake.wait_for_request(path="/api/ps")  # after a while of silence the gateway looks
    fake.release("load")
    told = chat.hear()

    assert shown(told["messages"][1]) == [("step-start", None), ("text", "Yes")]
    assert told["data"]
    assert {part["type"] for part in told["data"]} == {"data-status"}


def test_an_unknown_model(fake: FakeOllama, page: Script, request: pytest.FixtureRequest) -> None:
    """The text of a refusal is what the page shows."""
    page.ask("begin", id=request.node.name, body={"model": "none"})

    told = page.ask("send", text="hi")

    assert told["status"] == "error"
    assert "model 'none' not found" in told["error"]


@pytest.mark.parametrize(
    ("step", "why"),
    [(error("model runner has unexpectedly stopped"), "unexpectedly stopped"), (fin(), "closed the stream without")],
    ids=["error", "no final record"],
)
def test_a_failure(fake: FakeOllama, chat: Script, step: Any, why: str) -> None:
    """A message that breaks keeps what was said, and the page shows why."""
    fake.script(say("Hel"), step)

    told = chat.ask("send", text="hi")

    assert told["status"] == "error"
    assert why in told["error"]
    assert shown(told["messages"][1])[-1] == ("text", "Hel")


@pytest.mark.parametrize("name", RUNS)
def test_every_transcript_is_a_message(page: Script, name: str) -> None:
    """The client's own parser takes each transcript that is written down, and makes of it what the run said."""
    stream = golden(f"ui_{name}.sse").decode()
    reply = fold(RUNS[name], Reply())
    failed = [ending_text(end) for end in RUNS[name] if isinstance(end, Ended) and end.fault is not None]

    told = page.ask("parse", stream=stream)

    sent = [line for line in stream.split("\n") if line.startswith("data: ") and line != "data: [DONE]"]
    parts = told["message"]["parts"] if told["message"] is not None else []
    assert len(told["parts"]) == len(sent)
    assert told["errors"] == failed
    assert "".join(part["text"] for part in parts if part["type"] == "text") == reply.text
    assert "".join(part["text"] for part in parts if part["type"] == "reasoning") == reply.thinking
    assert [(part["type"], part["state"], part["input"]) for part in parts if part["type"].startswith("tool-")] == [
        (f"tool-{call.name}", "output-error" if call.invalid else "input-available", call.arguments)
        for call in reply.tool_calls
    ]
