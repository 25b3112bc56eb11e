"""Faults on the way to the upstream: U28."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
from tests.faults.faces import MESSAGES, Face
from tests.rawserver import CERTIFICATE, raw_server

from tailrace.errors import (
    ConnectionError,
)
from tailrace.events import Outcome
from tailrace.testing import (
    FakeOllama,
    closed_port,
)

# U28: the way there


def test_u28_refused(kind: str) -> None:
    """A port where nothing listens is an error that names the address and what to do."""
    port = closed_port()
    seen = Face(kind, f"http://127.0.0.1:{port}").chat()
    shown = seen.broke(ConnectionError, Outcome.FAILED)
    assert shown.startswith(f"nothing answers at http://127.0.0.1:{port} (")
    assert seen.error is not None
    assert "ollama serve" in seen.error.hint


def test_u28_refused_for_single_answers(kind: str) -> None:
    """The same for single answers, as the built-in class too."""
    face = Face(kind, f"http://127.0.0.1:{closed_port()}")
    for method, arguments in (("show", ["m"]), ("list", []), ("chat", ["m", MESSAGES]), ("pull", ["m"])):
        with pytest.raises(ConnectionError, match="nothing answers at http://127") as caught:
            face.call(method, *arguments)
        assert isinstance(caught.value, OSError)


def test_u28_no_such_host(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that nobody knows is an error that names it."""

    def nobody(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    shown = Face(kind, "http://no-such-host.invalid:1").chat().broke(ConnectionError, Outcome.FAILED)
    assert shown == "no such host: http://no-such-host.invalid:1"


ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{"message":{"content":"Hello"},"done":true}\n'


def names(*addresses: str) -> Any:
    """A getaddrinfo that resolves every name to the addresses given."""

    def resolve(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        found = []
        for address in addresses:
            family, rest = (socket.AF_INET6, (0, 0)) if ":" in address else (socket.AF_INET, ())
            found.append((family, socket.SOCK_STREAM, 6, "", (address, int(port), *rest)))
        return found

    return resolve


@pytest.mark.parametrize("order", [("::1", "127.0.0.1"), ("127.0.0.1", "::1")])
@pytest.mark.parametrize("listening", ["::1", "127.0.0.1"])
def test_u28_localhost_has_two_addresses(
    kind: str, order: tuple[str, str], listening: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`localhost` is tried by all of its addresses, whichever comes first and whichever the server listens on."""
    family = socket.AF_INET6 if ":" in listening else socket.AF_INET
    with raw_server(family, listening, ANSWER) as port:
        monkeypatch.setattr(socket, "getaddrinfo", names(*order))
        Face(kind, f"http://localhost:{port}").chat().whole("Hello")


def test_u28_ipv6_by_number(kind: str) -> None:
    """An IPv6 address in brackets is an address."""
    with raw_server(socket.AF_INET6, "::1", ANSWER) as port:
        Face(kind, f"[::1]:{port}").chat().whole("Hello")


PROXIES = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2", "0.0.0.0", "x.localhost", "LOCALHOST"])
def test_u28_proxies_never_catch_loopback(kind: str, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the environment comes between us and this machine, by whatever name it goes."""
    with FakeOllama() as proxy, raw_server(socket.AF_INET, "0.0.0.0", ANSWER) as port:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        if host == "x.localhost":
            monkeypatch.setattr(socket, "getaddrinfo", names("127.0.0.1"))
        Face(kind, f"http://{host}:{port}").chat().whole("Hello")
        assert proxy.requests == []


def test_u28_proxies_are_used_elsewhere(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the environment's proxy means what it says, and NO_PROXY too."""
    with FakeOllama() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        Face(kind, "http://model.invalid:11434").chat()
        assert [request.path for request in proxy.requests] == ["http://model.invalid:11434/api/chat"]
        monkeypatch.setenv("no_proxy", "model.invalid")
        monkeypatch.setattr(socket, "getaddrinfo", names("127.0.0.1"))
        port = closed_port()
        Face(kind, f"http://model.invalid:{port}").chat().broke(ConnectionError, Outcome.FAILED)
        assert len(proxy.requests) == 1


PLAIN = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
LINE = b'{"message":{"content":"Hello"},"done":true}\n'
SAFE = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s" % (len(LINE), LINE)


def test_u28_tls_with_a_server_that_speaks_none(kind: str) -> None:
    """https:// for a server of plain HTTP is an error that names the address and says to check just that."""
    with raw_server(socket.AF_INET, "127.0.0.1", PLAIN) as port:
        seen = Face(kind, f"https://127.0.0.1:{port}").chat()
    shown = seen.broke(ConnectionError, Outcome.FAILED)
    assert shown.startswith(f"TLS with https://127.0.0.1:{port} failed: ")
    assert seen.error is not None
    assert seen.error.hint.startswith("check http:// against https://")


def test_u28_a_certificate_that_nobody_trusts(kind: str) -> None:
    """A certificate that does not hold is an error that says why, and how to trust it all the same."""
    with raw_server(socket.AF_INET, "127.0.0.1", SAFE, tls=True) as port:
        seen = Face(kind, f"https://127.0.0.1:{port}").chat()
    assert "certificate verify failed: self-signed certificate" in seen.broke(ConnectionError, Outcome.FAILED)
    assert seen.error is not None
    assert "verify=" in seen.error.hint


@pytest.mark.parametrize("how", ["context", "False"])
def test_u28_a_certificate_of_ones_own(kind: str, how: str) -> None:
    """It can be trusted, or certificates as such."""
    verify = ssl.create_default_context(cafile=CERTIFICATE) if how == "context" else False
    with raw_server(socket.AF_INET, "127.0.0.1", SAFE, tls=True) as port:
        Face(kind, f"https://localhost:{port}", verify=verify).chat().whole("Hello")
