"""The options of a client, as httpx has them: certificates, authentication, headers, proxies, limits and the rest."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.cookiejar
import shutil
import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.faults.faces import MESSAGES, Face, Upstream
from tests.proxies import HttpProxy, SocksProxy, encrypted
from tests.rawserver import CERTIFICATE

import tailrace
from tailrace import AsyncClient, Client, errors
from tailrace.events import Outcome, Queued
from tailrace.testing import FakeOllama, FakeOpenAI, closed_port, head, hold, html, say, status

PEM = str(CERTIFICATE)
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir")
CALLS: dict[str, tuple[Any, ...]] = {
    "chat": ("m", MESSAGES),
    "generate": ("m", "hi"),
    "embed": ("m", "hi"),
    "embeddings": ("m", "hi"),
    "list": (),
    "ps": (),
    "show": ("m",),
    "version": (),
    "copy": ("m", "n"),
    "delete": ("m",),
    "pull": ("m",),
    "push": ("m",),
    "create": ("n",),
    "default_model": (),
}
OPENAI_CALLS = {name: CALLS[name] for name in ("chat", "generate", "embed", "list", "default_model")}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("TAILRACE_UPSTREAM", "OLLAMA_HOST", "TAILRACE_API_KEY", "OLLAMA_API_KEY", "TAILRACE_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["ollama", "openai"])
def upstream(request: pytest.FixtureRequest) -> Iterator[Upstream]:
    upstream = Upstream(request.param)
    with upstream.server:
        yield upstream


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=["m"]) as server:
        yield server


# -- certificates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "path", "folder", "context", "False", "SSL_CERT_FILE"])
def test_a_certificate_is_trusted_in_each_form(
    kind: str, form: str, server: FakeOllama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path as text or `Path`, a folder as OpenSSL keeps it, a context, none at all, and the environment's file."""
    verify: Any = {"text": PEM, "path": CERTIFICATE, "folder": tmp_path, "False": False}.get(form, True)
    if form == "context":
        verify = ssl.create_default_context(cafile=PEM)
    if form == "folder":
        shutil.copy(CERTIFICATE, tmp_path / f"{_hash_of(CERTIFICATE)}.0")
    if form == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", PEM)
    with encrypted(server.port) as front:
        face = Face(kind, f"https://localhost:{front.port}", verify=verify)
        assert [model.model for model in face.call("list").models] == ["m:latest"]
        face.chat().whole(face.chat().reply.text)


