"""The HTTP client of the backends: one request, one answer, on a connection of its own.

A new connection on the local network costs little compared with a token, and nothing is shared: there is no pool in
which a cancelled request could leave a broken connection, no socket of another event loop or process, and no stale
keep-alive connection.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterable, Callable, Mapping
from urllib.parse import urljoin, urlsplit

from tailrace import errors
from tailrace.transport.connect import Link, Target, connect
from tailrace.transport.decompress import inflater
from tailrace.transport.options import HttpOptions
from tailrace.transport.proxies import is_local

__all__ = ["Http", "HttpExchange", "is_local"]

_ERROR_BODY = 64 * 1024  # bytes of an error's body that are read
_ERROR_TIME = 5.0  # seconds that an error's body may take
_REDIRECTS = 5
_HARMLESS = ("accept", "content-type", "user-agent")  # headers that hold no secret
_FINISH = 1.0  # seconds a server gets to end its side after its final record

_NONE: Mapping[str, str] = {}

Body = bytes | AsyncIterable[bytes] | None


class Http:
    """Where a server is, and how to talk to it. Holds no connection and belongs to no event loop.

    Args:
        base: ``scheme://host:port/path`` without a trailing slash.
        socket_path: path of a Unix socket to connect to instead.
        headers: sent with each request to `base`, and to nobody else.
        options: certificates, proxy, authentication and the like.
        kind: ``ollama`` or ``server``: which one to start if nothing answers.
        connect: seconds until a connection stands; None: no limit. Whoever passes `connected` to `open` has his own.
    """

    def __init__(
        self,
        base: str,
        *,
        socket_path: str | None = None,
        headers: Mapping[str, str] | None = None,
        options: HttpOptions | None = None,
        kind: str = "ollama",
        connect: float | None = None,
    ) -> None:
        self.base = base
        self.socket_path = socket_path
        self.headers = dict(headers or {})
        self.options = options or HttpOptions()
        self._kind = kind
        self._connect = connect

    def with_headers(self, headers: Mapping[str, str | None]) -> Http:
        """Returns one that sends these headers too, by names in lower case; None takes one away."""
        changed = copy.copy(self)
        merged = {**self.headers, **headers}
        changed.headers = {name: value for name, value in merged.items() if value is not None}
        return changed

    def way(self) -> str:
        """Returns ``through the proxy …`` if one stands before the server, else nothing."""
        if self.socket_path is not None:
            return ""
        try:
            target = Target.of(self.base, self.name)
            proxy = self.options.reach.proxy_for(target.host, target.port, target.tls)
        except errors.ConnectionError:
            return ""
        return f"through {proxy}" if proxy is not None else ""

    @property
    def name(self) -> str:
        """The server as an error names it, without credentials."""
        return self.socket_path or self.base

    async def open(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        headers: Mapping[str, str] = _NONE,
        connected: Callable[[], None] | None = None,
    ) -> HttpExchange:
        """Sends a request and waits for the response's headers.

        Args:
            body: bytes, an async iterable of bytes, or None.
            headers: sent beside the client's own, after a redirect too: they hold no secret.
            connected: called when the connection stands.

        Raises:
            ConnectionError: nothing answers there.
            TimedOutError: the connection does not stand in time.
            TruncatedError: it closed the connection without answering.
            ProtocolError: what it answered is not HTTP.
            NotModelServerError: it redirects to another host.
            RequestError: a header cannot be sent.
        """
        url = self._url(path)
        own = self._own_headers(url)
        if self.options.auth is None:
            return await self._open(method, url, body, own, headers, connected)
        signing = self.options.auth.sign(method, url, own, body if isinstance(body, bytes) else b"")
        own = await signing.first()
        exchange = await self._open(method, url, body, own, headers, connected)
        try:
            again = await signing.again(exchange.status, exchange.headers)
        except BaseException:
            exchange.abort()
            raise
        if again is None or not (body is None or isinstance(body, bytes)):
            return exchange
        exchange.abort()
        return await self._open(method, url, body, again, headers, connected)

    def _url(self, path: str) -> str:
        url = path if "://" in path else self.base + path
        query = self.options.query
        return f"{url}{'&' if '?' in url else '?'}{query}" if query else url

    def _own_headers(self, url: str) -> dict[str, str]:
        cookie = self.options.cookie_header(url) if self.options.cookies else ""
        return {"cookie": cookie, **self.headers} if cookie else self.headers

    async def _open(
        self,
        method: str,
        url: str,
        body: Body,
        own: dict[str, str],
        headers: Mapping[str, str],
        connected: Callable[[], None] | None,
    ) -> HttpExchange:
        for _ in range(_REDIRECTS + 1):
            exchange = await self._request(method, url, body, {**own, **headers}, connected)
            location = exchange.redirect
            if location is None or not self.options.follow_redirects:
                return exchange
            exchange.abort()
            target = self._target(url, location)
            own = self._headers_after_redirect(url, target, own)
            url = target
        raise errors.NotModelServerError(f"{self.name} redirects in circles", 310)

    def _target(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            if urlsplit(target).scheme in ("http", "https") and (urlsplit(target).port or 1):
                return target
        except ValueError:
            pass  # no address, or a port that is none
        raise errors.NotModelServerError(f"{self.name} redirects to {location[:500]!r}, which is no address", 302)

    def _headers_after_redirect(self, url: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        old, new = Target.of(url, self.name), Target.of(target, self.name)
        downgrade = old.tls and not new.tls
        if new.host != old.host or downgrade:
            raise errors.NotModelServerError(
                f"{self.name} redirects to {new.origin[:500]}",
                302,
                hint="if that is the model server, name it as the upstream yourself",
            )
        if old.port == new.port or (old.port, new.port) == (80, 443):  # moved to TLS
            return headers
        # Any header may hold a secret, so to another port go only those that cannot.
        return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}

    async def _request(
        self, method: str, url: str, body: Body, headers: Mapping[str, str], connected: Callable[[], None] | None
    ) -> HttpExchange:
        target = Target.of(url, self.name)
        every = {"accept-encoding": "identity", **headers}
        for key, value in every.items():
            if any(sign in f"{key}{value}" for sign in "\r\n\0"):
                raise errors.RequestError(f"the header {key!r} cannot be sent: there is a line end in it")
        link = await self._linked(target, None if connected is not None else self._connect)
        connection = link.connection
        try:
            if connected is not None:
                connected()
            head = _head(method, target, link.absolute, {**every, **link.headers}, body)
            await connection.send(head, body)
            return HttpExchange(link, url, self.name, is_authorized=bool(every.get("authorization")))
        except BaseException:
            connection.abort()
            raise

    async def _linked(self, target: Target, limit: float | None) -> Link:
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                return await connect(target, self.socket_path, self.options.reach, self.name, self._kind)
        except TimeoutError:
            if not scope.expired():
                raise
            hint = "raise it with timeout=Timeouts(connect=SECONDS)"
            late = errors.TimedOutError(f"no connection to {self.name} within {limit:g} s", hint=hint)
            late.phase = "connect"
            raise late from None


def _head(method: str, target: Target, absolute: bool, headers: Mapping[str, str], body: Body) -> bytes:
    """Returns a request's head.

    Args:
        absolute: name the host in the request line too, as proxies want it.
        headers: later ones replace earlier ones of the same name.
    """
    lines = {"host": target.authority, "connection": "close"}
    if isinstance(body, bytes):
        lines["content-length"] = str(len(body))
    elif body is not None:
        lines["transfer-encoding"] = "chunked"
    lines |= {name.lower(): value for name, value in headers.items()}
    where = f"{target.origin}{target.path}" if absolute else target.path
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {where} HTTP/1.1\r\n{text}\r\n".encode("utf-8", "surrogateescape")


class HttpExchange:
    """An open response; its connection is its own and is closed with it.

    Attributes:
        status: the HTTP status.
        url: where the answer came from.
        content_type: media type in lower case, without parameters.
        headers: the response's headers, case-insensitive.
        via: the proxy that it came through; None if it came directly.
        is_authorized: True if the request carried a key or a password.
    """

    def __init__(self, link: Link, url: str, name: str, *, is_authorized: bool = False) -> None:
        connection = self._connection = link.connection
        self.via = link.via
        name = name if link.via is None else f"{name} through {link.via}"
        self.is_authorized = is_authorized
        self._name = name
        self.status = connection.status
        self.url = url
        self.headers: Mapping[str, str] = connection.headers
        self.content_type = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._error: str | None = None
        self._inflate = inflater(connection.headers.get("content-encoding", ""), name)
        self.half_close = connection.half_close
        self.abort = connection.abort

    @property
    def redirect(self) -> str | None:
        """Where a redirect leads; None if this is none."""
        return self.headers.get("location") if self.status in (301, 302, 303, 307, 308) else None

    async def read(self) -> bytes:
        """Returns the bytes that have come, waiting for some; empty at the end of the body.

        Raises:
            TruncatedError: the connection broke before the body's end.
            ProtocolError: the body is not framed or packed as its headers say.
        """
        inflate = self._inflate
        if inflate is None:
            return await self._connection.read()
        if inflate.rest:
            await asyncio.sleep(0)  # let other tasks run while a little compressed data expands to a lot
            return inflate.take()
        data = await self._connection.read()
        return inflate.feed(data) if data else inflate.eof()

    async def deliver(self, on_data: Callable[[bytes], bool]) -> None:
        """Calls `on_data` with the bytes as they come, until it returns True; with none at the end of the body.

        Raises:
            TruncatedError: the connection broke before the body's end.
            ProtocolError: the body is not framed or packed as its headers say.
            Exception: what `on_data` raised.
        """
        if self._inflate is None:
            await self._connection.deliver(on_data)
            return
        while True:
            data = await self.read()
            if (data or self.at_eof()) and (on_data(data) or not data):
                return

    async def read_all(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """Returns the whole body.

        Raises:
            ProtocolError: it is longer than `limit`.
        """
        parts: list[bytes] = []
        size = 0
        while not self.at_eof():
            data = await self.read()
            size += len(data)
            if size > limit:
                raise errors.ProtocolError(f"{self._name} answered with more than {limit:,} bytes")
            parts.append(data)
        return b"".join(parts)

    async def read_error(self) -> str:
        """Returns the text of an error's body, within limits of time and size; may be called again."""
        if self._error is not None:
            return self._error
        data = b""
        try:
            async with asyncio.timeout(_ERROR_TIME):
                while len(data) < _ERROR_BODY and not self.at_eof():
                    data += await self.read()
        except (TimeoutError, errors.StreamError):
            pass  # what came is better than nothing
        self._error = data[:_ERROR_BODY].decode("utf-8", "replace")
        return self._error

    def at_eof(self) -> bool:
        """True once the whole body was read."""
        if self._inflate is not None and self._inflate.pending:
            return False  # one more read tells
        return self._connection.read_out

    async def finish(self) -> None:
        """Gives the server a moment to end its side, then closes."""
        try:
            async with asyncio.timeout(_FINISH):
                await self._connection.deliver(lambda _: False)
        except (TimeoutError, errors.StreamError):
            pass  # the response is complete; how the connection ends does not matter
        finally:
            self.abort()
