"""Ollama's API, models: listed from all upstreams, shown, embedded with, and kept where an Ollama server is behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.gateway.fronting import Front, fronting, records
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import FakeModel, FakeOllama, FakeOpenAI, Step, chunk, closed_port, error, hold, say, status

JSON = "application/json; charset=utf-8"
PULLING = {"status": "pulling 98e0d47d369f", "digest": "sha256:98e0d47d369f", "total": 100}


@pytest.fixture(scope="module")
def front() -> Iterator[Front]:
    """A gateway in front of an Ollama server, with another name for its model."""
    with FakeOllama(models=["m"]) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front
        assert server.wait_until_idle(PATIENCE)


@pytest.fixture
def fresh() -> Iterator[Front]:
    """A gateway of the test's own, whose models it may change."""
    with FakeOllama(models=["m"]) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front


@pytest.fixture(scope="module")
def other() -> Iterator[Front]:
    """A gateway in front of a server of OpenAI's protocol."""
    with FakeOpenAI(models=["m"]) as server, fronting(server, options=("--alias", "llama3.2=m")) as front:
        yield front


# -- the root and the version ------------------------------------------------------------------------------------------

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def test_the_root(front: Front) -> None:
    """Clients ask whether somebody is there, by HEAD or GET; a browser gets the page."""
    assert (front.call("/", method="HEAD").status, front.get("/").body) == (200, b"Ollama is running")
    assert front.get("/", Accept="*/*").body == b"Ollama is running"
    assert front.get("/", Accept="application/json").headers["content-type"].startswith("text/plain")
    page = front.get("/", Accept=BROWSER)
    assert page.headers["content-type"].startswith("text/html")
    assert front.get("/c/1", Accept="*/*").headers["content-type"].startswith("text/html")


def test_the_root_without_the_page(other: Front) -> None:
    """A gateway without the page answers everybody alike."""
    with fronting(other.openai, options=("--no-page",)) as bare:
        for accept in ("*/*", BROWSER):
            assert bare.get("/", Accept=accept).body == b"Ollama is running"
        assert bare.call("/", method="HEAD").status == 200


def test_version(front: Front, other: Front) -> None:
    """An Ollama server's own; else that of the API which is spoken here, so that clients find it new enough."""
    assert front.get("/api/version").json == {"version": front.ollama.version}
    major, minor, patch = other.get("/api/version").json["version"].split(".")
    assert (int(major), int(minor), int(patch)) >= (0, 31, 0)


# -- what there is -----------------------------------------------------------------------------------------------------


def test_tags(fresh: Front) -> None:
    """As Ollama lists them, and the other names of models that are there."""
    answer = fresh.get("/api/tags")
    model = FakeModel("m")
    entry = {**model.listed(), "modified_at": "2026-01-02T03:04:05.678901Z"}

    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
    assert answer.json == {"models": [entry, {**entry, "name": "llama3.2", "model": "llama3.2"}]}
    assert fresh.call("/api/tags", method="HEAD").status == 200


def test_tags_of_a_server_that_tells_less(other: Front) -> None:
    """Every member is there, of its type; the digest, without which `ollama list` breaks, stands in for one."""
    first, second = other.get("/api/tags").json["models"]

    assert (first["name"], second["name"]) == ("m", "llama3.2")
    assert (first["size"], first["modified_at"]) == (0, "0001-01-01T00:00:00Z")
    assert len(first["digest"]) == 64
    assert first["details"]["family"] == ""


def test_several_upstreams() -> None:
    """Lists are those of all upstreams, each name once; one that fails is left out; a model is shown where it is."""
    with (
        FakeOllama(models=["a", "both"]) as first,
        FakeOllama(models=["b", "both"]) as second,
        FakeOpenAI(models=["c"]) as third,
        fronting(first, second, third, f"http://127.0.0.1:{closed_port()}") as front,
    ):
        names = [model["name"] for model in front.get("/api/tags").json["models"]]
        assert sorted(names) == ["a:latest", "b:latest", "both:latest", "c"]
        for name in ("a", "b", "c"):
            assert front.call("/api/chat", {"model": name}).json["done_reason"] == "load"
            assert front.call("/api/show", {"model": name}).status == 200
        assert sorted(model["name"] for model in front.get("/api/ps").json["models"]) == ["a:latest", "b:latest"]
        second.script(say("from b"), path="/api/chat")
        body = {"model": "b", "messages": [{"role": "user", "content": "hi"}], "stream": False}
        assert front.call("/api/chat", body).json["message"]["content"] == "from b"
        assert front.call("/api/embed", {"model": "b", "input": "x"}).status == 200
        assert front.call("/api/show", {"model": "none"}).json == {"error": "model 'none' not found"}


