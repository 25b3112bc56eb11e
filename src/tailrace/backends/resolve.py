"""Chooses the backend: from ``Client(upstream)``, TAILRACE_UPSTREAM or OLLAMA_HOST, or by probing for Ollama.

Forms: ``http://host:port`` (Ollama), ``openai:http://host:port/v1``, ``embedded:`` or ``embedded:/path/model.gguf``.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import os
import platform
import re
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from tailrace import errors
from tailrace._version import __version__
from tailrace.backends.base import Backend
from tailrace.i18n import say
from tailrace.i18n.output import put

if TYPE_CHECKING:  # with all that it imports; making a client needs it
    from tailrace.transport.options import HttpOptions

__all__ = ["DEFAULT_URL", "Resolver", "parse_host", "without_endpoint"]

DEFAULT_URL = "http://127.0.0.1:11434"

PROBE = 0.3  # seconds Ollama has to answer before the embedded engine is chosen

_noted = False


def parse_host(value: str | None) -> str:
    """Returns the base URL that an OLLAMA_HOST value means, by the rules of Ollama's own Go client.

    The rules are in ollama/ollama, ``envconfig/config.go``.
    Unlike there, an address to listen on (``0.0.0.0``, ``::``, no host) becomes the loopback one to connect to;
    credentials and a query are no part of it.

    >>> parse_host("example.com")
    'http://example.com:11434'
    >>> parse_host("https://example.com/path/")
    'https://example.com:443/path'
    """
    text = _trimmed(value)
    scheme, found, rest = text.partition("://")
    default = {"http": "80", "https": "443"}.get(scheme, "11434") if found else "11434"
    if not found:
        scheme, rest = "http", text
        if text == "ollama.com":
            scheme, rest = "https", "ollama.com:443"
    authority, _, path = re.split("[?#]", rest, maxsplit=1)[0].partition("/")
    host, port = _split(authority.rpartition("@")[2], default)
    if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) <= 65535):
        port = default
    if ":" in host:
        host = f"[{host}]"
    path = path.strip("/")
    return f"{scheme.lower()}://{host}:{port}" + (f"/{path}" if path else "")


_ENDPOINTS = re.compile(r"/api(/(chat|generate|embed|embeddings|tags|version|ps|show))?/?$")
_FULL = re.compile(r"(?<=/v1)/(chat/completions|completions|embeddings|models|responses)/?$")


def without_endpoint(value: str) -> str:
    """Returns the upstream that is meant by an address with an API's path at its end, which people copy with it.

    Ollama's own clients add ``/api`` themselves, so no address of theirs ends in it; ``/v1`` is the OpenAI protocol's.
    An address that really has ``/api`` or ``/v1`` before Ollama's own paths is written ``ollama:http://host/api``.

    >>> without_endpoint("http://h:11434/api/chat"), without_endpoint("h/ollama/api/"), without_endpoint("h:11434")
    ('http://h:11434', 'h/ollama', 'h:11434')
    >>> without_endpoint("http://h:8000/v1/chat/completions"), without_endpoint("h:5/v1/")
    ('openai:http://h:8000/v1', 'openai:http://h:5/v1')
    """
    if value.startswith(("openai:", "ollama:", "embedded")):
        return value
    text = _trimmed(value)
    address = _FULL.sub("", re.split("[?#]", text, maxsplit=1)[0].rstrip("/")).rstrip("/")
    if address.endswith("/v1"):
        return f"openai:{address if '://' in address else _with_port(address)}"
    shorter = _ENDPOINTS.sub("", address)
    return value if shorter == address or shorter.endswith("/") else shorter


def _with_port(address: str) -> str:
    authority, slash, path = address.partition("/")
    port = "" if re.search(r":\d+$", authority) else ":11434"
    return f"http://{authority}{port}{slash}{path}"


def _trimmed(value: str | None) -> str:
    return (value or "").strip().strip("\"'").strip()


def _split(authority: str, default_port: str) -> tuple[str, str]:
    host, port = authority, default_port
    if authority.startswith("[") and "]" in authority:
        host, _, tail = authority[1:].partition("]")
        port = tail[1:] if tail.startswith(":") else default_port
    elif authority.count(":") == 1:
        host, _, port = authority.partition(":")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host or "127.0.0.1", port
    if address.is_unspecified:
        return ("::1" if address.version == 6 else "127.0.0.1"), port
    return str(address), port


class Resolver:
    """Finds the backend once, on first use. Making one does no input or output.

    Args:
        upstream: one of the forms above; None takes TAILRACE_UPSTREAM, then OLLAMA_HOST, then looks.
        headers: sent with each request to the upstream.
        api_key: sent as a bearer token; default TAILRACE_API_KEY, then OLLAMA_API_KEY.
        options: certificates, proxy, authentication and the like; see `HttpOptions.of`.
        connect: seconds until the connection of a single request stands; None: no limit.

    Raises:
        RequestError: the upstream has none of the forms.
    """

    def __init__(
        self,
        upstream: str | None = None,
        *,
        headers: Mapping[str, str | None] | None = None,
        api_key: str | None = None,
        options: HttpOptions | None = None,
        connect: float | None = None,
    ) -> None:
        self.upstream = (upstream or os.environ.get("TAILRACE_UPSTREAM") or "").strip()
        host = _trimmed(os.environ.get("OLLAMA_HOST"))
        if not self.upstream and host:
            self.upstream = without_endpoint(host)
            if not self.upstream.startswith("openai:"):
                self.upstream = f"ollama:{self.upstream}"
        self.headers = {
            "user-agent": f"tailrace/{__version__} ({platform.machine()} {platform.system().lower()})"
            f" Python/{platform.python_version()}",
            "accept": "application/json",
            "content-type": "application/json",
            **{name.lower(): value for name, value in (headers or {}).items() if value is not None},
        }
        self._key = api_key or os.environ.get("TAILRACE_API_KEY") or os.environ.get("OLLAMA_API_KEY")
        self._options = options
        self._connect = connect
        self._backend: Backend | None = None if self._is_auto else self._explicit(self.upstream)

    @property
    def _is_auto(self) -> bool:
        return self.upstream in ("", "auto")

    @property
    def known(self) -> Backend | None:
        """The backend, if it is known without asking anybody."""
        return self._backend

    def authorization(self) -> str | None:
        """The Authorization header that the upstream gets; None if it gets none."""
        return self.headers.get("authorization") or (f"Bearer {self._key}" if self._key else None)

    async def post_absolute(self, url: str, body: dict[str, Any], headers: Mapping[str, str | None]) -> bytes:
        """Sends a request to ollama.com's own services, with the same key as to the upstream."""
        from tailrace.backends.ollama import OllamaBackend

        base, _, path = url.partition("/api/")
        http = self._http(base, None)
        if self._options is not None and not (self._backend and self._backend.url.startswith(base)):
            http.options = type(self._options)(self._options.reach)  # what is for the upstream is for nobody else
        backend = OllamaBackend(http).with_headers(headers)
        return await backend.call("POST", f"/api/{path}", body)

    async def get(self) -> Backend:
        """Returns the backend; with nothing named, the first call looks whether Ollama answers."""
        if self._backend is None:
            self._backend = await self._look()
        return self._backend

    def _explicit(self, upstream: str) -> Backend:
        if upstream == "embedded" or upstream.startswith("embedded:"):
            return self._embedded(upstream.partition(":")[2])
        if "?" in upstream:  # where people put keys, which every list of upstreams and every error would show
            named = _credentials(upstream)[0].partition("?")[0]
            raise errors.RequestError(
                f"the address of an upstream has no query: {named}?…",
                hint="give a key as api_key= (TAILRACE_API_KEY), and other parameters as params=",
            )
        if upstream.startswith("openai:"):
            from tailrace.backends.openai import OpenAIBackend

            url = upstream.removeprefix("openai:")
            if not url.lower().startswith(("http://", "https://")):
                raise errors.RequestError(
                    f"not an upstream: {_credentials(upstream)[0]!r}", hint="write openai:http://host:port/v1"
                )
            return OpenAIBackend(self._http(*_credentials(_FULL.sub("", url.rstrip("/"))), openai=True))
        if upstream.startswith("ollama:"):
            upstream = upstream.removeprefix("ollama:")
        elif (meant := without_endpoint(upstream)) != upstream:
            return self._explicit(meant if meant.startswith("openai:") else f"ollama:{meant}")
        scheme = upstream.partition("://")[0] if "://" in upstream else "http"
        if scheme.lower() not in ("http", "https"):
            raise errors.RequestError(
                f"not an upstream: {_credentials(upstream)[0]!r}",
                hint="write http://host:port, openai:http://host:port/v1, embedded: or embedded:/path/model.gguf",
            )
        from tailrace.backends.ollama import OllamaBackend

        url, authorization = _credentials(upstream)
        return OllamaBackend(self._http(parse_host(url), authorization))

    def _embedded(self, model: str) -> Backend:
        from tailrace.backends.embedded.backend import EmbeddedBackend

        return EmbeddedBackend(unquote(model) if model.startswith("//") else model)

    def _http(self, base: str, authorization: str | None, *, openai: bool = False) -> Any:
        from tailrace.transport.http_client import Http

        headers = dict(self.headers)
        key = self._key
        if openai and key is None and base.startswith("https://api.openai.com/"):
            key = os.environ.get("OPENAI_API_KEY")  # never sent to anybody else
        if not headers.get("authorization"):
            if authorization is not None:
                headers["authorization"] = authorization
            elif key:
                headers["authorization"] = f"Bearer {key}"
        kind = "server" if openai else "ollama"
        return Http(base, headers=headers, options=self._options, kind=kind, connect=self._connect)

    async def _look(self) -> Backend:
        ollama = self._explicit(DEFAULT_URL)
        try:
            async with asyncio.timeout(PROBE):
                await ollama.version()
        except (TimeoutError, errors.TailraceError):
            pass
        else:
            return ollama
        if not embedded_installed():
            return ollama  # its own error tells how to get one
        backend = self._embedded("")
        _note_embedded(backend.url)
        return backend


def embedded_installed() -> bool:
    """True if the embedded engine's packages are there; looks without importing them."""
    from importlib.util import find_spec

    return find_spec("xllamacpp") is not None


def _note_embedded(_url: str) -> None:
    global _noted
    if _noted:
        return
    _noted = True
    from tailrace.backends.embedded.models import DEFAULT_MODEL

    put(f"{say('note.embedded', url=DEFAULT_URL, model=DEFAULT_MODEL)}\n", sys.stderr)


def _credentials(url: str) -> tuple[str, str | None]:
    """Takes ``user:password@`` out of a URL, so that no error ever shows it."""
    scheme, found, rest = url.partition("://")
    authority, slash, path = (rest if found else url).partition("/")
    user, at, host = authority.rpartition("@")
    if not at:
        return url, None
    token = base64.b64encode(unquote(user).encode()).decode()
    return f"{scheme}://{host}{slash}{path}" if found else f"{host}{slash}{path}", f"Basic {token}"
