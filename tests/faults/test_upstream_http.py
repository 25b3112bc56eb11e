"""Upstream faults in what answers instead of the model: U18, U21 to U23, U25."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.faults.faces import Face, Upstream

from tailrace.errors import (
    BusyError,
    NotModelServerError,
    ResponseError,
)
from tailrace.events import Outcome, Queued
from tailrace.testing import (
    FakeOllama,
    error,
    head,
    html,
    raw,
    redirect,
    say,
    stall,
    status,
)

PAGE = "<!doctype html><html><head>\n<title>\n 502  Bad Gateway </title></head><body>{}</body></html>"
MEGABYTE = 1024 * 1024
CHAT = {"ollama": "/api/chat", "openai": "/v1/chat/completions"}


# U18: see also test_errors.py, which has every error of both wires


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": "no such option"}, "no such option"),
        ({"error": {"message": "no such option", "code": 400}}, "no such option"),
        ('{"error":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"too long\\"}}"}', "too long"),
        ("plain words\n", "plain words"),
        ({"detail": "something else"}, "something else"),
        ("", "HTTP 400 without a word"),
        (b"\xff\xfe bytes", "\ufffd\ufffd bytes"),
    ],
)
def test_u18_error_before_any_token(upstream: Upstream, kind: str, body: Any, text: str) -> None:
    """A refusal is the server's status and its text, whatever form the text has."""
    face = Face(kind, upstream.host)
    upstream.script(status(400, body))
    seen = face.chat()
    seen.broke(ResponseError, Outcome.FAILED)
    assert isinstance(seen.error, ResponseError)
    assert (seen.error.error, seen.error.status_code) == (text, 400)
    upstream.is_let_go(face)


def test_u18_an_endless_error(upstream: Upstream, kind: str) -> None:
    """Of an error's body so much is read as an error needs; the rest is never waited for."""
    face = Face(kind, upstream.host)
    upstream.script(head(status=500, content_type="text/plain"), *[raw(b"x" * MEGABYTE)] * 4, stall())
    seen = face.chat()
    seen.broke(ResponseError, Outcome.FAILED)
    assert isinstance(seen.error, ResponseError)
    assert seen.error.error == "x" * 2000 + "…"
    upstream.is_let_go(face)


# U21, U22: something else answers


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "text/event-stream; charset=x"])
def test_u21_wrong_content_type(ollama: Upstream, kind: str, content_type: str) -> None:
    """A right body under a wrong content type is taken, with a note."""
    ollama.script(head(content_type=content_type), say("Hello"))
    named = content_type.partition(";")[0]
    reply = Face(kind, ollama.host).chat().whole("Hello")
    assert reply.warnings == (f"the server sent the answer as {named}",)


def test_u21_wrong_content_type_on_an_event_stream(openai: Upstream, kind: str) -> None:
    """The same on the other wire."""
    openai.script(head(content_type="application/x-ndjson"), say("Hello"))
    reply = Face(kind, openai.host).chat().whole("Hello")
    assert reply.warnings == ("the server sent the answer as application/x-ndjson",)


def test_u21_a_whole_answer_is_json(upstream: Upstream, kind: str) -> None:
    """An answer as application/json, which is what a server sends without a stream, needs no note."""
    upstream.script(head(content_type="application/json; charset=utf-8"), say("Hello"))
    assert Face(kind, upstream.host).chat().whole("Hello").warnings == ()


@pytest.mark.parametrize("code", [200, 502, 503, 504, 404])
def test_u22_a_web_page(upstream: Upstream, kind: str, code: int) -> None:
    """A web page, a proxy's error or a captive portal's, is no model server: the address and the title are named, the
    page itself is not shown, and nothing is asked again."""
    face = Face(kind, upstream.host)
    upstream.script(html(PAGE.format("words " * 10_000), code))
    seen = face.chat()
    url = upstream.server.url + CHAT[upstream.wire]
    shown = seen.broke(NotModelServerError, Outcome.FAILED)
    assert shown == (f'{url} answered with a web page ("502 Bad Gateway"), not as a model server (status code: {code})')
    assert isinstance(seen.error, NotModelServerError)
    assert (seen.error.status_code, seen.error.hint) == (
        code,
        "check the host and the port, and whether a proxy stands in between",
    )
    upstream.is_let_go(face)


