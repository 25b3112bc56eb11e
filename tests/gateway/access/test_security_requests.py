"""What a request cannot do: have things fetched or opened (X10, X11), or ask for more than there is (X14)."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.knocking import knock
from tests.gateway.serving import Answer, Gateway, serving
from tests.web.process import Running, running
from tests.web.reader import Reader

from tailrace.backends.embedded import models
from tailrace.gateway.access.limits import Limits, check
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest
from tailrace.testing import FakeOllama, FakeOpenAI, done, hold, say
from tailrace.types import ChatRequest

HI = [{"role": "user", "content": "hi"}]
UI = [{"role": "user", "parts": [{"type": "text", "text": "hi"}]}]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving("--max-tokens", "100", "--max-context", "4096", "--max-messages", "50") as running:
        yield running


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[FakeOllama]:
    """A server of this machine that a request might want something of."""
    with FakeOllama(models=["secret"]) as server:
        yield server


def every_wire(gateway: Gateway, **body: Any) -> dict[str, Answer]:
    """Asks by every route that has a model answer messages."""
    asked = {"model": "m", "messages": HI, "stream": False, **body}
    ui = {"id": "c", "model": "m", "messages": UI, **body}
    paths = ("/runs", "/chat/stream", "/api/chat", "/v1/chat/completions")
    return {
        **{path: gateway.call("POST", path, asked) for path in paths},
        "/ai/chat": gateway.call("POST", "/ai/chat", ui),
    }


# -- X10: nothing is fetched, nothing is opened ------------------------------------------------------------------------


def test_x10_no_upstream_by_request(gateway: Gateway, elsewhere: FakeOllama) -> None:
    """Where the models run is the server's own business: a request that names another place changes nothing."""
    wishes = {
        **dict.fromkeys(("upstream", "base_url", "api_base", "host", "url", "endpoint"), elsewhere.url),
        "api_key": "x",
        "options": {"base_url": elsewhere.url, "host": elsewhere.url},
    }
    gateway.upstream.always(say("mine"), done(), path="/api/chat")
    for path, answer in every_wire(gateway, **wishes).items():
        assert answer.status in (200, 201), (path, answer.body)
    for path in (f"/models?upstream={elsewhere.url}", f"/runs?base_url={elsewhere.url}"):
        gateway.call("GET", path, X_Upstream=elsewhere.url, X_Forwarded_Host=elsewhere.url)
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "model", ["http://127.0.0.1:{port}/secret", "127.0.0.1:{port}/library/secret", "file:///etc/passwd"]
)
def test_x10_a_model_is_no_address(gateway: Gateway, elsewhere: FakeOllama, model: str) -> None:
    """The name of a model goes to the upstream as a name, and to nobody else."""
    gateway.upstream.always(say("mine"), done(), path="/api/chat")
    name = model.format(port=elsewhere.port)
    for answer in every_wire(gateway, model=name).values():
        assert answer.status in (200, 201, 400, 404), answer.body
    assert elsewhere.requests == []


def test_x10_an_image_is_no_address_and_no_file(gateway: Gateway, elsewhere: FakeOllama, tmp_path: Path) -> None:
    """Images are data, on every wire: no address is fetched and no file of the server's is read."""
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    file = tmp_path / "private.png"
    file.write_bytes(png)
    before = gateway.asked
    for image in (
        str(file),
        f"file://{file}",
        f"{elsewhere.url}/x.png",
        "../private.png",
        "/etc/passwd",
        {"url": str(file)},
    ):
        url = image if isinstance(image, str) else str(image)
        message = {"role": "user", "content": "hi", "images": [image]}
        part = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
        shown = {"role": "user", "parts": [{"type": "file", "mediaType": "image/png", "url": url}]}
        for path, body in (
            ("/runs", {"model": "m", "messages": [message]}),
            ("/chat/stream", {"model": "m", "messages": [message]}),
            ("/api/chat", {"model": "m", "messages": [message]}),
            ("/api/generate", {"model": "m", "prompt": "hi", "images": [image]}),
            ("/v1/chat/completions", {"model": "m", "messages": [part]}),
            ("/ai/chat", {"id": "c", "model": "m", "messages": [shown]}),
        ):
            assert gateway.call("POST", path, body).status == 400, (path, image)
    assert gateway.asked == before
    assert elsewhere.requests == []


@pytest.mark.parametrize("key", ["$ref", "$dynamicRef"])
def test_x10_a_schema_refers_to_itself_only(gateway: Gateway, elsewhere: FakeOllama, key: str) -> None:
    """What a schema refers to elsewhere is fetched by nobody: the request is refused."""
    before = gateway.asked
    for target in (f"{elsewhere.url}/schema.json", "file:///etc/passwd", "other.json"):
        schema = {"type": "object", "properties": {"a": {key: target}}}
        tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
        assert gateway.call("POST", "/runs", {"messages": HI, "format": schema}).status == 400
        assert gateway.call("POST", "/api/chat", {"model": "m", "messages": HI, "tools": [tool]}).status == 400
    assert gateway.asked == before
    assert elsewhere.requests == []


