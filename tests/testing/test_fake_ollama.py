"""FakeOllama: Ollama's answers, shape by shape, on a raw socket and with the ollama client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from tests.testing.rawclient import CHAT, RawClient, lines

from tailrace.testing import (
    FakeModel,
    FakeOllama,
    bom,
    chunk,
    done,
    error,
    fin,
    hold,
    ping,
    say,
    slow_load,
    status,
    think,
    tool_call,
)

USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=["m", FakeModel("plain", capabilities=("completion",))]) as server:
        yield server


def call(server: FakeOllama, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    with RawClient(server.url) as client:
        client.send(method, path, body)
        return client.response()


def test_answers_without_a_script(server: FakeOllama) -> None:
    """A server that is merely started streams a whole answer."""
    code, headers, body = call(server, "POST", "/api/chat", CHAT)

    chunks = lines(body)
    assert (code, headers["content-type"], headers["transfer-encoding"]) == (200, "application/x-ndjson", "chunked")
    assert "".join(c["message"]["content"] for c in chunks) == "Hello! I am a fake model."
    assert [c["done"] for c in chunks] == [False] * 8 + [True]
    assert chunks[-1]["done_reason"] == "stop"
    assert all(isinstance(chunks[-1][name], int) for name in ("total_duration", "eval_count", "prompt_eval_count"))


def test_one_chunk_a_string(server: FakeOllama) -> None:
    """Each string, thought and call is a line and an HTTP chunk of its own."""
    server.script(
        think("hm"), say("a", "b"), tool_call("f", {"x": 1}), done("length", eval_count=7, eval_duration=None)
    )
    with RawClient(server.url) as client:
        client.chat()
        client.until(b"\r\n\r\n")
        chunks = [lines(c) for c in client.chunks()]

    assert [len(c) for c in chunks] == [1, 1, 1, 1, 1]
    first, a, b, called, last = [c[0] for c in chunks]
    assert first["message"] == {"role": "assistant", "content": "", "thinking": "hm"}
    assert [a["message"]["content"], b["message"]["content"]] == ["a", "b"]
    assert called["message"]["tool_calls"][0]["function"] == {"index": 0, "name": "f", "arguments": {"x": 1}}
    assert (last["done"], last["done_reason"], last["eval_count"]) == (True, "length", 7)
    assert "eval_duration" not in last


def test_final_chunk_carries_content(server: FakeOllama) -> None:
    """done() can carry the last words and the calls, as parser-based models do."""
    server.script(say("a"), done(text="b", thinking="c", tool_calls=[tool_call("f")]))

    message = lines(call(server, "POST", "/api/chat", CHAT)[2])[-1]["message"]

    assert (message["content"], message["thinking"], message["tool_calls"][0]["function"]["name"]) == ("b", "c", "f")


def test_done_without_done(server: FakeOllama) -> None:
    """marker=False leaves a done_reason without `done: true` (U7)."""
    server.script(say("a"), done(marker=False))

    last = lines(call(server, "POST", "/api/chat", CHAT)[2])[-1]

    assert (last["done_reason"], "done" in last) == ("stop", False)


def test_generate_calls_only_at_the_end(server: FakeOllama) -> None:
    """/api/generate has `response`, a context, and tool calls on the final line only."""
    server.script(think("t"), say("a"), tool_call("f"))

    thought, text, last = lines(call(server, "POST", "/api/generate", {"model": "m", "prompt": "p"})[2])

    assert (thought["thinking"], text["response"], last["response"]) == ("t", "a", "")
    assert (last["tool_calls"][0]["function"]["name"], bool(last["context"])) == ("f", True)


def test_not_streamed(server: FakeOllama) -> None:
    """stream: false answers with one JSON object that has a length."""
    server.script(think("t"), say("a", "b"), tool_call("f"), done(eval_count=3))

    code, headers, body = call(server, "POST", "/api/chat", CHAT | {"stream": False})

    (whole,) = lines(body)
    assert (code, headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert (
        whole["message"]["content"],
        whole["message"]["thinking"],
        len(whole["message"]["tool_calls"]),
    ) == ("ab", "t", 1)
    assert (whole["done"], whole["eval_count"], body.endswith(b"\n")) == (True, 3, False)


def test_not_streamed_error_is_a_500(server: FakeOllama) -> None:
    """Without a stream an error has a status."""
    server.script(say("a"), error("boom"))

    code, _, body = call(server, "POST", "/api/chat", CHAT | {"stream": False})

    assert (code, body) == (500, b'{"error":"boom"}')


def test_not_streamed_without_done(server: FakeOllama) -> None:
    """Without a stream, fin() is an answer that says it is not done."""
    server.script(say("a"), fin())

    (whole,) = lines(call(server, "POST", "/api/chat", CHAT | {"stream": False})[2])

    assert (whole["message"]["content"], whole["done"]) == ("a", False)


def test_error_line(server: FakeOllama) -> None:
    """An error in the stream is a line of nothing but the error, and the body ends well."""
    server.script(say("a"), error("boom"))

    assert lines(call(server, "POST", "/api/chat", CHAT)[2])[-1] == {"error": "boom"}


def test_load_and_unload(server: FakeOllama) -> None:
    """Without messages the model is loaded or unloaded: one object, no newline."""
    code, headers, body = call(server, "POST", "/api/chat", {"model": "m"})
    running = lines(call(server, "GET", "/api/ps")[2])[0]["models"]
    gone = lines(call(server, "POST", "/api/generate", {"model": "m", "keep_alive": 0})[2])

    assert (code, headers["content-type"], body.endswith(b"\n")) == (200, "application/json; charset=utf-8", False)
    assert (lines(body)[0]["done_reason"], lines(body)[0]["message"]["content"]) == ("load", "")
    assert [m["name"] for m in running] == ["m:latest"]
    assert (gone[0]["done_reason"], server.loaded) == ("unload", [])


def test_slow_load_shows_in_ps(server: FakeOllama) -> None:
    """While a model loads nothing comes, not even headers, and /api/ps does not list it."""
    server.script(slow_load(), say("a"), hold())
    with RawClient(server.url) as client:
        client.chat()
        record = server.wait_for_request()
        assert record.wait_until_phase("loading")
        assert (record.sent.bytes, server.loaded) == (0, [])
        server.release("load")
        client.until(b"\r\n\r\n")
        assert record.wait_until_phase("holding")
        assert server.loaded == ["m:latest"]


@pytest.mark.parametrize(
    ("path", "body", "code", "text"),
    [
        ("/api/chat", b"", 400, "missing request body"),
        ("/api/chat", b"{", 400, "invalid character"),
        ("/api/chat", [], 400, "cannot unmarshal"),
        ("/api/chat", {"messages": USER}, 400, "model is required"),
        ("/api/generate", {"prompt": "p"}, 404, "model '' not found"),
        ("/api/chat", CHAT | {"model": "x"}, 404, "model 'x' not found"),
        ("/api/show", {"model": "x"}, 404, "model 'x' not found"),
        ("/api/copy", {"source": "x"}, 404, 'model "x" not found'),
        ("/api/embed", {"model": "x"}, 404, 'model "x" not found, try pulling it first'),
        ("/api/embeddings", {"model": "x"}, 404, 'model "x" not found, try pulling it first'),
        ("/api/chat", CHAT | {"model": "plain", "think": True}, 400, '"plain" does not support thinking'),
        ("/api/chat", CHAT | {"model": "plain", "tools": [{}]}, 400, "does not support tools"),
        ("/api/chat", CHAT | {"think": "hard"}, 400, "invalid think value"),
        ("/api/chat", CHAT | {"options": {"stop": "x"}}, 500, 'option "stop" must be of type array'),
        ("/api/chat", CHAT | {"options": {"temperature": "hot"}}, 500, 'option "temperature"'),
        ("/api/chat", {"model": "m", "messages": [{"role": "user", "content": []}]}, 400, "cannot unmarshal array"),
        (
            "/api/chat",
            {"model": "m", "messages": [{"tool_calls": [{"function": {"arguments": "{}"}}]}]},
            400,
            "cannot unmarshal string",
        ),
    ],
)
def test_refusals(server: FakeOllama, path: str, body: Any, code: int, text: str) -> None:
    """Bad requests get Ollama's status and words, and take no script."""
    server.script(say("kept"))

    got, headers, answer = call(server, "POST", path, body)

    assert (code, "application/json; charset=utf-8") == (got, headers["content-type"])
    assert text in lines(answer)[0]["error"]
    assert b"kept" in call(server, "POST", "/api/chat", CHAT)[2]


