"""Authentication: a name and a password, a callable, or an object of httpx's, asked for the headers of each request."""

from __future__ import annotations

import asyncio
import base64
import inspect
from collections.abc import Callable, Generator, Iterator, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from tailrace import errors

__all__ = ["Auth", "Request", "RequestHeaders", "Signing", "Url"]

_FORMS = "auth is (name, password), a callable that takes the request and sets its headers, or an httpx.Auth"


class Url(str):
    """A URL as text, with the parts that callables look at."""

    __slots__ = ()

    @property
    def scheme(self) -> str:
        """Such as ``https``."""
        return urlsplit(self).scheme

    @property
    def host(self) -> str:
        """The server's name."""
        return urlsplit(self).hostname or ""

    @property
    def port(self) -> int | None:
        """The port, if one is written."""
        return urlsplit(self).port

    @property
    def path(self) -> str:
        """The path."""
        return urlsplit(self).path

    @property
    def query(self) -> bytes:
        """The query."""
        return urlsplit(self).query.encode()

    @property
    def raw_path(self) -> bytes:
        """Path and query."""
        parts = urlsplit(self)
        return f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}".encode()


class RequestHeaders(MutableMapping[str, str]):
    """Headers by name, in whatever case."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name.lower(): value for name, value in values.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __setitem__(self, name: str, value: str) -> None:
        self._values[name.lower()] = value

    def __delitem__(self, name: str) -> None:
        del self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Request:
    """What is about to be sent, as a callable given as ``auth=`` sees it.

    Attributes:
        method: such as ``POST``.
        url: where it goes.
        headers: what is sent with it; may be changed.
        content: the body; empty for one that is sent in pieces.
    """

    def __init__(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> None:
        self.method = method
        self.url = Url(url)
        self.headers = RequestHeaders(headers)
        self.content = content


class _ResponseHeaders(RequestHeaders):
    def get_list(self, name: str) -> list[str]:
        """Returns the values of a name."""
        return [self[name]] if name in self else []


class _Response:
    """What an httpx.Auth sees of an answer."""

    def __init__(self, request: Request, status: int, headers: Mapping[str, str]) -> None:
        self.request = request
        self.status_code = status
        self.headers = _ResponseHeaders(headers)
        self.cookies: dict[str, str] = {}


class Auth:
    """What ``auth=`` was given.

    Raises:
        RequestError: it is of no form that is taken.
    """

    def __init__(self, given: Any) -> None:
        self._call: Callable[[Request], Any] | None = None
        self._flow: Callable[[Request], Generator[Any, Any, None]] | None = None
        self._header = ""
        if isinstance(given, (tuple, list)) and len(given) == 2:
            self._header = _basic(*given)
        elif hasattr(given, "auth_flow") and not isinstance(given, type):
            if getattr(given, "requires_response_body", False):
                raise errors.RequestError(f"auth: {type(given).__name__} wants to read answers", hint=_FORMS)
            self._flow = given.auth_flow
        elif callable(given) and not isinstance(given, type):
            self._call = given
        else:
            raise errors.RequestError(f"{_FORMS}, not {type(given).__name__}")

    def sign(self, method: str, url: str, headers: Mapping[str, str], content: bytes) -> Signing:
        """Begins with a request."""
        return Signing(self, Request(method, url, headers, content))


def _basic(name: Any, password: Any) -> str:
    parts = [part.encode() if isinstance(part, str) else part for part in (name, password)]
    if not all(isinstance(part, bytes) for part in parts):
        raise errors.RequestError("auth: the name and the password are texts", hint=_FORMS)
    return f"Basic {base64.b64encode(b':'.join(parts)).decode('ascii')}"


class Signing:
    """The authentication of one request, and maybe of a second one after the answer to the first."""

    def __init__(self, auth: Auth, request: Request) -> None:
        self._auth = auth
        self._request = request
        self._steps: Generator[Any, Any, None] | None = None

    async def first(self) -> dict[str, str]:
        """Returns the headers of the request.

        Raises:
            RequestError: what was given made something else of it.
        """
        auth, request = self._auth, self._request
        if auth._flow is not None:
            self._steps = auth._flow(request)
            made: Any = await asyncio.to_thread(next, self._steps, request)
        elif auth._call is None:
            return {**request.headers, "authorization": auth._header}
        elif inspect.iscoroutinefunction(auth._call):
            made = await auth._call(request)
        else:  # it may ask somebody for a token, and wait: not on the loop that all streams share
            made = await asyncio.to_thread(auth._call, request)
            if inspect.isawaitable(made):
                made = await made
        return self._headers_of(made)

    async def again(self, status: int, headers: Mapping[str, str]) -> dict[str, str] | None:
        """Returns the headers for asking once more, after an answer; None if that answer is the one."""
        if self._steps is None:
            return None
        steps, self._steps = self._steps, None
        made = await asyncio.to_thread(_resumed, steps, _Response(self._request, status, headers))
        return None if made is None else self._headers_of(made)

    def _headers_of(self, made: Any) -> dict[str, str]:
        if made is None:
            made = self._request
        headers = getattr(made, "headers", None)
        if made is not self._request or not isinstance(headers, Mapping):
            raise errors.RequestError(
                f"auth: it returned {type(made).__name__}, not the request that it was given",
                hint="set request.headers['Authorization'] and return the request",
            )
        for name, value in headers.items():
            if not isinstance(value, str):
                raise errors.RequestError(f"auth: the header {name!r} is {type(value).__name__}, not a text")
        return dict(headers)


def _resumed(steps: Generator[Any, Any, None], response: _Response) -> Any:
    try:
        return steps.send(response)
    except StopIteration:
        return None
    finally:
        steps.close()
