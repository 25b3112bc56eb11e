"""Strangers: requests that are wrong, connections that say nothing, and those who look around; no run begins."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable

from benchmarks.soaking.asking import BrokenError, ask, call, request

__all__ = ["LARGEST", "LOOKS", "STRANGERS", "knock", "look"]

_PATIENCE = 50.0  # seconds
LARGEST = 256 * 1024  # bytes of a body that the gateway is told to take
_ROUTES = ("/chat/stream", "/runs", "/api/chat", "/v1/chat/completions", "/ai/chat", "/conversations", "/render")
_BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"message": 7}',
    b'{"messages": "no"}',
    b'{"messages": [{"role": 1}], "model": "m"}',
    b'\xff\xfe{"message": "hi"}',
    b"[" * 20_000,
    b'{"message": "\\ud800", "options": []}',
    b'{"title": 1}',
    b'{"texts": 1}',
)
_NO_HTTP = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST /runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
)
LOOKS = (
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/runs?limit=5",
    "/models",
    "/conversations?q=soak",
    "/openapi.json",
    "/api/tags",
    "/v1/models",
    "/queue",
    "/runs/run_none",
    "/nowhere",
)


async def _bad_body(port: int, chance: random.Random) -> str:
    """A body that is no question: a 4xx, and a reason."""
    path, body = chance.choice(_ROUTES), chance.choice(_BODIES)
    try:
        async with asyncio.timeout(_PATIENCE):
            status, said = await call(port, "POST", path, body)
    except TimeoutError:
        return f"{path} {body[:60]!r}: no answer within {_PATIENCE:g} s"
    # A conversation needs nothing, and a request of Ollama's without messages loads a model.
    return "" if 400 <= status < 500 or status in {200, 201} else f"{path} {body[:60]!r}: {status} {said!r}"


async def _too_large(port: int, chance: random.Random) -> str:
    """A body that is too large, told by its length or found out as it comes: 413."""
    body = json.dumps({"message": "x" * chance.randint(LARGEST, 3 * LARGEST)}).encode()
    path = chance.choice(_ROUTES)
    data = request("POST", path, body, Connection="close")
    if chance.random() < 0.5:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        data = head.encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with await ask(port, data) as answer:
        try:
            await answer.head()
        except BrokenError:
            return ""  # it was let go while it still sent, and a reset overtook the answer
    return "" if answer.status == 413 else f"a body that is too large for {path}: {answer.status}"


async def _no_http(port: int, chance: random.Random) -> str:
    """What is no HTTP: a 4xx, and the connection is closed."""
    data = chance.choice(_NO_HTTP)
    async with await ask(port, data) as answer:
        try:
            await answer.head()
            await answer.body()
        except BrokenError:
            return ""
    return "" if 400 <= answer.status < 500 else f"{data[:60]!r}: {answer.status}"


async def _says_nothing(port: int, chance: random.Random) -> str:
    """A connection that is made and left idle, or stops in the midst of a head or a body, or after an answer."""
    data = chance.choice(
        (
            b"",
            b"GET /healthz HT",
            b'POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"mess',
            request("GET", "/healthz"),
        )
    )
    async with await ask(port, data) as answer:
        await asyncio.sleep(chance.uniform(0.0, 8.0))
        answer.leave(chance.choice(("fin", "rst")))
    return ""


async def _looks(port: int, chance: random.Random) -> str:
    """Somebody who looks around."""
    return await look(port, chance.choice(LOOKS))


async def look(port: int, path: str) -> str:
    """Asks for a path of `LOOKS`; returns what was wrong with the answer."""
    status, said = await call(port, "GET", path)
    known = {200, 503} if path == "/readyz" else {404} if path in {"/nowhere", "/runs/run_none"} else {200, 502, 504}
    return "" if status in known else f"{path}: {status} {said!r}"


STRANGERS: dict[str, tuple[int, Callable[[int, random.Random], Awaitable[str]]]] = {
    "bad body": (8, _bad_body),
    "body too large": (3, _too_large),
    "no HTTP": (6, _no_http),
    "says nothing": (5, _says_nothing),
    "looks around": (8, _looks),
}
"""By name: how often they come, and what they do; it returns what was wrong, empty if nothing."""


async def knock(port: int, name: str, chance: random.Random) -> str:
    """Does what a stranger of this kind does; returns what was wrong with the answer."""
    try:
        async with asyncio.timeout(60):
            return await STRANGERS[name][1](port, chance)
    except (BrokenError, TimeoutError) as error:
        return f"{name}: {error!r}"
