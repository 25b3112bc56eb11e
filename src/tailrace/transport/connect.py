"""Connecting to a server, over a Unix socket, TCP or TLS, directly or through a proxy."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from tailrace import errors
from tailrace.transport.connection import Connection
from tailrace.transport.proxies import Proxy, environment_proxy, is_local
from tailrace.transport.tls import default_context, tls_error

__all__ = ["OUT_OF_FILES", "Link", "Reach", "Target", "connect", "files_left", "is_local"]

OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)
"""What a `ConnectionError` has as its ``errno`` if no file can be opened any more: no fault of the upstream's."""

_NAME = "TAILRACE_UPSTREAM or OLLAMA_HOST"
_CONNECT_HINTS = {
    "ollama": f"start Ollama (`ollama serve`), or name another upstream with {_NAME}",
    "remote": "see that it runs and can be reached: for other machines Ollama listens with OLLAMA_HOST=0.0.0.0",
    "server": f"start the server, or name another upstream with {_NAME}",
}
_NAME_HINT = "check the name; if the server is behind a proxy, name that with proxy=, HTTPS_PROXY or ALL_PROXY"
_ADDRESS_HINT = f"write http://host:port, in {_NAME} too"
_FILES_HINT = "raise the limit (`ulimit -n`), or let fewer answers run at once"
_PATIENCE = 2.0  # seconds for each address of a name but the last
_PATH = "/%:@!$&'()*+,;=~?[]"  # what stands for itself in a path and a query


@dataclass(frozen=True)
class Target:
    """Where a URL leads.

    Attributes:
        host: its name or address, for the resolver.
        port: the port.
        tls: True for https.
        authority: host and port as they are written in a request.
        path: path and query as they are written in a request.
    """

    host: str
    port: int
    tls: bool
    authority: str
    path: str

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @classmethod
    def of(cls, url: str, name: str) -> Target:
        """Returns where `url` leads.

        Args:
            name: the server, as an error names it.

        Raises:
            ConnectionError: nowhere.
        """
        try:
            parts = urlsplit(url)
            host = (parts.hostname or "").encode("ascii" if (parts.hostname or "").isascii() else "idna").decode()
            tls = parts.scheme == "https"
            port = parts.port or (443 if tls else 80)
        except ValueError:
            host = ""
        if not host or any(sign in host for sign in " \t\r\n\0"):
            raise _about("address", f"not an address: {name}", _ADDRESS_HINT)
        shown = f"[{host}]" if ":" in host else host
        authority = shown if port == (443 if tls else 80) else f"{shown}:{port}"
        path = quote(parts.path or "/", _PATH) + (f"?{quote(parts.query, _PATH)}" if parts.query else "")
        return cls(host, port, tls, authority, path)


@dataclass(frozen=True)
class Reach:
    """How servers are reached.

    Attributes:
        verify: whether and how to check a certificate.
        proxy: the proxy that is asked for every server, this computer too; None for what the environment says.
        trust_env: ask the environment for a proxy, and for certificates.
    """

    verify: bool | ssl.SSLContext = True
    proxy: Proxy | None = None
    trust_env: bool = True

    def proxy_for(self, host: str, port: int, tls: bool) -> Proxy | None:
        """Returns the proxy before a server; None if there is none.

        Raises:
            ConnectionError: the environment names one that is none.
        """
        if self.proxy is not None or not self.trust_env:
            return self.proxy
        try:
            return environment_proxy(host, port, tls)
        except ValueError as error:
            hint = "correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or add the server's name to NO_PROXY"
            raise _about("proxy", f"the proxy {error}", hint) from error

    def context(self) -> ssl.SSLContext:
        """Returns what TLS with a server is made with."""
        verify = self.verify
        return verify if isinstance(verify, ssl.SSLContext) else default_context(verify, self.trust_env)


@dataclass(frozen=True)
class Link:
    """A connection that stands.

    Attributes:
        connection: the connection.
        headers: what the request needs to carry for the proxy.
        absolute: True if the request is to name the host, as for a proxy.
        via: the proxy that it goes through.
    """

    connection: Connection
    headers: Mapping[str, str] = field(default_factory=dict)
    absolute: bool = False
    via: Proxy | None = None


