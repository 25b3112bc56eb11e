"""Streams under real ASGI servers: whole, at once, and as everybody's readers expect them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.web.asgi_servers import SERVERS, STREAMS, Served, serving
from tests.web.reader import Reader, text, texts

from tailrace.testing import done, error, hold, say, status, think, tool_call


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """An application under each server."""
    with serving(request.param) as served:
        yield served


@pytest.mark.parametrize("path", STREAMS)
def test_whole(served: Served, path: str) -> None:
    """All of an answer arrives, in order, numbered, with its ending; by every way of serving it."""
    reader, _ = served.ask(say("Hel", "lo, ", "水 👩‍👩‍👧", "\r\n", "\u2028"), done(), path=path)
    with reader:
        events = reader.all()

    assert reader.status == 200
    assert text(events) == "Hello, 水 👩‍👩‍👧\r\n\u2028"
    assert [event.id.partition("-")[0] for event in events] == ["1", "2", "3", "4", "5", "6", "6"]
    assert len({event.id.partition("-")[2] for event in events}) == 1
    assert [event.type for event in events[-2:]] == ["ended", "message"]
    ended = json.loads(events[-2].data)
    assert (ended["outcome"], ended["reason"], ended["content"]) == ("complete", "stop", "")
    assert ended["metrics"]["output_tokens"] > 0
    assert events[-1].data == b"[DONE]"


@pytest.mark.parametrize("path", STREAMS)
def test_each_thing_at_once(served: Served, path: str) -> None:
    """The head and a first comment come before the first token, and each token before the next one is made."""
    reader, _ = served.ask(hold(), say("one"), hold(), say("two"), path=path)
    with reader:
        assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert reader.headers["cache-control"].startswith("no-cache")
        assert reader.headers["x-accel-buffering"] == "no"
        reader.until(b": tailrace\n")
        served.upstream.release()
        assert texts([reader.next()]) == ["one"]
        served.upstream.release()
        assert text(reader.all()) == "two"

    assert reader.decoder.retry is not None
    assert reader.decoder.retry >= 500


def test_what_is_not_text(served: Served) -> None:
    """Thinking and tool calls come by names of their own, which old readers skip."""
    reader, _ = served.ask(think("Hm."), tool_call("add", {"a": 1}), say("3"))
    with reader:
        events = reader.all()

    assert text(events) == "3"
    assert [json.loads(event.data).get("thinking") for event in events if event.type == "thinking"] == ["Hm."]
    assert [json.loads(event.data)["arguments"] for event in events if event.type == "tool_call"] == [{"a": 1}]


@pytest.mark.parametrize("path", STREAMS)
def test_an_error_in_band(served: Served, path: str) -> None:
    """An upstream that fails in the middle is an error in the stream, after the text; no [DONE] makes it a success."""
    reader, _ = served.ask(say("half"), error("out of memory"), path=path)
    with reader:
        events = reader.all()

    assert text(events) == "half"
    assert [json.loads(event.data)["error"]["message"] for event in events[-2:]] == ["out of memory"] * 2
    assert [event.type for event in events[-2:]] == ["message", "ended"]


def test_an_error_before_any_token(served: Served) -> None:
    """An upstream that refuses is an error in the stream too, with its status."""
    reader, _ = served.ask(status(404, {"error": "model 'm' not found"}))
    with reader:
        told = json.loads(reader.all()[0].data)

    assert (told["content"], told["error"]["status"], told["error"]["type"]) == ("", 404, "ModelNotFoundError")


def test_the_tutorials_request(served: Served) -> None:
    """The message may come as the tutorial's FastAPI code takes it: in the query, without a body."""
    served.upstream.script(say("Hello"), path="/api/chat")
    with Reader(served.server.url, "/chat/stream?message=%E4%BD%A0%E5%A5%BD") as reader:
        assert text(reader.all()) == "Hello"

    assert served.upstream.requests[-1].json["messages"] == [{"role": "user", "content": "你好"}]


@pytest.mark.parametrize("path", STREAMS)
def test_c15_old_clients(served: Served, path: str) -> None:
    """A client of HTTP/1.0 gets all of it, and then the end of the connection."""
    reader, _ = served.ask(say("Hel", "lo"), path=path, version="1.0")
    with reader:
        assert text(reader.all()) == "Hello"
        assert reader.sock.recv(1) == b""


def test_c15_continue(served: Served) -> None:
    """A client that waits to be asked for its body is asked before the answer, never in the middle of it."""
    reader, _ = served.ask(say("Hello"), headers="Expect: 100-continue\r\n")
    with reader:
        assert text(reader.all()) == "Hello"
    reader, _ = served.ask(say("Hello"), path="/bare/", headers="Expect: 100-continue\r\n")
    with reader:
        assert text(reader.all()) == "Hello"


def test_c15_head(served: Served) -> None:
    """A HEAD request for a stream is answered with its head alone, and no model goes on working for it."""
    with Reader(served.server.url, "/bare/", method="HEAD") as reader:
        assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert reader.body() == b""
    assert served.upstream.wait_until_idle(60)
