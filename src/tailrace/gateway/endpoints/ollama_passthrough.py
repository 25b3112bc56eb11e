"""Pass-through: single requests of Ollama's API, to the upstream that can answer them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from tailrace import errors
from tailrace.backends.base import Backend
from tailrace.gateway.context import GatewayContext
from tailrace.gateway.scheduling.upstreams import Upstream
from tailrace.protocols.problems import ProblemError, problem_of

__all__ = ["first_of", "manager", "object_of", "target", "to_problem"]

T = TypeVar("T")

_BUSY = "server busy, please try again.  maximum pending requests exceeded"  # with Ollama's two spaces
_UNHEARD = (errors.ConnectionError, errors.TimedOutError)
_ELSEWHERE = (errors.ModelNotFoundError, errors.UnsupportedError, errors.BusyError, *_UNHEARD)


def target(context: GatewayContext, name: str) -> str:
    """Returns the model that a name means."""
    return context.settings.aliases.get(name, name)


def to_problem(
    model: str, status: int = 502, missing: str = "model '{}' not found"
) -> Callable[[Exception], ProblemError]:
    """Returns what tells Ollama's clients of an error: by the status that their server would have, and its words.

    Args:
        model: the model's name, as the request has it.
        status: of an error without one of its own.
        missing: the words for a model that is not there.
    """

    def told(error: Exception) -> ProblemError:
        if isinstance(error, ProblemError) and isinstance(error.__cause__, errors.BusyError):  # the queue's
            error = error.__cause__
        problem = problem_of(error)
        if isinstance(error, errors.ModelNotFoundError):
            return ProblemError(404, missing.format(model))
        if isinstance(error, errors.BusyError):
            text = error.error if error.status_code == 429 else _BUSY
            return ProblemError(error.status_code, text, headers=problem.headers)
        if isinstance(error, errors.ResponseError) and not isinstance(error, errors.NotModelServerError):
            known = error.status_code if 400 <= error.status_code < 600 else status
            known = known if error.status_code < 600 else 502  # which no server can answer with
            return ProblemError(known, error.error, hint=error.hint, headers=problem.headers)
        return problem

    return told


async def first_of(upstreams: Sequence[Upstream], work: Callable[[Upstream, Backend], Awaitable[T]]) -> T:
    """Does work with the first upstream that can do it.

    Raises:
        TailraceError: what the first one said.
    """
    first: errors.TailraceError | None = None
    for upstream in upstreams:
        try:
            return await work(upstream, await upstream.client.backend())
        except _ELSEWHERE as error:
            if isinstance(error, _UNHEARD):
                upstream.failed(unheard=True)
            first = first or error
    assert first is not None
    raise first


async def manager(context: GatewayContext, model: str = "") -> tuple[Upstream, Backend]:
    """Returns the upstream that keeps models: an Ollama server, with this model if one has it; else the engine.

    Raises:
        UnsupportedError: there is none.
    """
    found: list[tuple[Upstream, Backend]] = []
    for upstream in await context.upstreams.choose(model) if model else context.upstreams.all:
        try:
            found.append((upstream, await upstream.client.backend()))
        except errors.TailraceError:
            continue  # nothing answers there
    for kind in ("ollama", "embedded"):
        for upstream, backend in found:
            if backend.kind == kind and not (upstream.out and len(found) > 1):
                return upstream, backend
    raise errors.UnsupportedError("no upstream of this gateway is an Ollama server, which keeps models", 501)


def object_of(data: bytes) -> dict[str, Any]:
    """Returns an upstream's answer.

    Raises:
        ProtocolError: it is no JSON object.
    """
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise errors.ProtocolError(f"the upstream answered with something unexpected: {error}") from error
