"""Any run, whichever wire started it, is read on every other: as it comes and afterwards, with the same text."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.gateway.fronting import Front, fronting
from tests.protocols.decoding import decode
from tests.web.reader import PATIENCE, Reader

from tailrace.events import Event, TextDelta, ThinkingDelta, ToolCall
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.openai.decode import ChunkDecoder
from tailrace.protocols.sse import SSEDecoder
from tailrace.testing import FakeOllama, FakeOpenAI, Step, done, error, hold, say, think, tool_call

HI = [{"role": "user", "content": "hi"}]
PARTS = [{"type": "text", "text": "hi"}]
TEXT = 'Once upon a time, 水车 turned.\u2028And "so" on.\n\n* it\n* went'
CALL = {"city": "苏州"}


@pytest.fixture(scope="module", params=["ollama", "openai"])
def front(request: pytest.FixtureRequest) -> Iterator[Front]:
    """A gateway, in front of each kind of server."""
    server = FakeOllama(models=["m"]) if request.param == "ollama" else FakeOpenAI(models=["m"])
    with server, fronting(server) as front:
        yield front


class Said:
    """What a reader of a wire has read.

    Attributes:
        text: the answer.
        thinking: the reasoning.
        calls: the arguments of tool calls.
        whole: the answer came to its end, and said so.
    """

    def __init__(self, text: str, thinking: str, calls: list[Any], whole: bool) -> None:
        self.text, self.thinking, self.calls, self.whole = text, thinking, calls, whole

    def __repr__(self) -> str:
        return f"{self.text!r} after {self.thinking!r}, {self.calls}, whole: {self.whole}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Said) and repr(self) == repr(other)


def folded(events: list[Event]) -> Said:
    """What events that one of our decoders made say."""
    last: Any = events[-1]
    return Said(
        "".join(event.text for event in events if isinstance(event, TextDelta)),
        "".join(event.text for event in events if isinstance(event, ThinkingDelta)),
        [event.arguments for event in events if isinstance(event, ToolCall)],
        last.outcome.finished,
    )


def on_runs(data: bytes) -> Said:
    """By the names of its events."""
    events = [(event.type, json.loads(event.data)) for event in SSEDecoder().feed(data)]
    said = {name: "".join(value["text"] for kind, value in events if kind == name) for name in NAMES}
    calls = [value.get("arguments", {}) for kind, value in events if kind == "tool_call"]
    return Said(said["text_delta"], said["thinking_delta"], calls, events[-1][1].get("outcome") == "complete")


NAMES = ("text_delta", "thinking_delta")


def on_plain(data: bytes) -> Said:
    """As the tutorial's reader, and the named events besides."""
    events = [event for event in SSEDecoder().feed(data) if event.data != b"[DONE]"]
    values = [(event.type, json.loads(event.data)) for event in events]
    return Said(
        "".join(value["content"] for _, value in values),
        "".join(value["thinking"] for kind, value in values if kind == "thinking"),
        [value.get("arguments", {}) for kind, value in values if kind == "tool_call"],
        data.endswith(b"data: [DONE]\n\n"),
    )


def on_ai(data: bytes) -> Said:
    """By the parts of the message."""
    parts = [json.loads(event.data) for event in SSEDecoder().feed(data) if event.data != b"[DONE]"]
    return Said(
        "".join(part["delta"] for part in parts if part["type"] == "text-delta"),
        "".join(part["delta"] for part in parts if part["type"] == "reasoning-delta"),
        [part["input"] for part in parts if part["type"] == "tool-input-available"],
        parts[-1]["type"] == "finish",
    )


READ: dict[str, Callable[[bytes], Said]] = {
    "/runs/{}/events": on_runs,
    "/runs/{}/events?wire=runs": on_runs,
    "/runs/{}/events?wire=plain": on_plain,
    "/runs/{}/events?wire=ollama": lambda data: folded(decode(AnswerDecoder(), [data])),
    "/runs/{}/events?wire=openai": lambda data: folded(decode(ChunkDecoder(), [data])),
    "/runs/{}/events?wire=ai": on_ai,
    "/ai/chat/{}/stream": on_ai,
}

STARTED: dict[str, dict[str, Any]] = {
    "/chat/stream": {"message": "hi", "model": "m"},
    "/runs": {"message": "hi", "model": "m"},
    "/api/chat": {"model": "m", "messages": HI},
    "/v1/chat/completions": {"model": "m", "messages": HI, "stream": True},
    "/ai/chat": {"id": "c", "model": "m", "messages": [{"id": "1", "role": "user", "parts": PARTS}]},
}
PROMPTED: dict[str, dict[str, Any]] = {
    "/api/generate": {"model": "m", "prompt": "hi", "raw": True},
    "/v1/completions": {"model": "m", "prompt": "hi", "stream": True},
    "/runs": {"model": "m", "prompt": "hi"},
}


def script(front: Front, *steps: Step, chat: bool) -> None:
    server: FakeOllama | FakeOpenAI
    if isinstance(front.behind, FakeOllama):
        server, path = front.ollama, "/api/chat" if chat else "/api/generate"
    else:
        server, path = front.openai, "/v1/chat/completions" if chat else "/v1/completions"
    server.script(*steps, path=path)


def release(front: Front) -> None:
    assert front.behind is not None
    front.behind.release()


def run_of(reader: Reader) -> str:
    """The id of the run that a request has started."""
    if "x-run-id" in reader.headers:
        return reader.headers["x-run-id"]
    return reader.headers["location"].removeprefix("/runs/")


