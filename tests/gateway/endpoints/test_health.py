"""Health, figures, models, and the description of the interface, which is true of the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests.gateway.serving import Gateway, serving
from tests.proxies import HttpProxy
from tests.web.reader import PATIENCE

from tailrace._version import __version__
from tailrace.gateway.app import TABLES
from tailrace.gateway.conversations.values import Conversation
from tailrace.gateway.endpoint import Endpoints
from tailrace.gateway.endpoints.conversations import Listed, Turned
from tailrace.gateway.endpoints.health import Health
from tailrace.gateway.endpoints.models import Models
from tailrace.gateway.endpoints.render import Rendered
from tailrace.gateway.endpoints.runs import Described, RunList
from tailrace.gateway.openapi import document
from tailrace.protocols.problems import Problem
from tailrace.testing import FakeOllama, FakeOpenAI, Silent, closed_port, hold, html, say
from tailrace.web.stopping import Stopped

_SAMPLE = re.compile(r'([a-z_]+)(?:\{([a-z]+)="((?:[^"\\]|\\.)*)"\})? ([0-9.e+-]+|NaN|\+Inf)', re.ASCII)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """A gateway that has answered once."""
    with serving("--on-leave", "continue") as gateway:
        gateway.ended(gateway.start(say("Hel", "lo"))[0])
        yield gateway


# -- health ----------------------------------------------------------------------------------------------------------


def test_health_and_readiness(gateway: Gateway) -> None:
    """The process lives, and the upstream answers."""
    assert gateway.call("GET", "/healthz").json == {"status": "ok"}
    ready = gateway.call("GET", "/readyz")
    assert ready.status == 200
    assert ready.json["upstream"] == gateway.upstream.url
    assert ready.headers["cache-control"] == "no-store"


def test_version(gateway: Gateway) -> None:
    """Of tailrace, not of the upstream; and it is described."""
    answer = gateway.call("GET", "/version")

    assert (answer.status, answer.json) == (200, {"version": __version__})
    assert gateway.call("HEAD", "/version").status == 200
    assert gateway.call("POST", "/version").status == 405
    assert "/version" in gateway.call("GET", "/openapi.json").json["paths"]


def test_not_ready_while_the_upstream_is_down() -> None:
    """Down at the start: the gateway lives, says that it is not ready, and refuses or tells; up again, it works."""
    port = closed_port()
    with serving(address=f"http://127.0.0.1:{port}") as gateway:
        alive = gateway.call("GET", "/healthz")
        down = gateway.call("GET", "/readyz")
        models = gateway.call("GET", "/models")
        unnamed = gateway.call("POST", "/chat/stream", {"message": "hi"})
        named = gateway.call("POST", "/chat/stream", {"message": "hi", "model": "m"})
        with FakeOllama(models=["m"], port=port) as upstream:
            upstream.script(say("x"))
            up = gateway.call("GET", "/readyz")
            answer = gateway.call("POST", "/chat/stream", {"message": "hi", "model": "m"})

    assert (alive.status, down.status, models.status, unnamed.status, named.status) == (200, 503, 502, 502, 200)
    assert "nothing answers" in down.json["detail"]
    assert b'"type":"ConnectionError"' in named.body
    assert up.status == 200
    assert b'"content":"x"' in answer.body


def test_not_ready_while_the_upstream_is_silent() -> None:
    """An upstream that takes connections and says nothing: alive, not ready, and nobody waits for it for long."""
    with Silent() as silent, serving(address=silent.url) as gateway:
        assert gateway.call("GET", "/healthz").status == 200
        assert gateway.call("GET", "/readyz").status == 503
        assert gateway.call("GET", "/models").status in (502, 504)


def test_an_upstream_behind_a_proxy() -> None:
    """The gateway goes through the environment's proxy too, from an address with /api at its end; an error names it."""
    with FakeOllama(models=["m"]) as upstream, HttpProxy() as proxy:
        far = f"http://model.invalid:{upstream.port}/api"
        ways: dict[str, Any] = {
            "ALL_PROXY": proxy.url,
            "HTTP_PROXY": "",
            "http_proxy": "",
            "NO_PROXY": "10.0.0.0/8",
            "no_proxy": "",
        }
        upstream.script(say("x"), path="/api/chat")
        with serving(upstream=upstream, address=far, **ways) as gateway:
            assert b'"content":"x"' in gateway.call("POST", "/chat/stream", {"message": "hi", "model": "m"}).body
            upstream.script(html("<html></html>", 407), path="/api/chat")
            refused = gateway.call("POST", "/chat/stream", {"message": "hi", "model": "m"})
    assert {f"POST http://model.invalid:{upstream.port}/api/chat"} <= set(proxy.asked)
    assert f"the proxy {proxy.url} wants a name and a password".encode() in refused.body
    assert b"ALL_PROXY=" in refused.body


