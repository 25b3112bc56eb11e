"""``POST /chat/stream``: the tutorial's route."""

from __future__ import annotations

from starlette.requests import Request

from tailrace.gateway.access.middleware import caller_of
from tailrace.gateway.context import context_of
from tailrace.gateway.endpoint import EVENTS, UPSTREAM, Endpoint, EndpointTable
from tailrace.gateway.endpoints.body import read_body
from tailrace.gateway.responses import Answer
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest, parse
from tailrace.web.asgi import EventStream
from tailrace.web.source import Source, plain_feed

__all__ = ["ENDPOINTS"]


async def chat_stream(request: Request) -> Answer:
    """Starts an answer and reads it out.

    The tutorial's readers cannot come back, so that their leaving stops the model at once; who can says with ``linger``
    for how long it is to go on without it.
    """
    context = context_of(request)
    body = await read_body(request)
    asked = parse(body, request.query_params)
    if asked.prompt is not None:
        raise ProblemError(400, "this route takes a message or messages", hint="POST /runs completes a prompt")
    run, _ = await context.start(asked, caller_of(request.scope), linger=0.0)
    return EventStream(
        run,
        Source(plain_feed(run)),
        stream_settings=context.settings.stream_settings,
        headers=[("Location", f"/runs/{run.id}")],
    )


ENDPOINTS = EndpointTable(
    (
        Endpoint(
            "POST",
            "/chat/stream",
            chat_stream,
            "Answer a message as the tutorial's server-sent events.",
            takes=RunRequest,
            optional=True,
            query=("message", "model", "system"),
            gives=EVENTS,
            errors=UPSTREAM,
        ),
    )
)
