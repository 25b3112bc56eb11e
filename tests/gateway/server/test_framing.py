"""C18 to C20: trailers, what is pipelined behind an answer, and what only looks like HTTP/1.1."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.serving import HOST, Gateway, serving
from tests.web.reader import PATIENCE

from tailrace.testing import say, stall

KEY = "Authorization: Bearer secretsecret\r\n"
BODY = b'{"model": "m", "message": "hi"}'
CHUNKED = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving("--api-key", "alice:secretsecret", "--max-running", "1") as gateway:
        yield gateway


def head(path: str, *lines: str, method: str = "POST", version: str = "HTTP/1.1") -> bytes:
    return "".join(f"{line}\r\n" for line in (f"{method} {path} {version}", *lines)).encode() + b"\r\n"


def sent(gateway: Gateway, data: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", gateway.server.port), PATIENCE)
    sock.sendall(data)
    return sock


def told(gateway: Gateway, data: bytes) -> bytes:
    """All that is answered, until the server closes."""
    answer = b""
    with sent(gateway, data) as sock:
        while piece := sock.recv(65536):
            answer += piece
    return answer


def statuses(answer: bytes) -> list[int]:
    return [int(each[:3]) for each in answer.split(b"HTTP/1.1 ")[1:]]


# -- C18 -------------------------------------------------------------------------------------------------------------


def with_trailers(trailers: bytes, *lines: str) -> bytes:
    framed = head("/runs", "Host: localhost", "Transfer-Encoding: chunked", "Connection: close", *lines)
    return framed + CHUNKED + trailers + b"\r\n"


def test_c18_a_trailer_is_no_header(gateway: Gateway) -> None:
    """A key in one opens nothing, and a priority that is none in one is not looked at."""
    gateway.upstream.script(say("x"), path="/api/chat")
    key, asked = KEY.strip(), gateway.asked

    assert statuses(told(gateway, with_trailers(f"{key}\r\n".encode()))) == [401]
    assert statuses(told(gateway, with_trailers(b"X-Priority: junk\r\nHost: evil.example\r\n", key))) == [201]
    gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")


@pytest.mark.parametrize("trailers", [b"X-A: b\r\n" * 201, b"X-A: " + b"b" * (1 << 20) + b"\r\n"], ids=["many", "long"])
def test_c18_trailers_are_bounded(gateway: Gateway, trailers: bytes) -> None:
    """More of them than a request may have headers, or longer ones, are refused, and no run is begun."""
    asked = gateway.asked

    assert statuses(told(gateway, with_trailers(trailers, KEY.strip()))) == [431]
    assert gateway.asked == asked


@pytest.mark.parametrize("key", ["", KEY], ids=["no key", "key"])
@pytest.mark.parametrize("path", ["/runs", "/healthz"])
@pytest.mark.parametrize(
    "framing", [CHUNKED + b"X-A: b\r\n" * 200_000, b"1;" + b"e" * 60_000 + b"\r\nx\r\n"], ids=["trailers", "extensions"]
)
def test_c18_a_flood_around_a_body_takes_no_memory(gateway: Gateway, path: str, key: str, framing: bytes) -> None:
    """Sixteen megabytes of trailers or of chunk extensions are not kept, whoever sends them."""
    before = gateway.server.memory()
    lines = ["Host: localhost", "Transfer-Encoding: chunked", *([key.strip()] if key else [])]
    with sent(gateway, head(path, *lines)) as sock:
        try:
            for _ in range((16 << 20) // len(framing)):
                sock.sendall(framing)
        except OSError:
            pass  # it is refused, and closed
        after = gateway.server.memory()

    assert after - before < 16 << 20


# -- C19 -------------------------------------------------------------------------------------------------------------

NEXT = f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode()
LARGE = head("/runs", "Host: localhost", "Content-Length: 3000000") + b"x" * 200_000
JUNK = b"\x16\x03\x01\x02 what is this?\r\n\r\n"
BEHIND = {"one": NEXT, "many": NEXT * 100, "large": LARGE, "junk": JUNK, "part": b"GET / HT"}
WAITING: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": ("/api/chat", {"stream": False}),
    "stream": ("/api/chat", {"stream": True}),
    "completion": ("/v1/chat/completions", {"stream": False}),
    "chunks": ("/v1/chat/completions", {"stream": True}),
}


def asking(path: str, more: dict[str, Any]) -> bytes:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}).encode()
    return head(path, "Host: localhost", KEY.strip(), f"Content-Length: {len(body)}") + body


def leave(sock: socket.socket, how: str) -> None:
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


@pytest.mark.parametrize(
    ("answer", "behind", "how"),
    [*((answer, "one", how) for answer in WAITING for how in ("closes", "reset"))]
    + [("whole" if number % 2 else "stream", behind, "closes") for number, behind in enumerate(BEHIND)],
)
def test_c19_who_pipelines_and_leaves(gateway: Gateway, answer: str, behind: str, how: str) -> None:
    """Whatever came behind a request, its client's leaving is noticed, and the model stops."""
    asked = gateway.asked
    gateway.upstream.script(stall(), path="/api/chat")
    sock = sent(gateway, asking(*WAITING[answer]))
    record = gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
    assert record.wait_until_phase("stalling")
    sock.sendall(BEHIND[behind])
    assert gateway.call("GET", "/healthz").status == 200  # by now it has come there
    leave(sock, how)

    assert record.wait_until_left()


