"""Ollama's API, chat and generate: what comes out of the gateway, what reaches the model, and what is refused how."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.fronting import Front, fronting, records
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import (
    FakeModel,
    FakeOllama,
    FakeOpenAI,
    Step,
    closed_port,
    cut,
    done,
    error,
    fin,
    hold,
    say,
    status,
    think,
    tool_call,
)

JSON = "application/json; charset=utf-8"
HI = [{"role": "user", "content": "hi"}]
CHAT = {"model": "m", "messages": HI}
GENERATE = {"model": "m", "prompt": "hi"}
PATHS = [("/api/chat", CHAT), ("/api/generate", GENERATE)]
PNG = base64.b64encode(b"\x89PNG and so on").decode()


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """A gateway in front of an Ollama server, with another name for its model."""
    models: list[str | FakeModel] = ["m", FakeModel("plain", capabilities=("completion",))]
    with FakeOllama(models=models) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front
        assert front.get("/runs?state=running").json == {"runs": []}
        assert server.wait_until_idle(PATIENCE)


@pytest.fixture(scope="module")
def other() -> Iterator[Front]:
    """A gateway in front of a server of OpenAI's protocol."""
    with FakeOpenAI(models=["m"]) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front
        assert server.wait_until_idle(PATIENCE)


def text(path: str, record: Any) -> str:
    """What a record says."""
    said: str = record["message"]["content"] if path == "/api/chat" else record["response"]
    return said


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_streams_unless_told(front: Front, path: str, body: dict[str, Any]) -> None:
    """NDJSON of lines in Ollama's order, under the name that was asked for; the model is asked for what it means."""
    before = front.seen(path)
    front.ollama.script(say("Hel", "lo"), done(eval_count=2, load_duration=0), path=path)
    answer = front.call(path, {**body, "model": "llama3.2"})
    sent = front.next(path, before).json
    lines = records(answer.body)

    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    assert answer.headers["x-run-id"].startswith("run_")
    assert [text(path, line) for line in lines] == ["Hel", "lo", ""]
    assert [line["done"] for line in lines] == [False, False, True]
    assert {line["model"] for line in lines} == {"llama3.2"}
    assert (sent["model"], sent["stream"]) == ("m", True)
    said = "message" if path == "/api/chat" else "response"
    assert list(lines[0]) == ["model", "created_at", said, "done"]
    assert list(lines[-1])[:5] == ["model", "created_at", said, "done", "done_reason"]
    assert (lines[-1]["done_reason"], lines[-1]["eval_count"]) == ("stop", 2)
    assert "load_duration" not in lines[-1]
    stamps = [line["created_at"] for line in lines]
    assert all(len(stamp) == len("2026-01-02T03:04:05.123456789Z") for stamp in stamps)
    assert all(earlier < later for earlier, later in itertools.pairwise(stamps))


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_not_streamed(front: Front, path: str, body: dict[str, Any]) -> None:
    """One object that says all of it, with no line end; the model is asked to stream all the same."""
    before = front.seen(path)
    front.ollama.script(think("Hm."), say("Hel", "lo"), tool_call("add", {"a": 1}), done(), path=path)
    answer = front.call(path, {**body, "stream": False})
    value = answer.json
    place = value["message"] if path == "/api/chat" else value

    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
    assert answer.headers["x-run-id"].startswith("run_")
    assert not answer.body.endswith(b"\n")
    assert (text(path, value), place["thinking"], value["done"]) == ("Hello", "Hm.", True)
    assert place["tool_calls"][0]["function"] == {"index": 0, "name": "add", "arguments": {"a": 1}}
    assert value.get("context") == (None if path == "/api/chat" else [1, 2, 3])
    assert front.next(path, before).json["stream"] is True


def test_thinking_and_calls_in_a_stream(front: Front) -> None:
    """Each piece is a line of its own, and a call is whole."""
    front.ollama.script(think("Hm."), say("So."), tool_call("add", {"a": 1}, id="call_x"), done(), path="/api/chat")
    lines = records(front.call("/api/chat", CHAT).body)

    assert [line["message"] for line in lines] == [
        {"role": "assistant", "content": "", "thinking": "Hm."},
        {"role": "assistant", "content": "So."},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_x", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}],
        },
        {"role": "assistant", "content": ""},
    ]


