"""Timeouts: one limit a phase, because a slow first token and a stalled stream are different things.

A large model loads for minutes, and Ollama says nothing meanwhile; a client that gives up then makes it abort the load,
so that retries never succeed. So the limit for the first token is generous, and the idle limit, which counts from
content to content, is the one that notices a stall. Heartbeats and progress do not count as content.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.run.state import State

__all__ = ["Timeouts"]


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Limits in seconds; None switches one off.

    Attributes:
        connect: until the connection stands.
        first_token: from the start until the first content, queue, load and prefill included. For ``stream=False``
            and for embeddings it is the limit of the whole answer, since nothing comes before it.
        idle: from one piece of content to the next.
        total: the whole run; off by default.
        answer: a single answer that no model works for: ``list``, ``ps``, ``show``, ``version``, ``copy``, ``delete``,
            a search of the web. None of the other limits is exceeded for it.
    """

    connect: float | None = 10.0
    first_token: float | None = 1800.0
    idle: float | None = 300.0
    total: float | None = None
    answer: float | None = 30.0

    @classmethod
    def of(cls, value: Any) -> Timeouts:
        """Takes what clients may be given: None (no limits), seconds for every phase, or an httpx.Timeout look-alike.

        Raises:
            TypeError: it is none of them.
        """
        if isinstance(value, Timeouts):
            return value
        if value is None:
            return cls(connect=None, first_token=None, idle=None, total=None, answer=None)
        if isinstance(value, (int, float)):
            return cls(connect=value, first_token=value, idle=value, answer=value)
        if hasattr(value, "connect") and hasattr(value, "read"):
            return cls(connect=value.connect, first_token=value.read, idle=value.read, answer=value.read)
        raise TypeError(f"timeout must be seconds, None or tailrace.Timeouts, not {type(value).__name__}")

    def due(self, state: State, started: float, entered: float, content: float) -> tuple[float, str] | None:
        """Returns when the next limit is reached and which it is; None without limits.

        Args:
            state: the run's state.
            started: when the run started.
            entered: when it entered `state`.
            content: when the last content came.
        """
        limits: list[tuple[float, str]] = []
        if self.total is not None:
            limits.append((started + self.total, "total"))
        if state is State.STREAMING:
            if self.idle is not None:
                limits.append((content + self.idle, "idle"))
        elif self.first_token is not None:
            limits.append((started + self.first_token, "first_token"))
        if state is State.CONNECTING and self.connect is not None:
            limits.append((entered + self.connect, "connect"))
        return min(limits, default=None)
