"""Metrics: what a run's times say. Seconds on a monotonic clock; server counts where it told them."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

import msgspec

from tailrace.events import Usage
from tailrace.run.state import State

__all__ = ["Metrics", "Stopwatch"]


class Metrics(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Times and counts of one run; times in seconds, None where nothing is known.

    Attributes:
        time_to_first_token: from the start to the first content.
        inter_token_p50: median gap between two pieces of content.
        inter_token_p95: 95th percentile of the gaps.
        tokens_per_second: output tokens by the server's own time, else by ours.
        prompt_tokens: as counted by the server.
        output_tokens: as counted by the server, else our count of pieces.
        estimated: True if `output_tokens` is our count.
        elapsed: from the start to the end, or until now.
        queued: waiting for a turn, so far as we were told.
        connecting: until the connection stood.
        loading: the server loading the model.
        prefill: the model reading the prompt.
        cancel: from our cancel until the backend had let go.
    """

    time_to_first_token: float | None = None
    inter_token_p50: float | None = None
    inter_token_p95: float | None = None
    tokens_per_second: float | None = None
    prompt_tokens: int | None = None
    output_tokens: int = 0
    estimated: bool = False
    elapsed: float = 0.0
    queued: float | None = None
    connecting: float | None = None
    loading: float | None = None
    prefill: float | None = None
    cancel: float | None = None


class Stopwatch:
    """Collects times while a run goes; costs one append per batch of events."""

    __slots__ = ("_gaps", "cancel", "count", "ended", "entered", "first", "last", "spent", "started")

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.entered = self.started  # when the run entered its state
        self.first: float | None = None
        self.last = self.started  # when the last content came
        self.ended: float | None = None
        self.count = 0
        self.cancel: float | None = None
        self.spent: dict[State, float] = {}
        self._gaps = array("d")

    def leave(self, state: State, now: float) -> None:
        """The run leaves `state`."""
        self.spent[state] = self.spent.get(state, 0.0) + now - self.entered
        self.entered = now

    def content(self, pieces: int, now: float) -> None:
        """`pieces` deltas came together at `now`."""
        if self.first is None:
            self.first = now
            pieces_after = pieces - 1
        else:
            self._gaps.append(now - self.last)
            pieces_after = pieces - 1
        # What comes in one read came together: gaps of nothing, and true ones.
        if pieces_after:
            self._gaps.frombytes(bytes(self._gaps.itemsize * pieces_after))
        self.count += pieces
        self.last = now

    @property
    def gaps(self) -> Sequence[float]:
        """Seconds between one piece of content and the next."""
        return self._gaps

    def metrics(self, usage: Usage | None) -> Metrics:
        """Returns the figures, of a finished run or so far."""
        end = self.ended if self.ended is not None else time.monotonic()
        gaps = sorted(self._gaps)
        tokens = usage.output_tokens if usage is not None and usage.output_tokens else self.count
        estimated = usage is None or not usage.output_tokens
        rate = None
        if usage is not None and usage.output_tokens and usage.output_duration:
            rate = usage.output_tokens / (usage.output_duration / 1e9)
        elif self.first is not None and self.last > self.first and self.count > 1:
            rate = (self.count - 1) / (self.last - self.first)
        return Metrics(
            time_to_first_token=None if self.first is None else self.first - self.started,
            inter_token_p50=_quantile(gaps, 0.50),
            inter_token_p95=_quantile(gaps, 0.95),
            tokens_per_second=rate,
            prompt_tokens=(usage.prompt_tokens or None) if usage is not None else None,
            output_tokens=tokens,
            estimated=estimated and tokens > 0,
            elapsed=end - self.started,
            queued=self.spent.get(State.QUEUED),
            connecting=self.spent.get(State.CONNECTING),
            loading=usage.load_duration / 1e9 if usage is not None and usage.load_duration else None,
            prefill=usage.prompt_duration / 1e9 if usage is not None and usage.prompt_duration else None,
            cancel=self.cancel,
        )


def _quantile(ordered: list[float], q: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
