"""Which proxy stands before a server: the environment's variables, and what NO_PROXY may say."""

from __future__ import annotations

import pytest

from tailrace.transport.proxies import Proxy, environment_proxy

NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("variables", "tls", "url", "setting"),
    [
        ({"HTTP_PROXY": "http://p:1"}, False, "http://p:1", "HTTP_PROXY"),
        ({"HTTP_PROXY": "http://p:1"}, True, None, None),
        ({"HTTPS_PROXY": "http://p:1"}, True, "http://p:1", "HTTPS_PROXY"),
        ({"ALL_PROXY": "http://p:1"}, False, "http://p:1", "ALL_PROXY"),
        ({"all_proxy": "socks5://p"}, True, "socks5://p:1080", "ALL_PROXY"),
        ({"ALL_PROXY": "socks://p:7891/"}, True, "socks5://p:7891", "ALL_PROXY"),
        ({"ALL_PROXY": "http://a:1", "https_proxy": "https://b"}, True, "https://b:443", "HTTPS_PROXY"),
        ({"ALL_PROXY": "http://a:1", "https_proxy": "https://b"}, False, "http://a:1", "ALL_PROXY"),
        ({"HTTP_PROXY": "http://a:1", "http_proxy": ""}, False, None, None),
        ({"http_proxy": "p"}, False, "http://p:80", "HTTP_PROXY"),
        ({"http_proxy": "me:s%40crt@[::1]:8"}, False, "http://[::1]:8", "HTTP_PROXY"),
        ({"http_proxy": ""}, False, None, None),
    ],
)
def test_which_variable_counts(
    variables: dict[str, str], tls: bool, url: str | None, setting: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the scheme, else ALL_PROXY; small letters come first, and empty ones take away."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = environment_proxy("model.example", 11434, tls)
    assert ((url, setting)) == ((proxy.url, proxy.setting) if proxy is not None else (None, None))


@pytest.mark.parametrize(
    ("rules", "host", "port", "tls", "direct"),
    [
        ("*", "a.example", 80, False, True),
        ("a.example", "a.example", 80, False, True),
        ("a.example", "b.a.example", 80, False, True),
        ("a.example", "ba.example", 80, False, False),
        (".a.example", "b.a.example", 80, False, True),
        (".a.example", "a.example", 80, False, True),
        ("*.a.example", "b.a.example", 80, False, True),
        ("*.a.example", "a.example", 80, False, False),
        ("A.Example.", "a.example", 80, False, True),
        ("köln.example", "xn--kln-sna.example", 80, False, True),
        ("x, a.example ,y", "a.example", 80, False, True),
        ("x;a.example", "a.example", 80, False, True),
        ("x a.example", "a.example", 80, False, True),
        (" , ,", "a.example", 80, False, False),
        ("a.example:80", "a.example", 80, False, True),
        ("a.example:80", "a.example", 81, False, False),
        ("https://a.example", "a.example", 443, True, True),
        ("https://a.example", "a.example", 80, False, False),
        ("all://a.example", "a.example", 80, False, True),
        ("http://a.example:80", "a.example", 80, False, True),
        ("192.168.0.0/16", "192.168.250.7", 80, False, True),
        ("192.168.1.7/16", "192.168.250.7", 80, False, True),
        ("192.168.0.0/16", "192.169.0.1", 80, False, False),
        ("192.168.0.0/99", "192.168.0.1", 80, False, False),
        ("192.168.0.0/16", "192.168.example", 80, False, False),
        ("192.168.0.1", "192.168.0.1", 80, False, True),
        ("192.168.0.1:80", "192.168.0.1", 80, False, True),
        ("192.168.0.1:80", "192.168.0.1", 81, False, False),
        ("192.168.*", "192.168.4.5", 80, False, True),
        ("10.*", "110.1.2.3", 80, False, False),
        ("8.0.1", "192.168.0.1", 80, False, False),
        ("fd00::/8", "fd12::5", 80, False, True),
        ("[fd00::]/8", "fd12::5", 80, False, True),
        ("fd00::/8", "192.168.0.1", 80, False, False),
        ("2001:db8::5", "2001:db8:0::5", 80, False, True),
        ("[2001:db8::5]", "2001:db8::5", 80, False, True),
        ("[2001:db8::5]:80", "2001:db8::5", 81, False, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 80, False, True),
        ("<local>", "nas", 80, False, True),
        ("<local>", "a.example", 80, False, False),
        ("<local>", "10.0.0.1", 80, False, False),
    ],
)
def test_no_proxy(rules: str, host: str, port: int, tls: bool, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and what is below them, addresses, networks, ports, schemes and wildcards, however they are listed."""
    monkeypatch.setenv("ALL_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", rules)
    assert direct == (environment_proxy(host, port, tls) is None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ftp://me:secret@p:1", "'ftp://p:1' is of no kind we know: http, https, socks4"),
        ("http://", "'http://' names no host"),
        ("http://p:x", "'http://p:x' has a port that is none"),
        ("http://p:99999", "'http://p:99999' has a port that is none"),
        ("", "names no host"),
        ("http://a b", "names no host"),
    ],
)
def test_proxies_that_are_none(given: str, words: str) -> None:
    """They are refused, without the password."""
    with pytest.raises(ValueError, match=words[:20]) as caught:
        Proxy.of(given)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_proxy_shows_no_password() -> None:
    """Neither as text nor in a debugger."""
    proxy = Proxy.of("http://me:secret@p:1")
    assert proxy.request_headers() == {"proxy-authorization": "Basic bWU6c2VjcmV0"}
    assert "secret" not in f"{proxy} {proxy!r} {proxy.hint('h')} {proxy.key_hint}"
