"""Logging: what the server tells of an accident is where it happened, never what was said there.

The message of an exception may hold anything: a prompt that could not be parsed, an answer, the parameters of a query.
So a traceback is written with its places and the names of its exceptions, and without their messages.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

__all__ = ["Discreet", "keep_discreet", "unheeded"]

_log = logging.getLogger(__name__)
_DEEPEST = 20

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Discreet(logging.Formatter):
    """Formats records; of exceptions it tells where they were raised and what kind they are."""

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - logging's
        """Returns a traceback without messages."""
        return "\n".join(["Traceback, without messages:", *_lines(ei[1])]) if ei[1] is not None else ""


def _lines(error: BaseException, depth: int = 0) -> Iterator[str]:
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and depth < _DEEPEST:
        yield from _lines(before, depth + 1)
        yield "which led to:"
    yield from "".join(traceback.format_tb(error.__traceback__)).splitlines()
    yield f"{type(error).__module__}.{type(error).__qualname__}"
    if isinstance(error, BaseExceptionGroup) and depth < _DEEPEST:
        for number, each in enumerate(error.exceptions, 1):
            yield f"number {number} of them:"
            yield from _lines(each, depth + 1)


def keep_discreet() -> None:
    """Has everything that is logged go to the standard error like this; once, however often it is called."""
    root = logging.getLogger()
    if not any(isinstance(handler.formatter, Discreet) for handler in root.handlers):
        handler = logging.StreamHandler()
        handler.setFormatter(Discreet("tailrace: %(message)s"))
        root.addHandler(handler)


def unheeded(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs an error that nobody took; the loop's own words would show the callback with what it was given."""
    error = context.get("exception")
    _log.error("an error in the background, which nobody waited for", exc_info=error)