def test_all_of_a_chat_reaches_the_model(front: Front) -> None:
    """Everything but what no server heeds, also members of messages that this version does not know."""
    tool = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
    messages: list[dict[str, Any]] = [
        {"role": "SYSTEM", "content": "s"},
        {"role": "user", "content": "see", "images": [PNG], "new": 1},
        {"role": "assistant", "content": None, "thinking": "Hm.", "tool_calls": [{"function": {"name": "f"}}]},
        {"role": "tool", "content": "x", "tool_name": "f", "tool_call_id": "c"},
    ]
    rest = {
        "tools": [tool],
        "format": {"type": "object"},
        "think": "high",
        "keep_alive": "5m",
        "logprobs": True,
        "top_logprobs": 2,
        "truncate": False,
        "shift": False,
    }
    options = {"seed": 1, "temperature": 0.5, "stop": ["x"], "use_mmap": True, "later": "y"}
    before = front.seen("/api/chat")
    body = {"model": "m", "messages": messages, **rest, "options": {**options, "mirostat": 1, "top_p": None}}
    assert front.call("/api/chat", body).status == 200
    sent = front.next("/api/chat", before).json

    assert sent == {"model": "m", "stream": True, "messages": sent["messages"], **rest, "options": options}
    assert sent["messages"] == [{**messages[0], "role": "system"}, *messages[1:]]


PARTS = [
    {"type": "text", "text": "see"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
]


def test_content_in_parts(front: Front, other: Front) -> None:
    """Content in parts reaches a model server in its own form, with its images; so do arguments as text."""
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    asked = [
        {"role": "user", "content": PARTS},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": [{"type": "text", "text": "1"}], "tool_call_id": "c"},
    ]

    before = front.seen("/api/chat")
    assert front.call("/api/chat", {**CHAT, "messages": asked}).status == 200
    question, calling, result = front.next("/api/chat", before).json["messages"]

    assert question == {"role": "user", "content": "see", "images": [PNG]}
    assert calling["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": 1}}
    assert result["content"] == "1"

    before = other.seen("/v1/chat/completions")
    assert other.call("/api/chat", {**CHAT, "messages": asked[:1]}).status == 200
    assert other.next("/v1/chat/completions", before).json["messages"][0]["content"] == PARTS


def test_all_of_a_completion_reaches_the_model(front: Front) -> None:
    """Prompt, suffix, system, template, context and images; and a raw prompt."""
    body = {
        "model": "m",
        "prompt": "p",
        "suffix": "x",
        "system": "s",
        "template": "{{ .Prompt }}",
        "context": [1, 2],
        "images": [PNG],
    }
    for wanted in (body, {"model": "m", "prompt": "p", "raw": True}):
        before = front.seen("/api/generate")
        assert front.call("/api/generate", wanted).status == 200
        assert front.next("/api/generate", before).json == {**wanted, "stream": True}


