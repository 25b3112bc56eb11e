"""FastAPI: a response and a router in an application of the user's, and what they answer to bad requests."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.background import BackgroundTask
from tests.web.inside import inside
from tests.web.reader import PATIENCE, Reader, text

from tailrace import AsyncClient
from tailrace.run.log import MemoryLog
from tailrace.testing import FakeOllama, closed_port, hold, say, stall, think
from tailrace.web.fastapi import StreamResponse, chat_router, events
from tailrace.web.registry import Bounds

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def upstream() -> Iterator[FakeOllama]:
    with FakeOllama(models=["m", "other"]) as upstream:
        yield upstream


@contextlib.contextmanager
def routed(upstream: FakeOllama, **more: Any) -> Iterator[str]:
    """An application with our router."""
    app = FastAPI()
    app.include_router(chat_router(AsyncClient(upstream.url), **more))
    with inside(app) as url:
        yield url


# -- the response ------------------------------------------------------------------------------------------------------


def test_a_response_is_like_any_other(upstream: FakeOllama) -> None:
    """Headers, cookies and background tasks work as they do with every response of FastAPI's."""
    ran: list[str] = []
    app = FastAPI()
    client = AsyncClient(upstream.url)

    @app.get("/one")
    async def one(tasks: BackgroundTasks) -> StreamResponse:
        tasks.add_task(ran.append, "one")
        response = StreamResponse(await client.chat("m", MESSAGES, stream=True), headers=[("X-One", "1")])
        response.headers["X-Two"] = "2"
        response.set_cookie("seen", "yes")
        return response

    @app.get("/two")
    async def two() -> StreamResponse:
        stream = await client.chat("m", MESSAGES, stream=True)
        return StreamResponse(stream, background=BackgroundTask(ran.append, "two"))

    upstream.script(say("Hello"))
    with inside(app) as url:
        with Reader(url, "/one", method="GET") as reader:
            assert text(reader.all()) == "Hello"
        with Reader(url, "/two", method="GET") as second:
            second.body()

    assert (reader.headers["x-one"], reader.headers["x-two"]) == ("1", "2")
    assert reader.headers["set-cookie"].startswith("seen=yes")
    assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert ran == ["one", "two"]


def test_a_response_that_is_never_sent(upstream: FakeOllama) -> None:
    """An endpoint that fails after it made the response leaves no model working for nobody."""
    app = FastAPI()
    client = AsyncClient(upstream.url)

    @app.get("/")
    async def fails() -> StreamResponse:
        stream = await client.chat("m", MESSAGES, stream=True)
        response = StreamResponse(stream)
        await upstream.await_for_request(timeout=PATIENCE)
        if stream.outcome is None:
            del response
            raise FileNotFoundError
        return response

    app.add_exception_handler(FileNotFoundError, _not_found)
    upstream.script(stall())
    with inside(app) as url, Reader(url, "/", method="GET") as reader:
        assert reader.status == 418
        assert upstream.wait_for_request().wait_until_left(PATIENCE)


async def _not_found(_request: Any, _error: Exception) -> Any:
    from starlette.responses import Response

    return Response(status_code=418)


def test_a_response_that_waits_to_be_sent(upstream: FakeOllama) -> None:
    """What an endpoint does between making the response and returning it costs no reader: the answer is whole."""
    app = FastAPI()
    client = AsyncClient(upstream.url)

    @app.get("/")
    async def slow() -> StreamResponse:
        response = StreamResponse(await client.chat("m", MESSAGES, stream=True))
        record = await upstream.await_for_request(timeout=PATIENCE)
        await record.await_until_phase("holding", timeout=PATIENCE)
        return response

    upstream.script(say("Hel"), hold(), say("lo"))
    with inside(app) as url, Reader(url, "/", method="GET") as reader:
        reader.until(b"Hel")
        upstream.release()
        assert text(reader.all()) == "Hello"


def test_no_policy(upstream: FakeOllama) -> None:
    """A policy that is none is an error where it is written, and nothing is asked of the model."""
    with pytest.raises(ValueError, match="on_leave is 'cancel', 'continue'"):
        chat_router(AsyncClient(upstream.url), on_leave="stay")
    assert upstream.requests == []


# -- fastapi.sse -------------------------------------------------------------------------------------------------------