@pytest.mark.parametrize("order", ["openai", "ollama openai", "openai ollama", "dead openai", "dead ollama"])
def test_u42_ready_when_any_upstream_answers(gateway: Gateway, order: str) -> None:
    """By what its own protocol has: a server of OpenAI's tells its models, and one that is dead is no obstacle."""
    with FakeOpenAI(models=["o"]) as other:
        urls = {"openai": f"openai:{other.url}/v1", "ollama": gateway.upstream.url}
        urls["dead"] = f"http://127.0.0.1:{closed_port()}"
        first, *more = [urls[name] for name in order.split()]
        options = [each for url in more for each in ("--upstream", url)]
        with serving(*options, address=first) as asked:
            ready = asked.call("GET", "/readyz")

    assert (ready.status, ready.json["status"]) == (200, "ok")
    assert ready.json["upstream"] in urls.values()


def test_u42_one_silent_upstream_holds_up_nothing(gateway: Gateway) -> None:
    """Everything that all upstreams are asked is answered with what the others tell; it is shown as left out."""
    with Silent() as silent, serving("--upstream", gateway.upstream.url, address=silent.url) as asked:
        for path in ("/v1/models", "/models", "/api/tags", "/v1/models/m", "/api/ps", "/api/version", "/readyz"):
            assert asked.call("GET", path).status == 200, path
        listed = [each["name"] for each in asked.call("GET", "/models").json["models"]]
        shown = asked.call("POST", "/api/show", {"model": "m"})
        gateway.upstream.script(say("x"), path="/api/chat")
        answer = asked.call("POST", "/chat/stream", {"message": "hi"})  # the model is the one of who tells
        left_out = {each["url"]: each["out"] for each in asked.call("GET", "/queue").json["upstreams"]}

    assert listed == ["m:latest"]
    assert shown.status == 200
    assert b'"content":"x"' in answer.body
    assert left_out == {silent.url: True, gateway.upstream.url: False}


def test_not_ready_while_it_stops(gateway: Gateway) -> None:
    """While it drains it is alive and not ready."""
    with serving("--drain", "60", "--on-leave", "continue") as other:
        path, _ = other.start(say("x"), hold())
        other.server.process.terminate()
        while (answer := other.call("GET", "/readyz")).status == 200:
            pass
        assert other.call("GET", "/healthz").status == 200
        other.upstream.release()
        assert other.server.process.wait(PATIENCE) == 0

    assert answer.json["detail"] == "server stopping"
    assert path.startswith("/runs/")


# -- figures ---------------------------------------------------------------------------------------------------------


