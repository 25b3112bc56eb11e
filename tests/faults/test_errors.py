"""Every error of both wires, before the stream and inside it, row by row: class, text and status."""

from __future__ import annotations

from typing import Any

import pytest
from tests.faults.faces import MESSAGES, Face, Upstream

from tailrace.errors import (
    BusyError,
    ModelNotFoundError,
    OwnerLostError,
    ProtocolError,
    ResponseError,
    StreamError,
    TailraceError,
    TruncatedError,
    UnsupportedError,
)
from tailrace.events import Fault, Outcome
from tailrace.testing import FakeOllama, chunk, error, fin, raw, say, status

BUSY = "server busy, please try again.  maximum pending requests exceeded"
RUNNER = '{"error":{"code":400,"message":"the request exceeds the context","type":"exceed_context_size_error"}}'
CANNOT = "registry.ollama.ai/library/m:latest does not support tools"
FORBIDDEN = "forbidden: the server does not accept this Host or Origin"
MISSING = "the server does not have this path; is it the right kind of upstream?"

# wire.md A8: status, body, class, text.
BEFORE: list[tuple[int, Any, type[ResponseError], str]] = [
    (400, {"error": "missing request body"}, ResponseError, "missing request body"),
    (400, {"error": "json: cannot unmarshal array"}, ResponseError, "json: cannot unmarshal array"),
    (400, {"error": "model is required"}, ResponseError, "model is required"),
    (400, {"error": "invalid model name"}, ResponseError, "invalid model name"),
    (400, {"error": '"m" does not support thinking'}, ResponseError, '"m" does not support thinking'),
    (400, {"error": '"m" does not support generate'}, ResponseError, '"m" does not support generate'),
    (400, {"error": CANNOT}, ResponseError, CANNOT),
    (400, {"error": RUNNER}, ResponseError, "the request exceeds the context"),
    (401, {"error": "unauthorized", "signin_url": "https://ollama.com/connect"}, ResponseError, "unauthorized"),
    (403, {"error": "ollama cloud is disabled: x"}, ResponseError, "ollama cloud is disabled: x"),
    (403, None, ResponseError, FORBIDDEN),
    (404, {"error": "model 'x' not found"}, ModelNotFoundError, "model 'x' not found"),
    (404, {"error": "model '' not found"}, ModelNotFoundError, "model '' not found"),
    (
        404,
        {"error": 'model "x" not found, try pulling it first'},
        ModelNotFoundError,
        'model "x" not found, try pulling it first',
    ),
    (404, "404 page not found", ResponseError, "404 page not found"),
    (404, None, ResponseError, MISSING),
    (429, {"error": "too many requests"}, BusyError, "too many requests"),
    (499, {"error": "request canceled"}, ResponseError, "request canceled"),
    (500, {"error": "llama-server process has terminated: x"}, ResponseError, "llama-server process has terminated: x"),
    (
        500,
        {"error": "timed out waiting for llama-server to start - x"},
        ResponseError,
        "timed out waiting for llama-server to start - x",
    ),
    (
        500,
        {"error": "model runner has unexpectedly stopped, x"},
        ResponseError,
        "model runner has unexpectedly stopped, x",
    ),
    (500, {"error": 'option "stop" must be of type array'}, ResponseError, 'option "stop" must be of type array'),
    (501, {"error": "not here"}, UnsupportedError, "not here"),
    (502, {"error": "dial tcp: no route"}, ResponseError, "dial tcp: no route"),
    (503, {"error": BUSY}, BusyError, BUSY),
]
# Where each of them may come from: method, path, arguments.
CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "chat": ("/api/chat", ("m", MESSAGES)),
    "generate": ("/api/generate", ("m", "hi")),
    "pull": ("/api/pull", ("m",)),
    "push": ("/api/push", ("m",)),
    "create": ("/api/create", ("m",)),
    "show": ("/api/show", ("m",)),
    "embed": ("/api/embed", ("m", "hi")),
    "embeddings": ("/api/embeddings", ("m", "hi")),
    "list": ("/api/tags", ()),
    "ps": ("/api/ps", ()),
    "version": ("/api/version", ()),
    "delete": ("/api/delete", ("m",)),
    "copy": ("/api/copy", ("m", "n")),
}
STREAMS = ("chat", "generate", "pull", "push", "create")


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Busy servers are asked once only: their patience has tests of its own."""
    monkeypatch.setattr("tailrace.backends.base.RETRIES", 0)


def says(caught: TailraceError | None, kind: type[ResponseError], text: str, code: int) -> None:
    """Asserts what an error of a server's answer is."""
    assert type(caught) is kind, repr(caught)
    assert isinstance(caught, ResponseError)
    assert (caught.error, caught.status_code, str(caught)) == (text, code, f"{text} (status code: {code})")