def test_u22_a_web_page_by_another_name(upstream: Upstream, kind: str) -> None:
    """A web page that calls itself text/plain is one too, when it comes as an error."""
    upstream.script(status(502, "\n<html><body>Bad Gateway</body></html>"))
    Face(kind, upstream.host).chat().broke(NotModelServerError, Outcome.FAILED)


@pytest.mark.parametrize("method", ["show", "list", "ps", "version", "embed", "delete"])
def test_u22_a_web_page_for_single_answers(ollama: Upstream, kind: str, method: str) -> None:
    """Single answers are judged the same."""
    paths = {"show": "/api/show", "list": "/api/tags", "embed": "/api/embed"}
    ollama.server.always(html(PAGE, 200), path=paths.get(method, f"/api/{method}"))
    arguments = {"show": ["m"], "embed": ["m", "hi"], "delete": ["m"]}.get(method, [])
    with pytest.raises(NotModelServerError, match="answered with a web page"):
        Face(kind, ollama.host).call(method, *arguments)


# U23: redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_u23_redirect_on_the_same_host(upstream: Upstream, kind: str, code: int) -> None:
    """A redirect on the same host is followed with the same method, body and key."""
    face = Face(kind, upstream.host, api_key="secret")
    path = CHAT[upstream.wire]
    upstream.server.script(redirect(code, f"{path}?again"), path=path)
    upstream.script(say("Hello"))
    face.chat().whole("Hello")
    first, second = upstream.server.requests
    assert (second.method, second.path, second.query) == ("POST", path, "again")
    assert second.json == first.json
    assert second.header("authorization") == "Bearer secret"
    upstream.is_let_go(face, 2)


def test_u23_another_port_gets_no_key(kind: str) -> None:
    """Another port of the same host is followed, but gets no key."""
    with FakeOllama() as first, FakeOllama() as second:
        first.script(redirect(307, f"{second.url}/api/chat"), path="/api/chat")
        second.script(say("Hello"))
        Face(kind, first.url, api_key="secret").chat().whole("Hello")
        assert first.requests[0].header("authorization") == "Bearer secret"
        assert second.requests[0].header("authorization") is None
        assert second.requests[0].json == first.requests[0].json


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_u23_redirect_to_another_host(kind: str, code: int) -> None:
    """A redirect to another host is refused, and that host hears nothing."""
    with FakeOllama() as first, FakeOllama() as second:
        face = Face(kind, first.url, api_key="secret")
        first.script(redirect(code, f"http://localhost:{second.port}/api/chat"), path="/api/chat")
        seen = face.chat()
        shown = seen.broke(NotModelServerError, Outcome.FAILED)
        assert f"redirects to http://localhost:{second.port}" in shown
        assert seen.error is not None
        assert seen.error.hint == "if that is the model server, name it as the upstream yourself"
        assert second.requests == []
        assert first.wait_until_idle()


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/", "//localhost/x", "http://[", "gopher://x"]
)
def test_u23_redirect_to_nowhere(upstream: Upstream, kind: str, target: str) -> None:
    """A redirect to what is no address, or to another scheme, is refused with an error of ours."""
    face = Face(kind, upstream.host)
    upstream.server.script(redirect(302, target), path=CHAT[upstream.wire])
    face.chat().broke(NotModelServerError, Outcome.FAILED)
    upstream.is_let_go(face)


def test_u23_redirect_in_circles(upstream: Upstream, kind: str) -> None:
    """A circle is left after a few rounds."""
    upstream.server.always(redirect(302, CHAT[upstream.wire]), path=CHAT[upstream.wire])
    shown = Face(kind, upstream.host).chat().broke(NotModelServerError, Outcome.FAILED)
    assert "redirects in circles" in shown
    assert len(upstream.server.requests) == 6
    assert upstream.server.wait_until_idle()


def test_u23_redirects_switched_off(upstream: Upstream, kind: str) -> None:
    """With `follow_redirects=False` none is followed."""
    face = Face(kind, upstream.host, follow_redirects=False)
    upstream.server.script(redirect(307, CHAT[upstream.wire]), path=CHAT[upstream.wire])
    face.chat().broke(NotModelServerError, Outcome.FAILED)
    upstream.is_let_go(face)


# U25: busy servers

