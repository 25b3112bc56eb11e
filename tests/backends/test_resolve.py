"""Which backend: OLLAMA_HOST as Ollama reads it, the forms of an upstream, the environment, and looking who answers."""

from __future__ import annotations

import asyncio
import socket
from importlib import util
from typing import Any

import pytest

from tailrace import AsyncClient, Client, errors
from tailrace.backends import resolve
from tailrace.backends.resolve import Resolver, parse_host
from tailrace.testing import FakeOllama, FakeOpenAI, NeverAccepts, Silent, closed_port, status

NAMES = ["TAILRACE_UPSTREAM", "OLLAMA_HOST", "TAILRACE_API_KEY", "OLLAMA_API_KEY", "OPENAI_API_KEY"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


# -- OLLAMA_HOST -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("1.2.3.4:56789", "http://1.2.3.4:56789"),
        ("example.com", "http://example.com:11434"),
        ("example.com:56789", "http://example.com:56789"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("http://example.com:56789", "http://example.com:56789"),
        ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://example.com:56789", "https://example.com:56789"),
        ("example.com/", "http://example.com:11434"),
        ("example.com:56789/path/", "http://example.com:56789/path"),
        ("https://example.com/a/b", "https://example.com:443/a/b"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("http://[::1]", "http://[::1]:80"),
        ("[2001:db8::5]:56789/path", "http://[2001:db8::5]:56789/path"),
        ("::1", "http://[::1]:11434"),
        ("ollama.com", "https://ollama.com:443"),
        ("h:0", "http://h:0"),
        (":66000", "http://127.0.0.1:11434"),
        (":-1", "http://127.0.0.1:11434"),
        ("h:", "http://h:11434"),
        ("h:port", "http://h:11434"),
        ("h:٥", "http://h:11434"),
        ("h:" + "9" * 5000, "http://h:11434"),
        ("https://h:66000", "https://h:443"),
        (" 1.2.3.4 ", "http://1.2.3.4:11434"),
        ('"1.2.3.4"', "http://1.2.3.4:11434"),
        (" '1.2.3.4:5' ", "http://1.2.3.4:5"),
        ("HTTP://h", "http://h:11434"),
    ],
)
def test_hosts_as_ollama_reads_them(value: str | None, url: str) -> None:
    """A host means what it means to Ollama's own client (A13, column Go)."""
    assert parse_host(value) == url


@pytest.mark.parametrize(
    ("value", "url"),
    [
        (":56789", "http://127.0.0.1:56789"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:5", "http://127.0.0.1:5"),
        ("http://0.0.0.0:5/path", "http://127.0.0.1:5/path"),
        ("[::]", "http://[::1]:11434"),
        ("[::]:5", "http://[::1]:5"),
        ("::", "http://[::1]:11434"),
        ("https://", "https://127.0.0.1:443"),
    ],
)
def test_addresses_to_listen_on_become_loopback(value: str, url: str) -> None:
    """On purpose different from Ollama's, which keeps them: nobody can connect to an address to listen on."""
    assert parse_host(value) == url


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("user:pw@h:1", "http://h:1"),
        ("https://user:pw@h/p?q=1", "https://h:443/p"),
        ("https://h/p?q=1#f", "https://h:443/p"),
        ("https://h?q=1", "https://h:443"),
        ("u@[::1]:5", "http://[::1]:5"),
    ],
)
def test_credentials_and_queries_are_no_part_of_the_address(value: str, url: str) -> None:
    """As in ollama-python, credentials and a query are dropped from the address."""
    assert parse_host(value) == url


# -- the forms of an upstream ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upstream", "kind", "url"),
    [
        ("http://h:5", "ollama", "http://h:5"),
        ("https://h", "ollama", "https://h:443"),
        ("h:5", "ollama", "http://h:5"),
        (" h ", "ollama", "http://h:11434"),
        ("[::1]:5", "ollama", "http://[::1]:5"),
        ("ollama:http://h:5", "ollama", "http://h:5"),
        ("ollama:h", "ollama", "http://h:11434"),
        ("HTTP://h:5", "ollama", "http://h:5"),
        ("openai:http://h:5/v1", "openai", "openai:http://h:5/v1"),
        ("openai:http://h:5/v1/", "openai", "openai:http://h:5/v1"),
        ("openai:https://h/api/v1", "openai", "openai:https://h/api/v1"),
    ],
)
def test_forms(upstream: str, kind: str, url: str) -> None:
    """Each form of an upstream names its backend."""
    backend = Resolver(upstream).known

    assert backend is not None
    assert (backend.kind, backend.url) == (kind, url)


@pytest.mark.parametrize("upstream", ["embedded", "embedded:", "embedded:/models/m.gguf", "embedded:m.gguf"])
def test_the_embedded_form(upstream: str) -> None:
    """``embedded:`` is the embedded engine, with the model after the colon; nothing is started or looked for."""
    backend = Resolver(upstream).known

    assert backend is not None
    assert backend.kind == "embedded"
    assert backend.url == f"embedded:{upstream.partition(':')[2]}"