def test_events_are_those_of_the_response(upstream: FakeOllama) -> None:
    """By `fastapi.sse` the same events come, with the same ids, names and data, up to what differs from run to run."""
    app = FastAPI()
    client = AsyncClient(upstream.url)

    @app.get("/response")
    async def response() -> StreamResponse:
        return StreamResponse(await client.chat("m", MESSAGES, stream=True))

    @app.get("/events", response_class=EventSourceResponse)
    async def by_fastapi() -> AsyncIterator[ServerSentEvent]:
        async for event in events(await client.chat("m", MESSAGES, stream=True)):
            yield event

    upstream.always(think("Hm."), say("a\r\nb", "\n\ndata: x\n\n", "", "水"))
    told = []
    with inside(app) as url:
        for path in ("/response", "/events"):
            with Reader(url, path, method="GET") as reader:
                told.append([(event.type, event.id.partition("-")[0], _steady(event.data)) for event in reader.all()])

    assert told[0] == told[1]
    assert [kind for kind, _, _ in told[0]] == ["thinking", "message", "message", "message", "ended", "message"]


def _steady(data: bytes) -> Any:
    if data == b"[DONE]":
        return data
    values = json.loads(data)
    values.pop("metrics", None)
    values.pop("usage", None)
    return values


# -- the router --------------------------------------------------------------------------------------------------------


def test_what_is_asked_for(upstream: FakeOllama) -> None:
    """What the request names goes to the model; what it leaves out is the router's."""
    with routed(upstream, model="other", system="Be brief.") as url:
        with Reader(url, "/chat/stream", {"message": "hi"}) as reader:
            reader.body()
        body = {
            "messages": [*MESSAGES, {"role": "assistant", "content": "Hello."}],
            "message": "And now?",
            "model": "m",
            "system": "Sing.",
            "options": {"temperature": 0},
            "think": "high",
            "format": {"type": "object"},
            "keep_alive": "1m",
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        }
        with Reader(url, "/chat/stream", body) as reader:
            reader.body()
    by_default, by_request = (request.json for request in upstream.requests)

    assert by_default["model"] == "other"
    assert by_default["messages"] == [{"role": "system", "content": "Be brief."}, *MESSAGES]
    assert by_request["model"] == "m"
    sent = [{"role": "system", "content": "Sing."}, *body["messages"], {"role": "user", "content": "And now?"}]
    assert by_request["messages"] == sent
    for name in ("options", "think", "format", "keep_alive", "tools"):
        assert by_request[name] == body[name]


def test_the_upstreams_default() -> None:
    """Where nobody names a model it is one that is loaded, else the first that the upstream has."""
    with FakeOllama(models=["first", "second"]) as upstream, routed(upstream) as url:
        with Reader(url, "/chat/stream?message=hi&system=Sing.") as reader:
            reader.body()
        asked = upstream.wait_for_request(path="/api/chat").json

    assert asked["model"].removesuffix(":latest") == "first"
    assert asked["messages"] == [{"role": "system", "content": "Sing."}, *MESSAGES]


def test_the_path_is_where_the_application_puts_it(upstream: FakeOllama) -> None:
    """Under a prefix, and with a path of its own, the location of the run is where it can be read."""
    app = FastAPI()
    app.include_router(chat_router(AsyncClient(upstream.url), path="/talk"), prefix="/api/v1")
    with inside(app) as url:
        with Reader(url, "/api/v1/talk", {"message": "hi"}) as reader:
            first = reader.all()
        with Reader(url, reader.run, method="GET") as again:
            assert again.all() == first

    assert reader.run.startswith("/api/v1/talk/run_")


def test_a_client_keeps_its_own_logs(upstream: FakeOllama) -> None:
    """A client that is given to the router is not changed by it."""
    client = AsyncClient(upstream.url)
    chat_router(client)

    assert client.new_log is MemoryLog