@pytest.mark.parametrize("by", ["verify", "SSL_CERT_FILE"])
def test_a_certificate_is_trusted_whoever_signed_it(
    kind: str, by: str, server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own certificate will do, without that of its authority, on each Python."""
    signed_one = CERTIFICATE.with_name("signed.pem")
    if by == "SSL_CERT_FILE":
        monkeypatch.setenv("SSL_CERT_FILE", str(signed_one))
    with encrypted(server.port, certificate=signed_one) as front:
        verify: Any = signed_one if by == "verify" else True
        face = Face(kind, f"https://localhost:{front.port}", verify=verify)
        assert [model.model for model in face.call("list").models] == ["m:latest"]


def _hash_of(path: Path) -> str:
    """The name by which OpenSSL finds a certificate whose subject is CN=localhost, without the openssl command."""
    # X509_NAME_hash: the first bytes of SHA-1 over the canonical form of the name's parts, in small letters as UTF-8.
    assert "localhost" in path.read_text()
    name = bytes.fromhex("3112301006035504030c09") + b"localhost"
    return f"{int.from_bytes(hashlib.sha1(name).digest()[:4], 'little'):08x}"


def test_only_that_certificate_is_trusted(kind: str, server: FakeOllama, tmp_path: Path) -> None:
    """Without it the error says which option takes it; a folder or a file that is none is refused before."""
    with encrypted(server.port) as front:
        seen = Face(kind, f"https://localhost:{front.port}").chat()
    seen.broke(errors.ConnectionError, Outcome.FAILED)
    assert seen.error is not None
    assert "verify='FILE.pem'" in seen.error.hint
    assert "Ollama" not in seen.error.hint
    (tmp_path / "text.pem").write_text("no certificate")
    for wrong in ("/no/such/file.pem", str(tmp_path), tmp_path / "text.pem", None, 1, "", b"x"):
        for make in (Client, AsyncClient):
            with pytest.raises(errors.RequestError, match="verify"):
                make("https://h", verify=wrong)  # type: ignore[arg-type]


def test_a_certificate_of_another_name(kind: str, server: FakeOllama) -> None:
    """The hint is about the name, not about trust."""
    with encrypted(server.port) as front, SocksProxy() as proxy:
        seen = Face(kind, f"https://model.invalid:{front.port}", verify=PEM, proxy=proxy.url).chat()
    seen.broke(errors.ConnectionError, Outcome.FAILED)
    assert seen.error is not None
    assert (seen.error.about, "write the name" in seen.error.hint) == ("certificate-name", True)


def test_without_the_environment_its_certificates_do_not_count(
    kind: str, server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trust_env=False` leaves SSL_CERT_FILE out."""
    monkeypatch.setenv("SSL_CERT_FILE", PEM)
    with encrypted(server.port) as front:
        face = Face(kind, f"https://localhost:{front.port}", trust_env=False)
        with pytest.raises(errors.ConnectionError, match="certificate verify failed"):
            face.call("list")


def test_a_file_of_the_environment_that_is_not_there(
    kind: str, server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named: OpenSSL passes over it in silence."""
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    with encrypted(server.port) as front:
        face = Face(kind, f"https://localhost:{front.port}")
        with pytest.raises(errors.ConnectionError, match="certificate verify failed") as caught:
            face.call("list")
    assert "SSL_CERT_FILE names /no/such/file.pem" in caught.value.hint


@pytest.mark.parametrize("cert", [PEM, CERTIFICATE, (PEM, PEM), (PEM, PEM, "unused"), [PEM]])
def test_a_certificate_of_ones_own_is_shown(kind: str, server: FakeOllama, cert: Any) -> None:
    """As a path, or with its key and a password."""
    with encrypted(server.port, wants_certificate=True) as front:
        face = Face(kind, f"https://localhost:{front.port}", verify=PEM, cert=cert)
        face.call("list")
        assert front.asked == ["with a certificate"]


def test_a_server_that_wants_a_certificate(kind: str, server: FakeOllama) -> None:
    """Without one the error names the option, for streams and single answers alike."""
    with encrypted(server.port, wants_certificate=True) as front:
        face = Face(kind, f"https://localhost:{front.port}", verify=PEM)
        for call in ("list", "chat"):
            with pytest.raises((errors.ConnectionError, errors.TruncatedError)) as caught:
                face.call(call, *CALLS[call])
            assert "cert=" in caught.value.hint


def test_certificates_of_ones_own_that_are_none(tmp_path: Path) -> None:
    """They are refused when the client is made; a key with a password is not asked for on the terminal."""
    (tmp_path / "text.pem").write_text("no certificate")
    wrong: list[Any] = ["/no/such.pem", (PEM, "/no/such.key"), tmp_path / "text.pem", 1, (), (PEM, 1), {"a": 1}]
    for cert in wrong:
        with pytest.raises(errors.RequestError, match="cert"):
            Client("https://h", cert=cert)


# -- authentication --------------------------------------------------------------------------------------------------


class Token(httpx.Auth):
    """A token that is renewed when it is refused, as httpx's documents show it."""

    def __init__(self) -> None:
        self.tokens = ["old", "new"]

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        request.headers["Authorization"] = f"Bearer {self.tokens.pop(0)}"
        response = yield request
        if response.status_code == 401:
            request.headers["Authorization"] = f"Bearer {self.tokens.pop(0)}"
            yield request


def signed(request: Any) -> Any:
    """Signs what it sees."""
    request.headers["X-Signature"] = f"{request.method} {request.url.path} {len(request.content) > 0}"
    return request


async def signed_later(request: Any) -> Any:
    await asyncio.sleep(0)
    return signed(request)


def signed_in_place(request: Any) -> None:
    signed(request)


BASIC = f"Basic {base64.b64encode('名:p:w'.encode()).decode()}"


@pytest.mark.parametrize(
    "auth", [("名", "p:w"), ["名", "p:w"], (b"\xe5\x90\x8d", b"p:w"), httpx.BasicAuth("名", "p:w")]
)
def test_a_name_and_a_password(kind: str, upstream: Upstream, auth: Any) -> None:
    """They are sent, before what a key or a header of the client's would be."""
    face = Face(kind, upstream.host, auth=auth, api_key="key")
    face.chat()
    face.call("list")
    assert [record.header("authorization") for record in upstream.server.requests] == [BASIC] * 2


@pytest.mark.parametrize("auth", [signed, signed_later, signed_in_place])
def test_a_callable_signs_each_request(kind: str, upstream: Upstream, auth: Any) -> None:
    """It sees method, address and body, and sets headers; it may be a coroutine, and need return nothing."""
    face = Face(kind, upstream.host, auth=auth)
    face.chat()
    face.call("list")
    prefix = "/v1" if upstream.wire == "openai" else "/api"
    paths = ("/chat/completions", "/models") if upstream.wire == "openai" else ("/chat", "/tags")
    expected = [f"POST {prefix}{paths[0]} True", f"GET {prefix}{paths[1]} False"]
    assert expected == [record.header("x-signature") for record in upstream.server.requests]


def test_a_token_that_is_renewed(kind: str) -> None:
    """An httpx.Auth may ask once more after the answer."""
    for call in ("list", "chat"):
        with FakeOpenAI(api_key="new") as server:
            Face(kind, f"openai:{server.base_url}", auth=Token()).call(call, *CALLS[call])
            assert [record.header("authorization") for record in server.requests] == ["Bearer old", "Bearer new"]


def test_digest(kind: str, server: FakeOllama) -> None:
    """httpx's own digest works: the challenge is answered."""
    challenge = 'Digest realm="r", nonce="n", qop="auth", algorithm=SHA-256'
    server.script(status(401, {"error": "no"}, headers={"WWW-Authenticate": challenge}), path="/api/tags")
    Face(kind, server.url, auth=httpx.DigestAuth("me", "pw")).call("list")
    first, second = server.requests
    assert first.header("authorization") is None
    assert (second.header("authorization") or "").startswith(
        'Digest username="me", realm="r", nonce="n", uri="/api/tags"'
    )


def test_a_callable_may_block(server: FakeOllama) -> None:
    """It may ask with a client of ours for a token: it does not run on the loop of the streams."""
    with FakeOllama(models=["token"]) as other:

        def fetched(request: Any) -> Any:
            request.headers["authorization"] = f"Bearer {Client(other.url).list().models[0].model}"
            return request

        Client(server.url, auth=fetched).list()
    assert server.requests[0].header("authorization") == "Bearer token:latest"


def test_authentication_that_is_none(server: FakeOllama) -> None:
    """It is refused when the client is made, or when it returns something else."""
    wrong: list[Any] = ["key", ("a",), ("a", 1), 5, httpx.BasicAuth]
    for auth in wrong:
        with pytest.raises(errors.RequestError, match="auth"):
            Client(server.url, auth=auth)
    with pytest.raises(errors.RequestError, match="auth: it returned str"):
        Client(server.url, auth=lambda _request: "key").list()
    assert server.requests == []


def test_the_way_to_ollama_com_has_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is for the upstream is not sent to ollama.com's own services: only the key is."""
    with HttpProxy(answer=b'HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{"results":[]}') as proxy:
        monkeypatch.setattr("tailrace.client.base._WEB", "http://ollama.example:80/api")
        client = Client("http://h", auth=("me", "pw"), cookies={"a": "b"}, api_key="key", proxy=proxy.url)
        client.web_search("x")
    assert "authorization: Bearer key" in proxy.heads[0]
    assert "cookie" not in proxy.heads[0]


# -- cookies, parameters, headers ------------------------------------------------------------------------------------


def jar() -> http.cookiejar.CookieJar:
    cookies = httpx.Cookies()
    cookies.set("a", "b", domain="127.0.0.1")
    cookies.set("not", "ours", domain="other.example")
    return cookies.jar


@pytest.mark.parametrize("cookies", [{"a": "b"}, [("a", "b")], httpx.Cookies({"a": "b"}), jar()])
def test_cookies(kind: str, upstream: Upstream, cookies: Any) -> None:
    """They go with each request, those of a jar by their domain."""
    face = Face(kind, upstream.host, cookies=cookies)
    face.chat()
    face.call("list")
    assert [record.header("cookie") for record in upstream.server.requests] == ["a=b"] * 2


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({"api-version": "1", "x": True, "n": 2, "e": None}, "api-version=1&x=true&n=2&e="),
        ([("a", "ä b"), ("a", "2")], "a=%C3%A4+b&a=2"),
        ({"a": ["1", "2"]}, "a=1&a=2"),
        ("?a=1", "a=1"),
        (httpx.QueryParams({"a": "1"}), "a=1"),
    ],
)
def test_parameters(kind: str, upstream: Upstream, params: Any, query: str) -> None:
    """They are added to each address."""
    face = Face(kind, upstream.host, params=params)
    face.chat()
    face.call("list")
    assert [query] * 2 == [record.query for record in upstream.server.requests]