@pytest.mark.parametrize("upstream", [None, "", "auto", "  "])
def test_nothing_named(upstream: str | None) -> None:
    """With nothing named the backend is not known before the first call."""
    assert Resolver(upstream).known is None
    assert Client(upstream).upstream == "auto"


BAD = ["ftp://h", "file:///etc/passwd", "openai:h:5", "openai:", "openai:ftp://h/v1", "ollama:ftp://h", "://h"]


@pytest.mark.parametrize("upstream", BAD)
@pytest.mark.parametrize("make", [Client, AsyncClient, Resolver])
def test_forms_that_are_none(upstream: str, make: type[Client]) -> None:
    """Anything else is a RequestError at once, which says what to write."""
    with pytest.raises(errors.RequestError, match="not an upstream") as caught:
        make(upstream)
    assert caught.value.hint.startswith("write ")


@pytest.mark.parametrize(
    "upstream",
    ["ftp://user:secret@h", "openai:user:secret@h", "openai:ftp://user:secret@h", "ollama:ftp://user:secret@h"],
)
def test_errors_of_forms_show_no_credentials(upstream: str) -> None:
    """An upstream that is refused is shown without its password."""
    with pytest.raises(errors.RequestError) as caught:
        Resolver(upstream)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value.args)


async def test_errors_of_calls_show_no_credentials() -> None:
    """Nor does an error of a call, or the client's own description of its upstream."""
    port = closed_port()
    for upstream in (f"http://user:secret@127.0.0.1:{port}", f"openai:http://user:secret@127.0.0.1:{port}/v1"):
        client = AsyncClient(upstream)
        with pytest.raises(ConnectionError) as caught:
            await client.list()
        assert "secret" not in str(caught.value) + repr(caught.value.__cause__) + client.upstream


