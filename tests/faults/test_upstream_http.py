"""Upstream faults in HTTP itself and on the way to the server: U18, U21 to U25, U28, U29."""

from __future__ import annotations

import gzip as gzip_module
import ipaddress
import socket
import threading
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.faults.faces import MESSAGES, Face, Upstream

from tailrace.errors import (
    BusyError,
    ConnectionError,
    NotModelServerError,
    ProtocolError,
    ResponseError,
    TruncatedError,
)
from tailrace.events import Event, Outcome, Queued
from tailrace.testing import (
    FakeOllama,
    Step,
    bad_chunk_size,
    close_delimited,
    closed_port,
    cut,
    done,
    error,
    fin,
    gzip,
    head,
    header_flood,
    hold,
    html,
    interim,
    raw,
    redirect,
    rst,
    say,
    split,
    stall,
    status,
    together,
    unframed,
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
        ({"detail": "something else"}, '{"detail":"something else"}'),
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
    assert seen.error.error == "x" * 65536
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


# U24: packed bodies


@pytest.mark.parametrize("pieces", [None, 1, 7])
def test_u24_gzip(upstream: Upstream, kind: str, pieces: int | None) -> None:
    """A packed answer, though nobody asked for one, is unpacked, wherever the network cut it."""
    face = Face(kind, upstream.host)
    upstream.script(gzip(), *([split(every=pieces)] if pieces else []), say("Hel", "lo, 水"), done())
    face.chat().whole("Hello, 水")
    assert upstream.server.requests[0].header("accept-encoding") == "identity"
    upstream.is_let_go(face)


def test_u24_gzip_as_it_comes(upstream: Upstream, kind: str) -> None:
    """Each flush of the server is an event here, while the next is still held back."""
    seen: list[str] = []

    def watch(event: Event) -> None:
        seen.append(getattr(event, "text", ""))
        upstream.server.release("hold")

    upstream.script(gzip(), say("Hel"), hold(), say("lo"), hold(), done())
    Face(kind, upstream.host).chat(watch).whole("Hello")
    assert seen == ["Hel", "lo", ""]


def test_u24_gzip_members(ollama: Upstream, kind: str) -> None:
    """Several gzip members after one another are one body, as the standard has it."""
    lines = [b'{"message":{"content":"Hel"},"done":false}\n', b'{"message":{"content":"lo"},"done":true}\n']
    body = b"".join(map(gzip_module.compress, lines))
    for pieces in ([body], [body[:30], body[30:]], [body[i : i + 1] for i in range(len(body))]):
        ollama.script(head(headers={"Content-Encoding": "gzip"}), *map(raw, pieces), fin())
        Face(kind, ollama.host).chat().whole("Hello")


def test_u24_deflate(ollama: Upstream, kind: str) -> None:
    """Deflate is unpacked too."""
    body = zlib.compress(b'{"message":{"content":"Hello"},"done":true}\n')
    ollama.script(head(headers={"Content-Encoding": "deflate"}), split(every=5), raw(body), fin())
    Face(kind, ollama.host).chat().whole("Hello")


def test_u24_gzip_cut_short(upstream: Upstream, kind: str) -> None:
    """A packed answer that stops early is truncated; what could be unpacked is kept."""
    face = Face(kind, upstream.host)
    upstream.script(gzip(truncated=True), say("Hel", "lo"), fin())
    face.chat().broke(TruncatedError, Outcome.TRUNCATED, "Hello")
    upstream.is_let_go(face)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, br", "nonsense"])
def test_u24_a_lie(upstream: Upstream, kind: str, encoding: str) -> None:
    """A body that is not packed as its header says, or in a way that nobody asked for, is an error of ours."""
    face = Face(kind, upstream.host)
    upstream.script(head(headers={"Content-Encoding": encoding}), say("Hello"))
    face.chat().broke(ProtocolError, Outcome.FAILED)
    upstream.is_let_go(face)


@pytest.fixture(scope="session")
def bomb() -> bytes:
    """A quarter of a gigabyte in a quarter of a megabyte."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b"x" * MEGABYTE) for _ in range(256)) + packer.flush()


def test_u24_bomb(upstream: Upstream, kind: str, bomb: bytes) -> None:
    """A gzip bomb is an error of ours, at a bounded price."""
    face = Face(kind, upstream.host)
    upstream.script(head(headers={"Content-Encoding": "gzip"}), raw(bomb), fin())
    tracemalloc.start()
    try:
        seen = face.chat()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    seen.broke(ProtocolError, Outcome.FAILED)
    assert peak < 96 * MEGABYTE
    upstream.is_let_go(face)


def test_u24_bomb_before_the_stream(upstream: Upstream, kind: str, bomb: bytes) -> None:
    """A bomb in an error's body is cut off, as any long error is."""
    upstream.script(status(500, bomb, {"Content-Encoding": "gzip"}))
    seen = Face(kind, upstream.host).chat()
    seen.broke(ResponseError, Outcome.FAILED)
    assert isinstance(seen.error, ResponseError)
    assert seen.error.error == "x" * 65536


def test_u24_bomb_in_a_single_answer(ollama: Upstream, kind: str, bomb: bytes) -> None:
    """A bomb in a single answer is an error of ours too."""
    ollama.server.script(status(200, bomb, {"Content-Encoding": "gzip"}), path="/api/show")
    with pytest.raises(ProtocolError):
        Face(kind, ollama.host).call("show", "m")


# U25: busy servers

BUSY = {"error": "server busy, please try again.  maximum pending requests exceeded"}


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes the waits between two tries short, and notes how long they would have been."""
    from tailrace.backends import base  # noqa: PLC0415

    waits: list[float] = []
    sleep = base.sleep

    async def sleep_less(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

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


@pytest.mark.parametrize("value", ["soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "1e9", ""])
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


# U28: the way there


def test_u28_refused(kind: str) -> None:
    """A port where nothing listens is an error that names the address and what to do."""
    port = closed_port()
    seen = Face(kind, f"http://127.0.0.1:{port}").chat()
    shown = seen.broke(ConnectionError, Outcome.FAILED)
    assert shown.startswith(f"nothing answers at http://127.0.0.1:{port} (")
    assert seen.error is not None
    assert "ollama serve" in seen.error.hint


def test_u28_refused_for_single_answers(kind: str) -> None:
    """The same for single answers, as the built-in class too."""
    face = Face(kind, f"http://127.0.0.1:{closed_port()}")
    for method, arguments in (("show", ["m"]), ("list", []), ("chat", ["m", MESSAGES]), ("pull", ["m"])):
        with pytest.raises(ConnectionError, match="nothing answers at http://127") as caught:
            face.call(method, *arguments)
        assert isinstance(caught.value, OSError)


def test_u28_no_such_host(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody knows is an error that names it."""

    def nobody(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    shown = Face(kind, "http://no-such-host.invalid:1").chat().broke(ConnectionError, Outcome.FAILED)
    assert shown == "no such host: http://no-such-host.invalid:1"


@contextmanager
def raw_server(family: int, address: str, answer: bytes, port: int = 0) -> Iterator[int]:
    """Serves one connection with the bytes given."""
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{"message":{"content":"Hello"},"done":true}\n'


def names(*addresses: str) -> Any:
    """A getaddrinfo that resolves every name to the addresses given."""

    def resolve(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        families = {4: socket.AF_INET, 6: socket.AF_INET6}
        return [
            (
                families[ipaddress.ip_address(a).version],
                socket.SOCK_STREAM,
                6,
                "",
                (a, int(port), *((0, 0) if ":" in a else ())),
            )
            for a in addresses
        ]

    return resolve


@pytest.mark.parametrize("order", [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
@pytest.mark.parametrize("listening", ["::1", "127.0.0.1"])
def test_u28_localhost_has_two_addresses(
    kind: str, order: tuple[str, str], listening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` is tried by all of its addresses, whichever comes first and whichever the server listens on."""
    family = socket.AF_INET6 if ":" in listening else socket.AF_INET
    with raw_server(family, listening, ANSWER) as port:
        monkeypatch.setattr(socket, "getaddrinfo", names(*order))
        Face(kind, f"http://localhost:{port}").chat().whole("Hello")


def test_u28_ipv6_by_number(kind: str) -> None:
    """An IPv6 address in brackets is an address."""
    with raw_server(socket.AF_INET6, "::1", ANSWER) as port:
        Face(kind, f"[::1]:{port}").chat().whole("Hello")


PROXIES = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "0.0.0.0", "x.localhost", "LOCALHOST"])
def test_u28_proxies_never_catch_loopback(kind: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment comes between us and this machine, by whatever name it goes."""
    with FakeOllama() as proxy, raw_server(socket.AF_INET, "0.0.0.0", ANSWER) as port:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        if host == "x.localhost":
            monkeypatch.setattr(socket, "getaddrinfo", names("127.0.0.1"))
        Face(kind, f"http://{host}:{port}").chat().whole("Hello")
        assert proxy.requests == []


def test_u28_proxies_are_used_elsewhere(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the environment's proxy means what it says, and NO_PROXY too."""
    with FakeOllama() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        Face(kind, "http://model.invalid:11434").chat()
        assert [request.path for request in proxy.requests] == ["http://model.invalid:11434/api/chat"]
        monkeypatch.setenv("no_proxy", "model.invalid")
        monkeypatch.setattr(socket, "getaddrinfo", names("127.0.0.1"))
        port = closed_port()
        Face(kind, f"http://model.invalid:{port}").chat().broke(ConnectionError, Outcome.FAILED)
        assert len(proxy.requests) == 1


# U29: HTTP as nobody writes it


@pytest.mark.parametrize("garbage", [b"zz", b"", b"-5", b"0x10", b"1" * 200, b"5 5"])
@pytest.mark.parametrize("ending", [stall(), fin(), rst()])
def test_u29_garbage_for_a_chunk_size(upstream: Upstream, kind: str, garbage: bytes, ending: Step) -> None:
    """A chunk size that is none fails the run at once, with an error of ours; what came is kept."""
    face = Face(kind, upstream.host)
    upstream.script(say("Hel", "lo"), hold(), bad_chunk_size(garbage), ending)

    def watch(event: Event) -> None:
        if getattr(event, "text", "") == "lo":
            upstream.server.release()

    assert "does not speak HTTP as it should" in face.chat(watch).broke(ProtocolError, Outcome.FAILED, "Hello")
    upstream.is_let_go(face)


def test_u29_garbage_in_one_read(upstream: Upstream, kind: str) -> None:
    """The same when the garbage comes with the head."""
    face = Face(kind, upstream.host)
    upstream.script(bad_chunk_size(), stall())
    assert "does not speak HTTP as it should" in face.chat().broke(ProtocolError, Outcome.FAILED)
    upstream.is_let_go(face)


def test_u29_garbage_in_a_single_answer(ollama: Upstream, kind: str) -> None:
    """The same in an answer that is no stream."""
    ollama.server.script(head(now=True), raw(b"{"), bad_chunk_size(), stall(), path="/api/show")
    with pytest.raises(ProtocolError, match="does not speak HTTP as it should"):
        Face(kind, ollama.host).call("show", "m")
    assert ollama.server.wait_until_idle()


@pytest.mark.parametrize("flood", [header_flood(1000, 100), header_flood(1, 1_000_000), header_flood(100_000, 10)])
def test_u29_header_flood(upstream: Upstream, kind: str, flood: Step) -> None:
    """A head of too many, or too large, headers is an error of ours."""
    face = Face(kind, upstream.host)
    upstream.script(flood, say("never"))
    assert "does not speak HTTP as it should" in face.chat().broke(ProtocolError, Outcome.FAILED)
    upstream.is_let_go(face)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"220 mail.example.com ESMTP\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
    ],
)
def test_u29_not_http(upstream: Upstream, kind: str, answer: bytes) -> None:
    """What is not HTTP is an error of ours."""
    face = Face(kind, upstream.host)
    upstream.script(unframed(answer), stall())
    assert "does not speak HTTP as it should" in face.chat().broke(ProtocolError, Outcome.FAILED)
    upstream.is_let_go(face)


@pytest.mark.parametrize(("steps", "kept"), [([rst()], 0), ([unframed(b"HTTP/1.1 200 OK\r\nContent-"), fin()], 0)])
def test_u29_half_a_head(upstream: Upstream, kind: str, steps: list[Step], kept: int) -> None:
    """A connection that closes before the head is whole is truncated, without text."""
    upstream.script(*steps)
    seen = Face(kind, upstream.host).chat()
    seen.broke(TruncatedError, Outcome.TRUNCATED)
    assert len(seen.texts) == kept


@pytest.mark.parametrize("steps", [[interim()], [interim(103, "Early Hints")], [interim(), interim(102, "Processing")]])
def test_u29_interim_responses(upstream: Upstream, kind: str, steps: list[Step]) -> None:
    """Interim responses go ahead of the answer and are no answer."""
    face = Face(kind, upstream.host)
    upstream.script(*steps, say("Hello"))
    face.chat().whole("Hello")
    upstream.is_let_go(face)


@pytest.mark.parametrize("framing", [close_delimited(), head(framing="close"), head(framing="none")])
def test_u29_ended_by_closing(upstream: Upstream, kind: str, framing: Step) -> None:
    """A body that ends with its connection is judged by its final record: with it, the answer is whole."""
    face = Face(kind, upstream.host)
    upstream.script(framing, say("Hel", "lo"), done())
    face.chat().whole("Hello")
    upstream.is_let_go(face)


@pytest.mark.parametrize("framing", [close_delimited(), head(framing="close")])
@pytest.mark.parametrize("ending", [fin(), cut(), rst()])
def test_u29_ended_by_closing_too_early(upstream: Upstream, kind: str, framing: Step, ending: Step) -> None:
    """Without it the answer is truncated."""
    face = Face(kind, upstream.host)
    upstream.script(framing, say("Hel", "lo"), ending)
    face.chat().broke(TruncatedError, Outcome.TRUNCATED, "Hello")
    upstream.is_let_go(face)


def test_u29_content_length(ollama: Upstream, kind: str) -> None:
    """A body with a length may be whole, or shorter than it says; a last line without LF counts in both."""
    line = b'{"message":{"content":"Hello"},"done":true}'
    for length, body in ((len(line), line), (len(line) + 1, line + b"\n")):
        ollama.script(unframed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (length, body)), fin())
        Face(kind, ollama.host).chat().whole("Hello")
    ollama.script(
        unframed(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"message":{"content":"Hel"},"done":false}\n'), cut()
    )
    Face(kind, ollama.host).chat().broke(TruncatedError, Outcome.TRUNCATED, "Hel")


def test_u29_nothing_at_all(upstream: Upstream, kind: str) -> None:
    """An empty answer, or one of blanks, is truncated."""
    for steps in ([head(now=True), fin()], [status(204)], [together(raw(b" \n\n")), fin()]):
        upstream.script(*steps)
        Face(kind, upstream.host).chat().broke(TruncatedError, Outcome.TRUNCATED)
    assert upstream.server.wait_until_idle()
