"""The way to a server: addresses that are none, proxies that are gone, names that cannot be looked up."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from tests.transport.test_connection import proxy

from tailrace.errors import ConnectionError
from tailrace.testing import closed_port
from tailrace.transport.connect import Target
from tailrace.transport.http_client import Http


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "origin", "path"),
    [
        ("http://h", "http://h", "/"),
        ("http://h:80/a b", "http://h", "/a%20b"),
        ("https://h:443/?q=ü", "https://h", "/?q=%C3%BC"),
        ("https://h:80/x", "https://h:80", "/x"),
        ("http://[::1]:5/", "http://[::1]:5", "/"),
        ("http://köln.example/", "http://xn--kln-sna.example", "/"),
    ],
)
def test_addresses(url: str, origin: str, path: str) -> None:
    """A URL leads to a host and a port, and to a path that can be sent."""
    target = Target.of(url, "the server")

    assert (target.origin, target.path) == (origin, path)


@pytest.mark.parametrize(
    "url", ["", "http://", "http:///path", "http://h:99999", "http://h:x", "http://a b/", "http://" + "ü" * 70]
)
def test_addresses_that_are_none(url: str) -> None:
    """They are refused before anything is sent."""
    with pytest.raises(ConnectionError, match="not an address: the server"):
        Target.of(url, "the server")


async def test_a_name_that_cannot_be_looked_up() -> None:
    """A name that no name may be is an address that is none."""
    with pytest.raises(ConnectionError, match="not an address: http://a"):
        await Http(f"http://{'a' * 70}.example").open("GET", "/")


async def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy that is named, and the hint is about proxies."""
    port = closed_port()
    monkeypatch.setenv("http_proxy", f"127.0.0.1:{port}")

    with pytest.raises(ConnectionError, match=f"nothing answers at the proxy http://127.0.0.1:{port}") as caught:
        await Http("http://model.invalid").open("GET", "/")

    assert "NO_PROXY" in caught.value.hint


def test_a_proxy_that_closes_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is gone before TLS has begun is named too."""

    async def nothing(*_: Any, **__: Any) -> None:
        """What `start_tls` returns when the connection has gone meanwhile."""

    async def ask(port: int) -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "start_tls", nothing)
        await Http(f"https://model.invalid:{port}").open("GET", "/")

    with socket.create_server(("127.0.0.1", 0)) as server, proxy() as (way, _):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{way}")
        with pytest.raises(ConnectionError, match=f"the proxy http://127.0.0.1:{way} closed the way to"):
            asyncio.run(ask(server.getsockname()[1]))
        server.accept()[0].close()
