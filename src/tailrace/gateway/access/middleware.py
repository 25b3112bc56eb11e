"""The access check: which hosts, origins and keys a request may come with. Decided before its body is read.

- Host: a name that leads to this machine only. A page of another name that was made to point here (DNS rebinding) is
  refused. More names by ``--allow-host``.
- Origin: a browser says whose page a request is from; another site's is refused, ``null`` included. More by
  ``--allow-origin``, which also answers the browser's preflights.
- Key: if there are keys, every endpoint wants one that is not open (`Endpoint.access`), in ``Authorization: Bearer``,
  and nowhere else: an address is written down by many.
- Admin: models are changed (pulled, created, copied, deleted), where there are keys, by those that ``--admin`` names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from tailrace.gateway.access.hosts import HostNames, Origins, client_of
from tailrace.gateway.access.keys import Keys
from tailrace.gateway.endpoint import Endpoint, endpoint_of
from tailrace.gateway.responses import problem
from tailrace.gateway.scheduling.fair_queue import Priority
from tailrace.protocols.problems import ProblemError
from tailrace.web.asgi_types import App, Message, Receive, Scope, Send

__all__ = ["AccessMiddleware", "Caller", "caller_of"]

Headers = dict[bytes, bytes]

_ONCE = (b"host", b"origin", b"authorization", b"sec-fetch-site", b"x-priority", b"idempotency-key")
_TRACE = (b"traceparent", b"tracestate")
_SAFE = ("GET", "HEAD", "OPTIONS")
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
_EXPOSED = b"Location, Retry-After, X-Run-Id"
_METHODS = b"GET, HEAD, POST, PATCH, DELETE, OPTIONS"
_NAMES = re.compile(rb"[\w!#$%&'*+.^`|~, \t-]*", re.ASCII)


class Caller(msgspec.Struct, frozen=True):
    """Who a request comes from.

    Attributes:
        owner: the name of the key; empty where there are no keys. Runs and conversations belong to it.
        address: where it comes from.
        trace: the headers of its trace (W3C), if it is part of one.
        priority: whether somebody waits for the answer (``X-Priority``).
    """

    owner: str = ""
    address: str = ""
    trace: dict[str, str] = {}
    priority: Priority = "interactive"

    @property
    def key(self) -> str:
        """Who shares a place in the queue: the key's holder, else the address."""
        return self.owner or client_of(self.address)


class AccessMiddleware:
    """An ASGI middleware. Pure: nothing stands between a stream and its reader.

    Args:
        app: what is behind the check.
        keys: what admits a request.
        hosts: further names of this server.
        origins: further sites whose pages may ask; ``*`` for all.
        admins: the keys that may keep models; ``*`` for everybody.
    """

    def __init__(
        self,
        app: App,
        keys: Keys,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        admins: Iterable[str] = ("*",),
    ) -> None:
        self._app = app
        self._keys = keys
        self._names = HostNames(hosts)
        self._origins = Origins(origins)
        self._admins = frozenset(admins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request in, or answers it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: Headers = dict(scope["headers"])
        endpoint, allowed = endpoint_of(scope), b""
        try:
            _check_once(scope)
            self._check_host(scope, headers)
            allowed = self._check_origin(scope, headers).encode("latin-1")
            if scope["method"] == "OPTIONS" and allowed and b"access-control-request-method" in headers:
                await _admit_browser(send, allowed, headers.get(b"access-control-request-headers", b""))
                return
            owner = self._check_key(endpoint, _text(headers, b"authorization"))
            self._check_admin(endpoint, scope["method"], owner)
            scope["tailrace.caller"] = Caller(owner, _address(scope), _trace(headers), _priority(headers))
        except ProblemError as error:
            if _brings(headers):  # what nobody reads is not taken either
                error.headers["Connection"] = "close"
            await problem(error, endpoint.error_form)(scope, receive, _sending(send, allowed))
            return
        await self._app(scope, receive, _sending(send, allowed))

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        if b"host" not in headers and scope.get("http_version") == "1.1":
            raise ProblemError(400, "the request has no Host header")
        self._names.check(_text(headers, b"host"), (scope.get("server") or ("",))[0])

    def _check_origin(self, scope: Scope, headers: Headers) -> str:
        """Returns the origin that the browser is to be told is allowed; empty for the server's own pages."""
        origin = _text(headers, b"origin")
        safe = scope["method"] in _SAFE
        if not (origin or safe or b"sec-fetch-site" in headers) and _is_old_form(headers):
            raise ProblemError(415, "a page sends application/json here")
        return self._origins.check(
            origin,
            f"{scope['scheme']}://{_text(headers, b'host')}",
            _text(headers, b"sec-fetch-site"),
            safe=safe,
            going=headers.get(b"sec-fetch-mode") == b"navigate",
        )

    def _check_key(self, endpoint: Endpoint, authorization: str) -> str:
        if not self._keys:
            return ""
        kind, _, key = authorization.partition(" ")
        owner = self._keys.name_of(key.strip()) if kind.lower() == "bearer" else None
        if owner is None:
            if endpoint.access == "open":
                return ""
            text = "this is not a key of this server" if authorization else "this server wants an API key"
            hint = "send it as Authorization: Bearer KEY"
            raise ProblemError(401, text, hint=hint, headers={"WWW-Authenticate": "Bearer"})
        return owner

    def _check_admin(self, endpoint: Endpoint, method: str, owner: str) -> None:
        if endpoint.access == "admin" and method not in _SAFE and not self._admins & {"*", owner}:
            text = "models may not be changed from here" if not owner else "this key may not change models"
            raise ProblemError(403, text, hint="name the key with --admin")


def caller_of(scope: Scope) -> Caller:
    """Returns who a request comes from."""
    caller = scope.get("tailrace.caller")
    return caller if isinstance(caller, Caller) else Caller()


def _check_once(scope: Scope) -> None:
    """Of two headers nobody knows which one counts, and the next server may take the other."""
    names = [name for name, _ in scope["headers"] if name in _ONCE]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ProblemError(400, f"the request has more than one {twice.decode().title()} header")


def _text(headers: Headers, name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1")


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _trace(headers: Headers) -> dict[str, str]:
    return {name.decode(): headers[name].decode("latin-1") for name in _TRACE if name in headers}


def _priority(headers: Headers) -> Priority:
    said = _text(headers, b"x-priority").strip().lower()
    if said in ("", "interactive"):
        return "interactive"
    if said == "batch":
        return "batch"
    raise ProblemError(400, "X-Priority is interactive or batch")


def _brings(headers: Headers) -> bool:
    """Returns whether the request has a body."""
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def _is_old_form(headers: Headers) -> bool:
    """A browser that does not tell where a request is from, and a body such as any page can have it send."""
    kind = _text(headers, b"content-type").partition(";")[0].strip().lower()
    return kind in _FORMS and headers.get(b"user-agent", b"").startswith(b"Mozilla/")


def _cross(origin: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]


async def _admit_browser(send: Send, origin: bytes, wanted: bytes) -> None:
    """Answers a preflight. Whom we trust may send what headers it likes; its clients have some of their own."""
    fields = [*_cross(origin), (b"access-control-allow-methods", _METHODS), (b"access-control-max-age", b"600")]
    if wanted and _NAMES.fullmatch(wanted):
        fields.append((b"access-control-allow-headers", wanted))
    await send({"type": "http.response.start", "status": 204, "headers": fields})
    await send({"type": "http.response.body", "body": b""})


def _sending(send: Send, origin: bytes) -> Send:
    if not origin:
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_cross(origin)]
        await send(message)

    return sending
