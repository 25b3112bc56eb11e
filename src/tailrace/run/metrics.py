"""Metrics of a run: times in seconds on a monotonic clock, and the server's counts where it sent them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import msgspec

from tailrace.events import Usage
from tailrace.run.state import State

__all__ = ["Metrics", "Stopwatch", "gaps_between"]


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
        queued: waiting in a queue, as far as that was reported.
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
    """Collects the times of a run's states. Those of its pieces are in its log."""

    __slots__ = ("cancel", "ended", "entered", "spent", "started")

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.entered = self.started  # when the run entered its state
        self.ended: float | None = None
        self.cancel: float | None = None
        self.spent: dict[State, float] = {}

    def leave(self, state: State, now: float) -> None:
        """The run leaves `state`."""
        self.spent[state] = self.spent.get(state, 0.0) + now - self.entered
        self.entered = now

    def metrics(self, usage: Usage | None, times: Sequence[float]) -> Metrics:
        """Returns the figures, of a finished run or so far.

        Args:
            usage: what the server counted.
            times: when each piece of content came.
        """
        end = self.ended if self.ended is not None else time.monotonic()
        count = len(times)
        gaps = sorted(gaps_between(times))
        tokens = usage.output_tokens if usage is not None and usage.output_tokens else count
        estimated = usage is None or not usage.output_tokens
        rate = None
        if usage is not None and usage.output_tokens and usage.output_duration:
            rate = usage.output_tokens / (usage.output_duration / 1e9)
        elif count > 1 and times[-1] > times[0]:
            rate = (count - 1) / (times[-1] - times[0])
        return Metrics(
            time_to_first_token=times[0] - self.started if times else None,
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


def gaps_between(times: Sequence[float]) -> list[float]:
    """Returns the seconds between one piece of content and the next."""
    return [later - sooner for sooner, later in itertools.pairwise(times)]


def _quantile(ordered: list[float], q: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