@pytest.mark.parametrize(
    "options",
    [
        {"cookies": "a=b"},
        {"cookies": {"a": "b; c=d"}},
        {"cookies": {"a b": "c"}},
        {"cookies": {"a": 1}},
        {"params": 1},
        {"params": {"a": {}}},
        {"headers": {"a b": "c"}},
        {"headers": {"a": "b\r\nc: d"}},
        {"headers": {"a": 1}},
        {"headers": "a: b"},
        {"trust_env": "yes"},
        {"follow_redirects": None},
        {"limits": 0},
        {"limits": "many"},
        {"proxy": {"http": "http://p"}},
        {"proxy": "ftp://p"},
        {"proxy": ""},
        {"proxy": "http://p:x"},
    ],
)
def test_what_has_no_form_is_refused(options: dict[str, Any]) -> None:
    """Each names the argument, when the client is made."""
    for make in (Client, AsyncClient):
        with pytest.raises(errors.RequestError, match=next(iter(options))[:-1]):
            make("http://h", **options)


@pytest.mark.parametrize("call", CALLS)
def test_headers_of_a_call(kind: str, call: str, server: FakeOllama) -> None:
    """Every call takes headers of its own, which come before the client's, and may take one away; the next has none."""
    face = Face(kind, server.url, headers={"X-Mine": "client's", "X-Other": "o"}, api_key="key")
    headers = {"x-mine": "call's", "Authorization": "Bearer other", "X-Other": None}
    face.call(call, *CALLS[call], headers=headers)
    face.call("list")
    first, *_, last = server.requests
    assert tuple(map(first.header, ("x-mine", "authorization", "x-other"))) == ("call's", "Bearer other", None)
    assert tuple(map(last.header, ("x-mine", "authorization", "x-other"))) == ("client's", "Bearer key", "o")


