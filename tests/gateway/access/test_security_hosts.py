"""The door on bare sockets: by which names a request may come (X5), from whose pages (X6), and what else it checks."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from tests.gateway.knocking import Told, ask, knock
from tests.gateway.serving import Gateway, serving

from tailrace.errors import RequestError
from tailrace.gateway.access.hosts import HostNames, Origins, client_of
from tailrace.protocols.problems import ProblemError
from tailrace.testing import done, hold, say

EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def told_more() -> Iterator[Gateway]:
    """One that goes by another name too, and lets another site's pages ask."""
    options = ("--allow-host", "chat.example.com", "--allow-origin", "https://app.example.com/")
    with serving(*options) as running:
        yield running


def refused(gateway: Gateway, told: Told, status: int = 403) -> None:
    """It was answered so, and no run began."""
    assert status == told.status, told.body
    assert gateway.call("GET", "/runs").json == {"runs": []}
    assert gateway.asked == 0


# -- X5: names -------------------------------------------------------------------------------------------------------

OURS = [
    *("localhost", "localhost:8080", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.0.0.1:1", "127.1.2.3"),
    *(
        "[::1]",
        "[::1]:8080",
        "192.168.1.5",
        "10.0.0.1:80",
        "0.0.0.0",
        "[fe80::1]",
        "printer.local",
        "host.docker.internal",
    ),
    socket.gethostname(),
]
OTHERS = [
    *("evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost", "local"),
    *("8.8.8.8", "[2001:4860:4860::8888]", "127.1", "2130706433", "0x7f000001", "xn--localhost-.example"),
]
NO_HOSTS = [
    *("localhost@evil.example", "localhost:80@evil.example", "evil.example/localhost", "evil.example#localhost"),
    *("[::1].evil.example", "[::1", "::1", "localhost evil.example", "localhost:port", "localhost,evil.example"),
    *("localhost?", "localhost:123456", "l\u00f6calhost", "evil.example%2elocalhost"),
]


@pytest.mark.parametrize("host", OURS)
def test_x5_names_of_this_machine(gateway: Gateway, host: str) -> None:
    """What leads to this machine whoever looks it up, the names of Ollama's own list, is let in."""
    assert knock(gateway.url, "GET /models HTTP/1.1", [f"Host: {host}"]).status == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/static/main.js", "/runs", "/v1/models", "/api/tags", "/nowhere"])
@pytest.mark.parametrize("host", OTHERS[:3])
def test_x5_a_rebound_name_is_refused_everywhere(gateway: Gateway, path: str, host: str) -> None:
    """A page whose name was made to point here gets nothing at all: the name is checked on every route."""
    told = knock(gateway.url, f"GET {path} HTTP/1.1", [f"Host: {host}"])
    assert (told.status, b"--allow-host" in told.body) == (403, True)


@pytest.mark.parametrize("host", OTHERS)
def test_x5_a_rebound_name_starts_nothing(gateway: Gateway, host: str) -> None:
    """Nor does it start a run, though its browser takes it for the same origin."""
    refused(gateway, ask(gateway.url, f"Origin: http://{host}", "Sec-Fetch-Site: same-origin", host=host))


@pytest.mark.parametrize("host", NO_HOSTS)
def test_x5_what_is_no_host(gateway: Gateway, host: str) -> None:
    """A Host header that others may read differently is no host."""
    refused(gateway, ask(gateway.url, host=host), 400)


@pytest.mark.parametrize(
    "lines", [["Host: localhost", "Host: evil.example"], ["Host: localhost", "Host: localhost"], []]
)
def test_x5_one_host(gateway: Gateway, lines: list[str]) -> None:
    """Two Host headers, or none in HTTP/1.1, are refused: nobody knows which one the next server believes."""
    refused(gateway, knock(gateway.url, "POST /runs HTTP/1.1", lines, b'{"message": "hi"}'), 400)


@pytest.mark.parametrize("target", [f"{EVIL}/runs", "http://localhost@evil.example/runs", "http://localhost:1/runs"])
def test_x5_a_target_that_names_another_host(gateway: Gateway, target: str) -> None:
    """The request line may name the host as to a proxy; it is the one of the Host header, or none of ours."""
    refused(gateway, knock(gateway.url, f"POST {target} HTTP/1.1", body=b'{"message": "hi"}'), 400)
    assert knock(gateway.url, "GET http://LOCALHOST/healthz HTTP/1.1").status == 200


def test_x5_an_old_client_without_a_host(gateway: Gateway) -> None:
    """HTTP/1.0 has no Host; no browser speaks it."""
    assert knock(gateway.url, "GET /healthz HTTP/1.0", []).status == 200


def test_x5_another_name_by_option(told_more: Gateway) -> None:
    """``--allow-host`` lets one name in, and no name below it."""
    seen = {
        host: knock(told_more.url, "GET /healthz HTTP/1.1", [f"Host: {host}"]).status
        for host in ("chat.example.com", "Chat.Example.COM.:443", "x.chat.example.com", "example.com")
    }
    assert list(seen.values()) == [200, 200, 403, 403]


def test_x5_the_address_that_was_reached() -> None:
    """An address is no name that could be made to point here: the one that a request came to is ours too."""
    HostNames().check("8.8.8.8:8080", "8.8.8.8")
    with pytest.raises(ProblemError):
        HostNames().check("8.8.4.4:8080", "8.8.8.8")


def test_x5_any_name_by_option() -> None:
    """``*`` is for who has a proxy in front that checks, or keys."""
    HostNames(["*"]).check("whatever.example", "")
    with pytest.raises(RequestError):
        HostNames(["http://chat.example.com"])


# -- X6: pages of other sites ----------------------------------------------------------------------------------------

FORMS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"]
ROUTES = ["/runs", "/chat/stream", "/v1/chat/completions", "/api/chat", "/ai/chat", "/conversations", "/render"]


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize(
    "origin", [EVIL, "null", "http://localhost", "http://localhost:1", "https://localhost", "file://"]
)
def test_x6_a_post_of_another_site(gateway: Gateway, kind: str, origin: str) -> None:
    """A page of any other origin, as near as it may be, starts nothing, whatever it says its body is."""
    refused(gateway, ask(gateway.url, f"Origin: {origin}", host="localhost:8080", kind=kind))


@pytest.mark.parametrize("path", ROUTES)
def test_x6_no_route_is_forgotten(gateway: Gateway, path: str) -> None:
    """The door stands before all routes."""
    refused(gateway, ask(gateway.url, f"Origin: {EVIL}", path=path))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_x6_what_the_browser_says(gateway: Gateway, site: str) -> None:
    """A browser that says whose page it is counts, with and without an Origin."""
    refused(gateway, ask(gateway.url, f"Sec-Fetch-Site: {site}"))
    refused(gateway, ask(gateway.url, f"Sec-Fetch-Site: {site}", "Origin: http://localhost"))
    refused(gateway, knock(gateway.url, "DELETE /runs/x HTTP/1.1", ["Host: localhost", f"Sec-Fetch-Site: {site}"]))


def test_x6_another_site_may_link_here(gateway: Gateway) -> None:
    """A link to the page works; an image, a script or a request of another site's page gets nothing."""
    seen = {}
    for mode in ("navigate", "no-cors", "cors"):
        lines = ["Host: localhost", "Sec-Fetch-Site: cross-site", f"Sec-Fetch-Mode: {mode}"]
        seen[mode] = knock(gateway.url, "GET / HTTP/1.1", lines).status
    assert seen == {"navigate": 200, "no-cors": 403, "cors": 403}


@pytest.mark.parametrize("kind", FORMS[:3])
def test_x6_an_old_browser_that_says_nothing(gateway: Gateway, kind: str) -> None:
    """One that sends no Origin with a form gets in with no form; programs may send what they like."""
    refused(gateway, ask(gateway.url, "User-Agent: Mozilla/5.0 (X11)", kind=kind), 415)


def test_x6_our_own_pages_and_programs(gateway: Gateway) -> None:
    """The same origin is let in however it is written, as is who is no browser."""
    bodies = [
        ask(gateway.url, path="/render", kind="text/plain"),
        ask(gateway.url, "Origin: http://localhost", path="/render"),
        ask(gateway.url, "Origin: HTTP://LOCALHOST:80", path="/render"),
        ask(gateway.url, "Origin: http://127.0.0.1:8080", path="/render", host="127.0.0.1:8080"),
        ask(gateway.url, "Origin: https://localhost", "Sec-Fetch-Site: same-origin", path="/render"),
        ask(gateway.url, "Origin: null", "Sec-Fetch-Site: same-origin", path="/render"),
    ]
    assert [200] * len(bodies) == [told.status for told in bodies]
    assert not any("access-control-allow-origin" in told.headers for told in bodies)


def test_x6_no_preflight_by_default(gateway: Gateway) -> None:
    """A browser that asks whether a page may ask is told no."""
    lines = ["Host: localhost", f"Origin: {EVIL}", "Access-Control-Request-Method: POST"]
    told = knock(gateway.url, "OPTIONS /runs HTTP/1.1", lines)
    assert (told.status, "access-control-allow-origin" in told.headers) == (403, False)


def test_x6_one_site_by_option(told_more: Gateway) -> None:
    """``--allow-origin`` lets one site's pages ask and read, never with credentials, and no other's."""
    app = "https://app.example.com"
    lines = ["Host: localhost", f"Origin: {app}", "Access-Control-Request-Method: POST"]
    asked = knock(
        told_more.url, "OPTIONS /runs HTTP/1.1", [*lines, "Access-Control-Request-Headers: x-a, authorization"]
    )
    told = ask(told_more.url, f"Origin: {app}", "Sec-Fetch-Site: cross-site", path="/render")

    assert (asked.status, asked.headers["access-control-allow-headers"]) == (204, "x-a, authorization")
    assert told.status == 200
    for answer in (asked, told):
        assert answer.headers["access-control-allow-origin"] == app
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
    for other in (EVIL, "https://app.example.com.evil.example", "http://app.example.com", "null"):
        refused(told_more, ask(told_more.url, f"Origin: {other}"))


def test_x6_an_error_can_be_read_by_who_may_ask(told_more: Gateway) -> None:
    """A page that may ask reads refusals as well, of the door and of the routes."""
    lines = ["Host: localhost", "Origin: https://app.example.com", "X-Priority: urgent"]
    for request, status in (("GET /runs/x HTTP/1.1", 404), ("GET /runs HTTP/1.1", 400)):
        told = knock(told_more.url, request, lines if status == 400 else lines[:2])
        assert (told.status, told.headers["access-control-allow-origin"]) == (status, "https://app.example.com")


def test_x6_null_cannot_be_allowed() -> None:
    """``null`` is what any site's sandboxed frame says; all sites are ``*``."""
    for wrong in ("null", "example.com", ""):
        with pytest.raises(RequestError):
            Origins([wrong])
    assert Origins(["*"]).check("null", "http://localhost", "", safe=False, going=False) == "null"


# -- who is in front ---------------------------------------------------------------------------------------------------


def test_who_a_client_is_cannot_be_made_up() -> None:
    """Without ``--proxy`` nobody says for himself who he is, and so is several clients."""
    with serving("--max-per-key", "1") as gateway:
        gateway.start(say("x"), hold())
        told = ask(gateway.url, "X-Forwarded-For: 203.0.113.9", "Forwarded: for=203.0.113.9", "X-Real-IP: 203.0.113.9")
        assert told.status == 429
        gateway.upstream.release()


def test_a_proxy_that_is_named_is_believed() -> None:
    """With ``--proxy`` its clients are told apart, and its own origin is the one that the browser sees."""
    with serving("--max-per-key", "1", "--proxy", "127.0.0.1", "--allow-host", "chat.example.com") as gateway:
        gateway.start(say("x"), hold(), done())
        own = ("Origin: https://chat.example.com", "X-Forwarded-Proto: https")
        assert ask(gateway.url, *own, "X-Forwarded-For: 203.0.113.9", host="chat.example.com").status == 201
        assert ask(gateway.url, *own, host="chat.example.com").status == 429
        assert ask(gateway.url, own[0], host="chat.example.com").status == 403
        gateway.upstream.release()


def test_who_shares_a_place_in_the_queue() -> None:
    """An address of IPv6 stands for its network, of which anybody has more than he can use."""
    assert client_of("2001:db8:1:2:3:4:5:6") == client_of("2001:db8:1:2::1") == "2001:db8:1:2::/64"
    assert client_of("::ffff:10.0.0.1") == client_of("10.0.0.1") == "10.0.0.1"
    assert client_of("") == ""


def test_priority_is_one_of_two(gateway: Gateway) -> None:
    """A word that means nothing here is refused, not ignored."""
    refused(gateway, ask(gateway.url, "X-Priority: urgent"), 400)
    refused(gateway, ask(gateway.url, "X-Priority: batch", "X-Priority: interactive"), 400)