async def connect(target: Target, socket_path: str | None, reach: Reach, name: str, kind: str = "ollama") -> Link:
    """Connects.

    Args:
        target: where to.
        socket_path: a Unix socket to connect to instead.
        reach: how.
        name: the server, as an error names it.
        kind: ``ollama`` or ``server``: which one to start if nothing answers.

    Raises:
        ConnectionError: nothing answers there, or TLS or the proxy fails.
    """
    loop = asyncio.get_running_loop()

    def made() -> Connection:
        return Connection(name)

    proxy = None if socket_path is not None else reach.proxy_for(target.host, target.port, target.tls)
    if proxy is not None:
        return await _through(proxy, target, reach, name)
    context = reach.context() if target.tls else None
    try:
        if socket_path is not None:
            _, connection = await loop.create_unix_connection(made, socket_path)
        else:
            _, connection = await _reach(made, target.host, target.port, context)
    except (OSError, UnicodeError) as error:
        remote = kind == "ollama" and socket_path is None and not is_local(target.host)
        raise _mapped(error, name, "remote" if remote else kind) from error
    return Link(connection)


async def _reach(
    made: Callable[[], Connection], host: str, port: int, context: ssl.SSLContext | None
) -> tuple[asyncio.Transport, Connection]:
    """Connects to the first of a host's addresses that answers.

    The sockets are created here, not by asyncio: cancelling `create_connection` can leak the socket it is connecting.
    """
    loop = asyncio.get_running_loop()
    addresses = await _addresses(host, port)
    failed: OSError | None = None
    for number, (family, address) in enumerate(addresses, 1):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(_PATIENCE if number < len(addresses) else None):
                await loop.sock_connect(sock, address)
        except OSError as error:  # a time-out is one too
            sock.close()
            failed = failed or error
            continue
        except BaseException:
            sock.close()
            raise
        return await loop.create_connection(
            made, sock=sock, ssl=context, server_hostname=host if context is not None else None
        )
    assert failed is not None
    raise failed


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Returns the addresses of a host, each with its family."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(family, address) for family, _, _, _, address in found]
    return [(socket.AF_INET if number.version == 4 else socket.AF_INET6, (host, port))]


# -- proxies ---------------------------------------------------------------------------------------------------------


async def _through(proxy: Proxy, target: Target, reach: Reach, name: str) -> Link:
    """Connects through a proxy: by its own request for http, in a tunnel for https and over SOCKS."""
    context = reach.context() if target.tls else None
    shown = f"{name} through {proxy}"
    if proxy.is_socks:
        return Link(await _socks(proxy, target, context, shown), via=proxy)
    tls = (proxy.context or default_context(True, reach.trust_env)) if proxy.scheme == "https" else None
    try:
        transport, connection = await _reach(
            lambda: Connection(shown if context is None else str(proxy)), proxy.host, proxy.port, tls
        )
    except (OSError, UnicodeError) as error:
        raise _no_proxy(proxy, error, target) from error
    headers = proxy.request_headers()
    if context is None:
        return Link(connection, headers, True, proxy)
    try:
        await _open_tunnel(connection, proxy, target, headers)
        inner = Connection(shown)
        secure = await asyncio.get_running_loop().start_tls(transport, inner, context, server_hostname=target.host)
        if secure is None:
            raise _about("proxy", f"{proxy} closed the way to {name}", proxy.hint(target.host))
        inner.connection_made(secure)
    except errors.TailraceError:
        transport.abort()
        raise
    except (ssl.SSLError, ssl.CertificateError) as error:
        transport.abort()
        raise tls_error(error, shown) from error
    except OSError as error:
        transport.abort()
        raise _about("proxy", f"{proxy} closed the way to {name}", proxy.hint(target.host)) from error
    except BaseException:
        transport.abort()
        raise
    return Link(inner, via=proxy)