BUSY = {"error": "server busy, please try again.  maximum pending requests exceeded"}


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes the waits between two tries short, and notes how long they would have been."""
    from tailrace.backends import base

    waits: list[float] = []

    async def sleep_less(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(base, "sleep", sleep_less)
    return waits


@pytest.mark.parametrize("code", [503, 429])
def test_u25_busy_then_free(upstream: Upstream, kind: str, code: int, hurry: list[float]) -> None:
    """A busy server is asked again before the first token, after waits that grow and are spread; the wait is seen."""
    face = Face(kind, upstream.host)
    upstream.script(status(code, BUSY))
    upstream.script(status(code, BUSY))
    upstream.script(say("Hello"))
    seen = face.chat()
    seen.whole("Hello")
    assert seen.events[:2] == [Queued(retry_in=hurry[0]), Queued(retry_in=hurry[1])]
    assert 0.25 <= hurry[0] <= 0.75
    assert 0.5 <= hurry[1] <= 1.5
    assert len({request.body for request in upstream.server.requests}) == 1
    upstream.is_let_go(face, 3)


@pytest.mark.parametrize("code", [503, 429])
def test_u25_busy_for_good(upstream: Upstream, kind: str, code: int, hurry: list[float]) -> None:
    """A server that stays busy is asked three times in all."""
    face = Face(kind, upstream.host)
    for _ in range(3):
        upstream.script(status(code, BUSY))
    seen = face.chat()
    seen.broke(BusyError, Outcome.FAILED)
    assert isinstance(seen.error, BusyError)
    assert (seen.error.error, seen.error.status_code, seen.error.retry_after) == (BUSY["error"], code, None)
    assert len(seen.queued) == len(hurry) == 2
    upstream.is_let_go(face, 3)


def test_u25_retry_after(upstream: Upstream, kind: str, hurry: list[float]) -> None:
    """The server's own Retry-After is kept to."""
    upstream.script(status(503, BUSY, {"Retry-After": "7"}))
    upstream.script(status(429, BUSY, {"Retry-After": "0"}))
    upstream.script(say("Hello"))
    seen = Face(kind, upstream.host).chat()
    seen.whole("Hello")
    assert hurry == [7, 0]
    assert seen.queued == [Queued(retry_in=7), Queued(retry_in=0)]


def test_u25_retry_after_too_long(upstream: Upstream, kind: str, hurry: list[float]) -> None:
    """A server that wants to be left alone for long is: its error says for how long."""
    upstream.script(status(429, BUSY, {"Retry-After": "3600"}))
    seen = Face(kind, upstream.host).chat()
    seen.broke(BusyError, Outcome.FAILED)
    assert isinstance(seen.error, BusyError)
    assert seen.error.retry_after == 3600
    assert (len(upstream.server.requests), hurry) == (1, [])


@pytest.mark.parametrize("value", ["soon", "-1", "Wed, 99 Oct 2026 07:28:00 GMT", "1e9", ""])
def test_u25_retry_after_of_no_use(upstream: Upstream, kind: str, value: str, hurry: list[float]) -> None:
    """A Retry-After that is no number of seconds is as good as none."""
    upstream.script(status(503, BUSY, {"Retry-After": value}))
    upstream.script(say("Hello"))
    Face(kind, upstream.host).chat().whole("Hello")
    assert 0.25 <= hurry[0] <= 0.75


def test_u25_cancelled_while_it_waits(upstream: Upstream, kind: str) -> None:
    """A run that waits for its next try can be cancelled, and does not try then."""
    face = Face(kind, upstream.host)
    upstream.script(status(503, BUSY, {"Retry-After": "25"}))
    seen = face.cancelled(upstream.server, "ended")
    assert seen.ended.outcome is Outcome.CANCELLED
    upstream.is_let_go(face)


def test_u25_never_after_content(upstream: Upstream, kind: str, hurry: list[float]) -> None:
    """A busy error inside the stream is an error: nothing is asked twice after the first token."""
    code = {"StatusCode": 503} if upstream.wire == "ollama" else {"code": 503}
    upstream.script(say("Hel", "lo"), error(BUSY["error"], **code))
    face = Face(kind, upstream.host)
    face.chat().broke(ResponseError, Outcome.FAILED, "Hello")
    assert hurry == []
    upstream.is_let_go(face)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 500, 502, 504])
def test_u25_other_errors_are_not_retried(upstream: Upstream, kind: str, code: int, hurry: list[float]) -> None:
    """Only a busy server is asked again."""
    upstream.script(status(code, {"error": "no"}))
    Face(kind, upstream.host).chat().broke(ResponseError, Outcome.FAILED)
    assert (len(upstream.server.requests), hurry) == (1, [])