def test_logprobs(front: Front) -> None:
    """They come as the server tells them, with text and without."""
    said = {"model": "m", "message": {"role": "assistant", "content": "Hi"}, "done": False}
    probable = [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": [{"token": "Yo", "logprob": -1}]}]
    front.ollama.replay(
        b"".join(
            json.dumps(line).encode() + b"\n"
            for line in ({**said, "logprobs": probable}, {**said, "message": {"content": ""}, "done": True})
        )
    )
    first, _ = records(front.call("/api/chat", {**CHAT, "logprobs": True, "top_logprobs": 1}).body)

    assert first["logprobs"] == probable


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
@pytest.mark.parametrize("stream", [True, False, None])
def test_load_and_unload(front: Front, path: str, stream: bool | None) -> None:
    """A request that says nothing is answered with one object and no line end, however it is to be streamed."""
    body: dict[str, Any] = {"model": "llama3.2"}
    if stream is not None:
        body["stream"] = stream
    nothing: dict[str, Any] = {"messages": []} if path == "/api/chat" else {"prompt": ""}
    load = front.call(path, body)
    assert front.ollama.loaded == ["m:latest"]
    unload = front.call(path, {**body, **nothing, "keep_alive": 0})
    assert front.ollama.loaded == []

    for answer, reason in ((load, "load"), (unload, "unload")):
        assert (answer.status, answer.headers["content-type"]) == (200, JSON)
        assert not answer.body.endswith(b"\n")
        said: dict[str, Any] = {"response": ""}
        if path == "/api/chat":
            said = {"message": {"role": "assistant", "content": ""}}
        told = answer.json
        assert told.pop("created_at")
        assert told == {"model": "llama3.2", **said, "done": True, "done_reason": reason}


@pytest.mark.parametrize("forever", ["0", "0s", 0.0])
def test_every_form_of_nothing_unloads(front: Front, forever: Any) -> None:
    """Zero seconds, in each way that Go writes a duration."""
    front.ollama.script(status(200, {"model": "m", "done": True, "done_reason": "unload"}), path="/api/generate")
    assert front.call("/api/generate", {"model": "m", "keep_alive": forever}).json["done_reason"] == "unload"


def test_unloading_waits_for_no_turn() -> None:
    """While the model speaks to one, another's unload is passed on at once, and its load waits."""
    with FakeOllama(models=["m"]) as server, fronting(server, options=("--max-running", "1")) as front:
        server.script(say("one"), hold(), done(), path="/api/chat")
        with front.open("/api/chat", CHAT) as first:
            first.until(b"one")
            with front.open("/api/generate", {"model": "m"}) as loading:
                assert front.call("/api/generate", {"model": "m", "keep_alive": 0}).json["done_reason"] == "unload"
                server.release()
                assert loading.json["done_reason"] == "load"
            first.body()
        bodies = [record.json for record in server.requests if record.path == "/api/generate"]
        assert [body.get("keep_alive") for body in bodies] == [0, None]


# -- a run like any other ----------------------------------------------------------------------------------------------


def test_a_run_is_readable_by_its_id(front: Front) -> None:
    """What began here is read elsewhere while it goes on, and afterwards; its reader here is not its only one."""
    front.ollama.script(say("Hel"), hold(), say("lo"), done(), path="/api/chat")
    with front.open("/api/chat", CHAT) as reader:
        reader.until(b"Hel")
        run = reader.headers["x-run-id"]
        with Reader(front.url, f"/runs/{run}/events", method="GET") as second:
            second.until(b'{"text":"Hel"}')
            front.ollama.release()
            events = second.all()
        assert "".join(text("/api/chat", line) for line in records(reader.body())) == "Hello"

    assert "".join(json.loads(event.data)["text"] for event in events if event.type == "text_delta") == "Hello"
    described = front.get(f"/runs/{run}").json
    assert (described["outcome"], described["reply"]["text"]) == ("complete", "Hello")


def test_who_reads_elsewhere_keeps_it_going(front: Front) -> None:
    """The client leaves, and the run goes on as long as somebody else reads it."""
    before = front.seen("/api/chat")
    front.ollama.script(say("Hel"), hold(), say("lo"), done(), path="/api/chat")
    reader = front.open("/api/chat", CHAT)
    reader.until(b"Hel")
    run = reader.headers["x-run-id"]
    with Reader(front.url, f"/runs/{run}/events", method="GET") as second:
        second.until(b'{"text":"Hel"}')
        reader.leave()
        while front.get(f"/runs/{run}").json["readers"] > 1:
            pass  # the gateway has not heard of it yet
        front.ollama.release()
        assert second.all()[-1].type == "ended"

    assert front.next("/api/chat", before).wait_until_ended()
    assert front.ended(run)["outcome"] == "complete"


@pytest.mark.parametrize("stream", [True, False])
def test_a_stop_from_elsewhere_is_no_success(front: Front, stream: bool) -> None:
    """A run that is stopped by its id ends here with an error: a line in the stream, a status without one."""
    before = front.seen("/api/chat")
    front.ollama.script(say("Hel"), hold(), path="/api/chat")
    with front.open("/api/chat", {**CHAT, "stream": stream}) as reader:
        record = front.next("/api/chat", before)
        assert record.wait_until_phase("holding")
        if stream:
            reader.until(b"Hel")
        (run,) = front.get("/runs?state=running").json["runs"]
        assert front.call(f"/runs/{run['id']}", method="DELETE").json["outcome"] == "cancelled"
        last = json.loads(reader.body().splitlines()[-1])
        assert last == {"error": "the answer was stopped"}
        assert reader.status == (200 if stream else 499)
    assert record.client_left


# -- leaving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize(("path", "body"), PATHS)
@pytest.mark.parametrize("moment", ["before the first token", "in the stream", "not streamed"])
def test_leaving_stops_the_model(front: Front, how: str, path: str, body: dict[str, Any], moment: str) -> None:
    """Whoever leaves frees the model at once, at each moment; nobody could come back for the rest."""
    before = front.seen(path)
    script: list[Step] = [hold()] if moment == "before the first token" else [say("Hel"), hold()]
    front.ollama.script(*script, path=path)
    reader = front.open(path, {**body, "stream": moment != "not streamed"})
    record = front.next(path, before)
    assert record.wait_until_phase("holding")
    (run,) = front.get("/runs?state=running").json["runs"]
    if moment == "in the stream":
        reader.until(b"Hel")
    reader.leave(how)

    assert record.wait_until_left(PATIENCE)
    assert record.phase == "holding"
    assert front.ended(run["id"])["outcome"] == "abandoned"


@pytest.mark.parametrize("stream", [True, False])
def test_leaving_while_queued(stream: bool) -> None:
    """Who leaves the queue never reaches the model, and the next is let in."""
    with FakeOllama(models=["m"]) as server, fronting(server, options=("--max-running", "1")) as front:
        server.script(say("one"), hold(), done(), path="/api/chat").script(say("three"), path="/api/chat")
        with front.open("/api/chat", CHAT) as first:
            first.until(b"one")
            second = front.open("/api/chat", {**CHAT, "stream": stream})
            queued = waiting(front, 1)
            with front.open("/api/chat", CHAT) as third:
                waiting(front, 2)
                second.leave()
                assert front.ended(queued[0])["outcome"] == "abandoned"
                server.release()
                assert b"three" in third.body()
            first.body()
        assert front.seen("/api/chat") == 2


def waiting(front: Front, count: int) -> list[str]:
    """Waits until so many runs are in the queue; returns their ids, the newest first."""
    while True:
        runs = front.get("/runs?state=running").json["runs"]
        queued = [run["id"] for run in runs if run["state"] == "queued"]
        if len(queued) == count:
            return queued


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), PATHS)
@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([error("an error was encountered while running the model: EOF")], "while running the model"),
        ([cut()], "closed the connection"),
        ([fin()], '"done": true'),
    ],
)
def test_broken_in_the_middle(front: Front, path: str, body: dict[str, Any], steps: list[Step], words: str) -> None:
    """A failure after the first word is one line with an error, and the end; an answer that merely stops is one too."""
    front.ollama.script(say("Hel"), hold(), *steps, path=path)
    with front.open(path, body) as reader:
        reader.until(b"Hel")
        front.ollama.release()
        first, last = records(reader.body())

    assert (reader.status, text(path, first)) == (200, "Hel")
    assert list(last) == ["error"]
    assert words in last["error"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("step", "code", "words"),
    [
        (status(500, {"error": "llama-server process has terminated: 1"}), 500, "has terminated: 1"),
        (status(400, {"error": '"m" does not support chat'}), 400, '"m" does not support chat'),
        (status(401, {"error": "unauthorized"}), 401, "unauthorized"),
        (status(404, {"error": "model 'm' not found"}), 404, "model 'llama3.2' not found"),
        (
            status(503, {"error": "full"}, {"Retry-After": "100"}),
            503,
            "server busy, please try again.  maximum pending requests exceeded",
        ),
        (error("the runner broke"), 502, "the runner broke"),
    ],
)
def test_failed_before_the_first_word(front: Front, stream: bool, step: Step, code: int, words: str) -> None:
    """An error that comes before the answer has its status, streamed or not."""
    front.ollama.script(hold(), step, path="/api/chat")
    front.ollama.release()
    answer = front.call("/api/chat", {"model": "llama3.2", "messages": HI, "stream": stream})

    assert (answer.status, answer.headers["content-type"]) == (code, JSON)
    assert list(answer.json) == ["error"]
    assert words in answer.json["error"]
    assert answer.headers.get("retry-after") == ("100" if code == 503 else None)