def test_x10_an_upstream_leads_nowhere_else(elsewhere: FakeOllama) -> None:
    """A model server that redirects to another place is told as a fault; nobody goes there."""
    from tailrace.testing import redirect

    with serving() as gateway:
        for path in ("/api/chat", "/api/tags"):
            gateway.upstream.always(redirect(307, f"http://localhost:{elsewhere.port}{path}"), path=path)
        assert gateway.call("POST", "/api/chat", {"model": "m", "messages": HI, "stream": False}).status >= 400
        assert gateway.call("GET", "/models").status == 502
    assert elsewhere.requests == []


# -- X10 and X11 on the engine of this program, which opens files ------------------------------------------------------


@pytest.fixture(scope="module")
def engine(home: Path) -> Iterator[Running]:
    """A gateway on the embedded engine, with an alias for a file."""
    pytest.importorskip("xllamacpp")

    def command(port: int) -> list[str]:
        options = ["--port", str(port), "--upstream", "embedded:", "--no-page"]
        return [sys.executable, "-m", "tailrace", "serve", *options, "--alias", f"mine={models.default_path()}"]

    with running(command, {"TAILRACE_HOME": str(home)}) as one:
        yield one


def files(folder: Path) -> list[str]:
    """A model's file that is here, by all the names that it has."""
    path = models.default_path()
    return [
        str(path),
        f"{path.parent}/./{path.name}",
        f"{path.parent}/../default/{path.name}",
        str(folder / "link.gguf"),
    ]


def test_x11_no_request_opens_a_file(engine: Running, tmp_path: Path) -> None:
    """A file of the server's, though it is a model, is opened by no request: neither run nor shown."""
    (tmp_path / "link.gguf").symlink_to(models.default_path())
    gateway = Gateway(engine, FakeOllama())
    for name in [
        *files(tmp_path),
        "~/model.gguf",
        "../model.gguf",
        "C:\\model.gguf",
        "\\\\server\\model.gguf",
        "model.gguf",
    ]:
        body = {"model": name, "messages": HI, "prompt": "hi", "input": "hi", "stream": False}
        ui = {"id": "c", "model": name, "messages": UI}
        paths = ("/runs", "/chat/stream", "/api/chat", "/api/generate", "/api/show", "/api/embed", "/api/embeddings")
        for path in (*paths, "/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
            answer = gateway.call("POST", path, body)
            assert answer.status in (400, 404), (path, name, answer.body)
        assert gateway.call("POST", "/ai/chat", ui).status == 404
    assert gateway.call("GET", "/api/ps").json == {"models": []}


def test_x11_an_alias_may_be_a_file(engine: Running) -> None:
    """Which file an alias means is said by who starts the server."""
    body = {"model": "mine", "message": "hi", "options": {"num_predict": 1}}
    with Reader(engine.url, "/chat/stream", body) as reader:
        assert b'"outcome":"length"' in reader.body()


@pytest.mark.parametrize(
    "path",
    [
        *("/static/../door.py", "/static/%2e%2e/door.py", "/static/..%2fdoor.py", "/static/%252e%252e%252fdoor.py"),
        *(
            "/static/..%5cdoor.py",
            "/static/.%00.js",
            "/static/main.js%00.png",
            "/static//etc/passwd",
            "/static/%2fetc%2fpasswd",
        ),
        *("/static/.", "/static/..", "/static/", "/static/main.js/", "/static/main.js/..", "/static/__init__.py"),
        *("/words/..%2f..%2fi18n.py", "/words/../x.json", "/words/%2e%2e.json", "/words/de.json"),
        *("/api/blobs/sha256:..%2f..%2fetc", "/conversations/..%2f..%2fx", "/runs/..%2f..%2fx", "/c/..%2f..%2frun"),
    ],
)
def test_x11_no_path_leads_to_a_file(gateway: Gateway, path: str) -> None:
    """Only the page's own files are sent, each by its one name."""
    told = knock(gateway.url, f"GET {path} HTTP/1.1")

    assert told.status in (400, 404, 405), told.body
    assert b"import" not in told.body


# -- X14: no more than there is ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sent"), [(None, 100), (-1, 100), (-2, 100), (10**9, 100), (99, 99), (0, 0), ("many", 100), (True, 100)]
)
def test_x14_an_answer_without_end_has_one(gateway: Gateway, given: object, sent: int) -> None:
    """``num_predict: -1`` and absurd ones get what ``--max-tokens`` says, as do requests that say nothing."""
    gateway.upstream.script(say("x"), done(), path="/api/chat")
    before = gateway.asked
    options = {} if given is None else {"num_predict": given}
    answer = gateway.call("POST", "/runs", {"model": "m", "messages": HI, "options": options})

    assert answer.status == 201, answer.body
    record = gateway.upstream.wait_for_request(before + 1, path="/api/chat")
    assert record.json["options"] == {"num_predict": sent}


