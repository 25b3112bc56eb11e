"""Relay: a request that another worker answers, over that worker's private socket, as it comes, both ways.

No byte of a body is changed, nothing is kept back, and the client's leaving closes the connection to the other worker,
which then sees it as it sees any client leave. Who the client is goes along in a header that is believed on the private
sockets alone: they are in a folder that nobody else may enter.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import NamedTuple, Self

import httptools
import msgspec

from tailrace.protocols.problems import ProblemError
from tailrace.web.asgi_types import App, Receive, Scope, Send
from tailrace.web.send_watchdog import WatchedSender

__all__ = ["RELAYED", "Fetched", "Relay", "believing", "socket_of"]


RELAYED = "tailrace.relayed"
"""In the scope of a request that another worker has passed on."""

_CLIENT = b"x-tailrace-client"
_PIECE = 64 * 1024  # bytes read at a time
_LARGEST = 64 * 1024 * 1024  # bytes of an answer that is wanted whole
# What belongs to a connection and not to a request; `date` each server says itself.
_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
_HOP |= {b"http2-settings", _CLIENT}
_ANSWERS_HOP = {b"transfer-encoding", b"keep-alive", b"date"}
_REPEATABLE = ("GET", "HEAD", "DELETE")


class Fetched(NamedTuple):
    """A whole answer of another worker."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class _GoneError(Exception):
    """The other worker closed the connection before it answered."""


def socket_of(folder: Path, index: int) -> Path:
    """Returns where a worker's private socket is."""
    return folder / str(index)


class Relay:
    """Passes requests on to the other workers.

    Args:
        folder: where their sockets are.
        send_timeout: seconds that a client may take for a piece of an answer.
    """

    def __init__(self, folder: Path, send_timeout: float) -> None:
        self._folder = folder
        self._send_timeout = send_timeout

    async def pass_on(self, to: int, scope: Scope, receive: Receive, send: Send, body: bytes | None = None) -> None:
        """Answers a request with what another worker answers.

        Args:
            to: the worker.
            scope: of the request, as are `receive` and `send`.
            body: the request's body, if it was read already.

        Raises:
            ProblemError: 503: it does not answer.
        """
        for _ in range(2 if _is_repeatable(scope) else 1):  # it may have died with the request in its hands
            try:
                async with await self._asking(to, scope, body) as asking:
                    await _Crossing(asking, scope, receive, send, self._send_timeout).run(has_body=body is None)
                    return
            except _GoneError:
                continue
        raise _unreachable(to)

    async def fetch(self, to: int, scope: Scope) -> Fetched:
        """Asks a worker, this one as well, what a request without a body asks; returns its whole answer.

        Raises:
            ProblemError: 503: it does not answer.
        """
        async with await self._asking(to, {**scope, "method": "GET"}, b"") as asking:
            size, parts = 0, []
            while not asking.complete:
                size += len(data := asking.take())
                parts.append(data)
                if size > _LARGEST or not await asking.more():
                    raise _unreachable(to)
            return Fetched(asking.status, asking.headers, b"".join([*parts, asking.take()]))

    async def _asking(self, to: int, scope: Scope, body: bytes | None) -> _Asking:
        head = _head(scope, body)
        try:
            reader, writer = await asyncio.open_unix_connection(str(socket_of(self._folder, to)), limit=_PIECE)
        except OSError as error:
            raise _unreachable(to) from error
        writer.write(head + (body or b""))
        return _Asking(reader, writer, scope["method"])


def _unreachable(worker: int) -> ProblemError:
    return ProblemError(503, f"worker {worker + 1} does not answer", headers={"Retry-After": "1"})


def _is_repeatable(scope: Scope) -> bool:
    return scope["method"] in _REPEATABLE and not _framing(scope)


def _framing(scope: Scope) -> list[bytes]:
    return [name for name, _ in scope["headers"] if name in (b"content-length", b"transfer-encoding")]


def _head(scope: Scope, body: bytes | None) -> bytes:
    """Returns the head of a request: the client's own, but for what is about its connection."""
    target, query = scope["raw_path"], scope["query_string"]
    lines = [scope["method"].encode() + b" " + target + (b"?" + query if query else b"") + b" HTTP/1.1"]
    headers = [(name, value) for name, value in scope["headers"] if name not in _HOP]
    if body is not None:
        headers = [field for field in headers if field[0] not in (b"content-length", b"expect")]
        headers += [(b"content-length", b"%d" % len(body))] if body else []
    elif b"transfer-encoding" in _framing(scope):
        headers.append((b"transfer-encoding", b"chunked"))
    who = [scope[name] for name in ("client", "server", "scheme", "http_version")]
    headers.append((_CLIENT, msgspec.json.encode(who)))
    for name, value in headers:
        if b"\r" in value or b"\n" in value:  # no parser lets that through; to another server it would be two lines
            raise ProblemError(400, "a header of the request is broken")
        lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n\r\n"