@pytest.mark.parametrize("call", OPENAI_CALLS)
def test_headers_of_a_call_to_another_server(kind: str, call: str) -> None:
    """With an OpenAI-compatible server, too; and a stream takes them like a whole answer."""
    with FakeOpenAI(models=["m"]) as server:
        face = Face(kind, f"openai:{server.base_url}")
        face.call(call, *CALLS[call], headers={"x-mine": "1"})
        if call in ("chat", "generate"):
            face.stream(call, *CALLS[call], headers=[("x-mine", "1")])
        assert {"1"} == {record.header("x-mine") for record in server.requests}


def test_headers_of_a_call_that_cannot_be_sent(kind: str, server: FakeOllama) -> None:
    """They are refused at once, a stream's as well."""
    face = Face(kind, server.url)
    for call in ("chat", "list", "pull"):
        with pytest.raises(errors.RequestError, match="line end"):
            face.call(call, *CALLS[call], headers={"a": "b\nc"})
    with pytest.raises(errors.RequestError, match="line end"):
        face.stream("chat", *CALLS["chat"], headers={"a": "b\nc"})
    assert server.requests == []


# -- proxies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("proxied", ["http", "socks5"])
def test_every_call_goes_through_the_proxy(kind: str, call: str, proxied: str, server: FakeOllama) -> None:
    """What `proxy=` names is asked for every call, this machine included."""
    with HttpProxy() if proxied == "http" else SocksProxy() as proxy:
        Face(kind, f"http://model.invalid:{server.port}", proxy=proxy.url).call(call, *CALLS[call])
        assert len(server.requests) == len(proxy.asked) > 0
        assert all("model.invalid" in line for line in proxy.asked)


