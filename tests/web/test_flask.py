"""`tailrace.web.flask`: the blueprint's settings, the response's place among Flask's, and what is refused."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient
from tests.web.reader import PATIENCE, text
from werkzeug.test import TestResponse

from tailrace import Client
from tailrace.protocols.sse import ServerSentEvent, SSEDecoder
from tailrace.run.log import MemoryLog
from tailrace.testing import FakeOllama, closed_port, hold, say, stall
from tailrace.web.flask import StreamResponse, chat_blueprint
from tailrace.web.registry import Bounds
from tailrace.web.wsgi import streams

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def client(fake_ollama: FakeOllama) -> Client:
    return Client(fake_ollama.url)


@pytest.fixture(autouse=True)
def no_stream_is_left() -> Iterator[None]:
    """Each test gives all places back."""
    yield
    gc.collect()
    assert streams() == 0


def application(client: Client | None = None, **settings: Any) -> FlaskClient:
    app = Flask(__name__)
    app.testing = True  # errors that nobody handles are raised
    app.register_blueprint(chat_blueprint(client, **settings))
    return app.test_client()


def events_of(response: TestResponse) -> list[ServerSentEvent]:
    """Reads a response to its end, and closes it as a server does."""
    assert response.status_code == 200
    events = SSEDecoder().feed(response.data)
    response.close()
    return events


def problem_of(response: TestResponse) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = json.loads(response.data)
    assert problem["status"] == response.status_code
    return problem


# -- the blueprint -----------------------------------------------------------------------------------------------------


def test_settings_are_for_requests_that_say_nothing(fake_ollama: FakeOllama, client: Client) -> None:
    """The blueprint's model and system prompt are used, unless the request has its own."""
    web = application(client, model="m1", system="be brief")

    events_of(web.post("/chat/stream", json={"message": "hi"}))
    own = {"messages": MESSAGES, "model": "m2", "system": "rhyme", "options": {"seed": 1}}
    events_of(web.post("/chat/stream", json=own))

    first, second = fake_ollama.wait_for_request(1).json, fake_ollama.wait_for_request(2).json
    assert (first["model"], first["messages"]) == ("m1", [{"role": "system", "content": "be brief"}, *MESSAGES])
    assert (second["model"], second["messages"]) == ("m2", [{"role": "system", "content": "rhyme"}, *MESSAGES])
    assert second["options"] == {"seed": 1}


def test_no_model_named_is_the_upstreams_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any model the upstream is asked for the one it has."""
    monkeypatch.delenv("TAILRACE_MODEL", raising=False)
    with FakeOllama(models=["only"]) as fake:
        fake.script(say("ok"))
        assert text(events_of(application(Client(fake.url)).post("/chat/stream", json={"message": "hi"}))) == "ok"
        assert fake.wait_for_request(path="/api/chat").json["model"] == "only:latest"


def test_an_upstream_that_cannot_tell_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the answer has begun an error is a status: a bad gateway, with what to do; the place is free again."""
    monkeypatch.delenv("TAILRACE_MODEL", raising=False)
    web = application(Client(f"http://127.0.0.1:{closed_port()}"), max_streams=1)
    for _ in range(2):
        response = web.post("/chat/stream", json={"message": "hi"})
        assert (response.status_code, problem_of(response)["title"]) == (502, "Bad gateway")


def test_the_default_client_is_found_at_the_first_request(
    monkeypatch: pytest.MonkeyPatch, fake_ollama: FakeOllama
) -> None:
    """Making a blueprint does nothing: what the environment says counts when somebody asks."""
    monkeypatch.setattr("tailrace.client.default._client", None)
    monkeypatch.setenv("TAILRACE_UPSTREAM", "no upstream at all")
    web = application(model="m")
    monkeypatch.setenv("TAILRACE_UPSTREAM", fake_ollama.url)
    fake_ollama.script(say("ok"))

    assert text(events_of(web.post("/chat/stream", json={"message": "hi"}))) == "ok"


def test_paths_and_names(fake_ollama: FakeOllama, client: Client) -> None:
    """Two blueprints live in one application, below a prefix and behind a mount; each names its runs' own path."""
    app = Flask(__name__)
    app.register_blueprint(chat_blueprint(client, model="m", path="/a"), url_prefix="/v1")
    app.register_blueprint(chat_blueprint(client, model="m", path="/b/", name="other"))
    web = app.test_client()

    one = web.post("/v1/a", json={"message": "hi"}, base_url="http://localhost/mount")
    two = web.post("/b/", json={"message": "hi"})

    assert one.headers["Location"].startswith("/mount/v1/a/run_")
    assert two.headers["Location"].startswith("/b/run_")
    run = two.headers["Location"]
    assert events_of(two) == events_of(web.get(run))
    assert web.get(run.replace("/b/", "/v1/a/")).status_code == 404
    one.close()


def test_the_users_client_keeps_its_own_logs(client: Client) -> None:
    """The blueprint bounds its own runs' logs, and not those of calls elsewhere."""
    application(client, model="m").post("/chat/stream", json={"message": "hi"}).close()
    assert client.new_log is MemoryLog