def test_nothing_answers() -> None:
    """An upstream that is not there is a bad gateway; the root and the version answer all the same."""
    with fronting(f"http://127.0.0.1:{closed_port()}") as front:
        for path, body in (*PATHS, ("/api/show", {"model": "m"}), ("/api/embed", {"model": "m", "input": "x"})):
            answer = front.call(path, body)
            assert answer.status == 502
            assert "nothing answers" in answer.json["error"]
        assert front.get("/api/tags").status == 502
        assert front.get("/").body == b"Ollama is running"
        assert front.get("/api/version").status == 200


def test_a_full_queue() -> None:
    """503 in Ollama's words, with the time to wait; and 429 for a client that has too many."""
    options = ("--max-running", "1", "--max-queued", "1", "--max-per-key", "3")
    with FakeOllama(models=["m"]) as server, fronting(server, options=options) as front:
        server.script(say("one"), hold(), path="/api/chat")
        with front.open("/api/chat", CHAT) as first, front.open("/api/chat", CHAT):
            first.until(b"one")
            waiting(front, 1)
            answer = front.call("/api/chat", CHAT)
            assert answer.status == 503
            assert answer.json == {"error": "server busy, please try again.  maximum pending requests exceeded"}
            assert int(answer.headers["retry-after"]) >= 1
    with FakeOllama(models=["m"]) as server, fronting(server, options=("--max-per-key", "1")) as front:
        server.script(say("one"), hold(), path="/api/chat")
        with front.open("/api/chat", CHAT) as first:
            first.until(b"one")
            answer = front.call("/api/generate", GENERATE)
            assert answer.status == 429
            assert "1 runs already" in answer.json["error"]