async def _open_tunnel(connection: Connection, proxy: Proxy, target: Target, headers: Mapping[str, str]) -> None:
    where = f"{target.host if ':' not in target.host else f'[{target.host}]'}:{target.port}"
    lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    try:
        await connection.send(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{lines}\r\n".encode(), None)
    except errors.StreamError as error:
        raise _about("proxy", str(error), proxy.hint(target.host)) from error
    status = connection.status
    if status == 407:
        raise _about("proxy-key", f"{proxy} refuses: status 407, it wants a name and a password", proxy.key_hint)
    if not 200 <= status < 300:
        why = f", it does not reach {where}" if status >= 500 else f", it does not lead to {where}"
        raise _about("proxy", f"{proxy} refuses: status {status}{why}", proxy.hint(target.host))


async def _socks(proxy: Proxy, target: Target, context: ssl.SSLContext | None, name: str) -> Connection:
    """Connects over SOCKS; names are looked up by the proxy, as httpx has it done."""
    try:
        from python_socks import ProxyConnectionError, ProxyError, ProxyTimeoutError, ProxyType
        from python_socks.async_.asyncio import Proxy as Socks
    except ImportError as error:
        hint = f"pip install 'tailrace[socks]'; or {proxy.hint(target.host)}"
        raise _about("socks", f"{proxy} needs python-socks, which is not installed", hint) from error
    kind = ProxyType.SOCKS5 if proxy.scheme.startswith("socks5") else ProxyType.SOCKS4
    way = Socks(kind, proxy.host, proxy.port, proxy.username, proxy.password, rdns=proxy.scheme != "socks4")
    try:
        sock = await way.connect(target.host, target.port, timeout=_AGES)
    except (ProxyConnectionError, ProxyTimeoutError) as error:
        raise _no_proxy(proxy, error.__cause__ or error, target) from error
    except ProxyError as error:
        wants = "uthentication" in str(error)
        hint = proxy.key_hint if wants else proxy.hint(target.host)
        text = f"{proxy} refuses the way to {target.authority}: {str(error) or 'it closed the connection'}"
        raise _about("proxy-key" if wants else "proxy", text, hint) from error
    except (OSError, UnicodeError) as error:
        raise _no_proxy(proxy, error, target) from error
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(name),
            sock=sock,
            ssl=context,
            server_hostname=target.host if context is not None else None,
        )
    except OSError as error:
        sock.close()
        raise _mapped(error, name) from error
    except BaseException:
        sock.close()
        raise
    return connection


_AGES = 1e6  # seconds: the run has limits of its own


def _no_proxy(proxy: Proxy, error: BaseException, target: Target) -> errors.ConnectionError:
    if isinstance(error, (ssl.SSLError, ssl.CertificateError)):
        hint = "trust the proxy's certificate with SSL_CERT_FILE, or check http:// against https:// in its address"
        return _about("proxy-certificate", f"TLS with {proxy} failed: {error}", hint)
    if isinstance(error, socket.gaierror):
        return _about("proxy", f"no such host: {proxy}", proxy.hint(target.host))
    reason = _reason(error) if isinstance(error, OSError) else str(error)
    return _about("proxy", f"nothing answers at {proxy} ({reason})", proxy.hint(target.host))


# -- errors ----------------------------------------------------------------------------------------------------------


def _about(about: str, text: str, hint: str) -> errors.ConnectionError:
    error = errors.ConnectionError(text, hint=hint)
    error.about = about
    return error


def _mapped(error: OSError | UnicodeError, name: str, kind: str = "server") -> errors.ConnectionError:
    """Returns the error of `tailrace.errors` for an operating system error."""
    if _no_files_left(error):
        told = _about("files", f"cannot connect to {name}: too many open files", _FILES_HINT)
        told.errno = errno.EMFILE
        return told
    if isinstance(error, socket.gaierror):
        return _about("name", f"no such host: {name}", _NAME_HINT)
    if isinstance(error, (ssl.SSLError, ssl.CertificateError)):
        return tls_error(error, name)
    if isinstance(error, OSError):
        return _about(kind, f"nothing answers at {name} ({_reason(error)})", _CONNECT_HINTS[kind])
    return _about("address", f"not an address: {name} ({error})", _ADDRESS_HINT)


def _no_files_left(error: Exception) -> bool:
    """Returns whether this process may open no more files; a host is not found then either."""
    if isinstance(error, socket.gaierror):
        return not files_left()
    return isinstance(error, OSError) and error.errno in OUT_OF_FILES


def files_left() -> bool:
    """Returns whether another file can be opened."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in OUT_OF_FILES
    return True


def _reason(error: OSError) -> str:
    number = None if hasattr(error, "winerror") else error.errno  # Windows has other numbers, and says them well
    return os.strerror(number) if number is not None and number > 0 else str(error) or type(error).__name__