@pytest.mark.parametrize("method", ["chat", "generate", "pull"])
@pytest.mark.parametrize(("code", "body", "expected", "text"), BEFORE)
def test_a8_before_a_stream(
    ollama: Upstream, kind: str, method: str, code: int, body: Any, expected: type[ResponseError], text: str
) -> None:
    """An error before the first chunk keeps its status and its text; the run has failed, without text."""
    path, arguments = CALLS[method]
    ollama.server.script(status(code, body), path=path)
    seen = Face(kind, ollama.host).stream(method, *arguments)
    seen.broke(expected, Outcome.FAILED)
    says(seen.error, expected, text, code)
    assert seen.ended.fault is not None
    assert (seen.ended.fault.kind, seen.ended.fault.message) == (expected.__name__, text)
    assert seen.ended.fault.status_code == code
    assert ollama.server.wait_until_idle()


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(("code", "body", "expected", "text"), BEFORE)
def test_a8_without_a_stream(
    ollama: Upstream, kind: str, method: str, code: int, body: Any, expected: type[ResponseError], text: str
) -> None:
    """Whole and single answers raise the same."""
    path, arguments = CALLS[method]
    ollama.server.script(status(code, body), path=path)
    with pytest.raises(ResponseError) as caught:
        Face(kind, ollama.host).call(method, *arguments)
    says(caught.value, expected, text, code)
    assert ollama.server.wait_until_idle()


def test_a8_the_fakes_own_refusals(kind: str) -> None:
    """A model that the server does not have, by every method that names one; there is a hint what to do."""
    with FakeOllama(models=["there"]) as server:
        face = Face(kind, server.url)
        for method, arguments in (
            ("chat", ("m", MESSAGES)),
            ("generate", ("m", "x")),
            ("show", ("m",)),
            ("delete", ("m",)),
        ):
            with pytest.raises(ModelNotFoundError) as caught:
                face.call(method, *arguments)
            says(caught.value, ModelNotFoundError, "model 'm' not found", 404)
            assert caught.value.hint == "pull it first, or name one of those that list() shows"
        for method in ("embed", "embeddings"):
            with pytest.raises(ModelNotFoundError, match='model "m" not found, try pulling it first'):
                face.call(method, "m", "hi")


# wire.md A9: the line, its class, text and status.
INSIDE: list[tuple[Any, str, int]] = [
    ({"error": "boom"}, "boom", -1),
    (
        {"error": "an error was encountered while running the model: EOF"},
        "an error was encountered while running the model: EOF",
        -1,
    ),
    ({"StatusCode": 429, "Status": "429 Too Many Requests", "error": "slow down"}, "slow down", 429),
    ({"error": "unauthorized", "signin_url": "https://ollama.com/connect"}, "unauthorized", -1),
    ({"error": {"message": "inside", "type": "x"}}, "inside", -1),
    ({"error": {"type": "x"}}, '{"type": "x"}', -1),
    ({"error": RUNNER}, "the request exceeds the context", -1),
    ({"error": ["a", 1]}, "['a', 1]", -1),
    ({"error": 17}, "17", -1),
]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("method", ["chat", "generate"])
@pytest.mark.parametrize(("line", "text", "code"), INSIDE)
def test_a9_inside_a_stream(
    ollama: Upstream, kind: str, stream: bool, method: str, line: Any, text: str, code: int
) -> None:
    """An error line ends the answer, whatever the form of its error; what came before is kept."""
    path, arguments = CALLS[method]
    face = Face(kind, ollama.host)
    if stream:
        ollama.server.script(say("Hel", "lo"), chunk(line), fin(), path=path)
        seen = face.stream(method, *arguments)
        seen.broke(ResponseError, Outcome.FAILED, "Hello")
        says(seen.error, ResponseError, text, code)
    else:
        ollama.server.script(status(200, line), path=path)
        with pytest.raises(ResponseError) as caught:
            face.call(method, *arguments)
        says(caught.value, ResponseError, text, code)
    ollama.is_let_go(face)