def test_small_endpoints(server: FakeOllama) -> None:
    """The endpoints without a stream have Ollama's shapes."""
    assert call(server, "GET", "/")[2] == b"Ollama is running"
    with RawClient(server.url) as client:
        client.send("HEAD", "/")
        assert client.until(b"\r\n\r\n").startswith(b"HTTP/1.1 200")
    assert lines(call(server, "GET", "/api/version")[2])[0] == {"version": "0.31.1"}
    tags = lines(call(server, "GET", "/api/tags")[2])[0]["models"]
    assert [m["name"] for m in tags] == ["m:latest", "plain:latest"]
    assert len(tags[0]["digest"]) == 64
    assert call(server, "GET", "/api/nothing")[0] == 404
    assert call(server, "GET", "/api/chat")[0] == 405


def test_blobs(server: FakeOllama) -> None:
    """A blob is stored under its own digest only."""
    path = "/api/blobs/sha256:" + hashlib.sha256(b"blob").hexdigest()
    with RawClient(server.url) as client:
        client.send("HEAD", path)
        assert b"404" in client.until(b"\r\n\r\n")
    assert call(server, "POST", path, b"other")[0] == 400
    assert [call(server, "POST", path, b"blob")[0] for _ in range(2)] == [201, 200]
    with RawClient(server.url) as client:
        client.send("HEAD", path)
        assert b"200" in client.until(b"\r\n\r\n")


