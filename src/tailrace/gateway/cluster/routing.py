"""Routing: which worker a request belongs to, by what can be seen of it before its body is read. Pure.

An endpoint says it (`Endpoint.node`). Most requests belong to nobody: whoever gets them answers them, and a run that
they start lives there. The others name something that lives in the memory of one process.
"""

from __future__ import annotations

from collections.abc import Iterable

from tailrace.gateway.cluster.worker_ids import WorkerId, home_of
from tailrace.gateway.endpoint import Endpoint

__all__ = ["home_of_chat", "home_of_request", "is_for_all"]


def is_for_all(endpoint: Endpoint, method: str) -> bool:
    """Returns whether a request asks for what only all workers together can tell."""
    return endpoint.node == "all" and method in ("GET", "HEAD")


def home_of_request(
    endpoint: Endpoint, id: str, headers: Iterable[tuple[bytes, bytes]], here: WorkerId, count: int
) -> int | None:
    """Returns the worker that a request belongs to; None if it does not matter, or only the body tells.

    Args:
        endpoint: what it is for.
        id: what its path names; empty: nothing.
        headers: names in small letters.
        here: of the worker that asks.
        count: how many workers there are.
    """
    if endpoint.node == "owner of the run":  # some clients of OpenAI's API know a run as `chatcmpl-…`
        return _home_of_run(f"run_{id.removeprefix('chatcmpl-').removeprefix('run_')}", here, count)
    if endpoint.node == "owner of the conversation":
        return home_of(id, count)
    if endpoint.node == "owner of the chat":
        return home_of_chat(id, here, count) if id else None
    if endpoint.node == "owner of the idempotency key":
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
