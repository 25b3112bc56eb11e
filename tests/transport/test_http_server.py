"""The parser of requests: each comes out the same whole, byte by byte, and with the next one behind it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tailrace.transport.http_server import NEED_DATA, BadRequestError, Head, Request, RequestParser

CHUNKS = b"5;name=value\r\nhello\r\n6\r\n\r\n\r\n\r\n\r\n0\r\n"
REQUESTS: dict[bytes, tuple[str, str, str, bytes]] = {
    b"GET /a?b=%20 HTTP/1.1\r\nHost: x\r\n\r\n": ("GET", "/a?b=%20", "1.1", b""),
    b"HEAD / HTTP/1.0\r\n\r\n": ("HEAD", "/", "1.0", b""),
    b"\r\nGET / HTTP/1.1\r\n\r\n": ("GET", "/", "1.1", b""),
    b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n\r\n": ("OPTIONS", "*", "1.1", b""),
    b"POST http://x/y HTTP/1.1\r\nContent-Length: 5\r\n\r\n\r\n\r\n!": ("POST", "http://x/y", "1.1", b"\r\n\r\n!"),
    b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n": ("POST", "/", "1.1", b""),
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"\r\n": (
        "POST",
        "/",
        "1.1",
        b"hello\r\n\r\n\r\n",
    ),
    b"POST / HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n" + CHUNKS + b"A: b\r\nC: d\r\n\r\n": (
        *("POST", "/", "1.1"),
        b"hello\r\n\r\n\r\n",
    ),
    b"POST / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc": (
        "POST",
        "/",
        "1.1",
        b"abc",
    ),
    b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": ("GET", "/", "1.1", b""),
    b"CONNECT x:1 HTTP/1.1\r\n\r\n": ("CONNECT", "x:1", "1.1", b""),
}


def parsed(pieces: Iterable[bytes], **limits: int) -> list[Head | Request | tuple[int, str]]:
    """The events that come of pieces, the error last."""
    parser = RequestParser(**limits)
    events: list[Head | Request | tuple[int, str]] = []
    try:
        for piece in pieces:
            parser.receive_data(piece)
            while (event := parser.next_event()) is not NEED_DATA:
                events.append(event)
    except BadRequestError as error:
        events.append((error.status, str(error)))
        with pytest.raises(BadRequestError):
            parser.next_event()
    return events


def each_byte(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("data", REQUESTS)
def test_requests(data: bytes) -> None:
    """A request comes out when its last byte is there, and not before: the head first, then all of it."""
    head, request = parsed([data])

    assert isinstance(head, Head)
    assert isinstance(request, Request)
    assert request.head is head
    assert (head.method, head.target, head.version, request.body) == REQUESTS[data]
    assert [head, request] == parsed(each_byte(data))
    assert not any(isinstance(event, Request) for event in parsed([data[:-1]]))


def test_requests_on_one_connection() -> None:
    """What follows a request is the next one, wherever the bytes are cut."""
    data = b"".join(REQUESTS)

    events = parsed([data])

    assert [event.body for event in events if isinstance(event, Request)] == [body for *_, body in REQUESTS.values()]
    assert events == parsed(each_byte(data))
    for at in range(len(data)):
        assert parsed([data[:at], data[at:]]) == events


def test_what_follows_a_request_is_not_looked_at() -> None:
    """A request is given out although nonsense is behind it, which is an error when its turn comes."""
    parser = RequestParser()
    parser.receive_data(b"GET / HTTP/1.1\r\n\r\nnonsense\r\n")

    assert isinstance(parser.next_event(), Head)
    assert isinstance(parser.next_event(), Request)
    with pytest.raises(BadRequestError, match="malformed"):
        parser.next_event()


def test_headers() -> None:
    """Headers keep their order and case, without the blanks around a value; of several the last one counts."""
    head, _ = parsed([b"GET / HTTP/1.1\r\nX-B:\t1 \r\nx-a: \xe9 2\r\nX-b:\r\nExpect: 100-Continue\r\n\r\n"])

    assert isinstance(head, Head)
    assert head.headers == [("X-B", "1"), ("x-a", "é 2"), ("X-b", ""), ("Expect", "100-Continue")]
    assert (head.header("x-b"), head.header("x-a"), head.header("x")) == ("", "é 2", None)
    assert head.expects_continue


def test_the_head_comes_before_the_body() -> None:
    """The head is there to be answered while the body is awaited."""
    parser = RequestParser()
    parser.receive_data(b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n")

    assert isinstance(parser.next_event(), Head)
    assert parser.next_event() is NEED_DATA
    parser.receive_data(b"ab")
    event = parser.next_event()
    assert isinstance(event, Request)
    assert event.body == b"ab"


@pytest.mark.parametrize(
    ("data", "heads", "status"),
    [
        (b"nonsense\r\n", 0, 400),
        (b"GET /\r\n\r\n", 0, 400),
        (b"GET / HTTP/0.9\r\n\r\n", 0, 400),
        (b"GET / HTTP/2.0\r\n\r\n", 0, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, 400),
        (b"GET / HTTP/1.1\n", 0, 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n", 0, 400),
        (b"GET / HTTP/1.1\r\nname : value\r\n", 0, 400),
        (b"GET / HTTP/1.1\r\na: b\r\n folded\r\n", 0, 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n", 0, 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n", 0, 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 0, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 1, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 1, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 1, 400),
        (b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 1, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 1, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\n", 1, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", 1, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 99 + b"\r\n", 1, 413),
        (b"GET / HTTP/1.1\r\nContent-Length: " + b"9" * 99 + b"\r\n", 0, 413),
    ],
)
def test_what_is_no_request(data: bytes, heads: int, status: int) -> None:
    """It is an error with a status, after the heads that were whole."""
    *before, error = parsed([data])

    assert isinstance(error, tuple)
    assert ([type(event) for event in before], error[0]) == ([Head] * heads, status)
    assert parsed(each_byte(data)) == [*before, error]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 11\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n5\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100, 431),
        (
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1;eeeeeeeeeeeeeeeeeeeeeeeeeeeee\r\nx\r\n" * 9,
            431,
        ),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 20, 431),
    ],
)
def test_limits(data: bytes, status: int) -> None:
    """What is too large is refused as soon as that can be known: a body by its length, before it has come."""
    *_, error = parsed([data], max_head=100, max_body=10)

    assert isinstance(error, tuple)
    assert error[0] == status
    assert parsed(each_byte(data), max_head=100, max_body=10)[-1] == error


def test_c18_trailers_are_no_headers() -> None:
    """They are dropped, also where a header of that name was sent."""
    head, request = parsed([b"POST / HTTP/1.1\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: c\r\nD: e\r\n\r\n"])

    assert isinstance(request, Request)
    assert request.head is head
    assert request.head.headers == [("A", "b"), ("Transfer-Encoding", "chunked")]


def test_c18_a_body_in_the_smallest_chunks() -> None:
    """The framing of many small chunks is no flood."""
    data = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 500 + b"0\r\n\r\n"
    *_, request = parsed([data], max_head=100, max_body=500)

    assert isinstance(request, Request)
    assert request.body == b"x" * 500


def test_what_just_fits() -> None:
    """A head and a body of just the allowed size are read."""
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"

    *_, request = parsed([head + b"5\r\nabcde\r\n5\r\nfghij\r\n0\r\n\r\n"], max_head=len(head), max_body=10)

    assert isinstance(request, Request)
    assert request.body == b"abcdefghij"
    assert parsed([head], max_head=len(head) - 1) == [(431, f"request headers are larger than {len(head) - 1} bytes")]