def test_v1(server: FakeOllama) -> None:
    """FakeOllama has Ollama's /v1 as well."""
    server.script(say("a"))

    body = call(server, "POST", "/v1/chat/completions", CHAT | {"stream": True})[2]

    assert b'"delta":{"role":"assistant","content":"a"}' in body


def test_scripts_by_path(server: FakeOllama) -> None:
    """A script for a path is kept for it; any endpoint can have one."""
    server.script(status(500, {"error": "no tags"}), path="/api/tags")
    server.script(say("a"))

    assert b'"a"' in call(server, "POST", "/api/chat", CHAT)[2]
    assert call(server, "GET", "/api/tags")[0] == 500
    assert call(server, "GET", "/api/tags")[0] == 200


def test_always_and_respond(server: FakeOllama) -> None:
    """always() and respond() answer when no script is left; a script goes first."""
    server.respond(lambda record: [say(record.json["messages"][-1]["content"].upper())])
    assert b'"HI"' in call(server, "POST", "/api/chat", CHAT)[2]

    server.script(say("once")).always(say("again"), path="/api/chat")
    bodies = [call(server, "POST", "/api/chat", CHAT)[2] for _ in range(3)]

    assert [b"once" in bodies[0], b"again" in bodies[1], b"again" in bodies[2]] == [True] * 3


def test_wrong_steps_for_the_wire(server: FakeOllama) -> None:
    """What Ollama's wire cannot say is refused when it is scripted."""
    with pytest.raises(ValueError, match="use FakeOpenAI"):
        server.script(ping())
    with pytest.raises(ValueError, match="sends no text"):
        server.script(say("a"), path="/api/pull")


def test_unscripted_text_is_sent_as_it_is(server: FakeOllama) -> None:
    """Separators stay unescaped, a lone surrogate is escaped, a BOM goes ahead."""
    server.script(bom(), say("\u2028\x85", "\ud83d"))

    body = call(server, "POST", "/api/chat", CHAT)[2]

    assert body.startswith(b"\xef\xbb\xbf{")
    assert "\u2028\x85".encode() in body
    assert b'"\\ud83d"' in body


def test_with_the_ollama_client(server: FakeOllama) -> None:
    """The real client understands every endpoint."""
    with ollama.Client(host=server.url) as client:
        server.script(think("t"), say("a"), tool_call("f", {"x": 1}))
        chunks = list(client.chat("m", USER, stream=True))
        assert [(c.message.thinking, c.message.content) for c in chunks] == [
            ("t", ""),
            (None, "a"),
            (None, ""),
            (None, ""),
        ]
        assert client.generate("m", "p").response == "Hello! I am a fake model."
        assert [m.model for m in client.list().models] == ["m:latest", "plain:latest"]
        assert [m.model for m in client.ps().models] == ["m:latest"]
        assert client.show("plain").capabilities == ["completion"]
        embeddings = client.embed("m", ["a", "b", "a"]).embeddings
        assert (len(embeddings), round(sum(x * x for x in embeddings[0]), 6)) == (3, 1.0)
        assert embeddings[0] == embeddings[2] != embeddings[1]
        assert len(client.embeddings("m", "a").embedding) == 8
        progress = list(client.pull("n", stream=True))
        assert (progress[0].status, progress[1].completed, progress[-1].status) == ("pulling manifest", None, "success")
        assert client.pull("n").status == "success"
        assert client.push("n").status == "success"
        assert list(client.create("o", from_="n", stream=True))[-1].status == "success"
        assert client.copy("o", "p").status == "success"
        assert client.delete("p").status == "success"
        with pytest.raises(ollama.ResponseError, match="model 'p' not found"):
            client.delete("p")


def test_pull_can_be_scripted(server: FakeOllama) -> None:
    """A pull that fails does so as Ollama's does: in its stream."""
    script = (chunk({"status": "pulling manifest"}), error("pull model manifest: file does not exist"))
    server.script(*script, path="/api/pull").script(*script, path="/api/pull")
    with ollama.Client(host=server.url) as client:
        stream = client.pull("x", stream=True)
        assert next(stream).status == "pulling manifest"
        with pytest.raises(ollama.ResponseError, match="file does not exist"):
            next(stream)
        with pytest.raises(ollama.ResponseError, match="500"):
            client.pull("x")


async def test_with_the_async_ollama_client(server: FakeOllama) -> None:
    """It serves an asynchronous test from its own thread."""
    async with ollama.AsyncClient(host=server.url) as client:
        server.script(say("a"), hold(), say("b"))

        stream = await client.chat("m", USER, stream=True)
        assert (await anext(stream)).message.content == "a"
        record = await server.await_for_request()
        assert await record.await_until_phase("holding")
        server.release()

        assert [c.message.content async for c in stream] == ["b", ""]
        assert await record.await_until_ended()
        assert (record.completed, record.client_left) == (True, False)