def test_unloaded_wherever_it_is_loaded() -> None:
    """A model that two upstreams have loaded is unloaded at both."""
    with FakeOllama(models=["m"]) as first, FakeOllama(models=["m"]) as second:
        for server in (first, second):
            with Reader(server.url, "/api/generate", {"model": "m"}) as reader:
                assert reader.status == 200
                reader.body()
        with fronting(first, second) as front:
            assert front.call("/api/generate", {"model": "m", "keep_alive": 0}).json["done_reason"] == "unload"
        assert (first.loaded, second.loaded) == ([], [])


def test_ps(fresh: Front, other: Front) -> None:
    """What is loaded, as Ollama tells it; where nothing is told there is nothing."""
    assert fresh.get("/api/ps").json == {"models": []}
    fresh.call("/api/generate", {"model": "m"})
    assert fresh.get("/api/ps").json == {"models": [FakeModel("m").running()]}
    assert other.get("/api/ps").json == {"models": []}


@pytest.mark.parametrize("member", ["model", "name"])
def test_show(front: Front, member: str) -> None:
    """Passed on as it is, under either name of the member; an alias shows what it stands for."""
    for name in ("m", "llama3.2"):
        answer = front.call("/api/show", {member: name, "verbose": True})
        assert (answer.status, answer.headers["content-type"]) == (200, JSON)
        assert answer.json == FakeModel("m").shown()
    assert front.ollama.requests[-1].json["verbose"] is True


def test_show_of_a_server_that_tells_less(other: Front) -> None:
    """What clients look for before they chat is there."""
    answer = other.call("/api/show", {"model": "llama3.2"}).json
    assert "completion" in answer["capabilities"]
    assert (answer["model_info"], answer["details"]["format"]) == ({"general.architecture": "unknown"}, "")
    assert other.call("/api/show", {"model": "none"}).json == {"error": "model 'none' not found"}
    assert other.call("/api/show", {}).json == {"error": "model is required"}


# -- embeddings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", ["front", "other"])
def test_embed(behind: str, request: pytest.FixtureRequest) -> None:
    """One row for each text, under the name that was asked for; and the older form."""
    front: Front = request.getfixturevalue(behind)
    both = front.call("/api/embed", {"model": "llama3.2", "input": ["a", "b"], "dimensions": 4}).json
    one = front.call("/api/embed", {"model": "llama3.2", "input": "a", "dimensions": 4}).json
    older = front.call("/api/embeddings", {"model": "llama3.2", "prompt": "a"}).json

    assert (both["model"], [len(row) for row in both["embeddings"]]) == ("llama3.2", [4, 4])
    assert one["embeddings"] == both["embeddings"][:1]
    assert both["prompt_eval_count"] == 2
    assert both["total_duration"] > 0
    assert list(older) == ["embedding"]
    assert len(older["embedding"]) == 8


@pytest.mark.parametrize("behind", ["front", "other"])
def test_embed_nothing(behind: str, request: pytest.FixtureRequest) -> None:
    """No text, no row; that is no error."""
    front: Front = request.getfixturevalue(behind)
    nothings: tuple[Any, ...] = ("", [])
    for nothing in nothings:
        assert front.call("/api/embed", {"model": "m", "input": nothing}).json["embeddings"] == []
    assert front.call("/api/embeddings", {"model": "m"}).json == {"embedding": []}


