"""OpenTelemetry: a span for each run, and the conventions' metrics. Message contents are recorded only on request.

    import tailrace
    from tailrace.telemetry import Telemetry

    client = tailrace.Client()
    client.observe = Telemetry().client

The names are those of OpenTelemetry's conventions for generative models (``semantic-conventions-genai``, every item
"Development" as of 2026-10). This is their API only (``pip install 'tailrace[otel]'``): the SDK, and where it sends to,
are the application's to set up, for example by ``opentelemetry-instrument``. A run's ``traceparent`` is passed on to
the model server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tailrace.backends.base import Backend
from tailrace.errors import TailraceError
from tailrace.events import Ended, Outcome
from tailrace.run.metrics import gaps_between
from tailrace.run.run import Run
from tailrace.types import ChatRequest, GenerateRequest

__all__ = ["Telemetry"]

_PROVIDERS = {"embedded": "llama_cpp"}  # as the conventions allow: a name of its own
_OPTIONS = {  # of Ollama's options, as the conventions call them
    "num_predict": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "stop": "gen_ai.request.stop_sequences",
}
# The bounds of the conventions' histograms, seconds and tokens.
_LONG = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
_FIRST = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
_EACH = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5]
_TOKENS = [4**power for power in range(14)]

Where = Callable[[], Backend | None]


class Telemetry:
    """Makes spans and metrics.

    Args:
        contents: record messages and answers as well. They hold what users wrote.
        tracer_provider: the application's, if not the global one.
        meter_provider: the application's, if not the global one.

    Raises:
        TailraceError: OpenTelemetry's API is not installed.
    """

    def __init__(self, *, contents: bool = False, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        try:
            from opentelemetry import metrics, propagate, trace
        except ModuleNotFoundError as error:
            hint = "pip install 'tailrace[otel]'"
            raise TailraceError("telemetry needs opentelemetry-api, which is not installed", hint=hint) from error
        from tailrace._version import __version__

        self.contents = contents
        self.trace = trace
        self.propagate = propagate
        self.tracer = trace.get_tracer("tailrace", __version__, tracer_provider)
        meter = metrics.get_meter("tailrace", __version__, meter_provider)

        def histogram(name: str, unit: str, bounds: list[Any]) -> Any:
            return meter.create_histogram(f"gen_ai.{name}", unit, explicit_bucket_boundaries_advisory=bounds)

        self.duration = histogram("client.operation.duration", "s", _LONG)
        self.tokens = histogram("client.token.usage", "{token}", _TOKENS)
        self.first_chunk = histogram("client.operation.time_to_first_chunk", "s", _LONG)
        self.each_chunk = histogram("client.operation.time_per_output_chunk", "s", _LONG)
        self.server_duration = histogram("server.request.duration", "s", _LONG)
        self.server_first = histogram("server.time_to_first_token", "s", _FIRST)
        self.server_each = histogram("server.time_per_output_token", "s", _EACH)

    def client(self, request: ChatRequest | GenerateRequest, where: Where) -> _Watch:
        """Returns the observer of a client's run; for `tailrace.Client.observe`."""
        return _Watch(self, request, where, parent=None, serves=False)

    def server(self, request: ChatRequest | GenerateRequest, where: Where, headers: Mapping[str, str]) -> _Watch:
        """Returns the observer of a gateway's run.

        Args:
            request: the request.
            where: returns the backend, once that is known.
            headers: of the incoming request, whose trace is continued.
        """
        return _Watch(self, request, where, parent=self.propagate.extract(headers), serves=True)


