"""Bodies: read within limits of size and time, and only when they are JSON."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from tailrace.gateway.context import context_of
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import parse_json
from tailrace.web.bodies import Body

__all__ = ["read_body", "read_json"]

T = TypeVar("T")

_MOST_AT_ONCE = 64  # bodies of the largest size that there is memory for, however many connections send one


async def read_body(request: Request) -> bytes:
    """Returns a request's body.

    Raises:
        ProblemError: 413: it is larger than the settings allow; 408: it did not come in time; 503: too much of other
            requests is on its way already. The connection is closed then, so that the rest of it is not read either.
    """
    context = context_of(request)
    limit = context.settings.max_body
    body = Body(limit, request.headers.get("content-length", ""))
    seconds = context.settings.body_time
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                context.incoming += len(part)
                body.add(part)
                if context.incoming > _MOST_AT_ONCE * limit:
                    raise _closing(503, "too many large requests at once", {"Retry-After": "1"})
    except TimeoutError:
        raise _closing(408, f"the body did not come within {seconds:g} s") from None
    except ClientDisconnect:
        raise ProblemError(400, "the connection closed in the middle of the body") from None
    else:
        return body.take()
    finally:
        context.incoming -= body.size
        body.drop()  # a refusal refers to this frame, and takes a moment


def _closing(status: int, detail: str, headers: dict[str, str] | None = None) -> ProblemError:
    return ProblemError(status, detail, headers={"Connection": "close", **(headers or {})})


async def read_json(request: Request, kind: type[T]) -> T:
    """Returns a request's body as a value of `kind`; an empty body is an empty object.

    Raises:
        ProblemError: it is too large, no JSON, or not of that form.
    """
    value: Any = parse_json(await read_body(request) or b"{}", kind)
    assert isinstance(value, kind)
    return value