def test_figures_are_in_prometheus_format(gateway: Gateway) -> None:
    """Each sample belongs to a family with a help and a type; histograms grow and end with all; counts are right."""
    answer = gateway.call("GET", "/metrics")
    types: dict[str, str] = {}
    helped: set[str] = set()
    samples: dict[tuple[str, str], float] = {}
    for line in answer.body.decode().splitlines():
        if line.startswith("# HELP "):
            helped.add(line.split(" ")[2])
        elif line.startswith("# TYPE "):
            types[line.split(" ")[2]] = line.split(" ")[3]
        else:
            found = _SAMPLE.fullmatch(line)
            assert found is not None, line
            assert (found[1], found[3] or "") not in samples, line
            samples[found[1], found[3] or ""] = float(found[4])
    families = {re.sub(r"_(bucket|sum|count)$", "", name) if name not in types else name for name, _ in samples}

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert families == set(types) == helped
    assert set(types.values()) <= {"counter", "gauge", "histogram"}
    for family in (name for name, kind in types.items() if kind == "histogram"):
        buckets = [value for (name, _), value in samples.items() if name == f"{family}_bucket"]
        assert buckets == sorted(buckets)
        assert buckets[-1] == samples[f"{family}_count", ""] == 1
    assert samples["tailrace_runs_total", "complete"] == 1
    assert samples["tailrace_output_tokens_total", ""] == 2
    assert samples["tailrace_runs_running", ""] == 0
    assert samples["tailrace_runs_kept", ""] == 1
    assert samples["process_start_time_seconds", ""] > 1.7e9


def test_readers_and_runs_are_counted(gateway: Gateway) -> None:
    """What goes on is seen while it does."""
    path, _ = gateway.start(say("x"), hold())
    with gateway.read(f"{path}/events") as reader:
        reader.until(b'"x"')
        during = gateway.call("GET", "/metrics").body
        gateway.upstream.release()
        reader.all()

    assert b"\ntailrace_runs_running 1" in during
    assert b"\ntailrace_readers 1" in during


def test_models(gateway: Gateway) -> None:
    """The upstream's models, and the one that is meant where none is named."""
    models = gateway.call("GET", "/models").json

    assert models["default"] == "m:latest"
    assert [model["name"] for model in models["models"]] == ["m:latest"]
    assert models["models"][0]["size"] > 0


# -- the page's files ------------------------------------------------------------------------------------------------


def test_files_of_the_page(gateway: Gateway) -> None:
    """The page comes with its rules, and is not sent again to who has it."""
    page = gateway.call("GET", "/", Accept="text/html")
    same = gateway.call("GET", "/", Accept="text/html", If_None_Match=page.headers["etag"])
    weak = gateway.call("GET", "/", Accept="text/html", If_None_Match=f'"x", W/{page.headers["etag"]}')

    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert (same.status, same.body) == (304, b"")
    assert weak.status == 304
    assert gateway.call("GET", "/c/conv_0").body == page.body


@pytest.mark.parametrize(
    "name",
    [
        "none.js",
        "..%2fapp.py",
        "%2e%2e/app.py",
        "..%5capp.py",
        "%00.js",
        "x%00.js",
        ".js",
        "a/b.js",
        "x" * 3000 + ".js",
    ],
)
def test_what_is_no_file_of_the_page(gateway: Gateway, name: str) -> None:
    """No name leads out of the page's folder, or to an error."""
    assert gateway.call("GET", f"/static/{name}").status == 404


@pytest.mark.parametrize("path", ["/runs/", "/nowhere", "//runs", "/chat", "/static/", "/words/fr.json", "/%ff"])
def test_paths_that_there_are_not(gateway: Gateway, path: str) -> None:
    """404 as a problem, and no redirect."""
    answer = gateway.call("GET", path)

    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 404


# -- the description -------------------------------------------------------------------------------------------------


