"""``/ai/chat``: the Vercel AI SDK's UI message stream, for ``useChat`` and `DefaultChatTransport`.

A chat's id leads to its latest run. Its client may leave and come back: leaving is no stop, and a stop is a request of
its own.
"""

from __future__ import annotations

import contextlib
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tailrace.events import Loading, Prefill, Queued
from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import context_of
from tailrace.gateway.endpoints.answering import CONTENT, DeferredHeadResponse
from tailrace.gateway.endpoints.body import read_body
from tailrace.gateway.endpoints.encoders import PARTS, message_of, source_of
from tailrace.gateway.responses import Answer, json
from tailrace.protocols.aisdk.encode import UIWire
from tailrace.protocols.aisdk.requests import run_request_of
from tailrace.protocols.problems import ProblemError
from tailrace.run.run import Run
from tailrace.web.asgi import EventStream, RawHeaders, Receive, Scope, Send
from tailrace.web.source import Source
from tailrace.web.stopping import stop

__all__ = ["routes"]

_SHOWN = (*CONTENT, Queued, Loading, Prefill)  # this wire has a part for what a run waits for


class _Chats:
    """Which run each chat is at, as long as runs are kept."""

    def __init__(self) -> None:
        self._latest: WeakValueDictionary[tuple[str, str], Run] = WeakValueDictionary()
        self._messages: WeakKeyDictionary[Run, str] = WeakKeyDictionary()
        self._told: WeakSet[Run] = WeakSet()  # runs whose client knows how they ended

    async def ask(self, request: Request) -> Answer:
        """``POST /ai/chat``: starts the chat's next answer.

        One that is still under way gives way to it: nobody could come back to that one.
        """
        context = context_of(request)
        caller = caller_of(request.scope)
        body, asked = run_request_of(await read_body(request, context.settings.max_body))
        before = self._latest.get((caller.owner, body.id))
        if before is not None:
            before.set_linger(0.0)
        run, _ = await context.start(asked, caller, linger=context.linger)
        self._latest[caller.owner, body.id] = run
        self._messages[run] = body.goes_on or message_of(run)
        return DeferredHeadResponse(run, self._stream(request, run), _SHOWN)

    async def resume(self, request: Request) -> Answer:
        """``GET /ai/chat/{id}/stream``: the message under way, from its start; 204 if there is none.

        One that ended while nobody was there is told once. Any run is read by its own id, as often as one likes.
        """
        run = self._find(request)
        if run is None or (run.log.sealed and run in self._told and run.id != request.path_params["id"]):
            return Response(status_code=204)
        return self._stream(request, run)

    async def stop(self, request: Request) -> Response:
        """``POST /ai/chat/{id}/stop``, ``DELETE /ai/chat/{id}/stream``: answers when the backend has let go."""
        run = self._find(request)
        if run is None:
            raise ProblemError(404, "no answer of this chat is known")
        self._told.add(run)
        return json(await stop(run))

    def _find(self, request: Request) -> Run | None:
        """Returns the run that a chat is at, or the one whose id this is, whichever protocol started it."""
        owner, id = caller_of(request.scope).owner, request.path_params["id"]
        run = self._latest.get((owner, id))
        if run is None and id.startswith("run_"):
            with contextlib.suppress(ProblemError):
                return context_of(request).runs.get(id, owner)
        return run

    def _stream(self, request: Request, run: Run) -> EventStream:
        source = source_of(run, UIWire(run.id, run.model, self._messages.get(run) or message_of(run)))
        return _Telling(
            run,
            source,
            self._told,
            stream_settings=context_of(request).settings.stream_settings,
            headers=[("X-Run-Id", run.id)],
            medium=PARTS,
        )

    def routes(self) -> list[BaseRoute]:
        """Returns the routes."""
        return [
            Route("/ai/chat", self.ask, methods=["POST"]),
            Route("/ai/chat/{id}/stream", self.resume, methods=["GET"]),
            Route("/ai/chat/{id}/stream", self.stop, methods=["DELETE"]),
            Route("/ai/chat/{id}/stop", self.stop, methods=["POST"]),
        ]


class _Telling(EventStream):
    """A stream that notes when a reader has had all of it."""

    def __init__(self, run: Run, source: Source, told: WeakSet[Run], **rest: Any) -> None:
        super().__init__(run, source, **rest)
        self._told = told

    async def answer(self, scope: Scope, receive: Receive, send: Send, headers: RawHeaders) -> None:
        await super().answer(scope, receive, send, headers)
        if self.taken:
            self._told.add(self._run)


def routes() -> list[BaseRoute]:
    """Returns the routes."""
    return _Chats().routes()