def read_all(front: Front, run: str) -> dict[str, Said]:
    """Reads a run on every wire."""
    return {path: read(front.get(path.format(run)).body) for path, read in READ.items()}


@pytest.mark.parametrize("path", STARTED)
def test_a_chat_is_read_on_every_wire(front: Front, path: str) -> None:
    """Readers on all wires come in the middle, and again when it is over: all have the same, and all of it."""
    middle = len(TEXT) // 2
    steps = [think("Let me think."), say(*TEXT[:middle]), hold(), say(*TEXT[middle:]), tool_call("weather", CALL)]
    script(front, *steps, done(), chat=True)
    expected = Said(TEXT, "Let me think.", [CALL], True)
    with front.open(path, STARTED[path]) as first:
        run = run_of(first)
        with contextlib.ExitStack() as stack:
            readers = {other: stack.enter_context(front.open(other.format(run), method="GET")) for other in READ}
            assert {reader.status for reader in readers.values()} == {200}
            release(front)
            came = {other: READ[other](reader.body()) for other, reader in readers.items()}
        first.body()

    assert dict.fromkeys(READ, expected) == came
    assert dict.fromkeys(READ, expected) == read_all(front, run)
    reply = front.get(f"/runs/{run}").json["reply"]
    assert (reply["text"], reply["thinking"]) == (TEXT, "Let me think.")
    whole = front.get(f"/v1/chat/completions/{run}").json["choices"][0]["message"]
    assert (whole["content"], whole["reasoning_content"]) == (TEXT, "Let me think.")
    assert "水车" in front.get(f"/runs/{run}/events?render=html").body.decode()


@pytest.mark.parametrize("path", PROMPTED)
def test_a_completion_is_read_on_every_wire(front: Front, path: str) -> None:
    """The same for a text that goes on."""
    script(front, say(*TEXT), done(), chat=False)
    with front.open(path, PROMPTED[path]) as first:
        run = run_of(first)
        first.body()

    assert front.ended(run)["outcome"] == "complete"
    assert dict.fromkeys(READ, Said(TEXT, "", [], True)) == read_all(front, run)


@pytest.mark.parametrize("path", STARTED)
def test_a_failure_is_one_on_every_wire(front: Front, path: str) -> None:
    """What broke off in the middle is whole on no wire, and each has what had come."""
    script(front, say("Hel", "lo"), hold(), error("the runner broke"), chat=True)
    with front.open(path, STARTED[path]) as first:
        run = run_of(first)
        release(front)
        first.body()

    assert front.ended(run)["outcome"] == "failed"
    assert dict.fromkeys(READ, Said("Hello", "", [], False)) == read_all(front, run)
    for other in READ:
        assert b"the runner broke" in front.get(other.format(run)).body


@pytest.mark.parametrize("path", STARTED)
def test_its_own_client_reads_the_same(front: Front, path: str) -> None:
    """The answer on the wire that started it says what the others say."""
    script(front, say(*TEXT), done(), chat=True)
    with front.open(path, STARTED[path]) as first:
        run = run_of(first)
        data = first.body()
    own = {"/chat/stream": "plain", "/api/chat": "ollama", "/v1/chat/completions": "openai", "/ai/chat": "ai"}

    front.ended(run)
    said = Said(TEXT, "", [], True)
    if path in own:
        assert READ[f"/runs/{{}}/events?wire={own[path]}"](data) == said
    assert read_all(front, run)["/runs/{}/events"] == said


def test_wires_that_have_no_ids_are_read_from_the_start(front: Front) -> None:
    """A cursor, HTML or an unknown name is refused there; the tutorial's wire goes on where its reader was."""
    script(front, say("Hel", "lo"), done(), chat=True)
    with front.open("/runs", STARTED["/runs"]) as starter:
        run = run_of(starter)
    front.ended(run)
    with front.open(f"/runs/{run}/events?wire=plain", method="GET") as reader:
        cursor = next(event.id for event in reader.all() if event.data == b'{"content":"Hel"}')

    plain = front.get(f"/runs/{run}/events?wire=plain", Last_Event_ID=cursor).body
    assert on_plain(plain).text == "lo"
    for query in ("wire=ollama&after=1", "wire=openai&after=1", "wire=ai&after=1", "wire=x", "wire=ai&render=html"):
        assert front.get(f"/runs/{run}/events?{query}").status == 400
    whole = front.get(f"/runs/{run}/events?wire=ollama&follow=false")
    assert (whole.headers["content-type"], whole.body.count(b"\n")) == ("application/x-ndjson", 3)
    assert (
        front.call(f"/runs/{run}/events?wire=ollama", method="HEAD").headers["content-type"] == "application/x-ndjson"
    )


def test_a_reader_on_another_wire_keeps_a_run_going(front: Front) -> None:
    """It is a reader like any other: the model goes on for it when the first one leaves."""
    script(front, say("Hel"), hold(), say("lo"), done(), chat=True)
    first = front.open("/api/chat", STARTED["/api/chat"])
    first.until(b"Hel")
    run = run_of(first)
    with front.open(f"/runs/{run}/events?wire=openai", method="GET") as second:
        second.until(b"Hel")
        first.leave()
        while front.get(f"/runs/{run}").json["readers"] > 1:
            pass  # the gateway has not heard of it yet
        release(front)
        assert folded(decode(ChunkDecoder(), [second.body()])).text == "Hello"
    assert front.behind is not None
    assert front.behind.wait_until_idle(PATIENCE)
