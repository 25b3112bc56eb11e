"""Counters of the gateway, in Prometheus' text exposition format, for `/metrics`."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from tailrace.events import Outcome
from tailrace.run.run import Run

__all__ = ["Counters", "Gauge", "text"]

# Bucket boundaries of OpenTelemetry's conventions (semantic-conventions-genai, docs/gen-ai/gen-ai-metrics.md).
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_WHOLE = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)

Gauge = tuple[str, str, float | Mapping[str, float]]
"""Name, meaning, value; or a value for each upstream."""


class _Histogram:
    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"


class Counters:
    """Counts runs as they end."""

    def __init__(self) -> None:
        self._outcomes: Counter[Outcome] = Counter()
        self._prompt = self._output = 0
        self._first = _Histogram(_FIRST)
        self._whole = _Histogram(_WHOLE)

    def watch(self, run: Run) -> None:
        """Counts a run when it has ended."""
        run.released.add(lambda: self._ended(run))

    def _ended(self, run: Run) -> None:
        ended, metrics = run.ended, run.metrics()
        if ended is None:
            return
        self._outcomes[ended.outcome] += 1
        self._prompt += metrics.prompt_tokens or 0
        self._output += metrics.output_tokens
        self._whole.add(metrics.elapsed)
        if metrics.time_to_first_token is not None:
            self._first.add(metrics.time_to_first_token)

    def lines(self) -> Iterator[str]:
        """Yields the lines of the text format."""
        yield from _head("tailrace_runs_total", "counter", "Runs that have ended, by outcome.")
        for outcome in Outcome:
            yield f'tailrace_runs_total{{outcome="{outcome.value}"}} {self._outcomes[outcome]}'
        yield from _head("tailrace_prompt_tokens_total", "counter", "Tokens of prompts, as told by the upstream.")
        yield f"tailrace_prompt_tokens_total {self._prompt}"
        yield from _head("tailrace_output_tokens_total", "counter", "Tokens generated.")
        yield f"tailrace_output_tokens_total {self._output}"
        yield from _head("tailrace_time_to_first_token_seconds", "histogram", "From a run's start to its first token.")
        yield from self._first.lines("tailrace_time_to_first_token_seconds")
        yield from _head("tailrace_run_duration_seconds", "histogram", "From a run's start to its end.")
        yield from self._whole.lines("tailrace_run_duration_seconds")


def text(counters: Counters, gauges: Iterable[Gauge]) -> bytes:
    """Returns all figures in the text format."""
    lines = list(counters.lines())
    for name, meaning, value in gauges:
        lines += _head(name, "gauge", meaning)
        if isinstance(value, Mapping):
            lines += [f'{name}{{upstream="{_label(upstream)}"}} {each}' for upstream, each in value.items()]
        else:
            lines.append(f"{name} {value}")
    return ("\n".join(lines) + "\n").encode()


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _head(name: str, kind: str, meaning: str) -> tuple[str, str]:
    return f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"
