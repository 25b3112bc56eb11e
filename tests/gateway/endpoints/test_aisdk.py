"""``/ai/chat`` over HTTP: who leaves comes back, who stops stops, and what UI messages become."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.renewed import Renewed, renewed
from tests.web.reader import Reader

from tailrace.protocols.aisdk.requests import run_request_of
from tailrace.testing import FakeOllama, Step, done, error, fin, hold, say, slow_load, stall, status, think, tool_call

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(20)).decode()


@pytest.fixture(scope="module")
def served() -> Iterator[Renewed]:
    with renewed("--linger", "60") as one:
        yield one


@pytest.fixture
def fake(served: Renewed) -> Iterator[FakeOllama]:
    with served.upstream() as server:
        yield server


def user(text: str = "hi", id: str = "u1") -> dict[str, Any]:
    return {"id": id, "role": "user", "parts": [{"type": "text", "text": text}]}


def ask(served: Renewed, chat: str, *messages: Any, **more: Any) -> Reader:
    body = {"id": chat, "messages": list(messages) or [user()], "trigger": "submit-message", "model": "m", **more}
    return Reader(served.url, "/ai/chat", body)


def resume(served: Renewed, chat: str) -> Reader:
    return Reader(served.url, f"/ai/chat/{chat}/stream", method="GET")


def parts(data: bytes) -> list[Any]:
    """The parts of a whole stream, the last word as it is."""
    found = [line.removeprefix("data: ") for line in data.decode().split("\n") if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in found]


def kinds(data: bytes) -> list[str]:
    return [part if part == "[DONE]" else part["type"] for part in parts(data)]


def text(data: bytes) -> str:
    return "".join(part["delta"] for part in parts(data) if part != "[DONE]" and part["type"] == "text-delta")


WHOLE = ["start", "start-step", "text-start", "text-delta", "text-delta", "text-end", "finish-step", "finish", "[DONE]"]


def test_a_message(served: Renewed, fake: FakeOllama) -> None:
    """An answer is a message: its parts in order, its headers those that the client looks for."""
    fake.script(say("Hel", "lo"), done(prompt_eval_count=5, eval_count=2))
    with ask(served, "whole") as reader:
        data = reader.body()

    assert kinds(data) == WHOLE
    assert text(data) == "Hello"
    run = reader.headers["x-run-id"]
    assert (reader.headers["x-vercel-ai-ui-message-stream"], reader.headers["content-type"]) == (
        "v1",
        "text/event-stream; charset=utf-8",
    )
    assert parts(data)[-2]["messageMetadata"] == {
        "runId": run,
        "model": "m",
        "finishReason": "stop",
        "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7},
    }
    with Reader(served.url, f"/runs/{run}/events", method="GET") as other:
        assert [event.type for event in other.all()] == ["text_delta", "text_delta", "ended"]


def test_coming_back(served: Renewed, fake: FakeOllama) -> None:
    """Who leaves and comes back gets the same message from its start, and then what is said; the model goes on."""
    fake.script(say("Hel"), hold(), say("lo"))
    with ask(served, "back") as first:
        begun = first.until(b"Hel")
    with resume(served, "back") as second, resume(served, "back") as third:
        assert second.until(b"Hel").startswith(begun)
        fake.release()
        whole = second.body()
        assert third.body() == whole

    assert kinds(whole) == WHOLE
    assert text(whole) == "Hello"
    assert parts(whole)[0]["messageId"] == f"msg-{first.headers['x-run-id'].removeprefix('run_')}"
    assert second.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert not fake.requests[-1].client_left


def test_nothing_to_come_back_to(served: Renewed, fake: FakeOllama) -> None:
    """A chat that nobody knows, and one whose answer was had to its end, are a 204."""
    fake.script(say("Hello"))
    with ask(served, "over") as reader:
        reader.body()

    for chat in ("over", "unknown"):
        with resume(served, chat) as again:
            assert again.status == 204


def test_an_ending_that_nobody_saw(served: Renewed, fake: FakeOllama) -> None:
    """An answer that ended while nobody was there is told once to who comes back."""
    fake.script(say("Hel"), hold(), say("lo"))
    with ask(served, "missed") as reader:
        reader.until(b"Hel")
        run = reader.headers["x-run-id"]
    fake.release()
    with Reader(served.url, f"/runs/{run}/events", method="GET") as other:
        other.body()

    with resume(served, "missed") as again:
        assert text(again.body()) == "Hello"
    with resume(served, "missed") as again:
        assert again.status == 204


@pytest.mark.parametrize("start", ["/runs", "/v1/chat/completions", "/chat/stream"])
def test_any_run_is_a_message(served: Renewed, fake: FakeOllama, start: str) -> None:
    """A run that another protocol started is read as a message by its own id, while it goes on and later."""
    fake.script(say("Hel"), hold(), say("lo"))
    body = {"messages": [{"role": "user", "content": "hi"}], "model": "m", "stream": True}
    with Reader(served.url, start, body) as first:
        headers = first.headers
        run = headers["location"].rpartition("/")[2] if "location" in headers else headers["x-run-id"]
        with resume(served, run) as second:
            second.until(b"Hel")
            fake.release()
            whole = second.body()
        first.body()
    with resume(served, run) as again:
        assert again.body() == whole

    assert kinds(whole) == WHOLE
    assert text(whole) == "Hello"


def test_what_is_no_longer_kept_comes_as_one_piece() -> None:
    """Who comes back to an answer whose beginning is folded away has all of its text, and then what is said."""
    words = [f"word{number} " for number in range(2000)]
    with renewed("--linger", "60", "--run-bytes", "40000") as small, small.upstream() as server:
        server.script(say(*words[:1000]), hold(), say(*words[1000:]), hold(), say("end"))
        with ask(small, "long") as first:
            first.until(b"word999")
            server.release()  # there is room for either half, and not for both
            path = f"/runs/{first.headers['x-run-id']}"
        shown: dict[str, Any] = {"first": 1, "reply": {"text": ""}}
        while not shown["reply"]["text"].endswith(words[-1]):
            with Reader(small.url, path, method="GET") as showing:
                shown = showing.json
        assert shown["first"] > 1
        with resume(small, "long") as second:
            second.until(b"word1999")
            server.release()
            whole = second.body()

    assert text(whole) == "".join(words) + "end"
    assert kinds(whole).count("text-delta") < 2000


@pytest.mark.parametrize(("method", "path"), [("POST", "stop"), ("DELETE", "stream")])
def test_a_stop(served: Renewed, fake: FakeOllama, method: str, path: str) -> None:
    """A stop frees the model, ends the message for its readers, and answers with what it found out."""
    chat = f"stop-{method}"
    fake.script(say("Hel"), stall())
    with ask(served, chat) as reader:
        reader.until(b"Hel")
        with Reader(served.url, f"/ai/chat/{chat}/{path}", method=method) as stopping:
            assert (stopping.status, stopping.json["outcome"]) == (200, "cancelled")
        assert fake.requests[-1].wait_until_left()
        assert kinds(reader.body())[-3:] == ["text-end", "abort", "[DONE]"]

    with resume(served, chat) as again:
        assert again.status == 204
    with Reader(served.url, f"/ai/chat/{chat}/{path}", method=method) as stopping:
        assert (stopping.status, stopping.json["outcome"]) == (200, "cancelled")


def test_a_stop_of_nothing(served: Renewed) -> None:
    """There is nothing to stop in a chat that nobody knows."""
    with Reader(served.url, "/ai/chat/none/stop") as reader:
        assert (reader.status, reader.body()) == (404, b"no answer of this chat is known")


def test_asking_again_takes_the_place_of_what_nobody_reads(served: Renewed, fake: FakeOllama) -> None:
    """A chat's next question stops the answer before it as soon as nobody reads that; its id leads to the new one."""
    fake.script(say("one"), stall())
    fake.script(say("two"))
    with ask(served, "again") as first:
        first.until(b"one")
        with ask(served, "again") as second:
            assert text(second.body()) == "two"
        assert not fake.requests[0].client_left
    assert fake.requests[0].wait_until_left()