# -- bad input ---------------------------------------------------------------------------------------------------------


def chat_of(**more: Any) -> dict[str, Any]:
    return {**CHAT, **more}


def message(**more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "hi", **more}]}


BAD: list[tuple[str, Any, int, str]] = [
    ("/api/chat", None, 400, "missing request body"),
    ("/api/chat", b" ", 400, "missing request body"),
    ("/api/generate", None, 400, "missing request body"),
    ("/api/chat", b"{", 400, "truncated"),
    ("/api/chat", b"\xff", 400, ""),
    ("/api/chat", b"[" * 100_000, 400, ""),
    ("/api/chat", [], 400, "array"),
    ("/api/chat", {"messages": HI}, 400, "model is required"),
    ("/api/generate", {"prompt": "hi"}, 404, "model '' not found"),
    ("/api/chat", {"model": 1, "messages": HI}, 400, "`$.model`"),
    ("/api/chat", {"model": "m", "messages": "hi"}, 400, "`$.messages`"),
    ("/api/chat", {"model": "m", "messages": [{"content": "hi"}]}, 400, "role"),
    ("/api/chat", message(tool_calls=[{"function": {"name": "f", "arguments": "[1]"}}]), 400, "arguments is an object"),
    ("/api/chat", message(images=["data:image/png;base64,AAAA"]), 400, "illegal base64 data"),
    ("/api/chat", message(content=5), 400, "`$.messages[0].content`"),
    ("/api/chat", message(content=[{"type": "video"}]), 400, "messages[0].content[0]: a part of the type 'video'"),
    ("/api/chat", message(content=[{"type": "image", "path": "/etc/hostname"}]), 400, "no file is read from here"),
    ("/api/chat", message(content=[{"type": "image", "url": "http://a/b"}]), 400, "no address and no file"),
    ("/api/chat", message(images=["/etc/hostname"]), 400, "illegal base64 data"),
    ("/api/chat", message(images=["photo.png"]), 400, "illegal base64 data"),
    ("/api/generate", {**GENERATE, "images": ["no image!"]}, 400, "illegal base64 data"),
    ("/api/chat", chat_of(stream="yes"), 400, "`$.stream`"),
    ("/api/chat", chat_of(options=[]), 400, "`$.options`"),
    ("/api/chat", chat_of(options={"stop": "x"}), 500, 'option "stop" must be of type array'),
    ("/api/chat", chat_of(options={"stop": [1]}), 500, 'option "stop" must be of an array of strings'),
    ("/api/chat", chat_of(options={"temperature": "hot"}), 500, 'option "temperature" must be of type float32'),
    ("/api/chat", chat_of(options={"num_ctx": "many"}), 500, 'option "num_ctx" must be of type integer'),
    ("/api/generate", {**GENERATE, "options": {"num_gpu": True}}, 500, 'option "num_gpu" must be of type integer'),
    ("/api/chat", chat_of(options={"use_mmap": 1}), 500, 'option "use_mmap" must be of type boolean'),
    ("/api/chat", chat_of(keep_alive="-1"), 400, 'time: missing unit in duration "-1"'),
    ("/api/chat", chat_of(keep_alive="soon"), 400, 'time: invalid duration "soon"'),
    ("/api/chat", chat_of(keep_alive=[]), 400, "keep_alive"),
    ("/api/chat", chat_of(think="much"), 400, 'invalid think value: "much"'),
    ("/api/chat", chat_of(top_logprobs=21), 400, "top_logprobs must be between 0 and 20"),
    ("/api/chat", chat_of(format="xml"), 500, "invalid format"),
    ("/api/chat", chat_of(tools={}), 400, "`$.tools`"),
    ("/api/generate", {**GENERATE, "context": ["x"]}, 400, "`$.context[0]`"),
    ("/api/generate", {**GENERATE, "raw": True, "system": "s"}, 400, "raw mode does not support"),
    ("/api/chat", {"model": "none", "messages": HI}, 404, "model 'none' not found"),
    ("/api/generate", {"model": "none", "prompt": "hi"}, 404, "model 'none' not found"),
    ("/api/generate", {"model": "none"}, 404, "model 'none' not found"),
    ("/api/chat", {"model": "plain", "messages": HI, "think": True}, 400, '"plain" does not support thinking'),
    ("/api/chat", {"model": "plain", "messages": HI, "tools": [{"type": "function"}]}, 400, "does not support tools"),
]


