"""C6, C7: bodies that are too large, endless, late, or no request: a clear status, and why; never a 500."""

from __future__ import annotations

import base64
import json
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.gateway.serving import HOST, Gateway, serving
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import say

MEGABYTE = 1 << 20
ROUTES = ["/chat/stream", "/runs", "/conversations", "/render"]
"""Routes that take a body and need nothing else."""


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway that takes bodies of a megabyte."""
    with serving("--max-body", "1M", "--on-leave", "cancel") as gateway:
        gateway.upstream.always(say("x"))
        yield gateway


def _post(gateway: Gateway, path: str, headers: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", gateway.server.port), PATIENCE)
    sock.sendall(f"POST {path} HTTP/1.1\r\n{HOST}{headers}\r\n".encode())
    return sock


def _all(sock: socket.socket) -> bytes:
    data = b""
    with sock:
        while piece := sock.recv(65536):
            data += piece
    return data


# -- C6 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ROUTES)
def test_c6_length_that_is_too_large(gateway: Gateway, path: str) -> None:
    """Who says that too much comes is refused before it does."""
    data = _all(_post(gateway, path, "Content-Length: 1073741824\r\n"))

    assert data.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in data.lower()
    assert json.loads(data.partition(b"\r\n\r\n")[2])["detail"] == "the body is larger than 1,048,576 bytes"


@pytest.mark.parametrize("path", ROUTES)
def test_c6_a_gigabyte_in_chunks(gateway: Gateway, path: str) -> None:
    """Who sends a gigabyte without saying so is answered 413 and cut off; the server's memory does not grow with it."""
    before = gateway.memory()
    sock = _post(gateway, path, "Transfer-Encoding: chunked\r\n")
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    sent = 0
    try:
        while sent < 1 << 30:
            sock.sendall(chunk)
            sent += 0x10000
    except OSError:
        pass  # cut off
    grown = gateway.memory() - before
    sock.close()

    assert sent < 1 << 30
    assert grown < 32 * MEGABYTE


def test_c6_the_refusal_can_be_read(gateway: Gateway) -> None:
    """The answer reaches a client that is still sending: what it sends is dropped for a moment, and not reset."""
    for headers, piece in (
        ("Content-Length: 50000000\r\n", b"x" * 65536),
        ("Transfer-Encoding: chunked\r\n", b"10000\r\n" + b"x" * 0x10000 + b"\r\n"),
    ):
        sock = _post(gateway, "/runs", headers)
        for _ in range(40):
            sock.sendall(piece)
        assert _all(sock).startswith(b"HTTP/1.1 413 ")


def test_c6_length_that_lies(gateway: Gateway) -> None:
    """More than was said is another request, and no HTTP; less than was said, and gone, asks for nothing."""
    asked = gateway.asked
    body = b'{"message":"hi","model":"m"}'
    more = _post(gateway, "/runs", "Content-Length: 4\r\n")
    more.sendall(body)
    told = _all(more)
    less = _post(gateway, "/runs", "Content-Length: 100\r\n")
    less.sendall(body)
    less.shutdown(socket.SHUT_WR)
    less.close()

    assert told.startswith(b"HTTP/1.1 400 ")
    assert gateway.call("GET", "/healthz").status == 200
    assert asked == gateway.asked


def test_c6_body_of_just_the_limit(gateway: Gateway) -> None:
    """What is as large as may be is taken."""
    body = json.dumps({"message": "", "model": "m"}).encode()
    body = body.replace(b'""', b'"' + b"x" * (MEGABYTE - len(body)) + b'"')

    assert len(body) == MEGABYTE
    assert gateway.call("POST", "/runs", body).status == 201
    assert gateway.call("POST", "/runs", body + b" ").status == 413


def test_c6_late_body() -> None:
    """A body that does not come in time is 408, however it trickles."""
    with serving("--body-time", "0.5") as gateway:
        for headers in ("Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"):
            assert _all(_post(gateway, "/runs", headers)).startswith(b"HTTP/1.1 408 ")


def test_c6_too_much_at_once(gateway: Gateway) -> None:
    """However many connections bring large bodies, no more of them is in memory than there is room for."""
    before = gateway.memory()
    crowd = [_post(gateway, "/runs", f"Content-Length: {MEGABYTE}\r\n") for _ in range(600)]
    for sock in crowd:
        sock.sendall(b" " * (MEGABYTE - 1))
    refused, _, _ = select.select(crowd, [], [], PATIENCE)
    status = refused[0].recv(12)
    assert gateway.call("GET", "/healthz").status == 200
    grown = gateway.memory() - before
    for sock in crowd:
        sock.close()

    assert status == b"HTTP/1.1 503"
    assert grown < 300 * MEGABYTE


