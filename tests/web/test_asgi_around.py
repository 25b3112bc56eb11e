"""What stands between a stream and its reader: nginx, middlewares, silence (C13, C16)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from tests.web.asgi_servers import STREAMS, Served, serving
from tests.web.nginx import nginx
from tests.web.reader import PATIENCE, text, texts

from tailrace.testing import hold, say, stall

SERVER = "uvicorn-httptools"
MIDDLEWARES = ("gzip", "looking", "passing", "crowd")


@pytest.fixture(scope="module")
def behind_nginx() -> Iterator[Served]:
    """An application behind nginx with its default settings."""
    with serving(SERVER) as served, nginx(served.server.url) as front:
        yield Served(front, served.upstream)


@pytest.fixture(scope="module", params=MIDDLEWARES)
def wrapped(request: pytest.FixtureRequest) -> Iterator[Served]:
    """An application in a middleware, or in several."""
    with serving(SERVER, request.param) as served:
        yield served


@pytest.mark.parametrize("path", STREAMS)
def test_c13_nginx_passes_each_token_on(behind_nginx: Served, path: str) -> None:
    """Behind nginx, which buffers by default, the first comment and each token come before the next one is made."""
    reader, _ = behind_nginx.ask(hold(), say("one"), hold(), say("two"), path=path)
    with reader:
        assert reader.headers["server"].startswith("nginx")
        reader.until(b": tailrace\n")
        behind_nginx.upstream.release()
        assert texts([reader.next()]) == ["one"]
        behind_nginx.upstream.release()
        assert text(reader.all()) == "two"


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_c13_leaving_behind_nginx(behind_nginx: Served, how: str) -> None:
    """A browser that leaves nginx leaves us as well, also before the first token."""
    reader, record = behind_nginx.ask(stall())
    reader.until(b": tailrace\n")
    reader.leave(how)

    assert record.wait_until_left(PATIENCE)


def test_c13_comes_back_through_nginx(behind_nginx: Served) -> None:
    """nginx passes on what a reader needs to come back: where, and after which event."""
    reader, _ = behind_nginx.ask(say("Hel", "lo"), hold(), say(" again"), path="/linger")
    seen = [reader.next(), reader.next()]
    reader.leave("rst")
    with behind_nginx.read(reader.run, seen[-1].id) as again:
        again.until(b": tailrace\n")
        behind_nginx.upstream.release()
        assert text(again.all()) == " again"


@pytest.mark.parametrize("path", STREAMS)
def test_c16_each_thing_at_once_through_middlewares(wrapped: Served, path: str) -> None:
    """Middlewares hold nothing back: neither one that packs with gzip, nor one that looks, nor several of them."""
    reader, _ = wrapped.ask(hold(), say("one"), hold(), say("two"), path=path, headers="Accept-Encoding: gzip\r\n")
    with reader:
        assert "content-encoding" not in reader.headers
        reader.until(b": tailrace\n")
        wrapped.upstream.release()
        assert texts([reader.next()]) == ["one"]
        wrapped.upstream.release()
        assert text(reader.all()) == "two"


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("path", STREAMS)
def test_c16_leaving_through_middlewares(wrapped: Served, path: str, how: str) -> None:
    """A browser that leaves before the first token, or after it, frees the model through any middleware."""
    reader, record = wrapped.ask(stall(), path=path)
    reader.until(b": tailrace\n")
    left = time.monotonic()
    reader.leave(how)
    assert record.wait_until_left(PATIENCE)
    assert record.left_at is not None
    assert record.left_at - left < 0.5

    reader, record = wrapped.ask(say("one"), stall(), path=path)
    reader.until(b"one")
    reader.leave(how)
    assert record.wait_until_left(PATIENCE)


def test_c13_pings() -> None:
    """While the model is silent a comment comes again and again, before the first token and after it."""
    with serving(SERVER, PING="0.1") as served:
        reader, _ = served.ask(hold(), say("one"), hold(), say("two"))
        with reader:
            reader.until(b": ping\n\n: ping\n\n: ping\n\n")
            served.upstream.release()
            assert texts([reader.next()]) == ["one"]
            while not reader.raw.endswith(b": ping\n\n: ping\n\n"):
                reader.more()
            served.upstream.release()
            assert text(reader.all()) == "two"