@pytest.mark.parametrize(("path", "body", "code", "words"), BAD)
def test_bad_input(front: Front, path: str, body: Any, code: int, words: str) -> None:
    """What Ollama's own server answers: its status, and its error object."""
    answer = front.call(path, body)

    assert (answer.status, answer.headers["content-type"]) == (code, JSON)
    assert list(answer.json) == ["error"]
    assert words in answer.json["error"]


def test_no_base64_but_with_line_ends(front: Front) -> None:
    """Line ends in base64 are passed over, as Go does."""
    before = front.seen("/api/chat")
    assert front.call("/api/chat", message(images=[f"{PNG[:8]}\r\n{PNG[8:]}"])).status == 200
    assert front.next("/api/chat", before).json["messages"][0]["images"] == [PNG]


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a/../b", "file:///etc/passwd", "http://169.254.169.254/x", "m\nx", "m m", "é"],
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate", "/api/show", "/api/embed", "/api/pull", "/api/copy"])
def test_x11_a_name_is_no_path(front: Front, name: str, path: str) -> None:
    """Names that are none never reach the model server."""
    before = len(front.ollama.requests)
    body = {"model": name, "prompt": "x", "messages": HI, "input": "x", "source": name, "destination": "y"}
    answer = front.call(path, body)

    assert (answer.status, answer.json) == (400, {"error": "invalid model name"})
    later = [record.path for record in front.ollama.requests[before:]]
    assert set(later) <= {"/api/tags"}


def test_too_large() -> None:
    """413 in Ollama's shape."""
    with FakeOllama(models=["m"]) as server, fronting(server, options=("--max-body", "1000")) as front:
        answer = front.call("/api/chat", message(content="x" * 2000))
        assert answer.status == 413
        assert list(answer.json) == ["error"]


def test_other_paths_and_methods(front: Front) -> None:
    """404 and 405 are told in Ollama's shape too."""
    for answer, code in ((front.get("/api/nothing"), 404), (front.get("/api/chat"), 405)):
        assert (answer.status, answer.headers["content-type"]) == (code, JSON)
        assert list(answer.json) == ["error"]


def test_the_door() -> None:
    """Without a key 401 in Ollama's shape; with it, as it sends one."""
    with FakeOllama(models=["m"]) as server, fronting(server, options=("--api-key", "me:secret-key")) as front:
        refused = front.call("/api/chat", CHAT)
        assert (refused.status, list(refused.json)) == (401, ["error"])
        assert front.call("/api/chat", CHAT, Authorization="Bearer secret-key").status == 200


