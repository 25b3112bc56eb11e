"""HTTP on a connection: requests as applications see them, answers as clients see them, and who is told what when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tailrace.gateway.server.protocol import HttpProtocol, limited
from tailrace.web.direct_writer import DIRECT_WRITE, DirectWrite

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"


class Wire(asyncio.Transport):
    """A connection without a socket: what was written on it, and what was done to it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("10.0.0.1", 5, 0, 0), "sockname": ("10.0.0.2", 6)})
        self.written = b""
        self.reading = True
        self.unwritten = 0
        self.closed = self.aborted = self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "it was said that nothing more would come"
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unwritten

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Served:
    """A connection, and an application that answers each request when the test says so."""

    def __init__(self) -> None:
        self.scopes: list[Message] = []
        self.answers: asyncio.Queue[Callable[[Message, Receive, Send], Awaitable[None]]] = asyncio.Queue()
        self.state = SimpleNamespace(connections=set(), tasks=set(), default_headers=[(b"date", b"today")])
        config = cast(Any, SimpleNamespace(loaded_app=self._app, timeout_keep_alive=60))
        made = limited(head_time=60, most=10)(config, cast(Any, self.state), {"kept": 1})
        self.connection: HttpProtocol = made
        self.wire = Wire()
        self.connection.connection_made(self.wire)

    async def _app(self, scope: Message, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await (await self.answers.get())(scope, receive, send)

    async def answer(self, *pieces: bytes, headers: dict[bytes, bytes] | None = None, status: int = 200) -> None:
        """Answers the request that is next."""

        async def answer(_scope: Message, _receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": status, "headers": list((headers or {}).items())})
            for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})

        self.answers.put_nowait(answer)
        await self.settle()

    async def settle(self) -> None:
        """Lets all that can go on do so."""
        for _ in range(20):
            await asyncio.sleep(0)

    def get(self, data: bytes = GET) -> None:
        """The client sends this."""
        self.connection.data_received(data)

    @property
    def push(self) -> DirectWrite:
        """The last request's way to write without waiting."""
        push: DirectWrite = self.scopes[-1][DIRECT_WRITE]
        return push


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    yield served
    served.connection.connection_lost(None)
    for task in tuple(served.state.tasks):
        task.cancel()
    await asyncio.gather(*served.state.tasks, return_exceptions=True)