BAD = {
    "no message": ({}, 400, "there is no message"),
    "an empty message": ({"message": ""}, 400, "there is no message"),
    "no JSON": (b'{"message": "hi"', 400, "the body is not JSON"),
    "no UTF-8": (b'{"message": "\xff"}', 400, "the body is not"),
    "a list": ([], 400, "Expected `object`"),
    "messages that are none": ({"messages": "hi"}, 400, "$.messages"),
    "a message that is none": ({"messages": ["hi"]}, 400, "$.messages[0]"),
    "a message without a role": ({"messages": [{"content": "hi"}]}, 400, "needs a role"),
    "options that are none": ({"message": "hi", "options": 1}, 400, "$.options"),
    "a model that is none": ({"message": "hi", "model": 1}, 400, "$.model"),
    "nested too deeply": (b'{"format": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 400, "nested too deeply"),
    "images that are none": ({"messages": [{"role": "user", "images": 7}]}, 400, "base64"),
    "a file as an image": ({"messages": [{"role": "user", "images": ["/etc/hostname"]}]}, 400, "base64"),
    "a file with a suffix": ({"messages": [{"role": "user", "images": ["secret.png"]}]}, 400, "base64"),
    "a prompt": ({"prompt": "Once"}, 400, "takes a message"),
    "a linger below nothing": ({"message": "hi", "linger": -1}, 400, "linger"),
    "too large": (b" " * 3000, 413, "larger than 2,000 bytes"),
}


@pytest.mark.parametrize(("body", "code", "words"), BAD.values(), ids=BAD)
def test_bad_requests(upstream: FakeOllama, body: Any, code: int, words: str) -> None:
    """What is no request is a problem with a status and a reason, and the model hears nothing of it."""
    limit = 2000 if code == 413 else 4 << 20
    with routed(upstream, model="m", max_body=limit) as url, Reader(url, "/chat/stream", body) as reader:
        problem = reader.json

    assert (reader.status, reader.headers["content-type"]) == (code, "application/problem+json")
    assert (problem["status"], problem["type"]) == (code, "about:blank")
    assert words in problem["detail"]
    assert upstream.requests == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "nonsense"])
def test_a_form_is_no_request(upstream: FakeOllama, kind: str) -> None:
    """A body that says it is something else than JSON is refused: a form on another site cannot ask."""
    with routed(upstream, model="m") as url, Reader(url, "/chat/stream", {"message": "hi"}, kind=kind) as reader:
        assert (reader.status, reader.json["hint"]) == (415, "send JSON, with Content-Type: application/json")
    assert upstream.requests == []


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.chat+json"])
def test_json_by_other_names(upstream: FakeOllama, kind: str) -> None:
    """JSON is JSON, however it is spelt."""
    upstream.script(say("Hello"))
    with routed(upstream, model="m") as url, Reader(url, "/chat/stream", {"message": "hi"}, kind=kind) as reader:
        assert text(reader.all()) == "Hello"


