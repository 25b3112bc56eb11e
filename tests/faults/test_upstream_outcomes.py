"""What a server does that is no answer, or hardly one: U33 to U41, U43 and U44, on real sockets."""

from __future__ import annotations

import asyncio
import errno
import os
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from tests.faults.faces import MESSAGES, Face, Upstream

from tailrace.errors import BusyError, ConnectionError, ProtocolError, ResponseError
from tailrace.events import Outcome, ToolCall
from tailrace.testing import (
    FakeOllama,
    FakeOpenAI,
    done,
    error,
    error_as,
    fin,
    head,
    raw,
    say,
    stall,
    status,
    tool_call,
    tool_fragment,
    unframed,
    whole,
)
from tailrace.transport.connect import _mapped

DONE = raw(b"data: [DONE]\n\n")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the moment short after which an answer is taken for whole."""
    monkeypatch.setattr("tailrace.backends.base.SETTLE", 0.2)


@pytest.mark.parametrize("form", ["event", "object", "code", "detail", "field", "bare"])
def test_u33_u34_errors_of_every_form(openai: Upstream, kind: str, form: Any) -> None:
    """An error is one in whatever form it is said, with the server's words, though `[DONE]` follows."""
    face = Face(kind, openai.host)
    openai.script(say("Hel", "lo"), error_as(form, "the sky fell"), DONE)
    seen = face.chat()
    seen.broke(ResponseError, Outcome.FAILED, "Hello")
    assert isinstance(seen.error, ResponseError)
    assert seen.error.error == "the sky fell"
    assert seen.ended.warnings == ()
    openai.is_let_go(face)


@pytest.mark.parametrize("reason", ["error", "abort", "banana"])
def test_u35_a_reason_that_is_no_success(upstream: Upstream, kind: str, reason: str) -> None:
    """A reason that nobody knows as a success fails the run; the text is kept."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), done(reason))
    seen = face.chat()
    assert reason in seen.broke(ResponseError, Outcome.FAILED, "Hello")
    assert seen.ended.reason == reason
    upstream.is_let_go(face)


@pytest.mark.parametrize(
    "body",
    ["Hello, I am no model server", "<html><body>Hi</body></html>", {"ok": True}, b'{"a":1}\n{"b":2}\n'],
    ids=["text", "html", "json", "ndjson"],
)
def test_u36_something_else_at_200(upstream: Upstream, kind: str, body: Any) -> None:
    """What came is shown, with what was expected."""
    upstream.script(status(200, body, content_type="text/plain"))
    seen = Face(kind, upstream.host).chat()
    message = seen.broke(ProtocolError, Outcome.FAILED)
    assert "protocol" in message
    assert {"str": str(body)[:10], "dict": '{"ok":true}', "bytes": '{"a":1}'}[type(body).__name__] in message


def test_u37_odd_members(upstream: Upstream, kind: str) -> None:
    """Members of another type that are merely reported cost no text."""
    odd: dict[str, Any] = {"status": "busy", "context": "x", "usage": "many", "timings": [], "total": 1.5}
    upstream.script(say("Hel", "lo", **odd), done("stop", eval_count="12", prompt_eval_count=7.5))
    reply = Face(kind, upstream.host).chat().whole("Hello")
    assert reply.usage is not None
    assert (reply.usage.output_tokens, reply.usage.prompt_tokens) == (12, 7)


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_u38_silence_after_the_reason(upstream: Upstream, kind: str, reason: str, soon: None) -> None:
    """An answer whose reason came is whole; silence after it ends in a moment, with a warning."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), done(reason, marker=False), stall())
    reply = face.chat().whole("Hello", Outcome.LENGTH if reason == "length" else Outcome.COMPLETE)
    assert [warning for warning in reply.warnings if "fell silent" in warning] == list(reply.warnings)
    assert upstream.server.requests[0].wait_until_left()
    upstream.is_let_go(face)


@pytest.mark.parametrize("indent", [None, 2])
def test_u38_silence_after_a_whole_answer(upstream: Upstream, kind: str, indent: int | None, soon: None) -> None:
    """A final record, or a document, that is complete but for its line end or the server's closing is whole too."""
    text = {
        "ollama": b'{"message":{"content":"Hello"},\n"done":true,"done_reason":"stop"}',
        "openai": b'{"choices":[{"message":{"content":"Hello"},\n"finish_reason":"stop"}]}',
    }[upstream.wire]
    upstream.script(head(content_type="application/json"), raw(text if indent else text.replace(b"\n", b"")), stall())
    Face(kind, upstream.host).chat().whole("Hello")
    assert upstream.server.requests[0].wait_until_left()