def test_c10_a_cursor_that_is_no_longer_kept(fake_ollama: FakeOllama, client: Client) -> None:
    """Who comes too late gets 410, with all that was generated and where to go on."""
    web = application(client, model="m", bounds=Bounds(run_bytes=64 * 1024))
    groups = 40  # of 100 words
    fake_ollama.script(*[step for n in range(groups) for step in (hold(), say(*["word "] * 99, f"end{n} "))])
    first = web.post("/chat/stream", json={"message": "hi", "linger": 60})
    pieces, run = first.iter_encoded(), first.headers["Location"]
    for n in range(groups):
        fake_ollama.release()
        seen = b""
        while f"end{n} ".encode() not in seen:
            seen += next(pieces)
    assert b"[DONE]" in seen + b"".join(pieces)
    first.close()

    gone = web.get(run)

    told = problem_of(gone)
    answer = "".join("word " * 99 + f"end{n} " for n in range(groups))
    assert (gone.status_code, told["reply"]["text"]) == (410, answer)
    oldest = int(told["oldest"].partition("-")[0])
    assert answer.endswith(rest := text(events_of(web.get(f"{run}?after={oldest - 1}"))))
    assert rest.endswith("end39 ")
    assert web.get(f"{run}?after={told['after']}").status_code == 204


def test_bounds_of_runs(fake_ollama: FakeOllama, client: Client) -> None:
    """When as many runs go on as may, the next is a 503; its place among the streams is free again."""
    web = application(client, model="m", bounds=Bounds(runs=1), max_streams=2)
    fake_ollama.script(stall())
    first = web.post("/chat/stream", json={"message": "hi"})

    for _ in range(3):
        second = web.post("/chat/stream", json={"message": "hi"})
        assert (second.status_code, second.headers["Retry-After"]) == (503, "1")
        assert problem_of(second)["detail"] == "too many runs at once"
    first.close()


def test_c6_a_body_of_unknown_length_is_read_up_to_the_limit(client: Client) -> None:
    """Chunks without an end are not waited for."""

    class Endless:
        def read(self, size: int = -1) -> bytes:
            return b" " * min(size, 65536)

        readline = read

    web = application(client, model="m", max_body=1000)
    response = web.post(
        "/chat/stream",
        content_type="application/json",
        environ_overrides={"wsgi.input": Endless(), "wsgi.input_terminated": True},
    )
    assert (response.status_code, problem_of(response)["detail"]) == (413, "the body is larger than 1,000 bytes")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
def test_x6_only_json_is_taken_for_json(fake_ollama: FakeOllama, client: Client, kind: str) -> None:
    """What any page may send to any site without asking is refused."""
    response = application(client, model="m").post("/chat/stream", data=b'{"message": "hi"}', content_type=kind)
    assert (response.status_code, "JSON" in problem_of(response)["hint"]) == (415, True)
    assert fake_ollama.requests == []


def test_a_policy_that_is_none(client: Client) -> None:
    """It is refused when the blueprint is made, not at the first request."""
    with pytest.raises(ValueError, match="on_leave"):
        chat_blueprint(client, on_leave="stay")


# -- the response ------------------------------------------------------------------------------------------------------


def test_hooks_see_a_response_like_any_other(fake_ollama: FakeOllama, client: Client) -> None:
    """Headers, cookies and things to do at the end can be added; further headers can be given."""
    app = Flask(__name__)
    app.register_blueprint(chat_blueprint(client, model="m"))
    ended: list[bool] = []

    @app.post("/ask")
    def ask() -> Response:
        stream = client.chat("m", MESSAGES, stream=True)
        return StreamResponse(stream, headers=[("X-Run", stream.id)])

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "https://example.org"
        response.set_cookie("seen", "1")
        response.call_on_close(lambda: ended.append(True))
        return response

    for path in ("/ask", "/chat/stream"):
        fake_ollama.script(say("ok"))
        response = app.test_client().post(path, json={"message": "hi"})
        assert (text(events_of(response)), ended) == ("ok", [True])
        assert response.headers["Access-Control-Allow-Origin"] == "https://example.org"
        assert response.headers["Set-Cookie"] == "seen=1; Path=/"
        assert ("X-Run" in response.headers) == (path == "/ask")
        ended.clear()


def test_a_response_without_a_place_is_a_503(fake_ollama: FakeOllama, client: Client) -> None:
    """The view needs no code for that, and nothing is asked of the model."""
    app = Flask(__name__)

    @app.post("/ask")
    def ask() -> Response:
        return StreamResponse(client.chat("m", MESSAGES, stream=True), max_streams=1)

    web = app.test_client()
    fake_ollama.script(say("a"), hold())
    first = web.post("/ask")
    second = web.post("/ask")

    assert (second.status_code, second.headers["Retry-After"]) == (503, "1")
    assert "each holds a thread" in problem_of(second)["detail"]
    fake_ollama.wait_for_request()
    assert len(fake_ollama.requests) == 1
    first.close()
    assert fake_ollama.requests[0].wait_until_left(PATIENCE)


def test_a_view_that_fails_after_it_has_made_the_response(fake_ollama: FakeOllama, client: Client) -> None:
    """Nobody will ever close it: the model is freed all the same."""
    app = Flask(__name__)
    app.logger.disabled = True  # what pytest keeps of the error would keep the response as well

    @app.post("/ask")
    def ask() -> Response:
        response = StreamResponse(client.chat("m", MESSAGES, stream=True))
        fake_ollama.wait_for_request()
        raise LookupError(f"on the way out of {response}")

    fake_ollama.script(stall())
    assert app.test_client().post("/ask").status_code == 500
    gc.collect()
    assert fake_ollama.requests[0].wait_until_left(PATIENCE)


def test_without_flask_the_import_says_what_to_install() -> None:
    """The module's own requirement is named by the extra that brings it."""
    code = "import sys; sys.modules['flask'] = None\nimport tailrace.web.flask"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr.splitlines()[-1] == ("ImportError: tailrace.web.flask needs Flask: pip install 'tailrace[flask]'")
