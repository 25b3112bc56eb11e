"""Telemetry: the conventions' spans and metrics, with contents only if they are wanted, and a trace passed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tailrace import Client, errors
from tailrace.telemetry import Telemetry
from tailrace.testing import FakeOllama, FakeOpenAI, done, hold, rst, say, status

USER = [{"role": "user", "content": "a secret question"}]


class Seen:
    """What OpenTelemetry's SDK was given."""

    def __init__(self, *, contents: bool = False) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self._meters = MeterProvider([self._reader])
        self.telemetry = Telemetry(contents=contents, tracer_provider=tracers, meter_provider=self._meters)
        self.tracer = tracers.get_tracer("test")

    @property
    def span(self) -> Any:
        (span,) = self._spans.get_finished_spans()
        return span

    @property
    def metrics(self) -> dict[str, Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        found = [metric for each in data.resource_metrics for scope in each.scope_metrics for metric in scope.metrics]
        return {metric.name: metric for metric in found}

    def client(self, url: str) -> Client:
        client = Client(url)
        client.observe = self.telemetry.client
        return client


def answered(client: Client, **rest: Any) -> None:
    """Has a question answered, and waits until the run is let go of: then it is told."""
    stream = client.chat("m", USER, stream=True, **rest)
    try:
        stream.wait()
    finally:
        stream.cancel(wait=True)


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=["m"]) as server:
        yield server


def test_a_run_is_a_span(server: FakeOllama) -> None:
    """It has the conventions' name, kind and attributes, and none of what was said."""
    seen = Seen()
    server.script(say("a secret ", "answer"), done(prompt_eval_count=12, eval_count=3))
    options = {"temperature": 0.5, "num_predict": 9, "stop": ["x"], "seed": 1}
    answered(seen.client(server.url), options=options, format="json")
    span = seen.span

    assert (span.name, span.kind.name, span.status.status_code.name) == ("chat m", "CLIENT", "UNSET")
    told = dict(span.attributes)
    assert told.pop("gen_ai.response.id").startswith("run_")
    assert told.pop("gen_ai.response.time_to_first_chunk") > 0
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 1,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.output.type": "json",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "server.address": "127.0.0.1",
        "server.port": server.port,
    }
    assert "secret" not in span.to_json()
    assert span.end_time > span.start_time


def test_contents_are_told_if_wanted(server: FakeOllama) -> None:
    """In the conventions' form."""
    seen = Seen(contents=True)
    server.script(say("an answer"))
    answered(seen.client(server.url))
    told = seen.span.attributes

    question = [{"role": "user", "parts": [{"type": "text", "content": "a secret question"}]}]
    assert json.loads(told["gen_ai.input.messages"]) == question
    answer = [{"role": "assistant", "parts": [{"type": "text", "content": "an answer"}]}]
    assert json.loads(told["gen_ai.output.messages"]) == answer


def test_the_metrics(server: FakeOllama) -> None:
    """Duration, tokens by type, first chunk, and the gaps between chunks."""
    seen = Seen()
    server.script(say("a", "b", "c"), done(prompt_eval_count=12, eval_count=3))
    answered(seen.client(server.url))
    metrics = seen.metrics

    assert set(metrics) == {
        "gen_ai.client.operation.duration",
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk",
    }
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in metrics["gen_ai.client.token.usage"].data.data_points
    }
    assert tokens == {"input": 12, "output": 3}
    (gaps,) = metrics["gen_ai.client.operation.time_per_output_chunk"].data.data_points
    assert gaps.count == 2
    (duration,) = metrics["gen_ai.client.operation.duration"].data.data_points
    assert duration.explicit_bounds[0] == 0.01


@pytest.mark.parametrize(
    ("trouble", "error"),
    [(status(404, {"error": "model 'm' not found"}), "404"), (rst(), "TruncatedError")],
)
def test_what_went_wrong(server: FakeOllama, trouble: Any, error: str) -> None:
    """An error's type is on the span and on the duration, and the span's status says so."""
    seen = Seen()
    server.script(trouble)
    with pytest.raises(errors.TailraceError):
        answered(seen.client(server.url))

    assert seen.span.attributes["error.type"] == error
    assert seen.span.status.status_code.name == "ERROR"
    (duration,) = seen.metrics["gen_ai.client.operation.duration"].data.data_points
    assert duration.attributes["error.type"] == error


def test_a_cancel_is_no_error(server: FakeOllama) -> None:
    """It is an ending like another."""
    seen = Seen()
    server.script(say("a"), hold())
    stream = seen.client(server.url).chat("m", USER, stream=True)
    next(stream)
    stream.cancel(wait=True)

    assert seen.span.attributes["gen_ai.response.finish_reasons"] == ("cancelled",)
    assert "error.type" not in seen.span.attributes
    assert "gen_ai.usage.output_tokens" not in seen.span.attributes  # nobody counted them


def test_the_trace_is_passed_on(server: FakeOllama) -> None:
    """The model server gets the span's ``traceparent``; a run without telemetry carries none."""
    seen = Seen()
    answered(seen.client(server.url))
    context = seen.span.context
    passed = dict(server.wait_for_request(path="/api/chat").headers)["traceparent"]
    answered(Client(server.url))

    assert passed.rpartition("-")[0] == f"00-{context.trace_id:032x}-{context.span_id:016x}"  # then come flags
    assert "traceparent" not in dict(server.wait_for_request(2, path="/api/chat").headers)


def test_other_upstreams() -> None:
    """The provider is the kind of upstream; a completion is another operation."""
    seen = Seen()
    with FakeOpenAI() as server:
        stream = seen.client(f"openai:{server.url}/v1").generate("m", "Once", stream=True)
        stream.wait()
        stream.cancel(wait=True)

    assert seen.span.attributes["gen_ai.provider.name"] == "openai"
    assert seen.span.attributes["gen_ai.operation.name"] == "text_completion"


def test_an_observer_that_fails_does_no_harm(server: FakeOllama, caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on, and the fault is logged."""
    client = Client(server.url)

    class Broken:
        def started(self, run: Any) -> Any:
            raise ZeroDivisionError

        def ended(self, run: Any) -> None:
            raise ZeroDivisionError

    client.observe = lambda request, where: Broken()
    server.script(say("fine"))

    answered(client)
    assert caplog.text.count("an observer of a run failed") == 2