def test_u38_pings_after_the_reason(openai: Upstream, kind: str, soon: None) -> None:
    """Comments after the reason are no life."""
    openai.script(say("Hello"), done(marker=False), *[raw(b": ping\n\n")] * 50, stall())
    Face(kind, openai.host).chat().whole("Hello")


def test_u38_usage_after_the_reason(openai: Upstream, kind: str) -> None:
    """What comes after the reason within the moment still counts."""
    openai.script(say("Hello"), done(marker=False), raw(b'data: {"choices":[],"usage":{"prompt_tokens":9}}\n\n'), fin())
    reply = Face(kind, openai.host).chat().whole("Hello")
    assert reply.usage is not None
    assert reply.usage.prompt_tokens == 9


def test_u39_calls_are_kept_apart(openai: Upstream, kind: str) -> None:
    """Fragments without an index, and two ids at one index."""
    openai.script(
        tool_fragment(None, name="f", id="a"),
        tool_fragment(None, '{"x":1}'),
        tool_fragment(None, '{"y":2}', name="g", id="b"),
        done("tool_calls"),
    )
    calls = Face(kind, openai.host).chat().reply.tool_calls
    assert calls == [ToolCall("f", {"x": 1}, "a", 0), ToolCall("g", {"y": 2}, "b", 1)]


def test_u39_arguments_as_text(ollama: Upstream, kind: str) -> None:
    """Arguments as JSON text on Ollama's wire."""
    ollama.script(tool_call("f", '{"x":1}', id="a"), tool_call("g", "oops", id="b"), done())
    calls = Face(kind, ollama.host).chat().reply.tool_calls
    assert calls == [ToolCall("f", {"x": 1}, "a", 0), ToolCall("g", {}, "b", 1, "oops")]


@pytest.mark.parametrize("indent", [None, 4])
def test_u40_a_document(upstream: Upstream, kind: str, indent: int | None) -> None:
    """A whole answer is a JSON document, whatever its white space, streamed or not."""
    upstream.server.always(whole(indent), say("Hello"), done())
    face = Face(kind, upstream.host)
    face.chat().whole("Hello")
    assert face.call("chat", "m", MESSAGES).message.content == "Hello"


@pytest.mark.parametrize("indent", [None, 4])
def test_u40_a_document_without_done(ollama: Upstream, kind: str, indent: int | None) -> None:
    """Where nothing was to be streamed, a complete body without `done` is an answer."""
    ollama.script(whole(indent), say("Hello"), done(None, marker=False))
    assert Face(kind, ollama.host).call("chat", "m", MESSAGES).message.content == "Hello"
    for method in ("pull", "push", "create"):
        ollama.server.script(status(200, b'{\n "status":\n "success"\n}\n'), path=f"/api/{method}")
        assert Face(kind, ollama.host).call(method, "m").status == "success"