@pytest.mark.parametrize("behind", ["front", "other"])
@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (None, 400, "missing request body"),
        ({"model": "none", "input": "x"}, 404, 'model "none" not found, try pulling it first'),
        ({"model": "none", "input": ""}, 404, 'model "none" not found, try pulling it first'),
        ({"input": "x"}, 404, 'model "" not found, try pulling it first'),
        ({"model": "m", "input": 1}, 400, "`$.input`"),
        ({"model": "m", "input": "x", "options": {"num_ctx": "x"}}, 500, 'option "num_ctx" must be of type integer'),
        ({"model": "m", "input": "x", "keep_alive": "x"}, 400, "time: invalid duration"),
    ],
)
def test_embed_bad_input(behind: str, body: Any, code: int, words: str, request: pytest.FixtureRequest) -> None:
    """In Ollama's words for these routes."""
    front: Front = request.getfixturevalue(behind)
    answer = front.call("/api/embed", body)
    assert (answer.status, list(answer.json)) == (code, ["error"])
    assert words in answer.json["error"]


@pytest.mark.parametrize("path", ["/api/embed", "/api/show", "/api/generate"])
def test_leaving_a_single_answer(front: Front, path: str) -> None:
    """Embeddings, a show and a load are given up when the client leaves: a load would take the card for nothing."""
    before = front.seen(path)
    front.ollama.script(hold(), status(200, {}), path=path)
    reader = front.open(path, {"model": "m", "input": "x"})
    record = front.next(path, before)
    assert record.wait_until_phase("holding")
    reader.leave()

    assert record.wait_until_left(PATIENCE)


# -- keeping models ----------------------------------------------------------------------------------------------------


def test_pull(front: Front) -> None:
    """Progress as the server tells it; a pull is a run of its own, and an alias means what it stands for."""
    script: list[Step] = [
        chunk({"status": "pulling manifest"}),
        chunk(PULLING),
        hold(),
        chunk({**PULLING, "completed": 100}),
        chunk({"status": "success"}),
    ]
    before = front.seen("/api/pull")
    front.ollama.script(*script, path="/api/pull")
    with front.open("/api/pull", {"model": "llama3.2", "insecure": True}) as reader:
        reader.until(b'"total":100')
        run = reader.headers["x-run-id"]
        assert front.get(f"/runs/{run}").json["state"] == "streaming"
        front.ollama.release()
        lines = records(reader.body())

    assert reader.headers["content-type"] == "application/x-ndjson"
    assert lines == [
        {"status": "pulling manifest"},
        PULLING,
        {**PULLING, "completed": 100},
        {"status": "success"},
    ]
    sent = front.next("/api/pull", before).json
    assert sent == {"model": "m", "insecure": True, "stream": True}
    assert front.get(f"/runs/{run}").json["outcome"] == "complete"


def test_leaving_a_pull(front: Front) -> None:
    """It ends at the server too; streamed or not."""
    for stream in (True, False):
        before = front.seen("/api/pull")
        front.ollama.script(chunk(PULLING), hold(), path="/api/pull")
        reader = front.open("/api/pull", {"model": "new", "stream": stream})
        record = front.next("/api/pull", before)
        assert record.wait_until_phase("holding")
        reader.leave()
        assert record.wait_until_left(PATIENCE)


def test_a_pull_that_fails(front: Front) -> None:
    """After its first line it is an error line; without a stream it is a 500, as at Ollama."""
    for stream in (True, False):
        front.ollama.script(
            chunk({"status": "pulling manifest"}),
            error("pull model manifest: file does not exist"),
            path="/api/pull",
        )
        answer = front.call("/api/pull", {"model": "none", "stream": stream})
        last = json.loads(answer.body.splitlines()[-1])
        assert answer.status == (200 if stream else 500)
        assert last == {"error": "pull model manifest: file does not exist"}


@pytest.mark.parametrize("operation", ["pull", "push", "create"])
def test_work_without_a_stream(front: Front, operation: str) -> None:
    """Only the last word of it."""
    answer = front.call(f"/api/{operation}", {"model": "m", "from": "m", "stream": False})
    assert (answer.status, answer.headers["content-type"]) == (200, JSON)
    assert answer.body == b'{"status":"success"}'


