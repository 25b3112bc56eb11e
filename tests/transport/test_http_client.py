"""Answers over HTTP: bodies that are too long, errors whose text does not come, servers that do not close."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from tests.rawserver import raw_server

from tailrace.errors import ProtocolError
from tailrace.testing import FakeOllama, head, hold, raw
from tailrace.transport import http_client
from tailrace.transport.http_client import Http, HttpExchange

T = TypeVar("T")
HEAD = b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n"


Use = Callable[[HttpExchange], Awaitable[T]]


def answered(use: Use[T], rest: bytes) -> T:
    """What `use` makes of an answer that should have 1000 bytes and has these, and then the server's end."""

    async def ask(port: int) -> T:
        exchange = await Http(f"http://127.0.0.1:{port}").open("GET", "/")
        try:
            return await use(exchange)
        finally:
            exchange.abort()

    with raw_server(socket.AF_INET, "127.0.0.1", HEAD % 1000 + rest) as port:
        return asyncio.run(ask(port))


def test_a_body_longer_than_its_limit() -> None:
    """No more of it is read."""
    assert answered(lambda exchange: exchange.read_all(1000), bytes(1000)) == bytes(1000)
    with pytest.raises(ProtocolError, match="answered with more than 999 bytes"):
        answered(lambda exchange: exchange.read_all(999), bytes(1000))


def test_an_error_whose_text_is_cut_off() -> None:
    """What came of it is better than nothing."""
    assert answered(HttpExchange.read_error, b"out of mem") == "out of mem"


def test_an_error_whose_text_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for long."""
    monkeypatch.setattr(http_client, "_ERROR_TIME", 0.01)

    async def ask(url: str) -> str:
        exchange = await Http(url).open("GET", "/api/tags")
        try:
            return await exchange.read_error()
        finally:
            exchange.abort()

    with FakeOllama() as server:
        server.always(head(status=500), raw(b"out of mem"), hold(), raw(b"ory"), path="/api/tags")
        assert asyncio.run(ask(server.url)) == "out of mem"


def test_an_end_that_is_broken() -> None:
    """How a connection ends after its answer does not matter; it is closed all the same."""

    async def finish(exchange: HttpExchange) -> bool:
        await exchange.read()
        await exchange.finish()
        return exchange.half_close()

    assert answered(finish, b"all that is wanted") is False