def test_a9_without_a_line_end_between(ollama: Upstream, kind: str) -> None:
    """An error that a remote model's server appended right behind a line is found there."""
    line = b'{"message":{"content":"lo"},"done":false}{"StatusCode":502,"Status":"Bad Gateway","error":"remote"}'
    ollama.script(say("Hel"), raw(line), fin())
    seen = Face(kind, ollama.host).chat()
    seen.broke(ResponseError, Outcome.FAILED, "Hello")
    says(seen.error, ResponseError, "remote", 502)


@pytest.mark.parametrize("empty", ["", None, {}, False])
def test_a9_an_error_that_is_none(ollama: Upstream, kind: str, empty: Any) -> None:
    """An empty error is none, as in Ollama's own client."""
    ollama.script(say("Hel"), chunk({"message": {"content": "lo"}, "error": empty, "done": True}))
    Face(kind, ollama.host).chat().whole("Hello")


@pytest.mark.parametrize("method", ["pull", "push", "create"])
def test_a9_progress(ollama: Upstream, kind: str, method: str) -> None:
    """A pull, push or create that fails after its first line raises the server's text."""
    path, arguments = CALLS[method]
    text = "pull model manifest: file does not exist"
    for stream in (True, False):
        ollama.server.script(chunk({"status": "pulling manifest"}), error(text), path=path)
        face = Face(kind, ollama.host)
        if stream:
            seen = face.stream(method, *arguments)
            seen.broke(ResponseError, Outcome.FAILED)
            says(seen.error, ResponseError, text, -1)
        else:
            with pytest.raises(ResponseError) as caught:
                face.call(method, *arguments)
            says(caught.value, ResponseError, text, 500)


def test_a9_silent_ending(ollama: Upstream, kind: str) -> None:
    """An end without `done: true` is an error on whole answers as well."""
    ollama.script(chunk({"message": {"content": "Hello"}, "done": False}))
    with pytest.raises(TruncatedError):
        Face(kind, ollama.host).call("chat", "m", MESSAGES)


# wire.md C2, C6: status, error object, class, text.
OPENAI_BEFORE: list[tuple[int, Any, type[ResponseError], str]] = [
    (400, {"code": 400, "message": "bad field", "type": "invalid_request_error"}, ResponseError, "bad field"),
    (
        400,
        {"code": 400, "message": "too long", "type": "exceed_context_size_error", "n_ctx": 9},
        ResponseError,
        "too long",
    ),
    (
        401,
        {"code": 401, "message": "Invalid API Key", "type": "authentication_error"},
        ResponseError,
        "Invalid API Key",
    ),
    (404, {"code": 404, "message": "File Not Found", "type": "not_found_error"}, ResponseError, "File Not Found"),
    (404, {"message": "model 'x' not found", "type": "not_found_error"}, ModelNotFoundError, "model 'x' not found"),
    (
        404,
        {"message": "The model `x` does not exist.", "code": 404},
        ModelNotFoundError,
        "The model `x` does not exist.",
    ),
    (429, {"message": "Rate limit reached", "type": "requests"}, BusyError, "Rate limit reached"),
    (500, {"message": "boom", "type": "server_error"}, ResponseError, "boom"),
    (501, {"message": "not supported", "type": "not_supported_error"}, UnsupportedError, "not supported"),
    (503, {"code": 503, "message": "Loading model", "type": "unavailable_error"}, BusyError, "Loading model"),
]
OPENAI_CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "chat": ("/v1/chat/completions", ("m", MESSAGES)),
    "generate": ("/v1/completions", ("m", "hi")),
    "embed": ("/v1/embeddings", ("m", "hi")),
    "list": ("/v1/models", ()),
}


