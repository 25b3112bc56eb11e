"""Bodies: read within a limit, and only when they are JSON."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from tailrace.web.asking import parse_json
from tailrace.web.problems import ProblemError

__all__ = ["read_body", "read_json"]

T = TypeVar("T")

_TIME = 30.0  # seconds for a whole body


async def read_body(request: Request, limit: int) -> bytes:
    """Returns a request's body.

    Raises:
        ProblemError: 413: it is larger than `limit` bytes. The connection is closed then, so that the rest of it is
            not read either.
    """
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(_TIME):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise _too_large(limit)
                parts.append(part)
    except TimeoutError:
        detail = f"the body did not come within {_TIME:g} s"
        raise ProblemError(408, detail, headers={"Connection": "close"}) from None
    except ClientDisconnect:
        raise ProblemError(400, "the connection closed in the middle of the body") from None
    return b"".join(parts)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(413, f"the body is larger than {limit:,} bytes", headers={"Connection": "close"})


async def read_json(request: Request, limit: int, kind: type[T]) -> T:
    """Returns a request's body as a value of `kind`; an empty body is an empty object.

    Raises:
        ProblemError: it is too large, no JSON, or not of that form.
    """
    value: Any = parse_json(await read_body(request, limit) or b"{}", kind)
    assert isinstance(value, kind)
    return value