def test_c21_a_body_that_does_not_come(upstream: FakeOllama) -> None:
    """It is waited for as long as the router is told to; the connection ends then."""
    with routed(upstream, model="m", body_time=0.05) as url:
        where = urlsplit(url)
        answer = b""
        with socket.create_connection((where.hostname, where.port), PATIENCE) as sock:
            sock.sendall(b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
            while data := sock.recv(65536):
                answer += data

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert upstream.requests == []


def test_an_upstream_that_cannot_be_asked() -> None:
    """Where no model is named and the upstream does not answer, or has none, that is a problem and not a stream."""
    with FakeOllama(models=[]) as empty, routed(empty) as url, Reader(url, "/chat/stream", {"message": "hi"}) as reader:
        assert (reader.status, reader.json["hint"]) == (400, "get one, for example `ollama pull qwen3:0.6b`")
    app = FastAPI()
    app.include_router(chat_router(AsyncClient(f"http://127.0.0.1:{closed_port()}")))
    with inside(app) as url, Reader(url, "/chat/stream", {"message": "hi"}) as reader:
        assert (reader.status, reader.headers["content-type"]) == (502, "application/problem+json")


def test_too_many_at_once(upstream: FakeOllama) -> None:
    """Beyond the bound a request is refused with the time to come back, and not asked of the model."""
    upstream.script(stall())
    with routed(upstream, model="m", bounds=Bounds(runs=1)) as url, Reader(url, "/chat/stream?message=hi") as first:
        first.until(b": tailrace")
        with Reader(url, "/chat/stream?message=hi") as second:
            assert (second.status, second.headers["retry-after"]) == (503, "1")
            assert second.json["detail"] == "too many runs at once"
        upstream.wait_for_request()
        assert len(upstream.requests) == 1
        first.leave()
        assert upstream.wait_for_request().wait_until_left(PATIENCE)
        with Reader(url, "/chat/stream?message=hi") as third:
            assert text(third.all()) == "Hello! I am a fake model."


# -- reading on --------------------------------------------------------------------------------------------------------


def test_c9_cursors(upstream: FakeOllama) -> None:
    """Each cursor has the answer that the documentation tells; the header goes before the address."""
    upstream.script(say("a", "b", "c"))
    with routed(upstream, model="m") as url:
        with Reader(url, "/chat/stream?message=hi") as whole:
            events = whole.all()
        tag = events[0].id.partition("-")[2]

        def told(query: str = "", headers: str = "") -> tuple[int, str]:
            with Reader(url, whole.run + query, method="GET", headers=headers) as reader:
                read = reader.all() if reader.status == 200 else []
                assert reader.status in (200, 204) or reader.json["status"] == reader.status
                return reader.status, "reset " * (bool(read) and read[0].type == "reset") + text(read)

        assert told() == (200, "abc")
        for start in ("0", f"0-{tag}", ""):
            assert told(headers=f"Last-Event-ID: {start}\r\n") == told(f"?after={start}") == (200, "abc")
        for one in ("1", f"1-{tag}"):
            assert told(headers=f"Last-Event-ID: {one}\r\n") == told(f"?after={one}") == (200, "bc")
        assert told(f"?after=1-{tag}", f"Last-Event-ID: 2-{tag}\r\n") == (200, "c")
        assert told(headers=f"Last-Event-ID: {events[-1].id}\r\n") == told("?after=4") == (204, "")
        for future in ("5", f"5-{tag}", "999999999999999"):
            assert told(headers=f"Last-Event-ID: {future}\r\n") == told(f"?after={future}") == (200, "reset abc")
        for bad in ("abc", "-1", "1" + "0" * 30, "1-00000000", "1%0d%0adata:x", "\xe9", "1, 2", "x y"):
            assert told(headers=f"Last-Event-ID: {bad}\r\n") == (400, "")
        for bad in ("abc", "-1", "1" + "0" * 30, "1-00000000", "1%0d%0adata:x", "%C3%A9", "1%00", "1&after=2"):
            assert told(f"?after={bad}") == (400, "")
        assert told(headers="Last-Event-ID: 1\r\nLast-Event-ID: 2\r\n") == (400, "")


def test_c10_evicted(upstream: FakeOllama) -> None:
    """Of events no longer kept there is a 410 with all that was said, and where to go on from there."""
    pieces = [f"{number:04d} " for number in range(200)]
    upstream.script(*[step for piece in pieces for step in (say(piece), hold())], say("end"))
    bounds = Bounds(run_bytes=4_000)
    with routed(upstream, model="m", bounds=bounds, on_leave="continue") as url:
        with Reader(url, "/chat/stream?message=hi") as reader:
            for piece in pieces:
                assert text([reader.next()]) == piece
                upstream.release()
            assert text([reader.next()]) == "end"
        with Reader(url, reader.run, method="GET", headers="Last-Event-ID: 3\r\n") as late:
            problem = late.json
        with Reader(url, reader.run, method="GET", headers=f"Last-Event-ID: {problem['after']}\r\n") as on:
            rest = text(on.all()) if on.status == 200 else ""
        with Reader(url, f"{reader.run}?after={int(problem['oldest'].partition('-')[0]) - 1}", method="GET") as kept:
            tail = text(kept.all())

    assert (late.status, late.headers["content-type"]) == (410, "application/problem+json")
    assert problem["reply"]["text"] + rest == "".join(pieces) + "end"
    assert tail
    assert ("".join(pieces) + "end").endswith(tail)


def test_no_such_run(upstream: FakeOllama) -> None:
    """A run that is not there, or is forgotten, is a 404 for who reads and who stops."""
    with routed(upstream, model="m", bounds=Bounds(keep=0)) as url:
        with Reader(url, "/chat/stream?message=hi") as reader:
            reader.body()
        for path in (reader.run, "/chat/stream/run_" + "0" * 32, "/chat/stream/x%0d%0ay"):
            for method in ("GET", "DELETE"):
                with Reader(url, path, method=method) as missing:
                    assert (missing.status, missing.json["detail"]) == (404, "there is no such run")


def test_it_is_in_the_documentation_of_the_application(upstream: FakeOllama) -> None:
    """What the route takes stands in the application's OpenAPI, without anything of ours from inside."""
    with routed(upstream) as url, Reader(url, "/openapi.json", method="GET") as reader:
        described = reader.json["paths"]

    post = described["/chat/stream"]["post"]
    properties = post["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"message", "messages", "model", "system", "options", "think", "format", "linger"} <= set(properties)
    assert [parameter["name"] for parameter in post["parameters"]] == ["message"]
    assert set(described["/chat/stream/{run_id}"]) == {"get", "delete"}


def test_without_fastapi() -> None:
    """Where FastAPI is missing, the error says what to install; the rest of the package does without."""
    code = (
        "import sys; sys.modules['fastapi'] = None\n"
        "import tailrace.web\n"
        "try:\n import tailrace.web.fastapi\n"
        "except ImportError as error: print(error)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE)

    assert ran.stdout == "tailrace.web.fastapi needs FastAPI: pip install fastapi\n"
