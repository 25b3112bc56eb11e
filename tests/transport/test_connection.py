"""A connection to a model server: its answer cut anywhere, its ends, and the ways there."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.rawserver import CERTIFICATE, raw_server

from tailrace.errors import ConnectionError, ProtocolError, RequestError, TruncatedError
from tailrace.testing import closed_port
from tailrace.transport.connect import Reach
from tailrace.transport.connection import Connection
from tailrace.transport.http_client import Http
from tailrace.transport.options import HttpOptions

BODY = b'{"a":1}\n{"b":2}\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n8\r\n" + BODY[:8] + b"\r\n8;x=y\r\n" + BODY[8:] + b"\r\n0\r\n\r\n"
COUNTED = HEAD + b"Content-Length: 16\r\n\r\n" + BODY
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + COUNTED
CLOSED = HEAD + b"\r\n" + BODY


class Transport(asyncio.Transport):
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.sent = b""

    def write(self, data: Any) -> None:
        self.sent += data

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def abort(self) -> None:
        self.calls.append("abort")


def connected() -> tuple[Connection, Transport]:
    connection, transport = Connection("the server"), Transport()
    connection.connection_made(transport)
    return connection, transport


class Taken:
    """Takes pieces until it has had enough."""

    def __init__(self, enough: bytes = b"never") -> None:
        self.pieces: list[bytes] = []
        self._enough = enough

    def __call__(self, data: bytes) -> bool:
        self.pieces.append(data)
        return self._enough in b"".join(self.pieces)


async def begun(connection: Connection, take: Taken) -> asyncio.Task[None]:
    """A task that has begun to take."""
    task = asyncio.ensure_future(connection.deliver(take))
    await asyncio.sleep(0)
    return task


@pytest.mark.parametrize("cut", [None, 1, 7], ids=["whole", "byte by byte", "in sevens"])
@pytest.mark.parametrize("rest", [b"", b"HTTP/1.1 500 Oops\r\n\r\n", b"\0\1 garbage"], ids=["", "another", "garbage"])
@pytest.mark.parametrize("answer", [CHUNKED, COUNTED, INTERIM], ids=["chunks", "length", "interim"])
async def test_an_answer_cut_anywhere(answer: bytes, rest: bytes, cut: int | None) -> None:
    """Wherever the network cut it, the body is what the server said, and no byte of what follows it."""
    connection, transport = connected()
    sending = asyncio.ensure_future(connection.send(b"HEAD", b"body"))
    taking: asyncio.Task[None] | None = None
    take, data = Taken(), answer + rest
    for start in range(0, len(data), cut or len(data)):
        connection.data_received(data[start : start + (cut or len(data))])
        await asyncio.sleep(0)
        if sending.done() and taking is None:
            taking = await begun(connection, take)
    await sending
    assert taking is not None
    await taking
    assert (b"".join(take.pieces), take.pieces[-1]) == (BODY, b"")
    assert (connection.status, connection.headers["content-TYPE"]) == (200, "application/x-ndjson")
    assert "link" not in connection.headers
    assert connection.read_out
    assert transport.sent == b"HEADbody"


@pytest.mark.parametrize("end", ["eof", "lost"])
async def test_a_body_that_ends_with_its_connection(end: str) -> None:
    """Without a length it is whole when the connection ends; with one it is not."""
    for answer, whole in ((CLOSED, True), (COUNTED[:-1], False), (CHUNKED[:-3], False)):
        connection, _ = connected()
        connection.data_received(answer)
        take = Taken()
        taking = await begun(connection, take)
        if end == "eof":
            connection.eof_received()
        connection.connection_lost(None if end == "eof" else OSError("gone"))
        if whole:
            await taking
            assert take.pieces == [BODY, b""]
        else:
            with pytest.raises(TruncatedError, match="in the middle"):
                await taking
            assert b"" not in take.pieces


async def test_no_task_is_between_the_socket_and_who_takes() -> None:
    """Pieces are taken before `data_received` returns, and what comes after enough is kept for who reads on."""
    connection, _ = connected()
    connection.data_received(HEAD + b"Content-Length: 9\r\n\r\nab")
    take = Taken(enough=b"cd")
    taking = await begun(connection, take)
    connection.data_received(b"c")
    assert take.pieces == [b"ab", b"c"]
    connection.data_received(b"d")
    connection.data_received(b"ef")
    await taking
    assert take.pieces == [b"ab", b"c", b"d"]
    assert await connection.read() == b"ef"
    connection.data_received(b"ghi")
    assert (await connection.read(), await connection.read(), connection.read_out) == (b"ghi", b"", True)


@pytest.mark.parametrize("now", [True, False])
async def test_who_takes_may_fail(now: bool) -> None:
    """What it raises comes out of `deliver`, and never into the event loop."""
    connection, _ = connected()
    connection.data_received(HEAD + b"Content-Length: 9\r\n\r\n" + (b"a" if now else b""))

    def take(_: bytes) -> bool:
        raise ZeroDivisionError

    taking = asyncio.ensure_future(connection.deliver(take))
    await asyncio.sleep(0)
    connection.data_received(b"b")
    with pytest.raises(ZeroDivisionError):
        await taking


async def test_who_does_not_read_has_the_server_wait() -> None:
    """What waits to be read is bounded: the server is not read from until it is taken."""
    connection, transport = connected()
    connection.data_received(HEAD + b"Content-Length: 99999999\r\n\r\n")
    for _ in range(5):
        connection.data_received(b"x" * 65536)
    assert transport.calls == ["pause"]
    assert len(await connection.read()) == 5 * 65536
    assert transport.calls == ["pause", "resume"]


async def test_headers_without_end() -> None:
    """Headers after a body are bounded as well."""
    connection, _ = connected()
    connection.data_received(CHUNKED[:-2])
    for number in range(70):
        connection.data_received(b"X-%d: %s\r\n" % (number, b"x" * 1000))
    assert await connection.read() == BODY
    with pytest.raises(ProtocolError, match="no end of its headers"):
        await connection.read()


async def test_headers_are_a_mapping() -> None:
    """They are looked up in any case, and listed in lower case, each once."""
    connection, _ = connected()
    connection.data_received(b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n")

    assert dict(connection.headers) == {"a": "1, 3", "b": "2"}
    assert (len(connection.headers), connection.headers["A"]) == (2, "1, 3")


async def test_a_server_that_does_not_take_the_request() -> None:
    """What is sent waits while the server does not take it, and goes on when it does; a piece without bytes is none."""
    connection, transport = connected()

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"one"
        yield b""
        connection.pause_writing()
        yield b"three"
        yield b"4"

    sending = asyncio.ensure_future(connection.send(b"HEAD", pieces()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.sent == b"HEAD3\r\none\r\n5\r\nthree\r\n"
    connection.resume_writing()
    connection.resume_writing()
    connection.data_received(COUNTED)
    await sending

    assert transport.sent.endswith(b"three\r\n1\r\n4\r\n0\r\n\r\n")


def broken() -> Connection:
    """A connection that was lost when all but the last byte had come."""
    connection, _ = connected()
    connection.data_received(COUNTED[:-1])
    connection.connection_lost(OSError("gone"))
    return connection


async def test_an_error_after_what_was_taken() -> None:
    """What came before it is handed on first; then it is raised, to who takes and to who reads."""
    taking, reading, taken = broken(), broken(), Taken()
    with pytest.raises(TruncatedError):
        await taking.deliver(taken)
    assert taken.pieces == [BODY[:-1]]

    assert await reading.read() == BODY[:-1]
    with pytest.raises(TruncatedError):
        await reading.read()


async def test_who_is_cancelled_may_fail_meanwhile() -> None:
    """What a taker raises that was cancelled a moment ago is nobody's any more."""
    connection, _ = connected()
    connection.data_received(COUNTED[:-16])

    def take(data: bytes) -> bool:
        raise ValueError(data)

    task = asyncio.ensure_future(connection.deliver(take))
    await asyncio.sleep(0)
    task.cancel()
    connection.data_received(BODY[:3])

    with pytest.raises(asyncio.CancelledError):
        await task


