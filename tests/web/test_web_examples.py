"""The examples for the web run as they are, and the tutorial's readers read them without a change."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from tests.web.process import Running, running
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import FakeOllama, closed_port, say, stall

EXAMPLES = ("web_django.py", "web_fastapi.py", "web_flask.py")
RUNS = ("web_fastapi.py", "web_flask.py")  # with our router or blueprint, and an endpoint of their own


@pytest.fixture(scope="module")
def upstream_port() -> int:
    """A port for the model server, the same for all tests of an example."""
    return closed_port()


@pytest.fixture
def upstream(upstream_port: int) -> Iterator[FakeOllama]:
    with FakeOllama(models=["demo"], port=upstream_port) as upstream:
        yield upstream


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request: pytest.FixtureRequest, upstream_port: int) -> Iterator[Running]:
    """An example, run as a user runs it."""
    upstream = f"http://127.0.0.1:{upstream_port}"

    def command(port: int) -> list[str]:
        return ["env", f"PORT={port}", sys.executable, "-W", "error", f"examples/{request.param}"]

    with running(command, {"TAILRACE_UPSTREAM": upstream, "TAILRACE_MODEL": "demo"}) as server:
        yield server
        assert "Traceback" not in server.output


def tutorial(url: str, body: bytes | None = None) -> str:
    """A reader as the tutorial's pages have it: line by line, what stands behind ``data: ``, up to [DONE]."""
    request = urllib.request.Request(url, body or b"", {"Content-Type": "application/json"} if body else {})
    answer = ""
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        assert response.headers.get_content_type() == "text/event-stream"
        for raw in response:
            line = raw.decode().rstrip("\n")
            if line == "data: [DONE]":
                return answer
            if line.startswith("data: "):
                answer += json.loads(line[6:])["content"]
    raise AssertionError(f"no [DONE] after {answer!r}")


def test_the_tutorials_reader(example: Running, upstream: FakeOllama) -> None:
    """The reader of the tutorial's FastAPI code, unchanged, reads the answer from the rewritten server."""
    upstream.script(say("床前", "明月光"))

    assert tutorial(f"{example.url}/chat/stream?message=%E5%86%99%E4%B8%80%E9%A6%96%E8%AF%97") == "床前明月光"
    assert upstream.requests[-1].json["messages"] == [{"role": "user", "content": "写一首诗"}]


def test_a_browser_that_leaves(example: Running, upstream: FakeOllama) -> None:
    """The model stops when the browser goes away, before its first token as well."""
    upstream.script(stall())
    reader = Reader(example.url, "/chat/stream?message=hi")
    reader.until(b": tailrace\n")
    record = upstream.wait_for_request(timeout=PATIENCE)
    reader.leave()

    assert record.wait_until_left(PATIENCE)


@pytest.mark.parametrize("example", RUNS, indirect=True)
def test_the_tutorials_other_request(example: Running, upstream: FakeOllama) -> None:
    """The request of the tutorial's Flask code, JSON with a message, is answered by the same route."""
    upstream.script(say("Hel", "lo"))

    assert tutorial(f"{example.url}/chat/stream", b'{"message": "hi"}') == "Hello"


@pytest.mark.parametrize("example", RUNS, indirect=True)
def test_an_endpoint_of_ones_own(example: Running, upstream: FakeOllama) -> None:
    """The example's own endpoint streams its answer."""
    upstream.script(say("Elbe, ", "Rhine, ", "Danube."))

    assert tutorial(f"{example.url}/rivers?country=Germany") == "Elbe, Rhine, Danube."
    assert upstream.requests[-1].json["messages"][0]["content"] == "Name three rivers in Germany."
