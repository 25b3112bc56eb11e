"""C21: what a conversation may hold, and how much of them a list tells."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.serving import Gateway, serving
from tests.run.spoken import spoken

from tailrace.events import Ended, Fault, Outcome
from tailrace.gateway import responses
from tailrace.gateway.app import create_app
from tailrace.gateway.conversations import service
from tailrace.gateway.conversations.service import Turn
from tailrace.gateway.conversations.values import Conversation, Message
from tailrace.gateway.endpoint import ENDPOINT, Endpoint
from tailrace.gateway.endpoints import runs
from tailrace.gateway.settings import Settings
from tailrace.protocols.problems import ProblemError
from tailrace.testing import say
from tailrace.web.asgi_types import Scope


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving("--on-leave", "continue") as gateway:
        yield gateway


TOO_LONG: dict[str, tuple[dict[str, Any], str]] = {
    "title": ({"title": "t" * 1001}, "the title has 1,001 characters, and may have 1,000"),
    "title of megabytes": ({"title": "t" * 1_000_000}, "the title has 1,000,000 characters, and may have 1,000"),
    "system": ({"system": "s" * 200_001}, "the system has 200,001 characters, and may have 200,000"),
    "model": ({"model": "m" * 513}, "the model's name has 513 characters, and 512 at most are one"),
    "options": ({"options": {"stop": ["x" * 70_000]}}, "the options are larger than 65,536 bytes"),
    "many options": ({"options": {f"o{n}": n for n in range(10_000)}}, "the options are larger than 65,536 bytes"),
    "think": ({"think": "x" * 101}, "think has 101 characters, and 100 at most are one"),
}


@pytest.mark.parametrize("what", TOO_LONG)
def test_c21_settings_have_limits_of_their_own(gateway: Gateway, what: str) -> None:
    """What comes back in every list is refused when it is longer than it ever is, and nothing is changed."""
    body, detail = TOO_LONG[what]
    made = gateway.call("POST", "/conversations", {"title": "t"}).json
    path = f"/conversations/{made['id']}"
    answers = [gateway.call("POST", "/conversations", body), gateway.call("PATCH", path, body)]
    if "title" not in body:
        answers.append(gateway.call("POST", f"{path}/turns", {"content": "hi", **body}))

    assert {(answer.status, answer.json["detail"]) for answer in answers} == {(400, detail)}
    assert gateway.call("GET", path).json == made


def test_c21_settings_of_just_the_limit(gateway: Gateway) -> None:
    """What is as long as may be is kept."""
    settings = {"title": "t" * 1000, "system": "s" * 200_000, "model": "m" * 512, "think": "x" * 100}
    made = gateway.call("POST", "/conversations", settings)

    assert made.status == 201
    assert {name: made.json[name] for name in settings} == settings


@pytest.mark.parametrize("path", ["/runs", "/chat/stream", "/api/chat", "/api/generate", "/v1/chat/completions"])
def test_c21_names_of_models_are_bounded_on_every_wire(gateway: Gateway, path: str) -> None:
    """A name is told again wherever a run is: one of megabytes is refused, and no run of it is kept."""
    body = {"model": "m" * 100_000, "messages": [{"role": "user", "content": "hi"}], "prompt": "hi"}
    body.pop("prompt" if path != "/api/generate" else "messages")
    answer = gateway.call("POST", path, body)

    assert answer.status == 400
    assert gateway.call("GET", "/runs").json == {"runs": []}


@pytest.mark.parametrize("where", ["id", "messageId"])
def test_c21_ids_of_chats_are_bounded(gateway: Gateway, where: str) -> None:
    """They are kept as long as runs."""
    messages = [{"id": "i" * 256, "role": "assistant", "parts": [{"type": "text", "text": "hi"}]}]
    messages.append({"id": "u", "role": "user", "parts": [{"type": "text", "text": "hi"}]})
    body: dict[str, Any] = {"id": "c", "model": "m", "messages": messages, "messageId": messages[0]["id"]}
    if where == "id":
        body |= {"id": "c" * 256, "messageId": None}
    answer = gateway.call("POST", "/ai/chat", body)

    assert (answer.status, "255 characters" in answer.body.decode()) == (400, True)


async def test_c21_errors_in_lists_are_short() -> None:
    """What an upstream says of a failure is told in full by the run, and in lists with its beginning."""
    context = create_app(Settings(upstreams=("http://127.0.0.1:1",), page=False)).state.context
    run, _ = spoken()
    context.runs.add(run)
    fault = Fault("ResponseError", "m" * 100_000, 500, "h" * 100_000)
    run.end(Ended(Outcome.FAILED, reason="r" * 100_000, fault=fault))
    shown, listed = runs.describe(context, run), runs.describe(context, run, whole=False)

    assert (shown.reason, listed.reason) == ("r" * 100_000, "r" * 500)
    assert shown.error == {"message": "m" * 100_000, "type": "ResponseError", "status": 500, "hint": "h" * 100_000}
    assert listed.error == {"message": "m" * 500, "type": "ResponseError", "status": 500, "hint": "h" * 500}


# -- how much a conversation holds -----------------------------------------------------------------------------------


def _conversation(*contents: str) -> Conversation:
    messages = [
        Message(id=f"m{n}", parent=None, role="user", content=text, created="") for n, text in enumerate(contents)
    ]
    return Conversation(
        id="c",
        title="",
        model=None,
        system=None,
        options={},
        think=None,
        created="",
        updated="",
        leaf=None,
        messages=messages,
    )


@pytest.mark.parametrize(
    ("contents", "turn"),
    [
        (["x" * 4_194_304] * 2, Turn(regenerate="m0")),
        (["x" * 4_194_304], Turn(content="x" * 4_194_304)),
        (["x"] * 9000, Turn(content="x")),
    ],
    ids=["full", "would be", "of many"],
)
def test_c21_a_conversation_is_bounded(contents: list[str], turn: Turn) -> None:
    """All of it is read for each turn: one that is full takes no further turn."""
    with pytest.raises(ProblemError, match="8,388,608 characters at most") as caught:
        service._check_room(_conversation(*contents), turn)

    assert caught.value.status == 413
    service._check_room(_conversation("x" * 4_000_000), Turn(content="x" * 4_000_000))


def test_c21_a_large_conversation_is_sent_whole(gateway: Gateway) -> None:
    """An answer of megabytes comes in slices, and is what it was."""
    text = "é" * 600_000
    gateway.upstream.script(say(text), path="/api/chat")
    path = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
    turn = gateway.call("POST", f"{path}/turns", {"content": text}).json
    gateway.ended(f"/runs/{turn['run']['id']}")
    messages = gateway.call("GET", path).json["messages"]

    assert [message["content"] for message in messages] == [text, text]


async def test_c21_large_answers_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slowly clients take them, only so many are kept; more are told to come again."""
    monkeypatch.setattr(responses, "_LARGE_AT_ONCE", 3 << 20)
    large = responses.json(b'"%s"' % (b"x" * (2 << 20)))
    scope: Scope = {"type": "http", "method": "GET", ENDPOINT: Endpoint("GET", "/runs", runs.listing)}
    seen: list[int] = []

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            seen.append(message["status"])
            if len(seen) == 1:  # in the midst of the first, another one
                await responses.json(b'"%s"' % (b"y" * (2 << 20)))(scope, receiving, sending)

    async def receiving() -> Any:
        return {"type": "http.disconnect"}

    await large(scope, receiving, sending)
    await large(scope, receiving, sending)

    assert seen == [200, 503, 200]
    assert json.loads(bytes(large.body)) == "x" * (2 << 20)