def test_x14_on_every_wire(gateway: Gateway) -> None:
    """So do the other protocols' requests, each with its own word for it."""
    gateway.upstream.always(say("x"), done(), path="/api/chat")
    gateway.upstream.always(say("x"), done(), path="/api/generate")
    before = len(gateway.upstream.requests)
    for path, body in (
        ("/v1/chat/completions", {"model": "m", "messages": HI, "max_tokens": -1}),
        ("/v1/chat/completions", {"model": "m", "messages": HI, "max_completion_tokens": 10**9}),
        ("/v1/completions", {"model": "m", "prompt": "hi", "max_tokens": 10**9}),
        ("/api/chat", {"model": "m", "messages": HI, "options": {"num_predict": -1}, "stream": False}),
        ("/api/generate", {"model": "m", "prompt": "hi", "stream": False}),
        ("/ai/chat", {"id": "c", "model": "m", "messages": UI, "options": {"num_predict": -1}}),
    ):
        assert gateway.call("POST", path, body).status == 200, path
    asked = [record for record in gateway.upstream.requests[before:] if record.path in ("/api/chat", "/api/generate")]
    assert [record.json["options"]["num_predict"] for record in asked] == [100] * 6


NESTED: dict[str, Any] = {"type": "object"}
for _ in range(40):
    NESTED = {"type": "object", "properties": {"a": NESTED}}
FOLDED = {
    "$ref": "#/$defs/d0",
    "$defs": {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": {"type": "string"}},
}
TOO_MUCH: dict[str, tuple[dict[str, Any], str]] = {
    "context": ({"options": {"num_ctx": 10**12}}, "--max-context"),
    "context by a hair": ({"options": {"num_ctx": 4097}}, "--max-context"),
    "batch": ({"options": {"num_batch": 10**9}}, "num_batch"),
    "threads": ({"options": {"num_thread": 10**6}}, "num_thread"),
    "stop words": ({"options": {"stop": ["x"] * 1000}}, "stop"),
    "messages": ({"messages": HI * 51}, "--max-messages"),
    "images": ({"messages": [{"role": "user", "content": "hi", "images": ["aGk="] * 1001}]}, "images"),
    "a name": ({"model": "m" * 513}, "name"),
    "options": ({"options": {f"o{n}": n for n in range(10_000)}}, "65,536 bytes"),
    "a way to think": ({"think": "x" * 101}, "think"),
    "alternatives": ({"logprobs": True, "top_logprobs": 10**6}, "top_logprobs"),
    "tools": ({"tools": [{"type": "function", "function": {"name": "f"}}] * 300}, "tools"),
    "a deep schema": ({"format": NESTED}, "deeper"),
    "a large schema": ({"format": {"type": "string", "description": "x" * 100_000}}, "larger"),
    "a folded schema": ({"format": FOLDED}, "parts"),
    "a repeated schema": ({"format": {"type": "string", "maxLength": 10**9}}, "maxLength"),
    "a wide schema": ({"format": {"enum": [str(n) for n in range(2000)]}}, "enum"),
    "a pattern": ({"format": {"type": "string", "pattern": "^((((a?){0,9}){0,9}){0,9}){0,9}$"}}, "pattern"),
    "a long pattern": ({"format": {"type": "string", "pattern": "(a|b)?" * 100}}, "pattern"),
    "a tool's deep schema": (
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": NESTED}}]},
        "deeper",
    ),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_x14_what_is_too_much(gateway: Gateway, what: str) -> None:
    """It is refused with a reason, and never reaches the model server."""
    more, word = TOO_MUCH[what]
    before = gateway.asked
    for path in ("/runs", "/api/chat"):
        answer = gateway.call("POST", path, {"model": "m", "messages": HI, **more})
        assert (answer.status, word in answer.body.decode()) == (400, True), answer.body
    assert gateway.asked == before


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"child": {"$ref": "#"}, "name": {"type": "string", "maxLength": 5000}}},
        {"$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"},
        {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?Z$"},
        {"type": "string", "pattern": r"^[a-z0-9]{1,63}(\.[a-z0-9]{1,63}){0,3}$"},
        {"properties": {"pattern": {"type": "string"}, "enum": {"type": "string"}, "$ref": {"type": "string"}}},
        {"$ref": "#/nowhere/0/x"},
        {"$ref": "#/anyOf/1", "anyOf": [{"type": "string"}, {"type": "integer"}]},
    ],
)
def test_x14_what_people_write_is_not_too_much(schema: dict[str, Any]) -> None:
    """Schemas that refer to themselves, dates, host names, and members that are called as the limits are."""
    check(ChatRequest(model="m", messages=HI, format=schema), Limits())