@pytest.mark.parametrize("method", OPENAI_CALLS)
@pytest.mark.parametrize(("code", "value", "expected", "text"), OPENAI_BEFORE)
def test_c6_before_a_stream(
    openai: Upstream, kind: str, method: str, code: int, value: Any, expected: type[ResponseError], text: str
) -> None:
    """The same on OpenAI's wire, streamed or not."""
    path, arguments = OPENAI_CALLS[method]
    face = Face(kind, openai.host)
    openai.server.script(status(code, {"error": value}), path=path)
    with pytest.raises(ResponseError) as caught:
        face.call(method, *arguments)
    says(caught.value, expected, text, code)
    if method in STREAMS:
        openai.server.script(status(code, {"error": value}), path=path)
        seen = face.stream(method, *arguments)
        seen.broke(expected, Outcome.FAILED)
        says(seen.error, expected, text, code)
    assert openai.server.wait_until_idle()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("value", "text", "code"),
    [
        (
            {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"},
            "Context size has been exceeded.",
            500,
        ),
        ({"message": "boom", "type": "server_error", "param": None, "code": None}, "boom", -1),
        ({"message": "boom", "code": "server_error"}, "boom", -1),
        ("just text", "just text", -1),
    ],
)
def test_c6_inside_a_stream(openai: Upstream, kind: str, stream: bool, value: Any, text: str, code: int) -> None:
    """An error event ends the answer, though no `[DONE]` follows; what came before is kept."""
    face = Face(kind, openai.host)
    openai.script(say("Hel", "lo"), chunk({"error": value}), fin())
    if stream:
        seen = face.chat()
        seen.broke(ResponseError, Outcome.FAILED, "Hello")
        says(seen.error, ResponseError, text, code)
    else:
        with pytest.raises(ResponseError) as caught:
            face.call("chat", "m", MESSAGES)
        says(caught.value, ResponseError, text, code)
        assert caught.value.reply.text == "Hello"
    openai.is_let_go(face)


@pytest.mark.parametrize("stream", [True, False])
def test_c2_the_error_that_ollama_hides(kind: str, stream: bool) -> None:
    """Ollama's /v1 turns an error of the model into an empty chunk and a plain end: that is truncated, and says why."""
    with FakeOllama() as server:
        server.script(say("Hel", "lo"), error("boom"), fin(), path="/v1/chat/completions")
        face = Face(kind, f"openai:{server.url}/v1")
        if stream:
            shown = face.chat().broke(TruncatedError, Outcome.TRUNCATED, "Hello")
        else:
            with pytest.raises(TruncatedError) as caught:
                face.call("chat", "m", MESSAGES)
            shown = str(caught.value)
        assert "Ollama's /v1 hides an error of the model this way; its log has the cause" in shown
        assert server.wait_until_idle()


@pytest.mark.parametrize("method", ["ps", "show", "version", "delete", "copy", "pull", "push", "create", "embeddings"])
def test_what_openai_cannot_do(openai: Upstream, kind: str, method: str) -> None:
    """What OpenAI's protocol does not have raises before anything is sent."""
    _, arguments = CALLS[method]
    with pytest.raises(UnsupportedError) as caught:
        Face(kind, openai.host).call(method, *arguments)
    assert caught.value.status_code == 501
    assert openai.server.requests == []


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"null", b'{"models": 5}', b'{"models": [5]}', b"\xff"])
def test_single_answers_that_are_none(ollama: Upstream, kind: str, body: bytes) -> None:
    """A single answer that is not the protocol's is an error of ours."""
    ollama.server.script(status(200, body, content_type="application/json"), path="/api/tags")
    with pytest.raises(ProtocolError):
        Face(kind, ollama.host).call("list")


def test_every_error_has_its_place() -> None:
    """Whatever kind a fault names, its error is in the tree, and is raised as that class."""
    from tailrace.events import Ended
    from tailrace.run.run import error_of

    for name in ("OwnerLostError", "StreamError", "NoSuchError"):
        caught = error_of(Ended(Outcome.FAILED, fault=Fault(name, "x")))
        expected = {"OwnerLostError": OwnerLostError, "StreamError": StreamError}.get(name, TailraceError)
        assert (type(caught), str(caught)) == (expected, "x")