def test_c19_who_pipelines_and_leaves_in_the_queue(gateway: Gateway) -> None:
    """So is that of one who is not answered yet, because another one's answer goes first."""
    asked = gateway.asked
    gateway.upstream.script(stall(), path="/api/chat")
    with sent(gateway, asking("/api/chat", {"stream": False})):
        gateway.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
        sock = sent(gateway, asking("/api/chat", {"stream": False}) + NEXT)
        while len(runs := _running(gateway)) < 2:
            pass
        sock.close()
        while runs[0]["id"] in {run["id"] for run in _running(gateway)}:
            pass

    assert gateway.asked == asked + 1


def _running(gateway: Gateway) -> list[dict[str, Any]]:
    answer = gateway.call("GET", "/runs?state=running", Authorization="Bearer secretsecret")
    runs: list[dict[str, Any]] = answer.json["runs"]
    return runs


def test_c19_junk_behind_a_request_costs_it_nothing(gateway: Gateway) -> None:
    """What is no HTTP behind a whole request is not answered; the request is, and the connection ends."""
    gateway.upstream.script(say("Hello"), path="/api/chat")

    answer = told(gateway, asking("/api/chat", {"stream": False}) + JUNK)

    assert statuses(answer) == [200]
    assert b'"Hello"' in answer


# -- C20 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz\r\n\r\n", 400),
        (head("/healthz", "Host: localhost", method="GET", version="HTTP/0.9"), 400),
        (head("/healthz", "Host: localhost", method="GET", version="HTTP/2.0"), 400),
        (head("/healthz", method="GET", version="HTTP/2.0"), 400),
        (head("/healthz", "Host: localhost", method="GET", version="HTTP/1.2"), 400),
        (head("/healthz", "Host: localhost", method="GET", version="HTTP/3.0"), 400),
        (head("*", method="PRI", version="HTTP/2.0") + b"SM\r\n\r\n", 400),
        (head("/runs", "Host: localhost", "Transfer-Encoding: gzip, chunked") + CHUNKED + b"\r\n", 400),
        (head("/runs", "Host: localhost", "Transfer-Encoding: gzip", "Transfer-Encoding: chunked") + CHUNKED, 400),
        (head("/runs", "Host: localhost", "Transfer-Encoding: chunked, gzip") + CHUNKED + b"\r\n", 400),
        (head("/runs", "Host: localhost", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + CHUNKED, 400),
        (head("/runs", "Host: localhost", "Transfer-Encoding: gzip") + CHUNKED + b"\r\n", 400),
        (head("/runs", "Host: localhost", "Transfer-Encoding: chunked", version="HTTP/1.0") + CHUNKED + b"\r\n", 400),
        (head("/healthz", "Host: localhost", "X-A: b\r\n c", method="GET"), 400),
        (head("/healthz", "Host: localhost", "Host: localhost", method="GET"), 400),
        (head("http://evil.example/healthz", "Host: localhost", method="GET"), 400),
        (head("http://a@localhost/healthz", "Host: localhost", method="GET"), 400),
        (head("*x", "Host: localhost", method="GET"), 400),
        (head("ftp://localhost/healthz", "Host: localhost", method="GET"), 400),
        (head("/runs", "Host: localhost", KEY.strip(), "Idempotency-Key: a", "Idempotency-Key: b"), 400),
    ],
    ids=range(20),
)
def test_c20_what_only_looks_like_http_1_1(gateway: Gateway, request_: bytes, status: int) -> None:
    """Old and new versions, codings that nobody undoes, folded lines, two hosts: refused once, whatever follows."""
    answer = told(gateway, request_ + f"GET /healthz HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n".encode())

    of_meaning = request_.count(b"Host: localhost") == 2 or b"Idempotency-Key" in request_  # it ends where it ends

    assert statuses(answer) == ([status, 200] if of_meaning else [status])


@pytest.mark.parametrize(
    "target", ["http://localhost/healthz", "HTTP://LOCALHOST/healthz", "http://localhost", "http://localhost?x"]
)
def test_c20_a_target_with_a_host_and_perhaps_no_path(gateway: Gateway, target: str) -> None:
    """A target as a proxy is given it is served if its host is the one of the header (RFC 9112, 3.2.2)."""
    answer = told(gateway, head(target, "Host: localhost", "Connection: close", method="GET"))

    assert statuses(answer) == [200]
