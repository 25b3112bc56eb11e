"""Worker routing: each request goes to the worker that it belongs to. Two ASGI middlewares, which only look at it.

`WorkerRouting` stands before everything else, so that what another worker answers goes out as it is: that worker has
checked the request. `ChatRouting` stands behind the access check, because it has to read a body to know whose it is.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
from starlette.requests import Request

from tailrace.gateway.access.headers import SafeHeaders
from tailrace.gateway.cluster.merging import merged
from tailrace.gateway.cluster.relay import RELAYED, Fetched, Relay
from tailrace.gateway.cluster.routing import home_of_chat, home_of_request, is_for_all
from tailrace.gateway.cluster.worker_ids import WorkerId
from tailrace.gateway.endpoint import endpoint_of
from tailrace.gateway.endpoints.body import read_body
from tailrace.gateway.responses import problem
from tailrace.protocols.problems import ProblemError
from tailrace.web.asgi_types import App, Message, Receive, Scope, Send

__all__ = ["ChatRouting", "Neighbours", "WorkerRouting"]


_SEND = "tailrace.send_before_access"
_PATIENCE = 3.0  # seconds that all workers have to tell what they all are asked


class Neighbours(msgspec.Struct, frozen=True):
    """The workers of one gateway, as one of them sees them.

    Attributes:
        here: the one that this is.
        count: how many there are.
        folder: where their private sockets are.
    """

    here: WorkerId
    count: int
    folder: Path


class WorkerRouting:
    """Answers what is asked here, passes on what another worker is asked, and asks all what is for all.

    Args:
        app: the gateway.
        neighbours: the workers.
        relay: reaches the others.
    """

    def __init__(self, app: App, neighbours: Neighbours, relay: Relay) -> None:
        self._app = app
        self._relay = relay
        self._here = neighbours.here
        self._count = neighbours.count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sees to a request."""
        if scope["type"] != "http" or RELAYED in scope:
            await self._app(scope, receive, send)
            return
        endpoint = endpoint_of(scope)
        try:
            if is_for_all(endpoint, scope["method"]):
                await self._ask_all(scope, send)
                return
            home = home_of_request(endpoint, _named(scope), scope["headers"], self._here, self._count)
            if home is not None and home != self._here.index:
                await self._relay.pass_on(home, scope, receive, send)
                return
        except ProblemError as error:
            await SafeHeaders(problem(error, endpoint.error_form))(scope, receive, send)
            return
        scope[_SEND] = send
        await self._app(scope, receive, send)

    async def _ask_all(self, scope: Scope, send: Send) -> None:
        """Answers with what all tell; with what one of them says if that is another thing."""
        asked = await asyncio.gather(*(self._ask(index, scope) for index in range(self._count)))
        told = [each for each in asked if each is not None]
        if not told or (len(told) < self._count and scope["path"] == "/readyz"):
            silent = next(index for index, each in enumerate(asked) if each is None)
            raise ProblemError(503, f"worker {silent + 1} does not answer", headers={"Retry-After": "1"})
        answer = next((each for each in told if each.status != 200), None)
        if answer is None:
            body = merged(scope["path"], scope["query_string"], [each.body for each in told])
            answer = Fetched(200, told[0].headers, body)
        ours = (b"content-length", b"transfer-encoding", b"date")
        headers = [(name, value) for name, value in answer.headers if name not in ours]
        headers.append((b"content-length", b"%d" % len(answer.body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    async def _ask(self, index: int, scope: Scope) -> Fetched | None:
        """Returns what a worker tells; None if it does not: one that is being started again is no reason to wait."""
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._relay.fetch(index, scope)
        except (TimeoutError, ProblemError):
            return None


class ChatRouting:
    """Passes on the next question of a chat that is at another worker.

    Args:
        app: what is behind the access check.
        neighbours: the workers.
        relay: reaches the others.
    """

    def __init__(self, app: App, neighbours: Neighbours, relay: Relay) -> None:
        self._app = app
        self._relay = relay
        self._here = neighbours.here
        self._count = neighbours.count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sees to a request."""
        before = scope.get(_SEND)
        if before is None or not _names_chat_in_body(scope):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            body = await read_body(request)
            home = home_of_chat(_chat_of(body), self._here, self._count)
            if home != self._here.index:
                await self._relay.pass_on(home, scope, receive, before, body)
                return
        except ProblemError as error:
            await problem(error, endpoint_of(scope).error_form)(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)


def _named(scope: Scope) -> str:
    """Returns what the path of a request names; empty: nothing."""
    return str(scope.get("path_params", {}).get("id", ""))


def _names_chat_in_body(scope: Scope) -> bool:
    endpoint = endpoint_of(scope)
    return endpoint.node == "owner of the chat" and scope["method"] == endpoint.method and not _named(scope)


class _Chat(msgspec.Struct):
    id: str = ""


def _chat_of(body: bytes) -> str:
    """Returns the id of a chat; empty of a body that is none, which is refused wherever it goes."""
    try:
        return msgspec.json.decode(body, type=_Chat).id
    except (ValueError, RecursionError):
        return ""


def _again(body: bytes, receive: Receive) -> Receive:
    """Returns what tells a body that was read already, then goes on as before."""
    first = True

    async def receiving() -> Message:
        nonlocal first
        if not first:
            return await receive()
        first = False
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
