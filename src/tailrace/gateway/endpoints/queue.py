"""``/queue``: what waits, and for whom. Figures only: whose runs they are is nobody's business."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tailrace.gateway.context import GatewayContext, context_of
from tailrace.gateway.endpoint import Endpoint, EndpointTable
from tailrace.gateway.responses import json

__all__ = ["ENDPOINTS", "QueueEntry", "Queues", "queue_of"]


class QueueEntry(msgspec.Struct, kw_only=True):
    """An upstream's queue.

    Attributes:
        url: the upstream.
        running: how many runs it works on.
        waiting: how many wait for it.
        out: it failed, and is left out for a while.
    """

    url: str
    running: int
    waiting: int
    out: bool


class Queues(msgspec.Struct, kw_only=True):
    """The queues of all upstreams."""

    upstreams: list[QueueEntry]


def queue_of(context: GatewayContext) -> list[QueueEntry]:
    """Returns what waits, for each upstream."""
    return [
        QueueEntry(url=each.client.upstream, running=each.queue.running, waiting=each.queue.waiting, out=each.out)
        for each in context.upstreams.all
    ]


async def queue(request: Request) -> Response:
    """``GET /queue``."""
    return json(Queues(upstreams=queue_of(context_of(request))))


ENDPOINTS = EndpointTable(
    (Endpoint("GET", "/queue", queue, "Show what waits, for each upstream.", gives=Queues, node="all"),)
)