async def streaming(served: Served, *, request: bytes = GET) -> None:
    """The client has asked, and has got the head of a stream."""

    async def answer(_scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while (await receive())["type"] != "http.disconnect":
            pass

    served.answers.put_nowait(answer)
    served.get(request)
    await served.settle()


# -- requests and answers --------------------------------------------------------------------------------------------


async def test_a_request_as_an_application_sees_it(served: Served) -> None:
    """All that ASGI says of a request is told."""
    served.get()
    await served.answer(b"x")
    scope = {name: value for name, value in served.scopes[0].items() if name not in (DIRECT_WRITE, "asgi")}

    assert scope == {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "root_path": "",
        "query_string": b"c=d",
        "headers": [(b"host", b"x")],
        "client": ("10.0.0.1", 5),
        "server": ("10.0.0.2", 6),
        "state": {"kept": 1},
    }


async def test_an_answer_of_unknown_length_goes_in_chunks(served: Served) -> None:
    """Each piece is one, and the connection may be used again."""
    served.get()
    await served.answer(b"Hel", b"", b"lo" * 8, headers={b"X-A": b"b", b"Transfer-Encoding": b"gzip"})

    assert served.wire.written == (
        b"HTTP/1.1 200 OK\r\ndate: today\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nHel\r\n10\r\nlolololololololo\r\n0\r\n\r\n"
    )
    assert not served.wire.closed


async def test_an_answer_of_known_length_goes_as_it_is(served: Served) -> None:
    """So does one that has no body."""
    served.get()
    await served.answer(b"Hel", b"lo", headers={b"content-length": b"5"})
    served.get(GET.replace(b"GET", b"HEAD"))
    await served.answer(b"not sent")
    served.get()
    await served.answer(status=204)

    assert served.wire.written.split(b"HTTP/1.1 ")[1:] == [
        b"200 OK\r\ndate: today\r\ncontent-length: 5\r\n\r\nHello",
        b"200 OK\r\ndate: today\r\n\r\n",
        b"204 No Content\r\ndate: today\r\n\r\n",
    ]


@pytest.mark.parametrize("version", [b"1.0", b"1.0\r\nConnection: keep-alive"])
async def test_http_1_0_ends_with_the_connection(served: Served, version: bytes) -> None:
    """It knows no chunks, and nothing is written without waiting."""
    served.get(GET.replace(b"1.1", version))
    await served.answer(b"Hel", b"lo")

    assert served.wire.written == b"HTTP/1.1 200 OK\r\ndate: today\r\nconnection: close\r\n\r\nHello"
    assert served.wire.closed
    assert DIRECT_WRITE not in served.scopes[0]


@pytest.mark.parametrize("by", ["client", "application"])
async def test_who_wants_the_connection_closed(served: Served, by: str) -> None:
    """It is, after the answer; what comes behind that request is not answered."""
    served.get(GET.replace(b"x\r\n", b"x\r\nConnection: close\r\n") + GET if by == "client" else GET)
    await served.answer(headers={b"Connection": b"close", b"content-length": b"0"} if by == "application" else {})
    served.get()
    await served.answer()

    assert served.wire.written.count(b"HTTP/1.1") == 1
    assert b"\r\nconnection: close\r\n" in served.wire.written
    assert served.wire.closed
    assert len(served.scopes) == 1


@pytest.mark.parametrize("told", [4, 6])
async def test_a_body_of_another_length_than_its_head_says(
    served: Served, told: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection is closed, so that the client does not take it for whole; and it is logged."""
    served.get()
    await served.answer(b"Hello", headers={b"content-length": b"%d" % told})

    assert served.wire.closed
    assert "an answer failed" in caplog.text


@pytest.mark.parametrize("header", [(b"x\r\ny", b"z"), (b"x", b"y\r\nz"), (b"", b"y\0")])
async def test_a_header_that_would_be_two(
    served: Served, header: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """It is not sent: the answer is a 500."""
    served.get()
    await served.answer(headers=dict([header]))

    assert served.wire.written.startswith(b"HTTP/1.1 500 ")
    assert served.wire.closed
    assert "an answer failed" in caplog.text


@pytest.mark.parametrize("how", ["raises", "says nothing"])
async def test_an_application_that_fails(served: Served, how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Before its head the answer is a 500; after it the connection is closed."""

    async def broken(_scope: Message, _receive: Receive, send: Send) -> None:
        if served.wire.written:
            await send({"type": "http.response.start", "status": 200})
        if how == "raises":
            raise LookupError("a secret")

    served.answers.put_nowait(broken)
    served.get()
    await served.settle()
    assert served.wire.written.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert served.wire.closed
    served.wire.closed = False
    another = Served()
    another.wire.written = b"before"
    another.answers.put_nowait(broken)
    another.get()
    await another.settle()

    assert another.wire.written.count(b"HTTP/1.1 200 OK") == 1
    assert another.wire.closed
    assert b"500" not in another.wire.written
    assert caplog.text.count("LookupError: a secret") == (2 if how == "raises" else 0)
    another.connection.connection_lost(None)


async def test_messages_in_the_wrong_order(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """A body before the head, two heads, anything after the end: each is the application's error."""
    failed: list[str] = []

    async def muddled(_scope: Message, _receive: Receive, send: Send) -> None:
        start, body = {"type": "http.response.start", "status": 200}, {"type": "http.response.body"}
        for name, message in (("early", body), ("", start), ("twice", start), ("", body), ("late", body)):
            try:
                await send(message)
            except RuntimeError:
                failed.append(name)

    served.answers.put_nowait(muddled)
    served.get()
    await served.settle()

    assert failed == ["early", "twice", "late"]


# -- bodies ----------------------------------------------------------------------------------------------------------


async def test_a_body_as_it_comes(served: Served) -> None:
    """What came since the last look is given together; after all of it, `receive` waits for the client's leaving."""
    got: list[Message] = []

    async def reading(_scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        while not got or got[-1]["type"] != "http.disconnect":
            got.append(await receive())

    served.answers.put_nowait(reading)
    served.get(POST)
    await served.settle()
    served.get(b"He")
    await served.settle()
    served.get(b"l")
    served.get(b"lo")
    await served.settle()
    assert [(each["body"], each["more_body"]) for each in got] == [(b"He", True), (b"llo", False)]
    served.connection.connection_lost(None)
    await served.settle()

    assert got[2:] == [{"type": "http.disconnect"}]


async def test_more_of_a_body_than_is_read(served: Served) -> None:
    """The client has to wait until the application has taken what came."""
    seen: list[bool] = []

    async def reading(_scope: Message, receive: Receive, send: Send) -> None:
        seen.append(served.wire.reading)
        size = 0
        while size < 200_000:
            size += len((await receive())["body"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    served.get(POST.replace(b"5", b"200000") + b"x" * 100_000)
    served.answers.put_nowait(reading)
    await served.settle()
    assert seen == [False]
    assert served.wire.reading
    served.get(b"x" * 100_000)
    await served.settle()

    assert served.wire.written.endswith(b"0\r\n\r\n")


async def test_a_body_that_nobody_reads(served: Served) -> None:
    """It is passed over, and the next request on the connection is answered."""
    served.get(POST + b"He")
    await served.answer()
    served.get(b"llo" + GET)
    await served.answer()

    assert [scope["method"] for scope in served.scopes] == ["POST", "GET"]


async def test_a_client_that_asks_whether_to_send(served: Served) -> None:
    """It is told to go on when somebody reads; and never after an answer has begun."""
    expecting = POST.replace(b"x\r\n", b"x\r\nExpect: 100-Continue\r\n")
    await streaming(served, request=expecting)
    assert b"100 Continue" not in served.wire.written
    other = Served()

    async def reading(_scope: Message, receive: Receive, _send: Send) -> None:
        await receive()

    other.answers.put_nowait(reading)
    other.get(expecting)
    await other.settle()

    assert other.wire.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    other.connection.connection_lost(None)
    await other.settle()


async def test_trailers_and_endless_framing(served: Served) -> None:
    """Trailers are passed over; what frames a body and is no body has a limit."""
    chunked = POST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    served.get(chunked + b"1\r\nx\r\n0\r\nX-A: trailer\r\n\r\n")
    await served.answer()
    assert served.scopes[0]["headers"] == [(b"host", b"x"), (b"transfer-encoding", b"chunked")]
    served.get(chunked + b"1\r\nx\r\n0\r\nX-A: ")
    for _ in range(3):
        served.get(b"x" * 30_000)

    assert b"HTTP/1.1 431 " in served.wire.written
    assert served.wire.ended


@pytest.mark.parametrize(("size", "fits"), [(1, False), (8, True)])
async def test_c18_a_body_in_small_chunks(served: Served, size: int, fits: bool) -> None:
    """It costs more to read than it is long, so that one of megabytes comes in larger ones."""
    served.get(POST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"))
    for _ in range(100):
        served.get(b"%x\r\n%b\r\n" % (size, b"x" * size) * 300)
    served.get(b"0\r\n\r\n")
    await served.answer()

    assert (b"HTTP/1.1 200 " in served.wire.written) == fits
    assert (b"HTTP/1.1 431 " in served.wire.written) != fits


# -- several requests ------------------------------------------------------------------------------------------------


async def test_requests_behind_one_that_is_being_answered(served: Served) -> None:
    """They are answered in their order, each when the one before it is."""
    served.get(GET + POST + b"Hello" + GET.replace(b"GET", b"DELETE"))
    for _ in range(3):
        await served.answer(b"x")

    assert [scope["method"] for scope in served.scopes] == ["GET", "POST", "DELETE"]
    assert served.wire.written.count(b"HTTP/1.1 200 OK") == 3


async def test_a_client_that_leaves_though_another_request_waits(served: Served) -> None:
    """The one that is being answered is told; the other is never begun."""
    left: list[str] = []
    await streaming(served)
    assert served.push.watch(lambda: left.append("left"))
    served.get(GET)
    served.connection.connection_lost(None)
    await served.settle()

    assert left == ["left"]
    assert len(served.scopes) == 1
    assert not served.state.tasks
    assert not served.state.connections


LARGE = GET.replace(b"x\r\n", b"x\r\nX-A: " + b"a" * 30_000 + b"\r\n")
MEDIUM = POST.replace(b"5", b"60000") + b"x" * 60_000


@pytest.mark.parametrize(
    ("much", "answered"),
    [(GET * 100, 65), (POST.replace(b"5", b"999999") + b"x" * 100_000, 1), (LARGE * 9, 5), (MEDIUM * 9, 3)],
    ids=["requests", "a body", "heads", "bodies"],
)
async def test_more_behind_an_answer_than_waits(served: Served, much: bytes, answered: int) -> None:
    """It is not answered, but the client's leaving is still seen; the connection ends after what was promised."""
    served.get()
    served.get(much)
    assert served.wire.reading
    for _ in range(101):
        await served.answer()

    assert served.wire.written.count(b"HTTP/1.1 200 OK") == answered
    assert served.wire.closed


async def test_c19_what_waits_is_counted_only_while_it_does(served: Served) -> None:
    """However much comes in the course of time on one connection, it is answered."""
    for _ in range(9):
        served.get(LARGE * 3)
        for _ in range(3):
            await served.answer()

    assert served.wire.written.count(b"HTTP/1.1 200 OK") == 27
    assert not served.wire.closed


async def test_c19_a_client_that_sends_no_more(served: Served) -> None:
    """It has left, though what was written to it is not on its way yet."""
    left: list[str] = []
    await streaming(served)
    served.get(GET)
    assert served.push.watch(lambda: left.append("left"))

    served.connection.eof_received()
    assert left == ["left"]


@pytest.mark.parametrize("junk", [b"junk\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\nX-A" + b"a" * 70_000])
@pytest.mark.parametrize("begun", [False, True])
async def test_c19_junk_behind_a_request(served: Served, junk: bytes, begun: bool) -> None:
    """What was asked is answered, begun or not, and the connection ends behind it."""
    if begun:
        await streaming(served)
        served.get(junk)
        assert not served.wire.closed
        await _send(served.push)
        assert served.wire.written.endswith(b"1\r\ny\r\n")
        return
    served.get(GET + POST + b"Hello" + GET)
    served.get(junk)
    for _ in range(4):
        await served.answer()

    assert served.wire.written.count(b"HTTP/1.1 ") == served.wire.written.count(b"HTTP/1.1 200 OK") == 3
    assert served.wire.closed


async def test_c19_a_bad_body_behind_a_request(served: Served) -> None:
    """The request that it belongs to is not begun; those before it are answered."""
    chunked = POST.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")
    served.get(GET + GET + chunked + b"zz\r\n")
    for _ in range(3):
        await served.answer()

    assert [scope["method"] for scope in served.scopes] == ["GET", "GET"]
    assert served.wire.closed


async def test_the_server_ends(served: Served) -> None:
    """What is being answered is; then the connection is closed."""
    await streaming(served)
    served.connection.shutdown()
    assert not served.wire.closed
    idle = Served()
    idle.connection.shutdown()
    assert idle.wire.closed
    idle.connection.connection_lost(None)


# -- an offer to speak something else --------------------------------------------------------------------------------

UPGRADE = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"


async def test_an_offer_of_http_2(served: Served) -> None:
    """It is not taken up, and the request is answered; its body is read as it is framed."""
    bodies: list[Message] = []

    async def reading(_scope: Message, receive: Receive, send: Send) -> None:
        while not bodies or bodies[-1]["more_body"]:
            bodies.append(await receive())
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    served.answers.put_nowait(reading)
    served.get(b"POST / HTTP/1.1\r\n" + UPGRADE + b"Content-Length: 5\r\n\r\nHe")
    await served.settle()
    served.get(b"llo")
    await served.settle()
    assert b"".join(each["body"] for each in bodies) == b"Hello"
    assert served.wire.closed
    bodiless = Served()
    bodiless.get(b"GET / HTTP/1.1\r\n" + UPGRADE + b"\r\n")
    await bodiless.answer(b"x")

    assert b"\r\nconnection: close\r\n" in bodiless.wire.written
    assert bodiless.wire.closed
    bodiless.connection.connection_lost(None)


# -- writing without waiting -----------------------------------------------------------------------------------------


async def test_a_piece_is_written_at_once(served: Served) -> None:
    """As a chunk, once the head is sent."""
    served.get()
    await served.settle()
    assert not served.push.write(b"early")
    await served.answer()
    assert not served.push.write(b"late")
    await streaming(served)
    before = served.wire.written

    assert served.push.write(b"data: x\n\n")
    assert served.push.write(b"y" * 20)
    assert served.wire.written == before + b"9\r\ndata: x\n\n\r\n14\r\n" + b"y" * 20 + b"\r\n"


async def test_while_the_client_takes_nothing(served: Served) -> None:
    """Nothing is written without waiting, and who sends waits."""
    await streaming(served)
    served.connection.pause_writing()
    before = served.wire.written
    assert not served.push.write(b"x")
    sending = asyncio.ensure_future(_send(served.push))
    await served.settle()
    assert served.wire.written == before
    served.connection.resume_writing()
    await sending

    assert served.wire.written == before + b"1\r\ny\r\n"
    assert served.push.write(b"x")


async def _send(push: Any) -> None:
    await push.send({"type": "http.response.body", "body": b"y", "more_body": True})


async def test_c21_a_client_that_takes_nothing_for_long(served: Served) -> None:
    """It is let go of, since its answer would be kept for as long as it likes; one that takes a little is not."""
    await streaming(served)
    served.wire.unwritten = 100
    served.connection.pause_writing()
    served.wire.unwritten = 99
    served.connection._look_at_writing()
    assert not served.wire.aborted
    served.connection._look_at_writing()

    assert served.wire.aborted


async def test_a_body_that_does_not_go_in_chunks(served: Served) -> None:
    """It is never written to like this, also not after the client was slow for a while."""

    async def answer(_scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await receive()
        await receive()

    served.answers.put_nowait(answer)
    served.get()
    await served.settle()
    before = served.wire.written
    assert not served.push.write(b"x")
    served.connection.pause_writing()
    served.connection.resume_writing()

    assert not served.push.write(b"x")
    assert served.wire.written == before


async def test_who_watches_is_told_once(served: Served) -> None:
    """A client's leaving, to the last one who asked; and reading goes on, or nobody would see it."""
    told: list[str] = []
    await streaming(served)
    served.connection.pause_reading()
    assert served.push.watch(lambda: told.append("first"))
    assert served.wire.reading
    assert served.push.watch(lambda: told.append("second"))
    served.connection.connection_lost(None)
    served.connection.connection_lost(None)

    assert told == ["second"]
    assert not served.push.write(b"x")
    assert not served.push.watch(lambda: None)


async def test_who_watches_no_more(served: Served) -> None:
    """It is told nothing."""
    told: list[str] = []
    await streaming(served)
    served.push.watch(lambda: told.append("left"))
    served.push.watch(None)
    served.connection.connection_lost(None)

    assert told == []


async def test_a_body_that_is_not_here_yet(served: Served) -> None:
    """Then only `receive` tells who leaves."""
    await streaming(served, request=POST)
    assert not served.push.watch(lambda: None)
    served.get(b"Hello")

    assert served.push.watch(lambda: None)