def test_description_is_openapi_3_1(gateway: Gateway) -> None:
    """Its parts are those that OpenAPI asks for, each reference leads somewhere, each path parameter is described."""
    told = gateway.call("GET", "/openapi.json").json
    assert told == json.loads(msgspec.json.encode(document(Endpoints(TABLES).all)))
    assert told["openapi"].startswith("3.1.")
    assert told["info"]["version"] == __version__
    for path, item in told["paths"].items():
        for method, operation in item.items():
            assert method in ("get", "post", "patch", "delete", "put", "head")
            assert operation["summary"]
            assert operation["responses"]
            for status, response in operation["responses"].items():
                assert re.fullmatch(r"[2-5]\d\d", status)
                assert response["description"]
            parameters = operation.get("parameters", [])
            named = {each["name"] for each in parameters if each["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert all(each["required"] for each in parameters if each["in"] == "path")
            assert len(parameters) == len({(each["name"], each["in"]) for each in parameters})
    for reference in re.findall(r'"\$ref":"#/components/schemas/([^"]+)"', json.dumps(told, separators=(",", ":"))):
        assert reference in told["components"]["schemas"]


def test_every_route_of_ours_is_described(gateway: Gateway) -> None:
    """Each route that docs/gateway.md names is in the description, with its methods."""
    told = document(Endpoints(TABLES).all)["paths"]
    for method, path in (
        ("post", "/chat/stream"),
        ("post", "/runs"),
        ("get", "/runs"),
        ("get", "/runs/{id}"),
        ("delete", "/runs/{id}"),
        ("get", "/runs/{id}/events"),
        ("post", "/render"),
        ("get", "/models"),
        ("get", "/conversations"),
        ("post", "/conversations"),
        ("get", "/conversations/{id}"),
        ("patch", "/conversations/{id}"),
        ("delete", "/conversations/{id}"),
        ("get", "/conversations/{id}/export"),
        ("post", "/conversations/{id}/turns"),
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/metrics"),
    ):
        assert method in told.get(path, {}), (method, path)


def test_answers_are_of_the_described_types(gateway: Gateway) -> None:
    """Each answer decodes as the type that the description names, member for member."""
    gateway.upstream.always(say("x"))
    run = gateway.call("POST", "/runs", {"message": "hi", "model": "m"})
    path = run.headers["location"]
    gateway.ended(path)
    made = gateway.call("POST", "/conversations", {"title": "t"})
    talk = made.headers["location"]
    turn = gateway.call("POST", f"{talk}/turns", {"content": "hi", "model": "m"})
    gateway.ended(f"/runs/{turn.json['run']['id']}")
    for answer, kind, status in (
        (run, Described, 201),
        (gateway.call("GET", path), Described, 200),
        (gateway.call("GET", "/runs"), RunList, 200),
        (gateway.call("DELETE", path), Stopped, 200),
        (gateway.call("GET", "/models"), Models, 200),
        (gateway.call("POST", "/render", {"texts": ["x"]}), Rendered, 200),
        (made, Conversation, 201),
        (turn, Turned, 201),
        (gateway.call("GET", talk), Conversation, 200),
        (gateway.call("PATCH", talk, {"title": "u"}), Conversation, 200),
        (gateway.call("GET", "/conversations"), Listed, 200),
        (gateway.call("GET", "/healthz"), Health, 200),
        (gateway.call("GET", "/readyz"), Health, 200),
    ):
        assert answer.status == status, kind
        decoded = msgspec.json.decode(answer.body, type=kind)
        assert _members(msgspec.to_builtins(decoded)) >= _members(answer.json), kind


def _members(value: Any, path: str = "") -> set[str]:
    """The paths of all members of a JSON value."""
    if isinstance(value, dict):
        return {path}.union(*(_members(each, f"{path}.{name}") for name, each in value.items()))
    if isinstance(value, list):
        return {path}.union(*(_members(each, f"{path}[]") for each in value))
    return {path}


def test_problems_are_as_described(gateway: Gateway) -> None:
    """Each problem has a type, a title, its status and what happened, and a media type of its own."""
    for method, path, body, status in (
        ("GET", "/nowhere", None, 404),
        ("GET", "/runs/run_0", None, 404),
        ("GET", "/conversations/conv_0", None, 404),
        ("PUT", "/runs", None, 405),
        ("POST", "/runs", b"{", 400),
        ("GET", "/runs?limit=x", None, 400),
    ):
        answer = gateway.call(method, path, body)
        problem = msgspec.json.decode(answer.body, type=Problem)
        assert (answer.status, problem.status) == (status, status)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["type"] == "about:blank"
        assert problem.title
        assert problem.detail
