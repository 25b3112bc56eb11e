"""Headers that requests to a model server carry besides its client's own, such as ``traceparent``."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar

__all__ = ["upstream_headers"]

upstream_headers: ContextVar[Mapping[str, str]] = ContextVar(
    "tailrace.upstream_headers",
    default={},  # noqa: B039  (never changed)
)