def test_any_content_type(front: Front) -> None:
    """As with Ollama the body is JSON whatever it says it is: `curl -d` calls it a form."""
    with Reader(front.url, "/api/chat", CHAT, kind="application/x-www-form-urlencoded") as reader:
        assert reader.status == 200
        reader.body()


# -- a server of OpenAI's protocol behind it ---------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_over_openai(other: Front, path: str, body: dict[str, Any]) -> None:
    """The same lines; a prompt goes through the model's template, as it does at Ollama, which is a chat there."""
    before = other.seen("/v1/chat/completions")
    other.openai.script(think("Hm."), say("Hel", "lo"), done(), path="/v1/chat/completions")
    answer = other.call(path, {**body, "model": "llama3.2", "options": {"num_predict": 5, "mirostat": 1}})
    lines = records(answer.body)
    sent = other.next("/v1/chat/completions", before).json

    assert answer.status == 200
    assert "".join(text(path, line) for line in lines) == "Hello"
    assert {line["model"] for line in lines} == {"llama3.2"}
    assert (sent["model"], sent["messages"], sent["max_tokens"]) == ("m", HI, 5)
    assert "mirostat" not in sent
    assert lines[-1]["done_reason"] == "stop"
    assert lines[-1]["eval_count"] == 3
    assert 0 < lines[-1]["prompt_eval_duration"] <= lines[-1]["total_duration"]


def test_tool_calls_over_openai(other: Front) -> None:
    """Arguments that come in pieces are one call here, and the reason is a stop."""
    other.openai.script(tool_call("add", {"a": 1}, fragments=3), done(), path="/v1/chat/completions")
    call, last = records(other.call("/api/chat", CHAT).body)

    assert call["message"]["tool_calls"][0]["function"] == {"index": 0, "name": "add", "arguments": {"a": 1}}
    assert last["done_reason"] == "stop"


def test_completions_over_openai(other: Front) -> None:
    """A raw prompt is completed as it is, with a suffix if there is one; system and images go into the chat."""
    for more, sent in (({"raw": True}, {}), ({"suffix": "x"}, {"suffix": "x"})):
        before = other.seen("/v1/completions")
        assert other.call("/api/generate", {**GENERATE, **more}).status == 200
        assert other.next("/v1/completions", before).json.items() >= {"prompt": "hi", **sent}.items()
    before = other.seen("/v1/chat/completions")
    assert other.call("/api/generate", {**GENERATE, "system": "s", "images": [PNG]}).status == 200
    system, user = other.next("/v1/chat/completions", before).json["messages"]
    assert (system, user["content"][0]["text"]) == ({"role": "system", "content": "s"}, "hi")
    assert user["content"][1]["image_url"]["url"] == f"data:image/png;base64,{PNG}"


@pytest.mark.parametrize("member", [{"context": [1]}, {"template": "x"}])
def test_what_openai_cannot(other: Front, member: dict[str, Any]) -> None:
    """What would silently be left out is refused, with the reason."""
    answer = other.call("/api/generate", {**GENERATE, **member})
    assert (answer.status, answer.json["error"].endswith(f"has no {next(iter(member))}")) == (501, True)


def test_load_and_unload_over_openai(other: Front) -> None:
    """A model that is there is as loaded as it can be told; none is unloaded, and one that is not there is not."""
    assert other.call("/api/chat", {"model": "llama3.2"}).json["done_reason"] == "load"
    assert other.call("/api/generate", {"model": "none"}).status == 404
    answer = other.call("/api/generate", {"model": "m", "keep_alive": 0})
    assert answer.status == 501
    assert "no model is unloaded" in answer.json["error"]


def test_an_unknown_model_over_openai(other: Front) -> None:
    """404 in Ollama's words, whatever the other server says."""
    answer = other.call("/api/chat", {"model": "none", "messages": HI})
    assert (answer.status, answer.json) == (404, {"error": "model 'none' not found"})


def test_leaving_over_openai(other: Front) -> None:
    """The model is freed there too."""
    before = other.seen("/v1/chat/completions")
    other.openai.script(say("Hel"), hold(), path="/v1/chat/completions")
    reader = other.open("/api/chat", CHAT)
    reader.until(b"Hel")
    record = other.next("/v1/chat/completions", before)
    reader.leave()

    assert record.wait_until_left(PATIENCE)
