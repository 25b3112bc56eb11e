"""Findings: the result of a check, and the time limit that every check runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Literal

import msgspec

from tailrace.i18n import say

__all__ = ["Finding", "Mark", "Report", "bounded", "reason_of"]

Mark = Literal["ok", "note", "problem"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found.

    Attributes:
        name: which check.
        mark: how it went.
        seen: what was seen, in words.
        do: what to do about it; empty if there is nothing to do.
        facts: what was seen, for programs: the same in every language.
    """

    name: str
    mark: Mark
    seen: str
    do: str = ""
    facts: dict[str, Any] = {}


class Report(msgspec.Struct, frozen=True):
    """All findings.

    Attributes:
        ok: False if no model could stream into this terminal (or, with a URL, from that URL).
        checks: the findings, the verdict first.
    """

    ok: bool
    checks: list[Finding]


async def bounded(name: str, check: Awaitable[Finding | None], seconds: float, *, late: str = "") -> Finding | None:
    """Returns what a check finds, within its time, and whatever becomes of it.

    Args:
        late: the words for a check that takes longer.
    """
    try:
        async with asyncio.timeout(seconds):
            return await check
    except TimeoutError:
        words = late or say("doctor.check_late", seconds=f"{seconds:g}")
        return Finding(name=name, mark="problem", seen=words, facts={"error": "timeout"})
    except Exception as error:
        reason = reason_of(error)
        words = say("doctor.check_failed", reason=reason)
        return Finding(name=name, mark="problem", seen=words, facts={"error": reason})


def reason_of(error: Exception) -> str:
    """Returns an exception in one line; our own errors speak for themselves."""
    from tailrace.errors import ResponseError, TailraceError

    if isinstance(error, ResponseError):
        return error.error + (f" (HTTP {error.status_code})" if error.status_code > 0 else "")
    return str(error) if isinstance(error, TailraceError) else f"{type(error).__name__}: {error}"
