"""The one file that knows the HTTP client (aiohttp). Everything foreign is mapped to our errors here.

Each exchange has a session and a connection of its own. A fresh connection on the local network costs nothing beside a
token, and nothing is shared: no pool that a cancelled request could poison, no socket that belongs to another event
loop or another process, no stale keep-alive connection.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import zlib
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from tailrace import errors
from tailrace.run.observer import passed_on

__all__ = ["Http", "HttpExchange"]

_ERROR_BODY = 64 * 1024  # bytes of an error's body that are read
_ERROR_TIME = 5.0  # seconds that an error's body may take
_REDIRECTS = 5
_HARMLESS = ("accept", "content-type", "user-agent")  # headers that hold no secret
_FINISH = 1.0  # seconds a server gets to end its side after its final record
_INFLATE = 256 * 1024  # bytes inflated at a time, so that a bomb meets the line limit before it fills memory
_BOMB_RATIO, _BOMB_FLOOR = 1000, 16 * 1024 * 1024

_CONNECT_HINT = "start Ollama (`ollama serve`), or name another upstream with TAILRACE_UPSTREAM or OLLAMA_HOST"


class Http:
    """Where a server is, and how to talk to it. Holds no connection and belongs to no event loop.

    A connector with ``force_close`` and without a DNS cache keeps nothing open, so its sessions are detached, not
    closed: closing them would need an await, which an abort must not.

    Args:
        base: ``scheme://host:port/path`` without a trailing slash.
        socket_path: path of a Unix socket to connect to instead.
        headers: sent with each request to `base`, and to nobody else.
        verify: False to accept any TLS certificate, or an `ssl.SSLContext`.
        follow_redirects: follow redirects that stay on the same host.
    """

    def __init__(
        self,
        base: str,
        *,
        socket_path: str | None = None,
        headers: Mapping[str, str] | None = None,
        verify: bool | ssl.SSLContext = True,
        follow_redirects: bool = True,
    ) -> None:
        self.base = base
        self.socket_path = socket_path
        self.headers = dict(headers or {})
        self._verify = verify
        self._follow = follow_redirects

    @property
    def name(self) -> str:
        """The server as an error names it, without credentials."""
        return self.socket_path or self.base

    async def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        connected: Callable[[], None] | None = None,
    ) -> HttpExchange:
        """Sends a request and waits for the response's headers.

        Args:
            body: bytes, an async iterable of bytes, or None.
            connected: called when the connection stands.

        Raises:
            ConnectionError: nothing answers there.
            TruncatedError: it closed the connection without answering.
            ProtocolError: what it answered is not HTTP.
            NotModelServerError: it redirects to another host.
        """
        url = path if "://" in path else self.base + path
        headers = self.headers
        for _ in range(_REDIRECTS + 1):
            exchange = await self._request(method, url, body, headers, connected)
            location = exchange.redirect
            if location is None or not self._follow:
                return exchange
            exchange.abort()
            target = self._target(url, location)
            headers = self._headers_after_redirect(url, target, headers)
            url = target
        raise errors.NotModelServerError(f"{self.name} redirects in circles", 310)

    def _target(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            if urlsplit(target).scheme in ("http", "https") and (urlsplit(target).port or 1):
                return target
        except ValueError:
            pass  # no address, or a port that is none
        raise errors.NotModelServerError(f"{self.name} redirects to {location!r}, which is no address", 302)

    def _headers_after_redirect(self, url: str, target: str, headers: dict[str, str]) -> dict[str, str]:
        old, new = urlsplit(url), urlsplit(target)
        downgrade = old.scheme == "https" and new.scheme != "https"
        if new.hostname != old.hostname or downgrade:
            raise errors.NotModelServerError(
                f"{self.name} redirects to {new.scheme}://{new.netloc}",
                302,
                hint="if that is the model server, name it as the upstream yourself",
            )
        if _port(old) == _port(new) or (_port(old), _port(new)) == (80, 443):  # moved to TLS
            return headers
        # Any header may hold a secret, so to another port go only those that cannot.
        return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}

    async def _request(
        self, method: str, url: str, body: Any, headers: dict[str, str], connected: Callable[[], None] | None
    ) -> HttpExchange:
        session = self._session(url, connected)
        try:
            response = await session.request(
                method,
                url,
                data=body,
                headers={"Accept-Encoding": "identity", **headers, **passed_on.get()},
                allow_redirects=False,
            )
        except Exception as error:
            session.detach()
            raise self._mapped(error) from error
        except BaseException:
            session.detach()
            raise
        try:
            return HttpExchange(session, response, self)
        except BaseException:
            response.close()
            session.detach()
            raise

    def _session(self, url: str, connected: Callable[[], None] | None) -> aiohttp.ClientSession:
        connector: aiohttp.BaseConnector
        if self.socket_path is not None:
            connector = aiohttp.UnixConnector(self.socket_path, force_close=True, limit=0)
        else:
            connector = aiohttp.TCPConnector(
                force_close=True,
                limit=0,
                ssl=self._verify,
                use_dns_cache=False,
                resolver=aiohttp.ThreadedResolver(),  # owns nothing that would have to be closed
            )
        traces = []
        if connected is not None:
            trace = aiohttp.TraceConfig()

            async def on_connected(_session: Any, _context: SimpleNamespace, _params: Any) -> None:
                connected()

            trace.on_connection_create_end.append(on_connected)
            traces.append(trace)
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            # HTTP_PROXY must never catch the loopback interface; elsewhere it means what it says.
            trust_env=self.socket_path is None and not is_local(urlsplit(url).hostname or ""),
            trace_configs=traces,
            max_line_size=16384,
            max_field_size=16384,
        )

    def _mapped(self, error: Exception) -> errors.TailraceError:
        """Returns what an exception of the HTTP client, before the headers, is in our tree."""
        text = str(error) or type(error).__name__
        if isinstance(error, errors.TailraceError):
            return error
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return errors.ConnectionError(f"no such host: {self.name}", hint=_CONNECT_HINT)
        if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
            reason = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
            return errors.ConnectionError(
                f"TLS with {self.name} failed: {reason}",
                hint="check http:// against https://, or trust its certificate with verify=ssl_context",
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = error.os_error.strerror or text
            return errors.ConnectionError(f"nothing answers at {self.name} ({reason})", hint=_CONNECT_HINT)
        if isinstance(error, aiohttp.InvalidURL):
            return errors.ConnectionError(f"not an address: {self.name}", hint=_CONNECT_HINT)
        if isinstance(error, aiohttp.ClientHttpProxyError):
            return errors.ConnectionError(f"the proxy refused the way to {self.name}: {text}")
        if isinstance(error, (aiohttp.ClientResponseError, aiohttp.http_exceptions.HttpProcessingError)):
            return _protocol_error(self.name, error)
        if isinstance(error, (aiohttp.ClientConnectionError, OSError)):
            return errors.TruncatedError(f"{self.name} closed the connection before it answered")
        return errors.ProtocolError(f"{self.name}: {type(error).__name__}: {text}")


class HttpExchange:
    """An open response; its connection is its own and is closed with it.

    Attributes:
        status: the HTTP status.
        url: where the answer came from.
        content_type: media type in lower case, without parameters.
        headers: the response's headers, case-insensitive.
    """

    def __init__(self, session: aiohttp.ClientSession, response: aiohttp.ClientResponse, http: Http) -> None:
        self._session = session
        self._response = response
        self._http = http
        self.status = response.status
        self.url = str(response.url)
        self.headers: Mapping[str, str] = response.headers
        self.content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        self._inflate = _inflater(response.headers.get("Content-Encoding", ""), http.name)
        self.read_any = response.content.readany
        self._finished = False
        self._lost: BaseException | None = None
        self._watch_connection()

    def _watch_connection(self) -> None:
        """Ends the body when its connection is gone, for aiohttp forgets to after what its parser cannot read."""
        connection = self._response.connection
        protocol = connection.protocol if connection is not None else None
        if protocol is None:
            return

        def on_closed(closed: asyncio.Future[None] | None) -> None:
            if closed is not None and not closed.cancelled():
                closed.exception()  # looked at, or asyncio complains that nobody did
            content = self._response.content
            if not content.is_eof() and content.exception() is None:
                self._lost = protocol.exception() or aiohttp.ServerDisconnectedError()
                content.feed_eof()  # what had come before is still read

        closed = protocol.closed
        if closed is None:
            on_closed(None)
        else:
            closed.add_done_callback(on_closed)

    @property
    def redirect(self) -> str | None:
        """Where a redirect leads; None if this is none."""
        return self.headers.get("Location") if self.status in (301, 302, 303, 307, 308) else None

    async def read(self) -> bytes:
        """Returns the bytes that have come, waiting for some; empty at the end of the body.

        Raises:
            TruncatedError: the connection broke before the body's end.
            ProtocolError: the body is not framed or packed as its headers say.
        """
        inflate = self._inflate
        if inflate is not None and inflate.rest:
            await asyncio.sleep(0)  # others get their turn while much is unpacked out of little
            return inflate.take()
        try:
            data = await self.read_any()
            if not data and self._lost is not None:
                raise self._lost
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, OSError) as error:
            inner = error.__cause__ or error
            if isinstance(inner, aiohttp.http_exceptions.TransferEncodingError) and "Bad chunk" in str(inner):
                raise _protocol_error(self._http.name, inner) from error
            raise errors.TruncatedError(
                f"{self._http.name} closed the connection in the middle of the answer"
            ) from error
        except aiohttp.http_exceptions.HttpProcessingError as error:
            raise _protocol_error(self._http.name, error) from error
        if inflate is not None:
            return inflate.feed(data) if data else inflate.eof()
        return data

    async def read_all(self, limit: int = 64 * 1024 * 1024) -> bytes:
        """Returns the whole body.

        Raises:
            ProtocolError: it is longer than `limit`.
        """
        parts: list[bytes] = []
        size = 0
        while not self.at_eof():
            data = await self.read()
            if not data and self._response.content.at_eof():
                break
            size += len(data)
            if size > limit:
                raise errors.ProtocolError(f"{self._http.name} answered with more than {limit:,} bytes")
            parts.append(data)
        return b"".join(parts)

    async def read_error(self) -> str:
        """Returns the text of an error's body, so far as it comes soon and is not huge."""
        data = b""
        try:
            async with asyncio.timeout(_ERROR_TIME):
                while len(data) < _ERROR_BODY and not self.at_eof():
                    data += await self.read()
        except (TimeoutError, errors.StreamError):
            pass  # what came is better than nothing
        return data[:_ERROR_BODY].decode("utf-8", "replace")

    def at_eof(self) -> bool:
        """True once the whole body was read."""
        if self._lost is not None or (self._inflate is not None and self._inflate.pending):
            return False  # one more read tells
        return self._response.content.at_eof()

    def half_close(self) -> bool:
        """Ends our side only; False where that is impossible (TLS) or the connection is gone."""
        connection = self._response.connection
        transport = connection.transport if connection is not None else None
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return False
        try:
            transport.write_eof()
        except (OSError, RuntimeError):
            return False
        return True

    def abort(self) -> None:
        """Closes the connection at once."""
        if not self._finished:
            self._finished = True
            self._response.close()
            self._session.detach()

    async def finish(self) -> None:
        """Gives the server a moment to end its side, then closes."""
        try:
            async with asyncio.timeout(_FINISH):
                while await self.read_any():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError, aiohttp.http_exceptions.HttpProcessingError):
            pass  # the answer is whole; how the connection ends does not matter any more
        finally:
            self.abort()