class _Watch:
    """Watches one run. See `tailrace.run.run.Observer`."""

    def __init__(
        self,
        telemetry: Telemetry,
        request: ChatRequest | GenerateRequest,
        where: Where,
        *,
        parent: Any,
        serves: bool,
    ) -> None:
        self._telemetry = telemetry
        self._request = request
        self._where = where
        self._parent = parent
        self._serves = serves
        self._span: Any = None

    def started(self, run: Run) -> Mapping[str, str]:
        """Begins the span; returns the headers that pass it on."""
        telemetry, request = self._telemetry, self._request
        trace = telemetry.trace
        kind = trace.SpanKind.CLIENT
        name = f"{self._operation} {request.model}".strip()
        attributes = {**self._common(), **self._request_attributes(run)}
        self._span = telemetry.tracer.start_span(name, context=self._parent, kind=kind, attributes=attributes)
        headers: dict[str, str] = {}
        telemetry.propagate.inject(headers, context=trace.set_span_in_context(self._span, self._parent))
        return headers

    def ended(self, run: Run) -> None:
        """Ends the span, and records the metrics."""
        if self._span is None:
            return
        ended = run.ended
        assert ended is not None
        reply, metrics = run.reply(), run.metrics()
        attributes = {**self._common(), "gen_ai.response.model": run.model}
        error = _error(ended)
        span = self._span
        span.set_attributes(
            {**attributes, "gen_ai.response.id": run.id, "gen_ai.response.finish_reasons": [_reason(ended)]}
        )
        if metrics.time_to_first_token is not None:
            span.set_attribute("gen_ai.response.time_to_first_chunk", metrics.time_to_first_token)
        for name, count in (("input", metrics.prompt_tokens), ("output", metrics.output_tokens)):
            if count and not (name == "output" and metrics.estimated):
                span.set_attribute(f"gen_ai.usage.{name}_tokens", count)
                self._telemetry.tokens.record(count, {**attributes, "gen_ai.token.type": name})
        if self._telemetry.contents:
            span.set_attribute("gen_ai.output.messages", _messages([msgspec.to_builtins(reply.message)]))
        if error:
            span.set_attribute("error.type", error)
            message = ended.fault.message if ended.fault is not None else ended.outcome.value
            span.set_status(self._telemetry.trace.Status(self._telemetry.trace.StatusCode.ERROR, message))
        span.end(_wall(run.watch.ended))
        self._measure(run, attributes | ({"error.type": error} if error else {}))

    def _measure(self, run: Run, attributes: dict[str, Any]) -> None:
        telemetry, metrics = self._telemetry, run.metrics()
        plain = {name: value for name, value in attributes.items() if name != "error.type"}
        if self._serves:
            telemetry.server_duration.record(metrics.elapsed, attributes)
            if metrics.time_to_first_token is not None:
                telemetry.server_first.record(metrics.time_to_first_token, plain)
                if metrics.output_tokens > 1:
                    times = run.times
                    streaming = times[-1] - times[0]
                    telemetry.server_each.record(streaming / (metrics.output_tokens - 1), plain)
            return
        telemetry.duration.record(metrics.elapsed, attributes)
        if metrics.time_to_first_token is not None:
            telemetry.first_chunk.record(metrics.time_to_first_token, plain)
        for gap in gaps_between(run.times):
            telemetry.each_chunk.record(gap, plain)

    @property
    def _operation(self) -> str:
        return "chat" if isinstance(self._request, ChatRequest) else "text_completion"

    def _common(self) -> dict[str, Any]:
        backend = self._where()
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": self._operation,
            "gen_ai.provider.name": "ollama" if backend is None else _PROVIDERS.get(backend.kind, backend.kind),
            "gen_ai.request.model": self._request.model,
        }
        if backend is not None and backend.kind != "embedded":
            parts = urlsplit(backend.url.removeprefix("openai:"))
            if parts.hostname:
                attributes["server.address"] = parts.hostname
                attributes["server.port"] = parts.port or {"https": 443}.get(parts.scheme, 80)
        return attributes

    def _request_attributes(self, run: Run) -> dict[str, Any]:
        request = self._request
        attributes: dict[str, Any] = {"gen_ai.request.stream": bool(request.stream)}
        options = request.options or {}
        for name, convention in _OPTIONS.items():
            value = options.get(name)
            if isinstance(value, (str, int, float)) or (value and all(isinstance(each, str) for each in value)):
                attributes[convention] = [value] if name == "stop" and isinstance(value, str) else value
        if request.format:
            attributes["gen_ai.output.type"] = "json"
        if self._telemetry.contents:
            if isinstance(request, ChatRequest):
                attributes["gen_ai.input.messages"] = _messages(request.messages)
            else:
                attributes["gen_ai.input.messages"] = _messages([{"role": "user", "content": request.prompt or ""}])
        return attributes


def _messages(messages: Any) -> str:
    """Returns messages in the conventions' form, as JSON."""
    result = []
    for message in messages:
        parts: list[dict[str, Any]] = []
        if message.get("thinking"):
            parts.append({"type": "reasoning", "content": message["thinking"]})
        if message.get("content"):
            parts.append({"type": "text", "content": message["content"]})
        for call in message.get("tool_calls") or ():
            function = call["function"]
            parts.append({"type": "tool_call", "name": function["name"], "arguments": function["arguments"]})
        result.append({"role": message.get("role", ""), "parts": parts})
    return msgspec.json.encode(result).decode()


def _reason(ended: Ended) -> str:
    if ended.outcome is Outcome.COMPLETE:
        return ended.reason or "stop"
    return ended.outcome.value


def _error(ended: Ended) -> str:
    """Returns what the conventions call an error's type; empty if the ending is none."""
    if ended.fault is None:
        return "" if ended.outcome.finished or ended.outcome is Outcome.CANCELLED else ended.outcome.value
    return str(ended.fault.status_code) if ended.fault.status_code > 0 else ended.fault.kind


def _wall(monotonic: float | None) -> int | None:
    """Returns a moment of the monotonic clock as nanoseconds of the wall clock."""
    return None if monotonic is None else time.time_ns() - round((time.monotonic() - monotonic) * 1e9)