@pytest.mark.parametrize("proxied", ["http", "https", "socks5"])
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("by", ["proxy=", "ALL_PROXY"])
def test_proxies_of_each_kind(
    kind: str, proxied: str, secure: bool, by: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of http, of TLS and of SOCKS5, before servers of http and of TLS, with a name and a password."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    made: dict[str, Callable[[], HttpProxy | SocksProxy]] = {
        "http": lambda: HttpProxy("me:p w"),
        "https": lambda: HttpProxy("me:p w", context=context),
        "socks5": lambda: SocksProxy("me:p w"),
    }
    trusting = ssl.create_default_context(cafile=PEM)
    trusting.check_hostname = False
    monkeypatch.setenv("SSL_CERT_FILE", PEM)  # for TLS with the proxy, which is not the server's business
    prefix, path = ("openai:", "/v1") if upstream.wire == "openai" else ("", "")
    with encrypted(upstream.server.port) as front, made[proxied]() as proxy:
        port = front.port if secure else upstream.server.port
        url = f"{prefix}{'https' if secure else 'http'}://model.invalid:{port}{path}"
        address = proxy.with_credentials("me:p%20w").replace("127.0.0.1", "localhost")
        options: dict[str, Any] = {"proxy": address} if by == "proxy=" else {}
        if by == "ALL_PROXY":
            monkeypatch.setenv("ALL_PROXY", address)
        face = Face(kind, url, verify=trusting, **options)
        assert face.chat().reply.text != ""
        assert [f"model.invalid:{port}" in line for line in proxy.asked] == [True]
    assert None is upstream.server.requests[0].header("proxy-authorization")


