"""Headers that requests to a model server carry besides its client's own, such as ``traceparent``."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

__all__ = ["passed_on"]

passed_on: ContextVar[Mapping[str, str]] = ContextVar("tailrace.passed_on", default={})  # noqa: B039  (never changed)