def test_create_copy_and_delete(fresh: Front) -> None:
    """Each at the server, as it is; an alias is copied as what it stands for, and is never deleted."""
    create = {"model": "c", "from": "m", "system": "s", "parameters": {"seed": 1}, "messages": [], "later": 1}
    assert records(fresh.call("/api/create", create).body)[-1] == {"status": "success"}
    assert fresh.next("/api/create", 0).json == {**create, "stream": True}
    copied = fresh.call("/api/copy", {"source": "llama3.2", "destination": "d"})
    assert (copied.status, copied.body) == (200, b"")
    assert fresh.next("/api/copy", 0).json["source"] == "m"
    deleted = fresh.call("/api/delete", {"model": "d"}, "DELETE")
    assert (deleted.status, deleted.body) == (200, b"")
    again = fresh.call("/api/delete", {"name": "d"}, "DELETE")
    assert (again.status, again.json) == (404, {"error": "model 'd' not found"})
    alias = fresh.call("/api/delete", {"model": "llama3.2"}, "DELETE")
    assert (alias.status, alias.json) == (404, {"error": "model 'llama3.2' not found"})
    missing = fresh.call("/api/copy", {"source": "none", "destination": "d"})
    assert (missing.status, missing.json) == (404, {"error": 'model "none" not found'})
    assert [model["name"] for model in fresh.get("/api/tags").json["models"]] == ["m:latest", "c:latest", "llama3.2"]


def test_deleted_where_it_is() -> None:
    """Of several Ollama servers, at the one that has the model."""
    with FakeOpenAI(models=["x"]) as odd, FakeOllama(models=["a"]) as first, FakeOllama(models=["b"]) as second:
        with fronting(odd, first, second) as front:
            assert front.call("/api/delete", {"model": "b"}, "DELETE").status == 200
            assert front.call("/api/pull", {"model": "new", "stream": False}).json == {"status": "success"}
        assert [model.name for model in second.catalogue] == []
        assert [model.name for model in first.catalogue] == ["a", "new"]


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/api/pull", "POST"),
        ("/api/push", "POST"),
        ("/api/create", "POST"),
        ("/api/copy", "POST"),
        ("/api/delete", "DELETE"),
        (f"/api/blobs/sha256:{'0' * 64}", "POST"),
        (f"/api/blobs/sha256:{'0' * 64}", "HEAD"),
    ],
)
def test_what_only_ollama_keeps(other: Front, path: str, method: str) -> None:
    """501 with the reason, in Ollama's shape."""
    answer = other.call(path, {"model": "m", "source": "m", "destination": "d"}, method)
    assert answer.status == 501
    if method != "HEAD":
        assert answer.json == {"error": "no upstream of this gateway is an Ollama server, which keeps models"}


# -- blobs -------------------------------------------------------------------------------------------------------------

BLOB = b"GGUF and so on " * 400_000  # more than a body may have elsewhere


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_blobs(front: Front) -> None:
    """A file of any size is passed on as it comes, and not again when it is there."""
    path = f"/api/blobs/{digest_of(BLOB)}"
    assert front.call(path, method="HEAD").status == 404
    assert front.call(path, BLOB).status == 201
    assert front.ollama.requests[-1].body == BLOB
    assert front.call(path, method="HEAD").status == 200
    before = front.seen(path)
    assert front.call(path, BLOB[:10]).status == 200
    assert [record.method for record in front.ollama.requests if record.path == path][before:] == ["HEAD"]


def test_blobs_that_are_none(front: Front) -> None:
    """Another content, and a digest that is none, which is never asked for anywhere (CVE-2024-37032)."""
    assert front.call(f"/api/blobs/{digest_of(b'x')}", b"y").json == {"error": "digest mismatch"}
    before = len(front.ollama.requests)
    for name in ("sha256:..%2F..%2Fetc", "sha256:0", "md5:00", f"sha256:{'g' * 64}", f"sha256:{'0' * 64}%0a"):
        answer = front.call(f"/api/blobs/{name}", b"x")
        assert answer.status in (400, 404)
        assert list(answer.json) == ["error"]
    assert len(front.ollama.requests) == before


def test_leaving_in_the_middle_of_a_blob(front: Front) -> None:
    """What was begun is given up at the server; and so is what it is still looking at."""
    path = f"/api/blobs/{digest_of(BLOB)}"
    before = front.seen(path)
    front.ollama.script(status(404), path=path).script(hold(), status(201), path=path)
    reader = front.open(path, BLOB)
    record = front.next(path, before + 1)
    assert record.wait_until_phase("holding")
    reader.leave()

    assert record.wait_until_left(PATIENCE)
    half = Reader(front.url, path, b"x", headers=f"Content-Length: {len(BLOB)}\r\n", kind="x")
    half.leave()
    assert front.ollama.wait_until_idle(PATIENCE)