def test_x14_nested_deeper_than_can_be_sent(gateway: Gateway) -> None:
    """A body that is nested too deeply anywhere is a bad request, not an accident."""
    for depth in (300, 900, 5000, 100_000):
        deep = "[" * depth + "]" * depth
        for body in (
            f'{{"model": "m", "messages": [{{"role": "user", "content": "hi", "more": {deep}}}]}}',
            f'{{"model": "m", "messages": [{{"role": "user", "content": "hi"}}], "options": {{"x": {deep}}}}}',
            f'{{"model": "m", "messages": [{{"role": "user", "content": "hi"}}], "format": {{"x": {deep}}}}}',
        ):
            for path in ("/runs", "/api/chat", "/v1/chat/completions", "/ai/chat"):
                told = knock(gateway.url, f"POST {path} HTTP/1.1", body=body.encode())
                assert told.status < 500, (path, depth, told.body)


def test_x14_n_of_them(gateway: Gateway) -> None:
    """Many answers to one request are refused, however they are asked for."""
    for more in ({"n": 1000}, {"n": 17}):
        assert gateway.call("POST", "/v1/chat/completions", {"model": "m", "messages": HI, **more}).status == 400
    assert gateway.call("POST", "/v1/completions", {"model": "m", "prompt": "hi", "best_of": 100}).status == 400
    for name in ("n", "best_of"):
        assert gateway.call("POST", "/runs", {"message": "hi", "extra_body": {name: 100}}).status == 400


def test_x14_a_load_is_bounded_too(gateway: Gateway) -> None:
    """A request that only loads a model asks for no more memory than one that has it answer."""
    for path, body in (("/api/generate", {}), ("/api/chat", {}), ("/api/embed", {"input": "x"})):
        answer = gateway.call("POST", path, {"model": "m", "options": {"num_ctx": 10**9}, **body})
        assert (answer.status, "--max-context" in answer.json["error"]) == (400, True)


def test_x14_the_same_for_openai_servers() -> None:
    """What is bounded is the request, whatever the model server speaks."""
    with FakeOpenAI() as server:
        server.always(say("x"), done())

        def command(port: int) -> list[str]:
            options = ["--port", str(port), "--upstream", f"openai:{server.url}/v1", "--no-page", "--max-tokens", "7"]
            return [sys.executable, "-m", "tailrace", "serve", *options]

        with running(command) as one, Reader(one.url, "/chat/stream", {"model": "m", "message": "hi"}) as reader:
            reader.body()
        assert server.wait_for_request(path="/v1/chat/completions").json["max_tokens"] == 7


def test_x14_limits_leave_the_rest_alone() -> None:
    """Without a limit on its length an answer is as long as the model likes; wrong types are the model server's."""
    asked = RunRequest(messages=HI, options={"num_predict": -1, "num_ctx": "much", "num_thread": None, "stop": "x"})
    check(asked, Limits(context=None))
    assert asked.options == {"num_predict": -1, "num_ctx": "much", "num_thread": None, "stop": "x"}
    with pytest.raises(ProblemError):
        check(RunRequest(messages=HI, options={"num_ctx": float("inf")}), Limits())


def test_x14_a_clients_share(gateway: Gateway) -> None:
    """``--max-per-key``: 429 with when to come again, in each protocol's own form; others are let in."""
    with serving("--max-per-key", "2", "--api-key", "a:aaaaaaaa", "--api-key", "b:bbbbbbbb") as small:
        small.upstream.always(say("x"), hold(), done(), path="/api/chat")
        key = {"Authorization": "Bearer aaaaaaaa"}
        for _ in range(2):
            assert small.call("POST", "/runs", {"model": "m", "messages": HI}, **key).status == 201
        for path in ("/runs", "/api/chat", "/v1/chat/completions", "/api/embed", "/v1/embeddings"):
            answer = small.call("POST", path, {"model": "m", "messages": HI, "input": "x"}, **key)
            assert (answer.status, int(answer.headers["retry-after"]) > 0) == (429, True), answer.body
        other = small.call("POST", "/runs", {"model": "m", "messages": HI}, Authorization="Bearer bbbbbbbb")
        assert other.status == 201
        assert json.loads(small.call("GET", "/queue", **key).body)["upstreams"][0]["running"] == 3
        small.upstream.release(count=3)
