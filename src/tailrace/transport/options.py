"""The options of an HTTP client, checked: certificates, proxy, authentication, cookies, parameters, headers."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tailrace import errors
from tailrace.transport.auth import Auth
from tailrace.transport.connect import Reach
from tailrace.transport.proxies import Proxy
from tailrace.transport.tls import context_of

if TYPE_CHECKING:  # few clients have cookies
    from http.cookiejar import CookieJar

__all__ = ["HttpOptions", "header_names"]

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2


@dataclass(frozen=True)
class HttpOptions:
    """How to talk to servers.

    Attributes:
        reach: certificates and proxies.
        follow_redirects: follow redirects that stay on the same host.
        auth: authenticates requests; None if headers do.
        cookies: the value of the Cookie header, or a jar to take it from.
        query: added to every URL.
    """

    reach: Reach = field(default_factory=Reach)
    follow_redirects: bool = True
    auth: Auth | None = None
    cookies: str | CookieJar = ""
    query: str = ""

    @classmethod
    def of(
        cls,
        *,
        verify: Any = True,
        cert: Any = None,
        proxy: Any = None,
        trust_env: Any = True,
        follow_redirects: Any = True,
        auth: Any = None,
        cookies: Any = None,
        params: Any = None,
    ) -> HttpOptions:
        """Returns what a client was given, checked; files are read here.

        Raises:
            RequestError: something is of no form that is taken.
        """
        for name, value in {"trust_env": trust_env, "follow_redirects": follow_redirects}.items():
            if not isinstance(value, bool):
                raise errors.RequestError(f"{name} is True or False, not {value!r}")
        return cls(
            reach=Reach(context_of(verify, cert, trust_env), _proxy(proxy), trust_env),
            follow_redirects=follow_redirects,
            auth=None if auth is None else Auth(auth),
            cookies=_cookies(cookies),
            query=_query(params),
        )

    def cookie_header(self, url: str) -> str:
        """Returns the Cookie header for a URL; empty if it gets none."""
        if isinstance(self.cookies, str):
            return self.cookies
        request = urllib.request.Request(url)  # noqa: S310  (nothing is opened)
        self.cookies.add_cookie_header(request)
        return request.get_header("Cookie") or ""


def _proxy(given: Any) -> Proxy | None:
    if given is None:
        return None
    if isinstance(given, (Mapping, bool, int)):
        raise errors.RequestError("proxy is one URL, such as http://name:password@host:port or socks5://host:port")
    try:
        proxy = Proxy.of(given)
    except ValueError as error:
        raise errors.RequestError(f"proxy: {error}") from error
    if proxy.is_socks:
        from importlib.util import find_spec

        if find_spec("python_socks") is None:
            raise errors.RequestError(
                f"proxy: {proxy.url} needs python-socks, which is not installed", hint="pip install 'tailrace[socks]'"
            )
    return proxy


def _cookies(given: Any) -> str | CookieJar:
    if given is None:
        return ""
    from http.cookiejar import CookieJar

    jar = getattr(given, "jar", given)  # httpx.Cookies has one
    if isinstance(jar, CookieJar):
        return jar
    pairs = _pairs(given, "cookies", "a dict, a list of pairs or a CookieJar")
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str) or re.search(r"[;,\s=]", name) or ";" in value:
            raise errors.RequestError(f"cookies: {name!r} and its value are texts without ';'")
    return "; ".join(f"{name}={value}" for name, value in pairs)


def _query(given: Any) -> str:
    if given is None:
        return ""
    if isinstance(given, bytes):
        given = given.decode("ascii", "replace")
    if isinstance(given, str):
        return given.removeprefix("?")
    if hasattr(given, "multi_items"):  # httpx.QueryParams
        given = given.multi_items()
    flat: list[tuple[str, str]] = []
    for name, value in _pairs(given, "params", "a dict, a list of pairs or a text"):
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if each is not None and not isinstance(each, (str, int, float)):
                raise errors.RequestError(f"params: {name!r} is a text, a number or a list of them")
            flat.append((str(name), _word(each)))
    return urlencode(flat)


def _word(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _pairs(given: Any, name: str, forms: str) -> list[tuple[Any, Any]]:
    items = given.items() if isinstance(given, Mapping) else given
    if isinstance(items, Iterable) and not isinstance(items, (str, bytes)):
        pairs = [tuple(pair) if isinstance(pair, (tuple, list)) else () for pair in items]
        if all(len(pair) == 2 for pair in pairs):
            return [(pair[0], pair[1]) for pair in pairs]
    raise errors.RequestError(f"{name} is {forms}, not {type(given).__name__}")


def header_names(given: Any) -> dict[str, str | None]:
    """Returns headers by their names in lower case; None takes one away.

    Raises:
        RequestError: a name or a value cannot be sent.
    """
    if given is None:
        return {}
    if hasattr(given, "multi_items"):  # httpx.Headers
        given = given.multi_items()
    headers: dict[str, str | None] = {}
    for name, value in _pairs(given, "headers", "a dict or a list of pairs"):
        key, text = (part.decode("latin-1") if isinstance(part, bytes) else part for part in (name, value))
        if not isinstance(key, str) or not _TOKEN.fullmatch(key):
            raise errors.RequestError(f"headers: {key!r} is no name of a header")
        if text is not None and not isinstance(text, str):
            raise errors.RequestError(f"headers: the value of {key!r} is {type(text).__name__}, not a text")
        if text is not None and any(sign in text for sign in "\r\n\0"):
            raise errors.RequestError(f"the header {key!r} cannot be sent: there is a line end in it")
        headers[key.lower()] = text
    return headers