@pytest.mark.parametrize("code", [600, 777, 999])
def test_u41_a_status_beyond_http(upstream: Upstream, kind: str, code: int) -> None:
    """A status of no meaning is told as it is, and in a stream not taken for one."""
    upstream.script(status(code, {"error": "what"}))
    seen = Face(kind, upstream.host).chat()
    seen.broke(ResponseError, Outcome.FAILED)
    assert isinstance(seen.error, ResponseError)
    assert seen.error.status_code == code
    upstream.script(error("what", **{"StatusCode" if upstream.wire == "ollama" else "code": code}))
    seen = Face(kind, upstream.host).chat()
    assert isinstance(seen.error, ResponseError)
    assert seen.error.status_code == -1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"detail": "no such thing"}, "no such thing"),
        (
            {"detail": [{"loc": ["body", "model"], "msg": "Field required"}, {"loc": ["body"], "msg": "no"}]},
            "body.model: Field required; body: no",
        ),
        ({"message": "no such thing"}, "no such thing"),
        ({"error": "invalid_request", "error_description": "no such thing"}, "invalid_request: no such thing"),
        ({"title": "Bad Request", "detail": "no such thing", "status": 422}, "no such thing"),
        ({"object": "error", "message": "no such thing", "code": 422}, "no such thing"),
        ({"text": "no such thing", "error_code": 40001}, "no such thing"),
        ({"unknown": "no such thing"}, '{"unknown":"no such thing"}'),
        (["no such thing"], '["no such thing"]'),
        ("x" * 65_536, "x" * 2000 + "…"),
        ({"error": "x" * 65_000}, "x" * 2000 + "…"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_u44_others_error_bodies(upstream: Upstream, kind: str, body: Any, words: str) -> None:
    """A refusal has the server's own words, whoever made the server, cut to what a terminal bears."""
    upstream.script(status(422, body))
    seen = Face(kind, upstream.host).chat()
    seen.broke(ResponseError, Outcome.FAILED)
    assert isinstance(seen.error, ResponseError)
    assert (seen.error.error, seen.error.status_code) == (words, 422)


@pytest.mark.parametrize(("ahead", "least", "most"), [(3600, 3500, 3600), (-50, 0, 0)])
@pytest.mark.parametrize("skewed", [False, True], ids=["our clock", "its clock"])
def test_u44_retry_after_as_a_date(
    upstream: Upstream, kind: str, ahead: int, least: int, most: int, skewed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A date is as good as a number of seconds; it is the server's clock that counts, where it tells the time."""
    monkeypatch.setattr("tailrace.backends.base.RETRIES", 0)
    now = datetime.now(UTC) - timedelta(days=300 if skewed else 0)
    headers = {"Retry-After": format_datetime(now + timedelta(seconds=ahead), usegmt=True)}
    if skewed:
        lines = (
            f"HTTP/1.1 503 Busy\r\nDate: {format_datetime(now, usegmt=True)}\r\nRetry-After: {headers['Retry-After']}"
        )
        upstream.script(unframed(f"{lines}\r\nContent-Length: 4\r\n\r\nbusy".encode()))
    else:
        upstream.script(status(503, "busy", headers))
    seen = Face(kind, upstream.host).chat()
    seen.broke(BusyError, Outcome.FAILED)
    assert isinstance(seen.error, BusyError)
    assert seen.error.retry_after is not None
    assert least <= seen.error.retry_after <= most


def test_u44_a_base_url_without_its_version(kind: str) -> None:
    """Where there is no such path, and the base URL has no `/v1`, that is the hint."""
    with FakeOpenAI() as server:
        server.always(status(404, "Not Found"), path="/chat/completions")
        seen = Face(kind, f"openai:{server.url}").chat()
        seen.broke(ResponseError, Outcome.FAILED)
        assert seen.error is not None
        assert f"openai:{server.url}/v1" in seen.error.hint


def test_u44_too_many_open_files(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that may open no more files says that, and not that nothing answers."""

    async def full(host: str, port: int) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with FakeOllama() as server:
        monkeypatch.setattr("tailrace.transport.connect._addresses", full)
        seen = Face(kind, server.url).chat()
    message = seen.broke(ConnectionError, Outcome.FAILED)
    assert message == f"cannot connect to {server.url}: too many open files"
    assert seen.error is not None
    assert "ulimit" in seen.error.hint
    assert "nothing answers" in str(_mapped(OSError(errno.ECONNREFUSED, "refused"), "x"))


@pytest.mark.long
def test_u43_much_of_nothing_is_cheap(upstream: Upstream, kind: str) -> None:
    """Megabytes of blanks, of blank lines and of one line end at the limit, in time that grows with their length."""
    face = Face(kind, upstream.host)
    for junk in (b" " * 2**20, b"\n" * 2**20, b'{"x":"' + b"y" * 2**20):
        upstream.script(head(content_type="text/event-stream"), *[raw(junk)] * 18, stall())
        face.chat().broke(ProtocolError, Outcome.FAILED)


def test_settling_moves_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often something comes that may be the last, one timer is set for it."""
    from tailrace.backends.base import _Silence

    async def run() -> int:
        loop = asyncio.get_running_loop()
        timers = []

        def call_later(*arguments: Any) -> asyncio.TimerHandle:
            timers.append(arguments)
            return asyncio.TimerHandle(0, print, (), loop)

        monkeypatch.setattr(loop, "call_later", call_later)
        silence = _Silence(lambda: None)
        for _ in range(100):
            silence.heard(True)
        return len(timers)

    assert asyncio.run(run()) == 1