def test_chats_of_others() -> None:
    """A chat belongs to the key that asked: with another one it can be neither read nor stopped, and is its own."""
    keys = ("--api-key", "alice:secret-of-alice", "--api-key", "bob:secret-of-bob")
    alice, bob = ("Authorization: Bearer secret-of-alice\r\n", "Authorization: Bearer secret-of-bob\r\n")
    body = {"id": "same", "messages": [user()], "model": "m"}
    with renewed(*keys) as closed, closed.upstream() as server:
        server.script(say("for Alice"), hold(), say("!"))
        server.script(say("for Bob"))
        with Reader(closed.url, "/ai/chat", body, headers=alice) as hers:
            hers.until(b"Alice")
            with Reader(closed.url, "/ai/chat/same/stream", method="GET", headers=bob) as reader:
                assert reader.status == 204
            with Reader(closed.url, "/ai/chat/same/stop", headers=bob) as stopping:
                assert stopping.status == 404
            with Reader(closed.url, "/ai/chat", body, headers=bob) as his:
                assert text(his.body()) == "for Bob"
            server.release()
            assert text(hers.body()) == "for Alice!"


def test_what_it_waits_for(served: Renewed, fake: FakeOllama) -> None:
    """While a model loads, the message has not begun, but its client is told."""
    fake.script(slow_load(), say("Yes"))
    with ask(served, "waiting") as reader:
        reader.until(b"data-status")
        fake.release("load")
        told = [part for part in parts(reader.body()) if part != "[DONE]"]

    states = [part["data"]["state"] for part in told if part["type"] == "data-status"]
    assert states[0] in ("loading", "prefill")
    assert all(part["transient"] for part in told if part["type"] == "data-status")
    assert [part["type"] for part in told[len(states) :]] == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]


