"""Upstream faults in how an answer is packed and framed: U24, U29."""

from __future__ import annotations

import gzip as gzip_module
import tracemalloc
import zlib

import pytest
from tests.faults.faces import Face, Upstream

from tailrace.errors import (
    ProtocolError,
    ResponseError,
    TruncatedError,
)
from tailrace.events import Event, Outcome
from tailrace.testing import (
    Step,
    bad_chunk_size,
    close_delimited,
    cut,
    done,
    fin,
    gzip,
    head,
    header_flood,
    hold,
    interim,
    raw,
    rst,
    say,
    split,
    stall,
    status,
    together,
    unframed,
)

MEGABYTE = 1024 * 1024


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
    assert seen.error.error == "x" * 2000 + "…"


def test_u24_bomb_in_a_single_answer(ollama: Upstream, kind: str, bomb: bytes) -> None:
    """A bomb in a single answer is an error of ours too."""
    ollama.server.script(status(200, bomb, {"Content-Encoding": "gzip"}), path="/api/show")
    with pytest.raises(ProtocolError):
        Face(kind, ollama.host).call("show", "m")


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