class _Asking:
    """A request at another worker, and its answer as it comes; the parser's callbacks.

    Attributes:
        status: of the answer; 0 while there is none.
        headers: of the answer, names in small letters.
        complete: True once all of it has come.
        going_on: set when the body may be sent, where that was asked (``Expect``).
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.going_on = asyncio.Event()
        self.writer = writer
        self._reader = reader
        self._bodiless = method == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def more(self) -> bool:
        """Waits for more of the answer; False if the connection is over."""
        try:
            data = await self._reader.read(_PIECE)
        except OSError:
            return False
        if data:
            self._parser.feed_data(data)
        return bool(data)

    def take(self) -> bytes:
        """Returns what has come of the body and was not taken."""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        return data

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the answer."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """The head of an answer; one below 200 announces another."""
        status = self._parser.get_status_code()
        if status < 200:
            self.headers.clear()
            self.going_on.set()
            return
        self.status = status
        self.complete = self._bodiless

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """The end of an answer."""
        self.complete = self.complete or self.status > 0


class _Crossing:
    """One request on its way: what the client sends goes there, what comes from there goes to the client."""

    def __init__(self, asking: _Asking, scope: Scope, receive: Receive, send: Send, limit: float) -> None:
        self._asking = asking
        self._receive = receive
        self._sender = WatchedSender(send, limit)
        self._chunked = b"transfer-encoding" in _framing(scope)
        self._expects = any(name == b"expect" for name, _ in scope["headers"])
        self._limit = limit
        self._left = False

    async def run(self, *, has_body: bool) -> None:
        """Passes all of it on.

        Raises:
            _GoneError: the other worker went without a word.
        """
        loop = asyncio.get_running_loop()
        bringing = loop.create_task(self._bring(has_body=has_body))
        self._timer = loop.call_later(self._limit, self._look)
        try:
            # A client that takes nothing is let go: its answer is left without an end.
            with contextlib.suppress(TimeoutError):
                async with self._sender:
                    await self._fetch()
        finally:
            self._timer.cancel()
            bringing.cancel()
            await asyncio.wait({bringing})
        if not bringing.cancelled():
            bringing.result()

    async def _bring(self, *, has_body: bool) -> None:
        """Passes the body on, and listens for the client's leaving, which closes the connection."""
        writer = self._asking.writer
        if has_body and self._expects:
            await self._asking.going_on.wait()
        while (message := await self._receive())["type"] != "http.disconnect":
            if has_body:
                has_body = message.get("more_body", False)
                with contextlib.suppress(OSError):  # it wants no more of it; the answer says why
                    writer.write(self._framed(message.get("body", b""), last=not has_body))
                    await writer.drain()
        self._left = True
        writer.transport.abort()

    def _framed(self, data: bytes, *, last: bool) -> bytes:
        if not self._chunked:
            return data
        return (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"0\r\n\r\n" if last else b"")

    async def _fetch(self) -> None:
        asking = self._asking
        while not asking.status:
            if not await asking.more():
                if self._left:
                    return
                raise _GoneError
        self._asking.going_on.set()
        headers = [(name, value) for name, value in asking.headers if name not in _ANSWERS_HOP]
        await self._sender.send({"type": "http.response.start", "status": asking.status, "headers": headers})
        while True:
            data, complete = asking.take(), asking.complete
            if data or complete:
                await self._sender.send({"type": "http.response.body", "body": data, "more_body": not complete})
            if complete or not await asking.more():  # one that broke off is left without an end, so that it is known
                return

    def _look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._sender.look(), self._look)


def believing(app: App) -> App:
    """Returns an application for a private socket: who the client is says the worker that passes its request on."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            told = next((value for name, value in scope["headers"] if name == _CLIENT), b"[null,null,null,null]")
            client, server, scheme, version = msgspec.json.decode(told)
            scope["headers"] = [field for field in scope["headers"] if field[0] != _CLIENT]
            scope["client"] = tuple(client) if client else None
            scope["server"] = tuple(server) if server else None
            scope["scheme"] = scheme or scope["scheme"]
            scope["http_version"] = version or scope["http_version"]
            scope[RELAYED] = True
        await app(scope, receive, send)

    return answer
