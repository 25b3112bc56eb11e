"""Observers: who is told of a run's start and end, and what it has the request to the model server carry."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tailrace.run.run import Run

__all__ = ["Observer", "passed_on", "watching"]

_log = logging.getLogger(__name__)

passed_on: ContextVar[Mapping[str, str]] = ContextVar("tailrace.passed_on", default={})  # noqa: B039  (never changed)
"""Headers that requests to a model server carry besides its client's own, such as ``traceparent``."""


class Observer(Protocol):
    """Watches one run. What it raises is logged, and does the run no harm."""

    def started(self, run: Run) -> Mapping[str, str]:
        """The run has been given its owner; returns headers for the requests to the model server."""

    def ended(self, run: Run) -> None:
        """The run has ended, and the backend has been let go of."""


@contextlib.contextmanager
def watching() -> Iterator[None]:
    """What an observer does is done in this: its faults are its own."""
    try:
        yield
    except Exception:
        _log.exception("an observer of a run failed")
