"""The mischief, on a raw socket: what is sent is exactly what the step says."""

from __future__ import annotations

import gzip as gzip_module
import json
import socket
import zlib
from collections.abc import Iterator

import pytest
from tests.testing.rawclient import RawClient, lines

from tailrace.testing import (
    FakeOllama,
    NeverAccepts,
    Silent,
    Step,
    bad_chunk_size,
    blank_lines,
    chunk,
    close_delimited,
    closed_port,
    cut,
    delay,
    done,
    error,
    fin,
    giant_line,
    gzip,
    half_close,
    half_line,
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


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


@pytest.fixture
def client(server: FakeOllama) -> Iterator[RawClient]:
    with RawClient(server.url) as client:
        yield client


def body(client: RawClient) -> bytes:
    client.chat()
    return client.response()[2]


def test_fin_ends_well_without_done(server: FakeOllama, client: RawClient) -> None:
    """fin() ends the body as HTTP wants it, and the connection can be used again (U6)."""
    server.script(say("a"), fin())

    assert [c["done"] for c in lines(body(client))] == [False]
    assert b"fake" in body(client)


def test_rst(server: FakeOllama, client: RawClient) -> None:
    """rst() resets (U3)."""
    server.script(say("a"), rst())
    client.chat()

    with pytest.raises(ConnectionResetError):
        client.rest()


def test_rst_before_anything(server: FakeOllama, client: RawClient) -> None:
    """rst() may come before the head."""
    server.script(rst())
    client.chat()

    with pytest.raises(ConnectionResetError):
        client.rest()


def test_cut(server: FakeOllama, client: RawClient) -> None:
    """cut() closes inside an HTTP chunk (U4)."""
    server.script(say("a"), cut())
    client.chat()

    assert client.rest().endswith(b'\r\n40\r\n{"')


def test_cut_without_a_stream(server: FakeOllama, client: RawClient) -> None:
    """Without a stream, cut() keeps less than the length promises."""
    server.script(say("a"), done(), cut())
    client.chat(stream=False)

    start, _, sent = client.rest().partition(b"\r\n\r\n")
    assert f"Content-Length: {len(sent) + 64}".encode() in start


def test_half_close(server: FakeOllama, client: RawClient) -> None:
    """half_close() sends a FIN and goes on reading until the client leaves (U5)."""
    server.script(say("a"), half_close())
    client.chat()
    assert not client.rest().endswith(b"0\r\n\r\n")
    record = server.wait_for_request()
    assert record.wait_until_phase("half_closed")
    assert not record.client_left

    client.sock.close()

    assert record.wait_until_left()
    assert record.phase == "half_closed"


def test_half_line(server: FakeOllama, client: RawClient) -> None:
    """half_line() sends half a line (U8)."""
    server.script(say("a"), half_line("b"), fin())

    first, second = body(client).split(b"\n")

    assert json.loads(first)
    assert not second.endswith(b"}")


def test_split_every_byte(server: FakeOllama, client: RawClient) -> None:
    """split(every=1) cuts inside lines and characters, each byte its own HTTP chunk (U9)."""
    server.script(split(every=1), say("é水"))
    client.chat()
    client.until(b"\r\n\r\n")

    pieces = client.chunks()

    assert {1} == {len(piece) for piece in pieces}
    assert lines(b"".join(pieces))[0]["message"]["content"] == "é水"


def test_split_sizes(server: FakeOllama, client: RawClient) -> None:
    """split() takes the first sizes from its list, across steps, and leaves the rest whole."""
    server.script(split([3, 1, 4]), raw(b"ab"), raw(b"cdefghij"), raw(b"klm"))
    client.chat()
    client.until(b"\r\n\r\n")

    assert client.chunks() == [b"ab", b"c", b"d", b"efgh", b"ij", b"klm"]


def test_together(server: FakeOllama, client: RawClient) -> None:
    """together() puts several lines into one HTTP chunk."""
    server.script(together(say("a", "b"), done()))
    client.chat()
    client.until(b"\r\n\r\n")

    (only,) = client.chunks()

    assert [c["done"] for c in lines(only)] == [False, False, True]


def test_raw_and_blank_lines(server: FakeOllama, client: RawClient) -> None:
    """raw() and blank_lines() add nothing of their own."""
    server.script(blank_lines(2), raw(b"\xff\n"), blank_lines(1, b"\r\n"), raw(b"null"))

    assert body(client) == b"\n\n\xff\n\r\nnull"


def test_giant_line(server: FakeOllama, client: RawClient) -> None:
    """giant_line() is one valid line of that much text (U13)."""
    server.script(giant_line(200_001))

    assert len(lines(body(client))[0]["message"]["content"]) == 200_001


def test_giant_line_that_never_ends(server: FakeOllama, client: RawClient) -> None:
    """With ended=False the line stays open, and costs the server no memory however long it is."""
    server.script(giant_line(1 << 40, ended=False))
    client.chat()
    seen = 0
    while seen < 1 << 20:
        seen += len(client.sock.recv(1 << 16))
    client.sock.close()

    assert server.wait_for_request().wait_until_left()


def test_giant_line_without_a_stream(server: FakeOllama, client: RawClient) -> None:
    """A giant answer without a stream is one giant object."""
    server.script(giant_line(70_000))
    client.chat(stream=False)

    assert len(lines(client.response()[2])[0]["message"]["content"]) == 70_000


def test_bad_chunk_size(server: FakeOllama, client: RawClient) -> None:
    """bad_chunk_size() stands where HTTP expects a size (U29)."""
    server.script(say("a"), bad_chunk_size())
    client.chat()
    client.until(b"\r\n\r\n")
    client.until(b"}\n\r\n")

    assert client.until(b"\r\n") == b"zz\r\n"


def test_unframed_stands_in_for_the_head(server: FakeOllama, client: RawClient) -> None:
    """As the first step unframed() replaces the head, and nothing is framed."""
    server.script(unframed(b"HTTP/1.1 200 OK\r\nbroken\r\n\r\n"), raw(b"x"))
    client.chat()

    assert client.rest() == b"HTTP/1.1 200 OK\r\nbroken\r\n\r\nx"


def test_interim_and_flood(server: FakeOllama, client: RawClient) -> None:
    """100 Continue comes ahead of a head with a thousand headers."""
    server.script(interim(), header_flood(1000, 10), say("a"))
    client.chat()

    assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    code, headers, _ = client.response()
    assert (code, sum(1 for name in headers if name.startswith("x-flood"))) == (200, 1000)


def test_close_delimited(server: FakeOllama, client: RawClient) -> None:
    """close_delimited() has no length and no chunks."""
    server.script(close_delimited(), say("a"))
    client.chat()

    start, _, sent = client.rest().partition(b"\r\n\r\n")

    assert start.startswith(b"HTTP/1.0 200")
    assert (len(lines(sent)), b"Transfer-Encoding" in start) == (2, False)


def test_head(server: FakeOllama, client: RawClient) -> None:
    """head() changes status, type and headers, and can be sent ahead of the body."""
    server.script(head(status=201, content_type="text/plain", headers={"X-A": "1"}, now=True), hold(), say("a"))
    client.chat()
    start = client.until(b"\r\n\r\n")
    server.release()

    assert start.startswith(b"HTTP/1.1 201")
    assert b"Content-Type: text/plain\r\n" in start
    assert b"X-A: 1\r\n" in start
    assert len(lines(b"".join(client.chunks()))) == 2


def test_gzip(server: FakeOllama, client: RawClient) -> None:
    """gzip() compresses chunk by chunk; truncated, its end is missing; with a giant line it is a bomb (U24)."""
    server.script(gzip(), say("a"), done())
    client.chat()
    _, headers, whole = client.response()
    server.script(gzip(truncated=True), say("a"), done())
    truncated = body(client)
    server.script(gzip(), giant_line(10_000_000), done())
    bomb = body(client)

    assert headers["content-encoding"] == "gzip"
    assert len(lines(gzip_module.decompress(whole))) == 2
    with pytest.raises(EOFError):
        gzip_module.decompress(truncated)
    assert len(lines(zlib.decompressobj(wbits=31).decompress(truncated))) == 2
    assert len(bomb) < 100_000
    assert len(gzip_module.decompress(bomb)) > 10_000_000


def test_gzip_without_a_stream(server: FakeOllama, client: RawClient) -> None:
    """A whole answer can be compressed too."""
    server.script(gzip(), say("a"))
    client.chat(stream=False)

    assert lines(gzip_module.decompress(client.response()[2]))[0]["message"]["content"] == "a"


def test_status_html_redirect(server: FakeOllama, client: RawClient) -> None:
    """Responses that are no stream have their status, type and headers."""
    server.script(status(503, {"error": "busy"}, {"Retry-After": "1"})).script(html()).script(redirect(307, "/x"))
    answers = []
    for _ in range(3):
        client.chat()
        answers.append(client.response())

    busy, page, moved = answers
    assert (busy[0], busy[1]["retry-after"], busy[2]) == (503, "1", b'{"error":"busy"}')
    assert (page[0], page[1]["content-type"]) == (502, "text/html; charset=utf-8")
    assert (moved[0], moved[1]["location"], moved[2]) == (307, "/x", b"")


def test_done_twice_and_data_after_it(server: FakeOllama, client: RawClient) -> None:
    """Nothing stops a script from going on after done() (U19, U20)."""
    server.script(done(), say("ghost"), done())

    assert [c["done"] for c in lines(body(client))] == [True, False, True]


@pytest.mark.parametrize(
    ("script", "error_type", "text"),
    [
        (["Hello"], TypeError, "did you mean say"),
        ([b"Hello"], TypeError, "did you mean raw"),
        ([rst], TypeError, r"call it: rst\(\)"),
        ([None], TypeError, "a script is made of steps"),
        ([rst(), say("a")], ValueError, "step 2 can never run"),
        ([stall(), done()], ValueError, "can never run"),
        ([say("a"), status(500)], ValueError, "a status goes ahead"),
    ],
)
def test_bad_scripts(server: FakeOllama, script: list[Step], error_type: type[Exception], text: str) -> None:
    """A script that cannot be played is refused when it is given, with what to do."""
    with pytest.raises(error_type, match=text):
        server.script(*script)


def test_bad_steps() -> None:
    """A step that cannot be is refused where it is made."""
    with pytest.raises(TypeError, match="takes strings"):
        say(1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes bytes"):
        raw("x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="JSON value"):
        chunk({1, 2})
    with pytest.raises(ValueError, match="needs sizes"):
        split()
    with pytest.raises(ValueError, match="at least one byte"):
        split(every=0)
    with pytest.raises(ValueError, match="three digits"):
        status(7)
    with pytest.raises(ValueError, match="put it before or after"):
        together(hold())


def test_closed_port() -> None:
    """Nothing listens on a closed port."""
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(("127.0.0.1", closed_port()))


def test_never_accepts() -> None:
    """A connection to a server with a full backlog hangs."""
    with NeverAccepts() as server, socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect(("127.0.0.1", server.port))
        assert server.url.endswith(str(server.port))


def test_silent() -> None:
    """Silent takes everything and answers nothing, and knows when its client left."""
    with Silent() as server:
        with RawClient(server.url) as client:
            client.chat()
            record = server.wait_for_request()
            assert record.wait_until_phase("stalling")
        assert record.wait_until_left()
        assert (record.sent.bytes, record.left_how) == (0, "fin")
        assert record.body.startswith(b"POST /api/chat")
        assert server.wait_until_idle()


def test_delay_and_error(server: FakeOllama, client: RawClient) -> None:
    """A delay is a phase of its own, and errors may hold any value."""
    server.script(say("a", "b", every=0.001), delay(0.001), error({"code": 1}, hint="x"))

    assert lines(body(client))[-1] == {"error": {"code": 1}, "hint": "x"}
    record = server.wait_for_request()
    assert record.wait_until_ended()
    assert [name for name, _ in record.phases] == ["received", "streaming", "delaying", "streaming", "ended"]
