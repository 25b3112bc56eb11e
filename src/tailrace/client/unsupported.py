"""What httpx's clients take and ours do not: each says what to use instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tailrace.errors import RequestError

__all__ = ["refuse"]

_INSTEAD = {
    "transport": "connections are tailrace's own: for a test use tailrace.testing.FakeOllama, for another way proxy=",
    "mounts": "use proxy=, with NO_PROXY for what is reached directly, or a client for each server",
    "event_hooks": "use auth= for what is to be done to a request, and tailrace.telemetry or observe to watch runs",
    "proxies": "use proxy=, one URL for http and https",
    "base_url": "it is the first argument, host",
    "app": "serve it, for example with uvicorn, and name its address",
    "http2": "model servers speak HTTP/1.1; leave it out",
    "http1": "HTTP/1.1 is what is spoken; leave it out",
    "max_redirects": "five are followed on the same host; none with follow_redirects=False",
    "default_encoding": "answers are UTF-8, as JSON is",
}
_SAME = {"http1": True, "http2": False, "default_encoding": "utf-8"}  # what holds anyway


def refuse(kind: str, given: Mapping[str, Any]) -> None:
    """Refuses arguments of httpx's clients, unless they ask for nothing.

    Args:
        kind: the client's class.
        given: the arguments by name.

    Raises:
        RequestError: one of them has something else in its place.
        TypeError: nobody has such an argument.
    """
    for name, value in given.items():
        if name not in _INSTEAD:
            raise TypeError(f"{kind}() got an unexpected keyword argument {name!r}")
        if value is None or (name in _SAME and value == _SAME[name]) or _is_empty(value):
            continue
        raise RequestError(f"{name}= is not taken", hint=_INSTEAD[name])


def _is_empty(value: Any) -> bool:
    return isinstance(value, Mapping) and not any(value.values())