class _Inflater:
    """Unpacks gzip and deflate as it comes, bounded in ratio, and a piece at a time.

    Attributes:
        rest: packed bytes that wait until what came out before them is taken.
        pending: True until the end of the body was told by `eof`.
    """

    def __init__(self, name: str, window: int) -> None:
        self._name = name
        self._window = window
        self._packed = self._unpacked = 0
        self._z = zlib.decompressobj(window)
        self.rest = b""
        self.pending = False

    def feed(self, data: bytes) -> bytes:
        """Takes packed bytes, returns the first piece of what they hold."""
        self._packed += len(data)
        self.rest = data
        self.pending = True
        return self.take()

    def take(self) -> bytes:
        """Returns the next piece; empty if the bytes fed finish none."""
        piece = b""
        try:
            while self.rest and not piece:
                piece = self._z.decompress(self.rest, _INFLATE)
                self.rest = self._z.unconsumed_tail
                if self._z.eof:  # gzip members may follow each other
                    self.rest = self._z.unused_data
                    self._z = zlib.decompressobj(self._window)
        except zlib.error as error:
            raise errors.ProtocolError(f"{self._name} sent bytes that do not unpack: {error}") from error
        self._unpacked += len(piece)
        if self._unpacked > _BOMB_FLOOR and self._unpacked > _BOMB_RATIO * (self._packed - len(self.rest)):
            raise errors.ProtocolError(f"{self._name} sent a decompression bomb")
        return piece

    def eof(self) -> bytes:
        """The body ended."""
        self.pending = False
        return b""


def _inflater(encoding: str, name: str) -> _Inflater | None:
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip"):
        return _Inflater(name, 16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return _Inflater(name, zlib.MAX_WBITS)
    raise errors.ProtocolError(f"{name} packed its answer with {encoding!r}, which nobody asked for")


def is_local(host: str) -> bool:
    """True for the loopback interface by any of its names."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _port(parts: Any) -> int | None:
    port: int | None = parts.port
    return port or {"http": 80, "https": 443}.get(parts.scheme)


def _protocol_error(name: str, error: Exception) -> errors.ProtocolError:
    text = str(getattr(error, "message", "") or error).strip().splitlines()
    detail = text[0].rstrip(":") if text else type(error).__name__
    return errors.ProtocolError(
        f"{name} does not speak HTTP as it should: {detail}", hint="check the host and the port"
    )
