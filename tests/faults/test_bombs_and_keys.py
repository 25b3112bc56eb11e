"""Security of the upstream's side: decompression bombs (X12), and credentials that stay with their origin (X13)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from tests.faults.faces import Face, Upstream

from tailrace import Client, NotModelServerError, Outcome, ProtocolError
from tailrace.testing import FakeOllama, FakeOpenAI, fin, giant_line, gzip, head, redirect, say, stall
from tailrace.transport.http_client import Http

MEGABYTE = 1024 * 1024


# -- X12 -------------------------------------------------------------------------------------------------------------


def test_x12_a_gzip_bomb_is_bounded(upstream: Upstream, kind: str) -> None:
    """A gigabyte in a line that never ends is refused after a bounded part of it, and its connection is closed."""
    face = Face(kind, upstream.host)
    upstream.script(gzip(), say("Hel"), giant_line(1024 * MEGABYTE, ended=False), fin())
    tracemalloc.start()
    try:
        seen = face.chat()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    seen.broke(ProtocolError, Outcome.FAILED, "Hel")
    assert peak < 96 * MEGABYTE  # the longest line that is taken has 16
    assert upstream.server.wait_for_request().wait_until_left()
    upstream.is_let_go(face)


def test_x12_an_unknown_packing_is_left_at_once(upstream: Upstream, kind: str) -> None:
    """An answer packed in a way that nobody asked for is refused by its head; its connection does not wait for more."""
    face = Face(kind, upstream.host)
    upstream.script(head(headers={"Content-Encoding": "br"}, now=True), stall())
    error = face.chat().broke(ProtocolError, Outcome.FAILED)
    assert "br" in error
    assert upstream.server.wait_for_request().wait_until_left()
    upstream.is_let_go(face)


# -- X13 -------------------------------------------------------------------------------------------------------------

SECRETS = {"Authorization": "Bearer secret", "Cookie": "secret=1", "X-API-Key": "secret", "api-key": "secret"}


CALLS: dict[str, tuple[str, Callable[[Client], object]]] = {
    "chat": ("/api/chat", lambda client: client.chat("m", [{"role": "user", "content": "hi"}])),
    "generate": ("/api/generate", lambda client: client.generate("m", "hi")),
    "list": ("/api/tags", lambda client: client.list()),
    "pull": ("/api/pull", lambda client: client.pull("m")),
    "show": ("/api/show", lambda client: client.show("m")),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", SECRETS)
def test_x13_no_secret_goes_to_another_port(call: str, name: str) -> None:
    """Whatever header a secret is in, a redirect to another port of the host does not carry it there."""
    path, ask = CALLS[call]
    with FakeOllama() as mine, FakeOllama() as other:
        mine.script(redirect(307, f"{other.url}{path}"), path=path)
        ask(Client(mine.url, headers={name: SECRETS[name]}))
        assert mine.requests[0].header(name) == SECRETS[name]
        assert [record.path for record in other.requests] == [path]
        assert "secret" not in str(other.requests[0].headers)
        assert (other.requests[0].header("user-agent") or "").startswith("tailrace/")


def test_x13_no_key_goes_to_another_port(kind: str) -> None:
    """The key of an OpenAI-compatible server stays with it, and does not come back by way of another server."""
    with FakeOpenAI() as mine, FakeOpenAI() as other:
        path = "/v1/chat/completions"
        mine.script(redirect(307, f"{other.url}{path}"), path=path)
        other.script(redirect(307, f"{mine.url}{path}"), path=path)
        mine.script(say("Hello"))
        Face(kind, f"openai:{mine.url}/v1", api_key="secret").chat().whole("Hello")
        assert [record.header("authorization") for record in mine.requests] == ["Bearer secret", None]
        assert [record.header("authorization") for record in other.requests] == [None]


@pytest.mark.parametrize("credentials", ["user:secret@", "secret@"])
def test_x13_a_secret_of_the_url_is_not_shown(credentials: str) -> None:
    """Credentials in the upstream's URL are sent to it, and stand in no error and no redirect."""
    with FakeOllama() as mine, FakeOllama() as other:
        url = mine.url.replace("http://", f"http://{credentials}")
        client = Client(url)
        mine.script(redirect(307, f"{other.url}/api/tags"), path="/api/tags")
        mine.script(redirect(307, "http://localhost:1/api/tags"), path="/api/tags")
        client.list()
        assert (mine.requests[0].header("authorization") or "").startswith("Basic ")
        assert other.requests[0].header("authorization") is None
        with pytest.raises(NotModelServerError) as caught:
            client.list()
        assert "secret" not in f"{caught.value} {caught.value.hint} {client.upstream} {client!r}"


@pytest.mark.parametrize(
    ("source", "target", "kept"),
    [
        ("http://host:11434/a", "http://host:11434/b", True),
        ("http://host/a", "http://host:80/b", True),
        ("https://host/a", "https://host:443/b", True),
        ("http://host/a", "https://host/b", True),  # what a server does that moved to TLS
        ("http://host:11434/a", "https://host:11434/b", True),
        ("http://host:11434/a", "https://host/b", False),
        ("http://host/a", "https://host:8443/b", False),
        ("http://host:11434/a", "http://host:11435/b", False),
        ("https://host/a", "https://host:444/b", False),
    ],
)
def test_x13_what_counts_as_the_same_origin(source: str, target: str, kept: bool) -> None:
    """Credentials go on only to the same port, or from http's own port to https's own."""
    headers = {"authorization": "Bearer secret", "x-api-key": "secret", "user-agent": "me", "accept": "*/*"}
    left = Http(source)._headers_after_redirect(source, target, headers)
    assert left == (headers if kept else {"user-agent": "me", "accept": "*/*"})


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("https://host/a", "http://host/b"),
        ("http://host/a", "http://other/b"),
        ("http://host/a", "http://host.evil/b"),
        ("http://127.0.0.1:1/a", "http://localhost:1/b"),
    ],
)
def test_x13_what_is_not_followed_at_all(source: str, target: str) -> None:
    """Neither to another host nor from TLS to plain text."""
    with pytest.raises(NotModelServerError):
        Http(source)._headers_after_redirect(source, target, {})
