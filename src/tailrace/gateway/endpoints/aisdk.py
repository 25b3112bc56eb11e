"""``/ai/chat``: the Vercel AI SDK's UI message stream, for ``useChat`` and `DefaultChatTransport`.

A chat's id leads to its latest run. Its client may leave and come back: leaving is no stop, and a stop is a request of
its own.
"""

from __future__ import annotations

import contextlib
from typing import Any
from weakref import WeakSet

from starlette.requests import Request
from starlette.responses import Response

from tailrace.events import Loading, Prefill, Queued
from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import context_of
from tailrace.gateway.endpoint import EVENTS, RUN, Endpoint, EndpointTable, Node
from tailrace.gateway.endpoints.answering import CONTENT, DeferredHeadResponse
from tailrace.gateway.endpoints.body import read_body
from tailrace.gateway.endpoints.encoders import PARTS, message_of, source_of
from tailrace.gateway.error_form import ErrorForm, text_of
from tailrace.gateway.responses import Answer, json
from tailrace.protocols.aisdk.encode import UIWire
from tailrace.protocols.aisdk.requests import ChatBody, run_request_of
from tailrace.protocols.problems import ProblemError
from tailrace.run.run import Run
from tailrace.web.asgi import EventStream, RawHeaders
from tailrace.web.asgi_types import Receive, Scope, Send
from tailrace.web.source import Source
from tailrace.web.stopping import Stopped
from tailrace.web.stopping import stop as stop_run

__all__ = ["ENDPOINTS"]

_LONGEST_ID = 255  # characters: ids are kept as long as runs
_SHOWN = (*CONTENT, Queued, Loading, Prefill)  # this wire has a part for what a run waits for


async def ask(request: Request) -> Answer:
    """``POST /ai/chat``: starts the chat's next answer.

    One that is still under way gives way to it: nobody could come back to that one.
    """
    context = context_of(request)
    caller, chats = caller_of(request.scope), context.chats
    body, asked = run_request_of(await read_body(request))
    if max(len(body.id), len(body.goes_on)) > _LONGEST_ID:
        raise ProblemError(400, f"the id of a chat, or of a message, has {_LONGEST_ID} characters at most")
    before = chats.latest.get((caller.owner, body.id))
    if before is not None:
        before.set_linger(0.0)
    run, _ = await context.start(asked, caller, linger=context.linger)
    chats.latest[caller.owner, body.id] = run
    chats.messages[run] = body.goes_on or message_of(run)
    return DeferredHeadResponse(run, _stream(request, run), _SHOWN)


async def resume(request: Request) -> Answer:
    """``GET /ai/chat/{id}/stream``: the message under way, from its start; 204 if there is none.

    One that ended while nobody was there is told once. Any run is read by its own id, as often as one likes.
    """
    run, told = _find(request), context_of(request).chats.told
    if run is None or (run.log.sealed and run in told and run.id != request.path_params["id"]):
        return Response(status_code=204)
    return _stream(request, run)


async def stop(request: Request) -> Response:
    """``POST /ai/chat/{id}/stop``, ``DELETE /ai/chat/{id}/stream``: answers when the backend has let go."""
    run = _find(request)
    if run is None:
        raise ProblemError(404, "no answer of this chat is known")
    context_of(request).chats.told.add(run)
    return json(await stop_run(run))


def _find(request: Request) -> Run | None:
    """Returns the run that a chat is at, or the one whose id this is, whichever protocol started it."""
    context = context_of(request)
    owner, id = caller_of(request.scope).owner, request.path_params["id"]
    run = context.chats.latest.get((owner, id))
    if run is None and id.startswith("run_"):
        with contextlib.suppress(ProblemError):
            return context.runs.get(id, owner)
    return run


def _stream(request: Request, run: Run) -> EventStream:
    context = context_of(request)
    source = source_of(run, UIWire(run.id, run.model, context.chats.messages.get(run) or message_of(run)))
    return _Telling(
        run,
        source,
        context.chats.told,
        stream_settings=context.settings.stream_settings,
        headers=[("X-Run-Id", run.id)],
        medium=PARTS,
    )


class _Telling(EventStream):
    """A stream that notes when a reader has had all of it."""

    def __init__(self, run: Run, source: Source, told: WeakSet[Run], **rest: Any) -> None:
        super().__init__(run, source, **rest)
        self._told = told

    async def answer(self, scope: Scope, receive: Receive, send: Send, headers: RawHeaders) -> None:
        await super().answer(scope, receive, send, headers)
        if self.taken:
            self._told.add(self._run)


_TEXT = ErrorForm("text/plain; charset=utf-8", str, lambda error: text_of(error).encode())
"""The AI SDK shows the text of the body as it is."""
_OWNER: Node = "owner of the chat"

ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "POST",
            "/ai/chat",
            ask,
            "Answer a chat as the AI SDK's UI message stream.",
            takes=ChatBody,
            gives=EVENTS,
            errors=RUN,
            node=_OWNER,
        ),
        Endpoint(
            "GET",
            "/ai/chat/{id}/stream",
            resume,
            "Read the message under way from its start.",
            gives=EVENTS,
            also=(204,),
            node=_OWNER,
        ),
        Endpoint(
            "DELETE",
            "/ai/chat/{id}/stream",
            stop,
            "Stop the message under way; answers when the backend has let go.",
            gives=Stopped,
            errors=(404,),
            node=_OWNER,
        ),
        Endpoint(
            "POST",
            "/ai/chat/{id}/stop",
            stop,
            "Stop the message under way; answers when the backend has let go.",
            gives=Stopped,
            errors=(404,),
            node=_OWNER,
        ),
    ),
    root="/ai",
    error_form=_TEXT,
)