class Closing(Transport):
    """A transport that can end its side, or fails at it."""

    def __init__(self, fails: bool, closing: bool = False) -> None:
        super().__init__()
        self._fails, self._closing = fails, closing

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._fails:
            raise OSError("not connected")


@pytest.mark.parametrize(
    ("transport", "done"), [(Closing(False), True), (Closing(True), False), (Closing(False, True), False)]
)
async def test_ending_our_side(transport: Closing, done: bool) -> None:
    """It says whether it could: not on a connection that is going, nor on one that has gone."""
    connection = Connection("the server")
    connection.connection_made(transport)
    assert connection.half_close() is done
    connection.connection_lost(None)
    assert connection.half_close() is False


async def test_another_protocol() -> None:
    """A server that wants to speak another protocol is none of ours."""
    connection, _ = connected()
    connection.data_received(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n")
    with pytest.raises(ProtocolError):
        await connection.send(b"", None)


async def test_a_header_that_would_be_two() -> None:
    """A line end in a header is refused before anybody is connected to."""
    http = Http(f"http://127.0.0.1:{closed_port()}", headers={"x-name": "a\r\nx-other: b"})
    with pytest.raises(RequestError, match="'x-name'"):
        await http.open("GET", "/")


async def test_an_answer_before_the_request_is_sent() -> None:
    """A server that refuses an upload in its middle is heard, and no more is sent."""
    with raw_server(socket.AF_INET, "127.0.0.1", b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n") as port:
        ended = asyncio.Event()

        async def pieces() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    yield b"x" * 65536
                    await asyncio.sleep(0)
            finally:
                ended.set()

        body = pieces()
        exchange = await Http(f"http://127.0.0.1:{port}").open("POST", "/", body)
        assert exchange.status == 413
        exchange.abort()
        await body.aclose()
        assert ended.is_set()
        await asyncio.sleep(0)  # in its next turn the loop closes the socket; the server waits for that, and we for it


@contextmanager
def proxy(answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that opens one way to this machine, whatever name it is asked for; its port, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pump(source: socket.socket, target: socket.socket) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        def serve() -> None:
            inside, _ = listener.accept()
            with inside:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += inside.recv(65536)
                asked.append(head)
                inside.sendall(answer)
                if b" 200 " in answer:
                    port = int(head.split()[1].rpartition(b":")[2])
                    with socket.create_connection(("127.0.0.1", port)) as outside:
                        back = threading.Thread(target=pump, args=(outside, inside))
                        back.start()
                        pump(inside, outside)
                        back.join()

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join()


def test_tls_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy opens the way and sees nothing of what goes over it; its user and password are for it alone."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    context.check_hostname = False
    with raw_server(socket.AF_INET, "127.0.0.1", COUNTED, tls=True) as port, proxy() as (way, asked):
        monkeypatch.setenv("https_proxy", f"http://me:s%40crt@127.0.0.1:{way}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)

        async def ask() -> bytes:
            exchange = await Http(f"https://model.invalid:{port}", options=HttpOptions(Reach(context))).open("GET", "/")
            try:
                return await exchange.read_all()
            finally:
                exchange.abort()

        assert asyncio.run(ask()) == BODY
    assert asked[0].startswith(b"CONNECT model.invalid:%d HTTP/1.1\r\n" % port)
    assert b"\r\nproxy-authorization: Basic bWU6c0BjcnQ=\r\n" in asked[0]


async def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, with what it said."""
    with proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as (way, _):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{way}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(ConnectionError, match=f"the proxy http://127.0.0.1:{way} refuses: status 407"):
            await Http("https://model.invalid").open("GET", "/")


async def test_a_proxy_of_no_kind_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named, and what to do about it."""
    monkeypatch.setenv("http_proxy", "gopher://me:secret@127.0.0.1:70")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(ConnectionError, match=r"the proxy 'gopher://127.0.0.1:70' is of no kind we know") as caught:
        await Http("http://model.invalid").open("GET", "/")
    assert "NO_PROXY" in caught.value.hint
