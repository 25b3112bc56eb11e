"""Detached responses: a stream goes on when all that stood around its request has returned.

Between a server and an endpoint are a framework's layers. Each keeps a coroutine, a request or a function of its own
for as long as the answer lasts, though a stream wants nothing of them any more: some kilobytes for each of thousands of
streams. So our server has the layers return first, and calls the stream itself. That is for servers that do not look at
a scope again once they have called the application; ours (`tailrace.gateway.server.protocol`) does not.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["detach_response", "with_detached_responses"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_DETACHED = "tailrace.detached"
_KEPT = ("type", "http_version", "method", "path")  # of a scope; whoever sends looks at them


def detach_response(answer: App, scope: Scope, receive: Receive, send: Send) -> bool:
    """Has an answer called with these once the layers around it have returned; False where it is to be given now."""
    rest: list[Callable[[], Awaitable[None]]] | None = scope.pop(_DETACHED, None)
    if rest is None:
        return False
    rest.append(functools.partial(answer, scope, receive, send))
    return True


def with_detached_responses(app: App, *keep: str) -> App:
    """Returns an application that calls the responses that were detached in another.

    Args:
        app: the other one. No layer of it may do anything for a response after it has returned, nor does one see what
            the answer raises then: that is the server's to tell, or the answer's own.
        keep: what of the scope is wanted then, beside what tells the request; the rest is forgotten.
    """

    async def whole(scope: Scope, receive: Receive, send: Send) -> None:
        rest: list[Callable[[], Awaitable[None]]] = []
        scope[_DETACHED] = rest
        await app(scope, receive, send)
        if rest:
            kept = {name: scope[name] for name in (*_KEPT, *keep) if name in scope}
            scope.clear()
            scope.update(kept)
            await rest.pop()()

    return whole
