"""Proxies: which one stands before a server, by ``proxy=`` or the environment. Asks nobody."""

from __future__ import annotations

import base64
import fnmatch
import ipaddress
import re
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

__all__ = ["Proxy", "environment_proxy", "is_local"]

_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_OTHER_NAMES = {"socks": "socks5"}  # what desktops put into ALL_PROXY


@dataclass(frozen=True)
class Proxy:
    """A proxy.

    Attributes:
        scheme: ``http``, ``https``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``.
        host: its name or address.
        port: its port.
        username: sent to it; None for none.
        password: sent with the name.
        setting: what names it, such as ``HTTP_PROXY``.
        headers: sent to it, and to nobody else.
        context: for TLS with it; None for what this computer trusts.
    """

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)
    setting: str = "proxy="
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def of(cls, given: Any, setting: str = "proxy=") -> Proxy:
        """Returns the proxy that is meant.

        Args:
            given: a URL, or an object with ``url`` as httpx.Proxy is.
            setting: what names it.

        Raises:
            ValueError: it is none; the text says why, without credentials.
        """
        user: Any = getattr(given, "auth", None)
        headers = getattr(given, "headers", None)
        context = getattr(given, "ssl_context", None)
        url = str(getattr(given, "url", given)).strip()
        parts = urlsplit(url if "://" in url else f"http://{url}")
        scheme = _OTHER_NAMES.get(parts.scheme, parts.scheme)
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        if scheme not in _PORTS:
            raise ValueError(f"{shown!r} is of no kind we know: {', '.join(_PORTS)}")
        host = _ascii(parts.hostname or "")
        if not host or any(sign in host for sign in " \t\r\n\0"):
            raise ValueError(f"{shown!r} names no host")
        name, password = user if user is not None else _credentials(parts)
        sent = {str(key): str(value) for key, value in dict(headers or {}).items()}
        if any(sign in "".join((*sent, *sent.values())) for sign in "\r\n\0"):
            raise ValueError(f"{shown!r} has headers that cannot be sent: there is a line end in one")
        return cls(scheme, host, _port(parts, shown), name, password, setting, sent, context)

    @property
    def is_socks(self) -> bool:
        """True if it speaks SOCKS."""
        return self.scheme.startswith("socks")

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Where it is, without credentials."""
        return f"{self.scheme}://{self.authority}"

    def __str__(self) -> str:
        return f"the proxy {self.url}"

    def request_headers(self) -> dict[str, str]:
        """Returns the headers for it alone."""
        if self.username is None:
            return dict(self.headers)
        pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")
        return {**self.headers, "proxy-authorization": f"Basic {pair}"}

    def hint(self, host: str) -> str:
        """What to do if it does not reach a server."""
        if self.setting == "proxy=":
            return "correct proxy=, or leave it out"
        return f"correct {self.setting}, or add {host} to NO_PROXY"

    @property
    def key_hint(self) -> str:
        """What to do if it wants to know who asks."""
        where = "proxy=" if self.setting == "proxy=" else f"{self.setting}="
        return f"give the proxy its name and password: {where}{self.scheme}://NAME:PASSWORD@{self.authority}"


def _credentials(parts: SplitResult) -> tuple[str | None, str]:
    if parts.username is None:
        return None, ""
    return unquote(parts.username), unquote(parts.password or "")


def _port(parts: SplitResult, shown: str) -> int:
    scheme = _OTHER_NAMES.get(parts.scheme, parts.scheme)
    try:
        return parts.port or _PORTS[scheme]
    except ValueError:
        raise ValueError(f"{shown!r} has a port that is none") from None


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return ""


def environment_proxy(host: str, port: int, tls: bool) -> Proxy | None:
    """Returns the proxy that the environment (or the system's settings) puts before a server; None if there is none.

    ``HTTPS_PROXY`` or ``HTTP_PROXY`` by the server's scheme, else ``ALL_PROXY``; never before this computer itself.

    Raises:
        ValueError: what is named there is none.
    """
    if is_local(host):
        return None
    every = urllib.request.getproxies()
    by = "https" if tls else "http"
    named = every.get(by) or every.get("all")
    if not named or _bypassed(every.get("no", ""), host, port, tls):
        return None
    if not urllib.request.getproxies_environment() and urllib.request.proxy_bypass(host):
        return None  # by the system's settings
    return Proxy.of(named, f"{by if every.get(by) else 'all'}_proxy".upper())


def _bypassed(rules: str, host: str, port: int, tls: bool) -> bool:
    """Says whether one of NO_PROXY's rules is about a server.

    There is no standard: these are curl's (names, addresses, networks), Go's (ports), httpx's (schemes), and what
    desktops write (``192.168.*``, ``<local>``).
    """
    host = host.lower().rstrip(".")
    address = _address(host)
    return any(_matches(rule, host, address, port, tls) for rule in re.split(r"[,;\s]+", rules.lower()) if rule)


def _matches(rule: str, host: str, address: Any, port: int, tls: bool) -> bool:
    scheme, found, rest = rule.partition("://")
    if found:
        if scheme not in ("all", "https" if tls else "http"):
            return False
        rule = rest.rstrip("/")
    if rule == "<local>":
        return address is None and "." not in host
    if "/" in rule:
        return address is not None and _in_network(address, rule)
    name, wanted = _split(rule)
    if wanted and wanted != str(port):
        return False
    if address is not None and (same := _address(name)) is not None:
        return bool(address == same)
    if "*" in name:
        return fnmatch.fnmatchcase(host, name)
    name = _ascii(name.strip(".")) or name
    return bool(name) and (host == name or host.endswith(f".{name}")) and (address is None or host == name)


def _split(rule: str) -> tuple[str, str]:
    """Returns the host and the port of a rule; an IPv6 address without brackets has none."""
    if rule.startswith("["):
        name, _, port = rule[1:].partition("]")
        return name, port.removeprefix(":")
    if rule.count(":") == 1:
        name, _, port = rule.partition(":")
        return name, port
    return rule, ""


def _address(host: str) -> Any:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _in_network(address: Any, rule: str) -> bool:
    try:
        network = ipaddress.ip_network(re.sub(r"[\[\]]", "", rule), strict=False)
    except ValueError:
        return False
    return bool(address.version == network.version and address in network)


def is_local(host: str) -> bool:
    """True for the loopback interface by any of its names."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
