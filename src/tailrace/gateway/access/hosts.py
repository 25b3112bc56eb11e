"""Host names and origins: which ``Host`` and ``Origin`` headers a request may have."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from tailrace.errors import RequestError
from tailrace.protocols.problems import ProblemError

__all__ = ["HostNames", "Origins", "client_of", "is_local"]

_HOST = re.compile(r"(\[[0-9a-z:.%]+\]|[\w.-]+)(?::(\d{1,5}))?", re.ASCII)
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(.+)", re.ASCII)
_LOCAL = (".localhost", ".local", ".internal")
_PORTS = {"http": "80", "https": "443"}
_PREFIX = 64  # bits of an IPv6 address that are its network; the rest everybody chooses as he likes


class HostNames:
    """The host names of this server: those that resolve to this machine only, and configured ones.

    Args:
        more: further names; ``*`` for any.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._names = {"localhost", socket.gethostname().lower(), *(_plain(name) for name in more)}

    def check(self, host: str, server: str) -> None:
        """Makes sure that a request's host is one of them.

        Args:
            host: the Host header; empty if there is none.
            server: the address that the request came to.

        Raises:
            ProblemError: 400: it is no host; 403: it is another one's name.
        """
        name = ""
        if host:
            parts = _HOST.fullmatch(host.lower())
            if parts is None:
                raise ProblemError(400, "the Host header names no host")
            name = parts[1].strip("[]").rstrip(".")
        if not name or name in self._names or "*" in self._names or name.endswith(_LOCAL):
            return
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            pass
        else:  # an address, which no DNS server can redirect
            near = address.is_loopback or address.is_private or address.is_link_local or address.is_unspecified
            if near or name == server:
                return
        raise ProblemError(403, "this server does not go by that name", hint="name it with --allow-host")


def _plain(name: str) -> str:
    parts = _HOST.fullmatch(name.strip().lower())
    if parts is None:
        if name.strip() == "*":
            return "*"
        raise RequestError(f"not a host name: {name[:80]!r}", hint="write a name such as chat.example.com")
    return parts[1].strip("[]").rstrip(".")


class Origins:
    """The sites whose pages may send requests, besides this server's own.

    Args:
        more: their origins; ``*`` for all.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._origins = {_normal(origin) for origin in more}
        for origin in self._origins:
            if origin != "*" and _ORIGIN.fullmatch(origin) is None:  # null is sent by sandboxed frames of any site
                raise RequestError(f"not an origin: {origin[:80]!r}", hint="write one such as https://example.com")

    def check(self, origin: str, own: str, site: str, *, safe: bool, going: bool) -> str:
        """Returns the origin to allow in the response (CORS); empty for our own pages, and for programs.

        Args:
            origin: the Origin header; empty if there is none.
            own: the origin of this server, as the request has it.
            site: the ``Sec-Fetch-Site`` header (W3C Fetch Metadata); older browsers do not send it.
            safe: the method is safe (RFC 9110, section 9.2.1).
            going: it is a navigation, as by a link.

        Raises:
            ProblemError: 403.
        """
        if site == "same-origin":
            return ""
        if not origin:
            if site in ("", "none") or (safe and going):
                return ""
        elif not site and _normal(origin) == _normal(own):
            return ""
        elif "*" in self._origins or _normal(origin) in self._origins:
            return origin
        raise ProblemError(403, "pages of this origin may not ask here", hint="allow it with --allow-origin")


def _normal(origin: str) -> str:
    """Returns an origin as browsers write it: in small letters, without the port that its scheme has anyway."""
    text = origin.strip().rstrip("/").lower()
    scheme, _, host = text.partition("://")
    return text.removesuffix(f":{port}") if (port := _PORTS.get(scheme)) and host else text


def client_of(address: str) -> str:
    """Returns who an address stands for in the queue: in IPv6 one network, else the address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((int(parsed), _PREFIX), strict=False))


def is_local(host: str) -> bool:
    """Returns whether only this machine reaches a server that listens on this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
