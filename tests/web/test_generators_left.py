"""Generators of other frameworks' responses, whose browser leaves: the model stops, whatever is kept of them (P19)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest
from tests.web.asgi_servers import Served
from tests.web.process import running

from tailrace.testing import FakeOllama, say, stall

COMMANDS = {
    "uvicorn": lambda port: ["-m", "uvicorn", "--port", str(port), "--lifespan", "off", "tests.web.generator_apps:app"],
    "aiohttp": lambda port: ["-m", "tests.web.generator_apps", str(port)],
}
PATHS = {
    "uvicorn": ["/starlette", "/starlette/thread", "/fastapi", "/django"],
    "aiohttp": ["/aiohttp", "/aiohttp/generator"],
}
FLOOD = [say(*["word " * 200] * 50) for _ in range(200)]


@contextlib.contextmanager
def serving(kind: str) -> Iterator[Served]:
    with (
        FakeOllama(models=["m"]) as upstream,
        running(lambda port: [sys.executable, *COMMANDS[kind](port)], {"UPSTREAM": upstream.url}) as server,
    ):
        yield Served(server, upstream)


@pytest.mark.parametrize("kind", COMMANDS)
def test_p19_a_browser_leaves(kind: str) -> None:
    """The model stops when the browser goes while it is waited for, and while the browser is too slow for it."""
    with serving(kind) as served:
        for path in PATHS[kind]:
            reader, record = served.ask(say("one"), stall(), path=path, method="GET")
            reader.until(b"one")
            reader.leave("rst")
            assert record.wait_until_left(), path

            if "thread" in path:  # nothing tells a synchronous generator that is not being read
                continue
            reader, record = served.ask(*FLOOD, stall(), path=path, method="GET", rcvbuf=4096)
            reader.until(b"word")
            reader.leave("rst")
            assert record.wait_until_left(), path
