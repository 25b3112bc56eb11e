"""Routing: which worker a request belongs to, by what can be seen of it before its body is read. Pure.

Most requests belong to nobody: whoever gets them answers them, and a run that they start lives there. The others name
something that lives in the memory of one process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tailrace.gateway.cluster.worker_ids import WorkerId, home_of

__all__ = ["CHATS", "home_of_chat", "home_of_request", "is_for_all"]

CHATS = "/ai/chat"
"""Where a chat is named in the body."""

_RUN = re.compile(r"/runs/([^/]+)(?:/events)?")
_ANSWER = re.compile(r"/v1/chat/completions/(?:chatcmpl-)?(?:run_)?([^/]+)")
_CONVERSATION = re.compile(r"/conversations/([^/]+)(?:/(?:export|turns))?")
_CHAT = re.compile(r"/ai/chat/([^/]+)/(?:stream|stop)")
_FOR_ALL = ("/metrics", "/queue", "/readyz", "/runs")


def is_for_all(method: str, path: str) -> bool:
    """Returns whether a request asks for what only all workers together can tell."""
    return method in ("GET", "HEAD") and path in _FOR_ALL


def home_of_request(
    method: str, path: str, headers: Iterable[tuple[bytes, bytes]], here: WorkerId, count: int
) -> int | None:
    """Returns the worker that a request belongs to; None if it does not matter.

    Args:
        method: in capitals.
        path: decoded.
        headers: names in small letters.
        here: of the worker that asks.
        count: how many workers there are.
    """
    if found := _RUN.fullmatch(path):
        return _home_of_run(found[1], here, count)
    if found := _ANSWER.fullmatch(path):
        return _home_of_run(f"run_{found[1]}", here, count)
    if found := _CONVERSATION.fullmatch(path):
        return home_of(found[1], count)
    if found := _CHAT.fullmatch(path):
        return home_of_chat(found[1], here, count)
    if (method, path) == ("POST", "/runs"):
        # Not by its owner as well: a key may have two owners at one worker, and those do not see each other's runs.
        key = next((value for name, value in headers if name == b"idempotency-key"), b"").strip()
        return home_of(key.decode("latin-1"), count) if key else None
    return None


def home_of_chat(id: str, here: WorkerId, count: int) -> int:
    """Returns the worker of a chat of ``/ai/chat``, or of the run whose id stands for one."""
    run = _home_of_run(id, here, count)
    return run if run is not None else home_of(id, count)


def _home_of_run(id: str, here: WorkerId, count: int) -> int | None:
    worker_id = WorkerId.of(id)
    return (
        worker_id.index if worker_id is not None and worker_id.life == here.life and worker_id.index < count else None
    )
