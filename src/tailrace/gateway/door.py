"""The door: which hosts, origins and keys a request may come with. Decided before its body is read.

- Host: a name that leads to this machine only. A page of another name that was made to point here (DNS rebinding) is
  refused. More names by ``--allow-host``.
- Origin: a browser says whose page a request is from; another site's is refused, ``null`` included. More by
  ``--allow-origin``, which also answers the browser's preflights.
- Key: if there are keys, everything but the page's own files and ``/healthz`` wants one, in ``Authorization: Bearer``.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from tailrace.gateway.keys import Keys
from tailrace.gateway.shapes import refusal
from tailrace.web.problems import ProblemError

__all__ = ["Caller", "Door", "caller_of", "refusal"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_TRACE = (b"traceparent", b"tracestate")
_OPEN = ("/healthz", "/", "/favicon.ico")
_OPEN_BELOW = ("/static/", "/words/", "/c/")
_LOCAL = (".localhost", ".local", ".internal")
_EXPOSED = b"Location, Retry-After, X-Run-Id"
_METHODS = b"GET, HEAD, POST, PATCH, DELETE, OPTIONS"
_ASKED_HEADERS = b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Priority, X-Requested-With"


class Caller(msgspec.Struct, frozen=True):
    """Who a request comes from.

    Attributes:
        owner: the name of the key; empty where there are no keys. Runs and conversations belong to it.
        address: where it comes from.
        trace: the headers of its trace (W3C), if it is part of one.
    """

    owner: str = ""
    address: str = ""
    trace: dict[str, str] = {}

    @property
    def key(self) -> str:
        """Who shares a place in the queue: the key's holder, else the address."""
        return self.owner or self.address


class Door:
    """An ASGI middleware. Pure: nothing stands between a stream and its reader.

    Args:
        app: what is behind the door.
        keys: what opens it.
        hosts: further names of this server.
        origins: further sites whose pages may ask; ``*`` for all.
    """

    def __init__(self, app: App, keys: Keys, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        self._app = app
        self._keys = keys
        self._hosts = {"", "localhost", socket.gethostname().lower(), *(host.lower() for host in hosts)}
        self._origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        allowed = b""
        try:
            host = headers.get(b"host", b"").decode("latin-1")
            self._check_host(host)
            if origin:
                allowed = self._check_origin(origin, host, scope["scheme"])
            if scope["method"] == "OPTIONS" and allowed and b"access-control-request-method" in headers:
                await _answer(send, 204, b"", "", _preflight(allowed))
                return
            owner = self._check_key(scope["path"], headers.get(b"authorization", b"").decode("latin-1"))
        except ProblemError as error:
            status, body, kind = refusal(scope["path"], error)
            more = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
            await _answer(send, status, body, kind, [*more, *_cross(allowed)])
            return
        trace = {name.decode(): headers[name].decode("latin-1") for name in _TRACE if name in headers}
        scope["tailrace.caller"] = Caller(owner, (scope.get("client") or ("",))[0], trace)
        await self._app(scope, receive, _sending(send, allowed) if allowed else send)

    def _check_host(self, host: str) -> None:
        name = _name_of(host).lower().rstrip(".")
        if name in self._hosts or name.endswith(_LOCAL):
            return
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            pass
        else:
            if address.is_loopback or address.is_private or address.is_unspecified or address.is_link_local:
                return
        raise ProblemError(403, "this server does not go by that name", hint="name it with --allow-host")

    def _check_origin(self, origin: str, host: str, scheme: str) -> bytes:
        """Returns the origin that the browser is to be told is allowed; empty for the server's own pages."""
        text = origin.rstrip("/").lower()
        if text == f"{scheme}://{host}".lower():
            return b""
        if text in self._origins or "*" in self._origins:
            return origin.encode("latin-1")
        raise ProblemError(403, "pages of this origin may not ask here", hint="allow it with --allow-origin")

    def _check_key(self, path: str, authorization: str) -> str:
        if not self._keys:
            return ""
        kind, _, key = authorization.partition(" ")
        owner = self._keys.name_of(key.strip()) if kind.lower() == "bearer" else None
        if owner is None:
            if path in _OPEN or path.startswith(_OPEN_BELOW):
                return ""
            text = "this is not a key of this server" if authorization else "this server wants an API key"
            hint = "send it as Authorization: Bearer KEY"
            raise ProblemError(401, text, hint=hint, headers={"WWW-Authenticate": "Bearer"})
        return owner


def caller_of(scope: Scope) -> Caller:
    """Returns who a request comes from."""
    caller = scope.get("tailrace.caller")
    return caller if isinstance(caller, Caller) else Caller()


def _name_of(host: str) -> str:
    """Returns the name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def _cross(origin: bytes) -> list[tuple[bytes, bytes]]:
    if not origin:
        return []
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]


def _preflight(origin: bytes) -> list[tuple[bytes, bytes]]:
    return [
        *_cross(origin),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", _ASKED_HEADERS),
        (b"access-control-max-age", b"600"),
    ]


def _sending(send: Send, origin: bytes) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_cross(origin)]
        await send(message)

    return sending


async def _answer(send: Send, status: int, body: bytes, kind: str, headers: list[tuple[bytes, bytes]]) -> None:
    fields = [*headers, (b"content-length", str(len(body)).encode())]
    if kind:
        fields.append((b"content-type", kind.encode()))
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