# -- what is asked -----------------------------------------------------------------------------------------------------


def call(state: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool-weather", "toolCallId": "c1", "state": state, "input": {"city": "Oslo"}, **more}


CALLED = {"id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
RESULT = {"role": "tool", "tool_name": "weather", "tool_call_id": "c1"}
ASKED: dict[str, tuple[list[Any], list[Any]]] = {
    "text": (
        [{"type": "step-start"}, {"type": "text", "text": "He", "state": "done"}, {"type": "text", "text": "llo"}],
        [{"role": "assistant", "content": "Hello"}],
    ),
    "reasoning": (
        [{"type": "reasoning", "text": "Hm."}, {"type": "text", "text": "Yes"}],
        [{"role": "assistant", "content": "Yes", "thinking": "Hm."}],
    ),
    "steps": (
        [{"type": "text", "text": "a"}, {"type": "step-start"}, {"type": "text", "text": "b"}],
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
    ),
    "a result": (
        [
            {"type": "text", "text": "Look."},
            call("output-available", output={"rain": True}),
            {"type": "text", "text": "It rains."},
        ],
        [
            {"role": "assistant", "content": "Look.", "tool_calls": [CALLED]},
            {**RESULT, "content": '{"rain":true}'},
            {"role": "assistant", "content": "It rains."},
        ],
    ),
    "a result of text": (
        [call("output-available", output="rain")],
        [{"role": "assistant", "content": "", "tool_calls": [CALLED]}, {**RESULT, "content": "rain"}],
    ),
    "a dynamic tool": (
        [{**call("output-available", output="rain"), "type": "dynamic-tool", "toolName": "weather"}],
        [{"role": "assistant", "content": "", "tool_calls": [CALLED]}, {**RESULT, "content": "rain"}],
    ),
    "a failure": (
        [call("output-error", errorText="no network")],
        [{"role": "assistant", "content": "", "tool_calls": [CALLED]}, {**RESULT, "content": "no network"}],
    ),
    "a refusal": (
        [call("output-denied")],
        [
            {"role": "assistant", "content": "", "tool_calls": [CALLED]},
            {**RESULT, "content": "the user did not allow this call"},
        ],
    ),
    "calls without a result": (
        [
            call("input-streaming"),
            call("input-available"),
            call("approval-requested"),
            call("output-available", output="so far", preliminary=True),
            {"type": "text", "text": "Well."},
        ],
        [{"role": "assistant", "content": "Well."}],
    ),
    "what is for people": (
        [
            {"type": "source-url", "sourceId": "s", "url": "http://example.com/"},
            {"type": "source-document", "sourceId": "s", "mediaType": "text/plain", "title": "t"},
            {"type": "file", "mediaType": "image/png", "url": "http://example.com/a.png"},
            {"type": "data-status", "data": {}},
            {"type": "what-comes-later"},
        ],
        [],
    ),
}


@pytest.mark.parametrize("name", ASKED)
def test_what_an_assistants_message_becomes(served: Renewed, fake: FakeOllama, name: str) -> None:
    """Each kind of part becomes what a model can read, or is left out knowingly."""
    given, expected = ASKED[name]
    fake.script(say("x"))
    with ask(served, "parts", user(), {"id": "a1", "role": "assistant", "parts": given}, user("and?", "u2")) as reader:
        reader.body()

    hi, go_on = {"role": "user", "content": "hi"}, {"role": "user", "content": "and?"}
    assert fake.requests[-1].json["messages"] == [hi, *expected, go_on]


def test_a_message_of_many_parts() -> None:
    """As many parts as a body holds are looked at once each: a look at all before each one would take minutes."""
    parts = [{"type": "text", "text": "a"}] * 120_000
    body = {"id": "c", "messages": [{"role": "assistant", "parts": parts}, user()]}

    _, asked = run_request_of(json.dumps(body).encode())

    assert asked.messages == [{"role": "assistant", "content": "a" * 120_000}, {"role": "user", "content": "hi"}]


def test_what_else_is_asked(served: Renewed, fake: FakeOllama) -> None:
    """Images, a system prompt and what the transport's body adds are passed on."""
    fake.script(say("x"))
    image = {"type": "file", "mediaType": "image/png", "url": f"data:image/png;base64,{PNG}"}
    message = {"id": "u1", "role": "user", "parts": [image, {"type": "text", "text": "What?"}]}
    system = {"id": "s1", "role": "system", "parts": [{"type": "text", "text": "Be brief."}]}
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
    more = {"options": {"seed": 7}, "think": False, "format": "json", "tools": tools, "keep_alive": "1m"}
    with ask(served, "more", system, message, system="Be kind.", **more) as reader:
        reader.body()

    sent = fake.requests[-1].json
    assert sent["messages"] == [
        {"role": "system", "content": "Be kind."},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What?", "images": [PNG]},
    ]
    assert {name: sent[name] for name in more} == more


@pytest.mark.parametrize(
    ("messages", "more", "message"),
    [
        ([user(), {"id": "a7", "role": "assistant", "parts": [call("output-available", output=1)]}], {}, "a7"),
        ([{"id": "a7", "role": "assistant", "parts": []}, user()], {"messageId": "a7"}, "a7"),
        ([user()], {"messageId": "u1"}, "msg-"),
        ([user()], {"messageId": "gone", "trigger": "regenerate-message"}, "msg-"),
    ],
    ids=["tool result", "about an answer", "about a question", "regenerate"],
)
def test_which_message_it_writes(
    served: Renewed, fake: FakeOllama, messages: list[Any], more: dict[str, Any], message: str
) -> None:
    """An answer that goes on with the assistant's own message keeps its id; any other has a new one."""
    fake.script(say("x"))
    with ask(served, "writes", *messages, **more) as reader:
        assert parts(reader.body())[0]["messageId"].startswith(message)


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "the body is not JSON"),
        ({"messages": [user()]}, "missing required field `id`"),
        ({"id": "c", "messages": []}, "there is no message"),
        ({"id": "c", "messages": [{"role": "user", "content": "hi"}]}, "missing required field `parts`"),
        ({"id": "c", "messages": [{"role": "tool", "parts": []}]}, "the role of a message is"),
        (
            {"id": "c", "messages": [{"role": "user", "parts": [{"type": "file", "url": "http://example.com/a.png"}]}]},
            "no address is fetched",
        ),
        (
            {
                "id": "c",
                "messages": [
                    {
                        "role": "user",
                        "parts": [{"type": "file", "mediaType": "text/csv", "url": "data:text/csv;base64,YQ=="}],
                    }
                ],
            },
            "a file of the type text/csv is not supported here",
        ),
    ],
)
def test_what_is_no_request(served: Renewed, body: Any, why: str) -> None:
    """It is refused with a text, which is what this client shows."""
    with Reader(served.url, "/ai/chat", body) as reader:
        assert (reader.status, reader.headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert why in reader.body().decode()


@pytest.mark.parametrize(
    ("model", "script", "expected", "why"),
    [
        ("none", [], 404, "model 'none' not found"),
        ("m", [status(500, {"error": "crashed"})], 502, "crashed"),
        ("m", [fin()], 502, "the server closed the stream"),
    ],
)
def test_a_failure_before_the_message(
    served: Renewed, fake: FakeOllama, model: str, script: list[Step], expected: int, why: str
) -> None:
    """It has a status, and a text that this client shows."""
    if script:
        fake.script(*script)
    with ask(served, "fails", model=model) as reader:
        assert reader.status == expected
        assert why in reader.body().decode()


@pytest.mark.parametrize(
    ("step", "why"),
    [(error("model runner has unexpectedly stopped"), "model runner has unexpectedly stopped"), (fin(), "without")],
    ids=["error", "no final record"],
)
def test_a_failure_in_the_message(served: Renewed, fake: FakeOllama, step: Step, why: str) -> None:
    """What was said is closed, then comes an error part, and nothing after it."""
    fake.script(think("Hm."), say("Hel"), step)
    with ask(served, "breaks") as reader:
        data = reader.body()

    assert kinds(data)[-3:] == ["text-delta", "text-end", "error"]
    assert why in parts(data)[-1]["errorText"]


def test_a_call(served: Renewed, fake: FakeOllama) -> None:
    """A call is a part with its whole input, and the reason for the end."""
    fake.script(tool_call("weather", {"city": "Oslo"}, id="call_1"))
    with ask(served, "calls") as reader:
        data = reader.body()

    assert kinds(data) == ["start", "start-step", "tool-input-available", "finish-step", "finish", "[DONE]"]
    part = parts(data)[2]
    assert (part["toolName"], part["input"]) == ("weather", {"city": "Oslo"})
    assert parts(data)[4]["messageMetadata"]["finishReason"] == "tool-calls"
