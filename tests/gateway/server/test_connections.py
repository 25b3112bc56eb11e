"""C5, C8, C14, C15, P14: what strangers, crowds and odd clients do on connections, while answers go on."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest
from tests.gateway.serving import HOST, Gateway, said, serving
from tests.programs import need
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import hold, say, stall


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway with short times for heads and bodies."""
    with serving("--on-leave", "continue", "--head-time", "1", "--body-time", "1") as gateway:
        yield gateway


@pytest.fixture
def answer(gateway: Gateway) -> Iterator[Reader]:
    """An answer under way, which what a test does must not disturb: it is read to its end afterwards."""
    reader, _ = gateway.chat(say("Hel"), hold("undisturbed"), say("lo"))
    with reader:
        reader.until(b'"Hel"')
        yield reader
        gateway.upstream.release("undisturbed")
        assert reader.until(b"[DONE]").count(b'"content":"') == 3


def _sent(gateway: Gateway, data: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", gateway.server.port), PATIENCE)
    sock.sendall(data)
    return sock


def _all(sock: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    data = b""
    with sock:
        while piece := sock.recv(65536):
            data += piece
    return data


def _status(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


# -- C5 --------------------------------------------------------------------------------------------------------------


def test_c5_idle_connections_are_closed(gateway: Gateway, answer: Reader) -> None:
    """Two thousand connections that say nothing: all are closed without a word, and an answer goes on meanwhile."""
    before = gateway.open_files()
    idle = [_sent(gateway, b"") for _ in range(2000)]

    assert gateway.call("GET", "/healthz").status == 200
    assert {_all(sock) for sock in idle} == {b""}
    assert gateway.open_files() <= before + 2


@pytest.mark.parametrize(
    "piece", [b"GET /healthz", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", b"POST /runs HTTP/1.1\r\nX-A: "]
)
def test_c5_slow_heads_are_refused(gateway: Gateway, answer: Reader, piece: bytes) -> None:
    """Hundreds of heads that do not end, however they trickle: 408, and the connection is closed."""
    slow = [_sent(gateway, piece) for _ in range(200)]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.2):  # the pace is what the test is about
            for sock in slow:
                try:
                    sock.sendall(b"x")
                except OSError:
                    pass

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        answers = [_all(sock) for sock in slow]
    finally:
        stop.set()
        thread.join()

    assert {_status(data) for data in answers} == {408}
    assert all(b"application/problem+json" in data for data in answers)


def test_c5_empty_lines_keep_no_connection_open(gateway: Gateway) -> None:
    """Line ends before a head, also behind an answer, are no reason to wait for ever."""
    first = _sent(gateway, b"\r\n\r\n")
    second = _sent(gateway, f"GET /healthz HTTP/1.1\r\n{HOST}\r\n".encode())
    while b'"ok"' not in second.recv(65536):
        pass
    second.sendall(b"\r\n")

    assert (_all(first), _all(second)) == (b"", b"")


def test_c5_bodies_that_trickle_are_refused(gateway: Gateway, answer: Reader) -> None:
    """A body that does not come to its end in time: 408, and the connection is closed."""
    head = f"POST /runs HTTP/1.1\r\n{HOST}Content-Length: 1000\r\n\r\n{{".encode()
    slow = [_sent(gateway, head) for _ in range(50)]

    assert {_status(_all(sock)) for sock in slow} == {408}


def test_c5_a_slow_head_behind_a_stream_does_not_harm_it(gateway: Gateway) -> None:
    """The beginning of another request on a stream's connection is no reason to write into the stream."""
    reader, _ = gateway.chat(say("Hel"), hold(), say("lo"))
    with reader, gateway.read(f"{reader.run}/events") as other:
        reader.until(b'"Hel"')
        reader.sock.sendall(b"GET / HT")
        # As long as the server takes to give up on a head elsewhere, and longer.
        assert _status(_all(_sent(gateway, b"GET / HT"))) == 408
        gateway.upstream.release()
        assert said(other.all()) == "Hello"
        assert b"no whole request" not in reader.body()
        assert reader.raw.endswith(b"[DONE]\n\n")


def test_c5_more_connections_than_there_may_be() -> None:
    """Where the system gives few files, half of them are for connections; the rest is told so, and answers go on."""
    few = ["bash", "-c", 'ulimit -n 128; exec "$@"', "-"]
    with serving("--on-leave", "continue", "--head-time", "1", prefix=few) as gateway:
        reader, _ = gateway.chat(say("Hel"), hold(), say("lo"))
        with reader:
            reader.until(b'"Hel"')
            crowd = [_sent(gateway, b"") for _ in range(100)]
            gateway.upstream.release()
            reader.until(b"[DONE]")
            answers = [_all(sock) for sock in crowd]

        assert {_status(data) for data in answers if data} == {503}
        assert 36 <= sum(map(bool, answers)) <= 40
        assert gateway.ended(gateway.start(say("x"))[0])["outcome"] == "complete"


# -- C8 --------------------------------------------------------------------------------------------------------------

_GET = f"GET /healthz HTTP/1.1\r\n{HOST}"
_POST = f"POST /runs HTTP/1.1\r\n{HOST}"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (_GET + "X-A: b\r\n" * 1000 + "\r\n", 431),
        (_GET + f"X-A: {'b' * (1 << 20)}\r\n\r\n", 431),
        (_GET + f"X-A: {'b' * 70_000}\r\n\r\n", 431),
        (f"GET /{'x' * 100_000} HTTP/1.1\r\n{HOST}\r\n", 431),
        (_GET + "X-A: b\rX-B: c\r\n\r\n", 400),
        (_GET + "X-A: b\0c\r\n\r\n", 400),
        (_GET + "X A: b\r\n\r\n", 400),
        (_GET + " X-A: b\r\n\r\n", 400),
        (_GET + ": b\r\n\r\n", 400),
        (_POST + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (_POST + "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400),
        (_POST + "Content-Length: 2, 2\r\n\r\n{}", 400),
        (_POST + "Content-Length: -2\r\n\r\n{}", 400),
        (_POST + "Content-Length: \u00b2\r\n\r\n{}", 400),
        (_POST + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (_POST + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", 400),
        (_POST + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (_POST + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
        (_POST + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", 400),
        ("GET /\xff HTTP/1.1\r\n\r\n", 400),
        ("GET healthz HTTP/1.1\r\n\r\n", 400),
        ("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 400),
        ("SPY /healthz HTTP/1.1\r\n\r\n", 400),
        ("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 400),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, int) else None,
)
def test_c8_heads_that_are_none(gateway: Gateway, answer: Reader, request_: str, status: int) -> None:
    """Too much, too long, two lengths, line ends where they do not belong: 431 or 400 as a problem, then closed."""
    data = _all(_sent(gateway, request_.encode("latin-1")))
    head, _, body = data.partition(b"\r\n\r\n")

    assert _status(data) == status
    assert b"connection: close" in head.lower()
    assert json.loads(body)["status"] == status
    assert data.count(b"HTTP/1.1 ") == 1


def test_c8_what_follows_a_refused_head_is_no_request(gateway: Gateway) -> None:
    """A request that is smuggled behind one with two lengths is not answered."""
    smuggled = _POST + f"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{_GET}\r\n"
    data = _all(_sent(gateway, smuggled.encode()))

    assert data.count(b"HTTP/1.1 ") == 1


def test_c8_hundred_headers_are_fine(gateway: Gateway) -> None:
    """What proxies and browsers send is far from the limits."""
    request = _GET + "".join(f"X-{number}: {'v' * 300}\r\n" for number in range(100)) + "Connection: close\r\n\r\n"

    assert _status(_all(_sent(gateway, request.encode()))) == 200


@pytest.mark.parametrize(
    "accept", ["", "image/png", "*/*;q=0", "text/html, " * 1000, ",;=,;", "a/b;q=1e999", "\xff/\xfe"]
)
def test_absurd_accept_headers_change_nothing(gateway: Gateway, accept: str) -> None:
    """Whatever a client says it accepts, it gets what there is."""
    path, _ = gateway.start(say("x"))
    gateway.ended(path)
    headers = f"Accept: {accept}\r\nAccept-Encoding: {accept}\r\nAccept-Language: {accept}\r\n"
    with Reader(gateway.url, f"{path}/events", method="GET", headers=headers) as reader:
        assert said(reader.all()) == "x"
        assert reader.headers["content-type"].startswith("text/event-stream")


# -- C15 -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/chat/stream", {"POST", "OPTIONS"}),
        ("/runs", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("/runs/run_0", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("/runs/run_0/events", {"GET", "HEAD", "OPTIONS"}),
        ("/conversations/conv_0", {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}),
        ("/healthz", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_c15_methods(gateway: Gateway, path: str, allowed: set[str]) -> None:
    """OPTIONS tells the methods of a path; any other one is 405, and tells them too."""
    told = gateway.call("OPTIONS", path)
    wrong = gateway.call("PUT", path)

    assert told.status == 204
    assert set(told.headers["allow"].split(", ")) == allowed
    assert wrong.status == 405
    assert set(wrong.headers["allow"].split(", ")) == allowed
    assert wrong.json["detail"] == "PUT is not allowed here"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_c15_other_methods_on_the_tutorials_route(gateway: Gateway, method: str) -> None:
    """Nothing but POST asks for an answer."""
    asked = gateway.asked

    assert gateway.call(method, "/chat/stream?message=hi").status == 405
    assert asked == gateway.asked


def test_c15_head_of_what_can_be_read(gateway: Gateway) -> None:
    """HEAD is GET without a body, and reads nothing out."""
    path, _ = gateway.start(say("x"), stall())
    for query in ("", "/events", "/events?render=html"):
        with Reader(gateway.url, f"{path}{query}", method="HEAD") as reader:
            assert reader.status == 200
            reader.sock.sendall(f"{_GET}Connection: close\r\n\r\n".encode())
            assert _all(reader.sock).startswith(b"HTTP/1.1 200")
    gateway.call("DELETE", path)


def test_c15_http_1_0_gets_a_stream_that_ends_with_the_connection(gateway: Gateway) -> None:
    """No chunks, which it does not know: the body is all there is until the connection ends."""
    reader, _ = gateway.chat(say("Hel", "lo"), version="1.0")
    with reader:
        body = reader.body()

    assert "transfer-encoding" not in reader.headers
    assert reader.headers["connection"] == "close"
    assert body.startswith(b"retry: ")
    assert body.endswith(b"data: [DONE]\n\n")
    with Reader(gateway.url, "/healthz", method="GET", version="1.0") as plain:
        assert plain.json == {"status": "ok"}


def test_c15_curl(gateway: Gateway) -> None:
    """curl as it comes: with Expect on a large body, with HTTP/1.0, and offering HTTP/2, which is not spoken here."""
    curl = need("curl")
    large = json.dumps({"message": "x" * 2_000_000, "model": "m"})
    for options in (["-H", "Expect: 100-continue"], ["-0"], ["--http2"], ["-N", "--no-buffer"]):
        gateway.upstream.script(say("Hel", "lo"), path="/api/chat")
        done = subprocess.run(
            [curl, "-sS", "-i", *options, "--json", "@-", f"{gateway.url}/chat/stream"],
            input=large.encode(),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, (options, done.stderr)
        assert done.stdout.rstrip().endswith(b"data: [DONE]"), options
    assert (
        b"100 Continue"
        in subprocess.run(
            [curl, "-sS", "-i", "-H", "Expect: 100-continue", "--json", "@-", f"{gateway.url}/render"],
            input=json.dumps({"texts": ["x" * 100_000]}).encode(),
            capture_output=True,
            timeout=PATIENCE,
            check=True,
        ).stdout
    )


def test_c15_expect_on_a_body_that_is_too_large(gateway: Gateway) -> None:
    """Who asks first whether it may send too much is told so, and is not asked to send."""
    head = _POST + "Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
    data = _all(_sent(gateway, head.encode()))

    assert _status(data) == 413


def test_c15_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    """Several requests in one packet get their answers one after the other."""
    requests = f"GET /healthz HTTP/1.1\r\n{HOST}\r\n" * 3 + f"GET /nowhere HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
    data = _all(_sent(gateway, requests.encode()))

    assert data.count(b"HTTP/1.1 200 OK") == 3
    assert data.rindex(b"404 Not Found") > data.rindex(b"200 OK")


# -- crowds ----------------------------------------------------------------------------------------------------------


def test_c14_five_hundred_readers_come_back_at_once(gateway: Gateway) -> None:
    """All are served exactly, and are told to come back at different times."""
    path, _ = gateway.start(*[say(f"{number} ") for number in range(20)], hold(), say("end"))
    with gateway.read(f"{path}/events") as first:
        first.until(b'"19 "')
        herd = [gateway.read(f"{path}/events", "3") for _ in range(500)]
        for reader in herd:
            reader.until(b'"19 "')
        gateway.upstream.release()
        texts = {said(reader.all()) for reader in herd}
        first.all()
    retries = {reader.decoder.retry for reader in herd}
    for reader in herd:
        reader.leave()

    assert len(texts) == 1
    assert texts.pop().endswith("19 end")
    assert len(retries) > 50
    assert all(retry is not None and 500 <= retry <= 2500 for retry in retries)


def test_p14_two_hundred_streams_and_health_answers(gateway: Gateway) -> None:
    """Two hundred streams are open, whose model is silent; others are served as ever."""
    gateway.upstream.always(say("x"), stall())
    readers = [Reader(gateway.url, body={"message": "hi", "model": "m"}) for _ in range(200)]
    try:
        for reader in readers:
            reader.until(b'"x"')
        assert gateway.call("GET", "/healthz").json == {"status": "ok"}
        assert gateway.call("GET", "/runs?state=running&limit=1000").json["runs"][199:]
        assert b"tailrace_readers 2" in gateway.call("GET", "/metrics").body
    finally:
        for reader in readers:
            reader.leave()
    assert gateway.upstream.wait_until_idle(PATIENCE)


def test_nothing_is_left_of_aborted_requests(gateway: Gateway) -> None:
    """Three hundred requests that are cut off in every way: no file, no run and no reader stays."""
    assert gateway.upstream.wait_until_idle(PATIENCE)
    gateway.call("GET", "/healthz")
    before = gateway.open_files()
    gateway.upstream.always(say("x"), stall())
    cuts = [
        lambda: _sent(gateway, b"POST /chat/str").close(),
        lambda: _sent(gateway, f"{_POST}Content-Length: 100\r\n\r\n{{".encode()).close(),
        lambda: Reader(gateway.url, body={"message": "hi", "model": "m"}).leave("rst"),
        lambda: _cut_after(Reader(gateway.url, body={"message": "hi", "model": "m"}), "fin"),
        lambda: _cut_after(Reader(gateway.url, body={"message": "hi", "model": "m"}), "rst"),
        lambda: Reader(gateway.url, "/runs", {"message": "hi", "model": "m", "linger": 0}).leave("rst"),
    ]
    for number in range(300):
        cuts[number % len(cuts)]()

    assert gateway.upstream.wait_until_idle(PATIENCE)
    while gateway.call("GET", "/runs?state=running").json["runs"]:
        pass
    while gateway.open_files() > before:
        gateway.call("GET", "/healthz")  # what the server still closes
    assert b"\ntailrace_readers 0" in gateway.call("GET", "/metrics").body


def _cut_after(reader: Reader, how: str) -> None:
    reader.until(b'"x"')
    reader.leave(how)