# -- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "upstream", "host", "url"),
    [
        ("http://a:1", "http://b:2", "http://c:3", "http://a:1"),
        (None, "http://b:2", "http://c:3", "http://b:2"),
        ("", "http://b:2", "http://c:3", "http://b:2"),
        (None, None, "c:3", "http://c:3"),
        (None, "", "0.0.0.0", "http://127.0.0.1:11434"),
        (None, None, ' "c" ', "http://c:11434"),
        (None, None, "'http://c/p'", "http://c:80/p"),
        (None, None, "ollama.com", "https://ollama.com:443"),
        (None, None, "user:pw@c:3", "http://c:3"),
        (None, "openai:http://b/v1", "c:3", "openai:http://b/v1"),
        ("a", "embedded:", "c:3", "http://a:11434"),
    ],
)
def test_precedence(
    given: str | None, upstream: str | None, host: str | None, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the caller says comes before TAILRACE_UPSTREAM, and that before OLLAMA_HOST."""
    for name, value in (("TAILRACE_UPSTREAM", upstream), ("OLLAMA_HOST", host)):
        if value is not None:
            monkeypatch.setenv(name, value)

    assert Client(given).upstream == url


def test_auto_asks_to_look_although_a_host_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """``auto`` is a choice like others: it comes before OLLAMA_HOST."""
    monkeypatch.setenv("OLLAMA_HOST", "c:3")

    assert Client("auto").upstream == "auto"


async def test_found_before_the_first_call(fake_ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients look when they are told to, and say what they found."""
    monkeypatch.setenv("OLLAMA_HOST", fake_ollama.url)

    assert await AsyncClient().find_upstream() == fake_ollama.url
    assert await asyncio.to_thread(Client().find_upstream) == fake_ollama.url


@pytest.mark.parametrize(
    ("headers", "argument", "environment", "expected"),
    [
        ({}, None, {}, None),
        ({}, None, {"OLLAMA_API_KEY": "o"}, "Bearer o"),
        ({}, None, {"OLLAMA_API_KEY": "o", "TAILRACE_API_KEY": "t"}, "Bearer t"),
        ({}, "a", {"OLLAMA_API_KEY": "o", "TAILRACE_API_KEY": "t"}, "Bearer a"),
        ({"Authorization": "Basic x"}, "a", {"OLLAMA_API_KEY": "o"}, "Basic x"),
        ({"AUTHORIZATION": "Basic x"}, None, {}, "Basic x"),
        ({"Authorization": None}, None, {"OLLAMA_API_KEY": "o"}, "Bearer o"),
    ],
)
async def test_the_key(
    headers: dict[str, str],
    argument: str | None,
    environment: dict[str, str],
    expected: str | None,
    fake_ollama: FakeOllama,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A header of the caller's own wins, then the key given, then the environment's; the server gets just that."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client = AsyncClient(fake_ollama.url, headers=headers, api_key=argument)

    await client.list()

    assert fake_ollama.requests[0].header("authorization") == expected


@pytest.mark.parametrize("prefix", ["http://", "", "ollama:http://"])
async def test_credentials_of_the_url(prefix: str, fake_ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in an upstream are sent as Basic, percent-decoded; before any key of the environment."""
    monkeypatch.setenv("OLLAMA_API_KEY", "o")
    await AsyncClient(f"{prefix}us%65r:p%40ss@127.0.0.1:{fake_ollama.port}").list()

    assert fake_ollama.requests[0].header("authorization") == "Basic dXNlcjpwQHNz"


async def test_credentials_of_ollama_host(fake_ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials in OLLAMA_HOST are sent as well."""
    monkeypatch.setenv("OLLAMA_HOST", f"user:p@127.0.0.1:{fake_ollama.port}")

    await AsyncClient().list()

    assert fake_ollama.requests[0].header("authorization") == "Basic dXNlcjpw"


@pytest.mark.parametrize("key", ["OLLAMA_API_KEY", "TAILRACE_API_KEY"])
async def test_openai_servers_get_the_key_too(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key goes to an OpenAI-compatible upstream as well; OPENAI_API_KEY never goes to anybody but OpenAI."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with FakeOpenAI() as server:
        await AsyncClient(f"openai:{server.base_url}").list()
        monkeypatch.setenv(key, "k")
        await AsyncClient(f"openai:{server.base_url}").list()

        assert [record.header("authorization") for record in server.requests] == [None, "Bearer k"]


def test_openai_gets_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_API_KEY goes to OpenAI, and there only so long as no key is named for us."""
    shown = []
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    for key in ("", "ours"):
        monkeypatch.setenv("TAILRACE_API_KEY", key)
        backend: Any = Resolver("openai:https://api.openai.com/v1").known
        shown.append(backend._http.headers["authorization"])

    assert shown == ["Bearer theirs", "Bearer ours"]


# -- who answers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded engine is not installed."""
    monkeypatch.setattr(resolve, "embedded_installed", lambda: False)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded engine is installed, and nobody has been told yet that it is used."""
    monkeypatch.setattr(resolve, "embedded_installed", lambda: True)
    monkeypatch.setattr(resolve, "_noted", False)


@pytest.mark.parametrize("there", [True, False])
def test_whether_the_engine_is_installed(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked for, and not imported."""
    asked: list[str] = []

    def find(name: str) -> object:
        asked.append(name)
        return object() if there else None

    monkeypatch.setattr(util, "find_spec", find)

    assert resolve.embedded_installed() is there
    assert asked == ["xllamacpp"]


async def test_ollama_that_answers_is_taken(
    fake_ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch, engine: None
) -> None:
    """With nothing named, an Ollama that answers is the upstream; it is asked once."""
    monkeypatch.setattr(resolve, "DEFAULT_URL", fake_ollama.url)
    monkeypatch.setattr(resolve, "PROBE", 60)
    resolver = Resolver()

    first, second = await resolver.get(), await resolver.get()

    assert (first.kind, first.url) == ("ollama", fake_ollama.url)
    assert second is first
    assert [record.path for record in fake_ollama.requests] == ["/api/version"]


@pytest.mark.parametrize("kind", ["refused", "silent", "no accept", "web page", "error"])
async def test_otherwise_the_embedded_engine(
    kind: str, monkeypatch: pytest.MonkeyPatch, engine: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing named and no Ollama within the limit, the embedded engine is taken, and one line says so, once."""
    monkeypatch.setenv("TAILRACE_LANG", "en")
    monkeypatch.setattr(resolve, "PROBE", 0.02)
    page = status(200, "<html></html>", content_type="text/html")
    with Silent() as silent, NeverAccepts() as deaf, FakeOllama() as other:
        for _ in range(2):
            other.script(page if kind == "web page" else status(500, {"error": "no"}), path="/api/version")
        urls = {"silent": silent.url, "no accept": deaf.url, "refused": f"http://127.0.0.1:{closed_port()}"}
        monkeypatch.setattr(resolve, "DEFAULT_URL", urls.get(kind, other.url))

        backends = [await Resolver().get(), await Resolver().get()]

    assert [backend.kind for backend in backends] == ["embedded", "embedded"]
    assert capsys.readouterr().err.count("using the embedded engine") == 1


async def test_without_the_engine_ollama_it_is(monkeypatch: pytest.MonkeyPatch, no_engine: None) -> None:
    """Without the engine the choice is Ollama, whose own error tells how to get one."""
    url = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setattr(resolve, "DEFAULT_URL", url)
    client = AsyncClient()

    with pytest.raises(errors.ConnectionError, match="nothing answers") as caught:
        await client.list()

    assert caught.value.hint.startswith("start Ollama")
    assert client.upstream == url


def test_making_a_client_touches_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a client, of whatever form, opens no socket and resolves no name."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)

    for upstream in (None, "no.such.host.invalid", "openai:http://no.such.host.invalid/v1", "embedded:"):
        assert isinstance(Client(upstream), Client)
        assert isinstance(AsyncClient(upstream), AsyncClient)


@pytest.mark.parametrize("upstream", ["openai:http://h:1/v1?key=hush", "http://h:1?key=hush", "ollama:h?key=hush"])
def test_x8_a_key_in_the_address_is_refused(upstream: str) -> None:
    """It would be shown wherever the upstream is; the error says where keys belong, and does not repeat it."""
    with pytest.raises(errors.RequestError) as caught:
        Resolver(upstream)

    assert "hush" not in f"{caught.value} {caught.value.hint}"
    assert "api_key=" in caught.value.hint