# -- C7 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "JSON"),
        (b"", "no message"),
        (b"null", "object"),
        (b"[]", "object"),
        (b"hi", "JSON"),
        (b"\xff\xfe{", "JSON"),
        (b'{"message": "\xff"}', "JSON"),
        (b'{"message": "\\ud800"}', "JSON"),
        (b'{"message": NaN}', "JSON"),
        (b'{"message": 5}', "$.message"),
        (b'{"messages": {}}', "$.messages"),
        (b'{"messages": ["hi"]}', "$.messages[0]"),
        (b'{"messages": [{"role": "user", "content": "a"}, 5]}', "$.messages[1]"),
        (b'{"messages": [{"content": "hi"}]}', "role"),
        (b'{"messages": []}', "no message"),
        (b'{"message": ""}', "no message"),
        (b'{"message": "hi", "options": []}', "$.options"),
        (b'{"message": "hi", "think": 5}', "$.think"),
        (b'{"message": "hi", "format": 5}', "$.format"),
        (b'{"message": "hi", "model": null}', "$.model"),
        (b'{"message": "hi", "linger": -1}', "linger"),
        (b'{"message": "hi", "linger": "x"}', "$.linger"),
        (b'{"message": "hi", "linger": 1e400}', ""),
        (b'{"message": "hi", "tools": [5]}', "$.tools[0]"),
        (b'{"messages": [{"role": "user", "content": "hi", "images": ["/etc/passwd"]}]}', "base64"),
        (b'{"messages": [{"role": "user", "content": "hi", "images": 5}]}', "base64"),
        (b"[" * 100_000, ""),
        (b'{"options": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, ""),
        (b'{"messages": [' + b"{}," * 300_000 + b"{}]}", "messages"),
    ],
    ids=lambda value: repr(value[:40]),
)
def test_c7_what_is_no_request(gateway: Gateway, body: bytes, told: str) -> None:
    """400, and the problem says where it is wrong; the model server hears nothing of it."""
    asked = gateway.asked
    for path in ("/chat/stream", "/runs"):
        answer = gateway.call("POST", path, body)
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert told in answer.json["detail"]
    assert asked == gateway.asked


def test_c7_million_messages(gateway: Gateway) -> None:
    """A million messages are more than may come; as many empty ones as fit are refused for what they are."""
    million = b'{"messages": [' + b'{"role":"user","content":"x"},' * 1_000_000 + b"{}]}"

    assert gateway.call("POST", "/runs", million).status == 413


def test_c7_nul_and_other_characters_are_text(gateway: Gateway) -> None:
    """NUL, line ends and characters beyond the first plane in a message are sent on as they are."""
    text = "a\0b\r\nc\u2028\U0001f30a\ufeff"
    path, record = gateway.start(say("x"), message=text, linger=None)
    gateway.ended(path)

    assert record.json["messages"] == [{"role": "user", "content": text}]


def test_c7_paths_of_images_are_not_read(gateway: Gateway, tmp_path: Any) -> None:
    """A path in place of an image would be one of the server's files: it is refused whether it exists or not."""
    image = tmp_path / "image.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 20)
    for path in (image, tmp_path / "none.png"):
        message = {"role": "user", "content": "hi", "images": [str(path)]}
        answer = gateway.call("POST", "/runs", {"messages": [message], "model": "m"})
        assert answer.status == 400
        assert str(path) not in answer.json["detail"]


def test_c7_images_in_parts_are_data(gateway: Gateway, tmp_path: Any) -> None:
    """An image in a part is a data URL; a path or an address in its place is refused, and never shown."""
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"x" * 20).decode()
    image = tmp_path / "image.png"
    image.write_bytes(base64.b64decode(data))
    parts = [
        {"type": "image", "image": str(image)},
        {"type": "image", "path": str(image)},
        {"type": "image_url", "image_url": {"url": image.as_uri()}},
        {"type": "image_url", "image_url": {"url": "http://127.0.0.1/a.png"}},
    ]
    for part in parts:
        answer = gateway.call("POST", "/runs", {"messages": [{"role": "user", "content": [part]}], "model": "m"})
        assert answer.status == 400
        assert "messages[0].content[0]" in answer.json["detail"]
        assert str(image) not in answer.json["detail"]

    good = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    message = {"role": "user", "content": [{"type": "text", "text": "see"}, good]}
    path, record = gateway.start(say("x"), message=None, messages=[message], linger=None)
    gateway.ended(path)
    assert record.json["messages"] == [{"role": "user", "content": "see", "images": [data]}]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_NAMES = st.sampled_from(
    [
        *("message", "messages", "model", "system", "options", "think", "format", "tools", "keep_alive", "linger"),
        *("prompt", "content", "parent", "regenerate", "continue", "title", "leaf", "texts", "role", "images"),
    ]
)
_BODIES = (
    st.binary(max_size=200)
    | _JSON.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(_NAMES, _JSON, max_size=6).map(lambda value: json.dumps(value).encode())
    | st.dictionaries(_NAMES, st.lists(st.dictionaries(_NAMES, _JSON, max_size=4), max_size=3), max_size=4).map(
        lambda value: json.dumps(value).encode()
    )
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=_BODIES, path=st.sampled_from([*ROUTES, "TURNS", "PATCH"]))
def test_c7_fuzz(gateway: Gateway, body: bytes, path: str) -> None:
    """Whatever the body: never a server error, and no answer but JSON, a problem, or a stream that ends."""
    method = "POST"
    if path in ("TURNS", "PATCH"):
        made = gateway.call("POST", "/conversations", {}).headers["location"]
        method, path = ("PATCH", made) if path == "PATCH" else ("POST", f"{made}/turns")
    with Reader(gateway.url, path, body, method=method, headers="Connection: close\r\n") as reader:
        reader.body()

    assert reader.status < 500, reader.raw
    assert reader.headers["content-type"].split(";")[0] in (
        "application/json",
        "application/problem+json",
        "text/event-stream",
    )