def test_no_proxy_has_the_last_word_over_the_environment_only(
    kind: str, server: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network in NO_PROXY is reached directly; `proxy=` is asked all the same; `trust_env=False` asks nobody."""
    with HttpProxy() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        Face(kind, server.url).call("list")
        assert proxy.asked == []
        Face(kind, server.url, proxy=proxy.url).call("list")
        assert [f"GET {server.url}/api/tags"] == proxy.asked
        monkeypatch.delenv("NO_PROXY")
        with pytest.raises(errors.ConnectionError, match="no such host"):
            Face(kind, "http://model.invalid", trust_env=False).call("list")
        assert len(proxy.asked) == 1


BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
PAGE = (
    b"HTTP/1.1 503 Unavailable\r\nContent-Type: text/html\r\nContent-Length: 31\r\n\r\n<title>Blocked by firm</title>.."
)
SHUT = b"HTTP/1.1 200 OK\r\nContent-Le"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (BAD_GATEWAY, "{proxy} answered 502: it may not reach http://model.invalid:1/api/"),
        (PAGE, 'through {proxy} answered with a web page ("Blocked by firm")'),
        (b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n", "{proxy} wants a name and a password"),
        (SHUT, "through {proxy} closed the connection before it answered"),
    ],
)
@pytest.mark.parametrize("call", ["chat", "list"])
def test_an_error_names_the_proxy(kind: str, call: str, answer: bytes, words: str) -> None:
    """Whatever the proxy says in place of the server: the error names it, and what to correct, and never Ollama."""
    with HttpProxy(answer=answer) as proxy:
        with pytest.raises(errors.TailraceError) as caught:
            Face(kind, "http://model.invalid:1", proxy=proxy.url).call(call, *CALLS[call])
        assert words.format(proxy=f"the proxy {proxy.url}") in str(caught.value)
        assert "ollama serve" not in caught.value.hint
        if answer is not SHUT:
            assert "proxy=" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "words", "hint"),
    [
        (BAD_GATEWAY, "{proxy} refuses: status 502, it does not reach model.invalid:1", "correct HTTPS_PROXY, or add "),
        (
            b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
            "it does not lead to model.invalid:1",
            "model.invalid to NO_",
        ),
        (
            b"HTTP/1.1 407 Who?\r\nContent-Length: 0\r\n\r\n",
            "wants a name and a password",
            "HTTPS_PROXY=http://NAME:PASS",
        ),
    ],
)
def test_a_tunnel_that_is_refused(
    kind: str, answer: bytes, words: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same before servers of TLS."""
    with HttpProxy(answer=answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        seen = Face(kind, "https://model.invalid:1").chat()
    assert words.format(proxy=f"the proxy {proxy.url}") in seen.broke(errors.ConnectionError, Outcome.FAILED)
    assert seen.error is not None
    assert hint in seen.error.hint


def test_a_way_over_socks_that_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply of the proxy's, a password that is wrong or missing, and a proxy that is gone."""
    url = "http://model.invalid:1"
    with SocksProxy(reply=4) as proxy:
        text = Face(kind, url, proxy=proxy.url).chat().broke(errors.ConnectionError, Outcome.FAILED)
        assert f"the proxy {proxy.url} refuses the way to model.invalid:1: Host unreachable" == text
    with SocksProxy("me:pw") as proxy:
        for address in (proxy.url, proxy.with_credentials("me:no")):
            seen = Face(kind, url, proxy=address).chat()
            assert proxy.url in seen.broke(errors.ConnectionError, Outcome.FAILED)
            assert seen.error is not None
            assert seen.error.about == "proxy-key"
    monkeypatch.setenv("ALL_PROXY", f"socks://127.0.0.1:{closed_port()}")
    seen = Face(kind, url).chat()
    assert "nothing answers at the proxy socks5://127.0.0.1:" in seen.broke(errors.ConnectionError, Outcome.FAILED)
    assert seen.error is not None
    assert seen.error.hint == "correct ALL_PROXY, or add model.invalid to NO_PROXY"


def test_without_the_library_of_socks(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named; `proxy=` is refused when the client is made."""
    import sys

    monkeypatch.setitem(sys.modules, "python_socks", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    with pytest.raises(errors.ConnectionError, match="needs python-socks") as caught:
        Face(kind, "http://model.invalid").call("list")
    assert "tailrace[socks]" in caught.value.hint
    with pytest.raises(errors.RequestError, match="needs python-socks"):
        Client("http://h", proxy="socks5h://p")


def test_a_proxy_that_says_nothing(kind: str) -> None:
    """The time limit's error names it."""
    from tailrace.testing import Silent

    with Silent() as silent:
        limits = tailrace.Timeouts(connect=0.2, first_token=0.2)
        seen = Face(kind, "https://model.invalid", proxy=silent.url, timeout=limits).chat()
        shown = str(seen.error)
        with pytest.raises(errors.TimedOutError, match="through the proxy"):
            Face(kind, "https://model.invalid", proxy=silent.url, timeout=limits).call("list")
    assert shown in (f"no connection through the proxy {silent.url} within 0.2 s", "no first token within 0.2 s")


def test_an_httpx_proxy_is_one(kind: str, server: FakeOllama) -> None:
    """With what it carries: a password and headers."""
    with HttpProxy("me:pw") as proxy:
        given = httpx.Proxy(proxy.url, auth=("me", "pw"), headers={"X-Tenant": "t"})
        Face(kind, server.url, proxy=given).call("list")
        assert "X-Tenant: t" in proxy.heads[0] or "x-tenant: t" in proxy.heads[0]


# -- limits, and what is not taken -----------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [1, httpx.Limits(max_connections=1, max_keepalive_connections=0)])
def test_only_so_many_at_once(kind: str, server: FakeOllama, limits: Any) -> None:
    """The next run waits, and says so; what leaves its place, however it ends, lets the next one in."""
    server.script(say("one"), hold(), say("!"))
    server.script(say("two"))
    if kind == "sync":
        client = Client(server.url, limits=limits)
        first = client.chat("m", MESSAGES, stream=True)
        assert next(iter(first.text_stream)) == "one"
        second = client.chat("m", MESSAGES, stream=True)
        events = second.events()
        assert isinstance(next(events), Queued)
        assert len(server.requests) == 1
        first.cancel()
        assert second.wait().text == "two"
        client.list()
        return

    async def run() -> None:
        client = AsyncClient(server.url, limits=limits)
        first = await client.chat("m", MESSAGES, stream=True)
        assert await anext(aiter(first.text_stream)) == "one"
        second = await client.chat("m", MESSAGES, stream=True)
        assert isinstance(await anext(aiter(second.events())), Queued)
        listing = asyncio.create_task(client.list())
        leaving = asyncio.create_task(client.list())
        await asyncio.sleep(0)
        leaving.cancel()
        assert len(server.requests) == 1
        await first.cancel()
        assert (await second.wait()).text == "two"
        assert [model.model for model in (await listing).models] == ["m:latest"]

    asyncio.run(run())


def test_a_limit_holds_for_all_threads_and_loops(server: FakeOllama) -> None:
    """One client in many threads, each with a loop of its own: there is never more than one connection."""
    client = AsyncClient(server.url, limits=1)
    threads = [threading.Thread(target=lambda: asyncio.run(_ask(client))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 8


async def _ask(client: AsyncClient) -> None:
    await client.list()


@pytest.mark.parametrize("make", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("name", "value", "instead"),
    [
        ("transport", object(), "tailrace.testing.FakeOllama"),
        ("mounts", {"http://": object()}, "NO_PROXY"),
        ("event_hooks", {"request": [print]}, "tailrace.telemetry"),
        ("proxies", "http://p", "proxy="),
        ("http2", True, "HTTP/1.1"),
        ("base_url", "http://h", "host"),
        ("max_redirects", 3, "follow_redirects"),
    ],
)
def test_what_cannot_be_says_what_to_use(make: Callable[..., Any], name: str, value: Any, instead: str) -> None:
    """Arguments of httpx that have no meaning here are refused with what has; their defaults are no mistake."""
    with pytest.raises(errors.RequestError, match=f"{name}= is not taken") as caught:
        make("http://h", **{name: value})
    assert instead in caught.value.hint
    make("http://h", **{name: None})


def test_httpx_defaults_and_what_nobody_knows() -> None:
    """Defaults written out are taken; a name that nobody has is Python's own error."""
    Client("http://h", http1=True, http2=False, event_hooks={"request": []}, mounts={}, default_encoding="utf-8")
    with pytest.raises(TypeError, match="unexpected keyword argument 'verfy'"):
        Client("http://h", verfy=False)


# -- a closed client -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [*CALLS, "web_search", "find_upstream", "create_blob"])
def test_a_closed_client_says_so(kind: str, call: str, server: FakeOllama, tmp_path: Path) -> None:
    """Every call does, at once; it is what programs for httpx catch, and ours."""
    (tmp_path / "blob").write_bytes(b"x")
    arguments = {"web_search": ("x",), "create_blob": (tmp_path / "blob",)}.get(call, CALLS.get(call, ()))
    face = Face(kind, server.url, api_key="key")
    face.call("close")
    with pytest.raises(errors.ClientClosedError, match="this client is closed") as caught:
        face.call(call, *arguments)
    assert isinstance(caught.value, (RuntimeError, errors.RequestError))
    assert caught.value.hint
    assert server.requests == []


def test_closed_by_its_block(server: FakeOllama) -> None:
    """The end of a `with` block closes; a stream that has begun goes on to its end."""
    server.script(head(), say("one"), hold(), say(" two"))
    with Client(server.url) as client:
        stream = client.chat("m", MESSAGES, stream=True)
        pieces = iter(stream.text_stream)
        assert next(pieces) == "one"
    server.release()
    assert list(pieces) == [" two"]
    assert client.is_closed
    with pytest.raises(errors.ClientClosedError):
        client.chat("m", MESSAGES, stream=True)
    with pytest.raises(errors.ClientClosedError):
        client.__enter__()


# -- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["chat", "list", "pull"])
def test_a_key_that_is_missing_or_wrong(kind: str, call: str, server: FakeOllama) -> None:
    """A 401 asks for the key, or says that the one sent is not taken, as JSON, without a word, or as a web page."""
    paths = {"chat": "/api/chat", "list": "/api/tags", "pull": "/api/pull"}
    for step in (
        status(401, {"error": "no"}),
        status(401, b""),
        html("<title>401 Authorization Required</title>", 401),
    ):
        for key, about, words in ((None, "key", "give a key"), ("k", "wrong-key", "is not taken")):
            server.script(step, path=paths[call])
            with pytest.raises(errors.ResponseError) as caught:
                Face(kind, server.url, api_key=key).call(call, *CALLS[call])
            assert (401, about) == (caught.value.status_code, caught.value.about)
            assert words in caught.value.hint


def test_a_model_of_the_cloud(kind: str, server: FakeOllama) -> None:
    """An Ollama that is not signed in at ollama.com needs no key of ours."""
    body = {"error": "unauthorized", "signin_url": "https://ollama.com/connect"}
    server.script(status(401, body), path="/api/chat")
    with pytest.raises(errors.ResponseError, match="unauthorized") as caught:
        Face(kind, server.url).call("chat", *CALLS["chat"])
    assert "ollama signin" in caught.value.hint
