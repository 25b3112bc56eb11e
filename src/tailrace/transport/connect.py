"""Connecting to a server, over a Unix socket, TCP or TLS, directly or through the environment's proxy."""

from __future__ import annotations

import asyncio
import base64
import functools
import ipaddress
import os
import socket
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from tailrace import errors
from tailrace.transport.connection import Connection

__all__ = ["Target", "connect", "is_local"]

_CONNECT_HINT = "start Ollama (`ollama serve`), or name another upstream with TAILRACE_UPSTREAM or OLLAMA_HOST"
_PROXY_HINT = "correct HTTP_PROXY or HTTPS_PROXY, or add the server's name to NO_PROXY"
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
            raise errors.ConnectionError(f"not an address: {name}", hint=_CONNECT_HINT)
        shown = f"[{host}]" if ":" in host else host
        authority = shown if port == (443 if tls else 80) else f"{shown}:{port}"
        path = quote(parts.path or "/", _PATH) + (f"?{quote(parts.query, _PATH)}" if parts.query else "")
        return cls(host, port, tls, authority, path)


async def connect(
    target: Target, socket_path: str | None, verify: bool | ssl.SSLContext, name: str
) -> tuple[Connection, Mapping[str, str], bool]:
    """Connects.

    Args:
        target: where to.
        socket_path: a Unix socket to connect to instead.
        verify: whether and how to check a certificate.
        name: the server, as an error names it.

    Returns:
        The connection, headers that its request needs, and whether its request is to name the host, as for a proxy.

    Raises:
        ConnectionError: nothing answers there, or TLS or the proxy fails.
    """
    loop = asyncio.get_running_loop()

    def made() -> Connection:
        return Connection(name)

    context = _context(verify) if target.tls else None
    proxy = None if socket_path is not None or is_local(target.host) else _proxy(target)
    try:
        if socket_path is not None:
            _, connection = await loop.create_unix_connection(made, socket_path)
        elif proxy is None:
            _, connection = await _reach(made, target.host, target.port, context)
        else:
            return await _through(proxy, target, context, name)
    except errors.TailraceError:
        raise
    except (OSError, UnicodeError) as error:
        raise _mapped(error, name) from error
    return connection, {}, False


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


def _context(verify: bool | ssl.SSLContext) -> ssl.SSLContext:
    return verify if isinstance(verify, ssl.SSLContext) else _made_context(verify)


@functools.cache  # it reads all the certificates that this computer trusts
def _made_context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# -- proxies ---------------------------------------------------------------------------------------------------------


def _proxy(target: Target) -> SplitResult | None:
    """Returns the proxy that the environment names for a server; None if there is none."""
    found = urllib.request.getproxies().get("https" if target.tls else "http")
    if not found or urllib.request.proxy_bypass(target.host):
        return None
    return urlsplit(found if "://" in found else f"http://{found}")


async def _through(
    proxy: SplitResult, target: Target, context: ssl.SSLContext | None, name: str
) -> tuple[Connection, Mapping[str, str], bool]:
    way = Target.of(proxy._replace(netloc=proxy.netloc.rpartition("@")[2], path="", query="").geturl(), "the proxy")
    shown = f"the proxy {way.origin}"
    if proxy.scheme not in ("http", "https"):
        raise errors.ConnectionError(
            f"the proxy {proxy.scheme}://{way.authority} is of no kind we know", hint=_PROXY_HINT
        )
    headers = {}
    if proxy.username is not None:
        secret = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        headers["proxy-authorization"] = f"Basic {base64.b64encode(secret).decode('ascii')}"
    loop = asyncio.get_running_loop()

    def made() -> Connection:
        return Connection(name if context is None else shown)

    try:
        transport, connection = await _reach(made, way.host, way.port, _context(True) if way.tls else None)
    except OSError as error:
        raise _mapped(error, shown, _PROXY_HINT) from error
    if context is None:
        return connection, headers, True
    try:
        where = f"{target.host if ':' not in target.host else f'[{target.host}]'}:{target.port}"
        lines = "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        await connection.open_tunnel(f"CONNECT {where} HTTP/1.1\r\nHost: {where}\r\n{lines}\r\n".encode())
        inner = Connection(name)
        secure = await loop.start_tls(transport, inner, context, server_hostname=target.host)
        if secure is None:
            raise errors.ConnectionError(f"{shown} closed the way to {name}", hint=_PROXY_HINT)
        inner.connection_made(secure)
    except BaseException:
        transport.abort()
        raise
    return inner, {}, False


# -- errors ----------------------------------------------------------------------------------------------------------


def _mapped(error: OSError | UnicodeError, name: str, hint: str = _CONNECT_HINT) -> errors.ConnectionError:
    """Returns the error of `tailrace.errors` for an operating system error."""
    if isinstance(error, socket.gaierror):
        return errors.ConnectionError(f"no such host: {name}", hint=hint)
    if isinstance(error, (ssl.SSLError, ssl.CertificateError)):
        return errors.ConnectionError(
            f"TLS with {name} failed: {error}",
            hint="check http:// against https://, or trust its certificate with verify=ssl_context",
        )
    if isinstance(error, OSError):
        return errors.ConnectionError(f"nothing answers at {name} ({_reason(error)})", hint=hint)
    return errors.ConnectionError(f"not an address: {name} ({error})", hint=hint)


def _reason(error: OSError) -> str:
    number = None if hasattr(error, "winerror") else error.errno  # Windows has other numbers, and says them well
    return os.strerror(number) if number is not None and number > 0 else str(error) or type(error).__name__


def is_local(host: str) -> bool:
    """True for the loopback interface by any of its names."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
