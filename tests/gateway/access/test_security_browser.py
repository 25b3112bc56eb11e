"""Pages of other sites in a real browser (X6): what they try gets nothing, and with ``--allow-origin`` it works."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import Page
from tests.browser import PATIENCE, REBOUND, Browser
from tests.gateway.serving import Gateway, serving

from tailrace.testing import done, say

# What a page can try. Each tells what came of it: the text that it could read, or the error.
TRIES = {
    "JSON, with a preflight": """async url => (await fetch(url + "/runs", {method: "POST", body: '{"message": "hi"}',
        headers: {"Content-Type": "application/json"}})).text()""",
    "text, without one": """async url => (await fetch(url + "/runs", {method: "POST",
        body: '{"message": "hi"}'})).text()""",
    "blind": """async url => (await fetch(url + "/chat/stream?message=hi", {method: "POST", mode: "no-cors",
        body: '{"message": "hi"}'})).text()""",
    "with credentials": """async url => (await fetch(url + "/runs", {method: "POST", credentials: "include",
        body: '{"message": "hi"}'})).text()""",
    "of a model": """async url => (await fetch(url + "/api/generate", {method: "POST",
        body: '{"model": "m", "prompt": "hi"}'})).text()""",
    "reading": """async url => (await fetch(url + "/v1/models")).text()""",
    "what outlives the page": """async url => (await fetch(url + "/runs", {method: "POST", keepalive: true,
        mode: "no-cors", body: '{"message": "hi"}'})).text()""",
    "events": """url => new Promise(resolve => {
        const source = new EventSource(url + "/runs/x/events");
        source.onmessage = event => resolve(event.data);
        source.onerror = () => { source.close(); resolve("error"); };
    })""",
    "a script": """url => new Promise(resolve => {
        const script = document.createElement("script");
        script.src = url + "/static/main.js";
        script.onload = () => resolve("it ran");
        script.onerror = () => resolve("error");
        document.head.append(script);
    })""",
}


# A form whose body is JSON, as far as a form can, and which sends itself.
FORM = """<!doctype html><title>Another site</title><form method=post enctype={kind} action="{action}">
<input name='{{"message": "hi", "x": "' value='"}}'></form>"""


class _Site(http.server.BaseHTTPRequestHandler):
    """A site of one page: empty, or with a form that is sent at once."""

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        page = FORM.format(**asked) + "<script>document.forms[0].submit()</script>" if asked else "<!doctype html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        if self.path.startswith("/sandboxed"):  # its origin is null
            self.send_header("Content-Security-Policy", "sandbox allow-forms allow-scripts")
        self.end_headers()
        self.wfile.write(page.encode())

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@contextmanager
def site() -> Iterator[int]:
    """Another site; yields its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[int]:
    with site() as port:
        yield port


@pytest.fixture(scope="module")
def gateway(elsewhere: int) -> Iterator[Gateway]:
    """One that lets the pages of localhost ask, and those of 127.0.0.1, another origin, not."""
    with serving("--allow-origin", f"http://localhost:{elsewhere}") as running:
        running.upstream.always(say("Hello"), done(), path="/api/chat")
        yield running


def tried(page: Page, script: str, url: str) -> str:
    """What came of it, in the page's eyes."""
    told = page.evaluate(f"url => Promise.resolve(({script})(url)).catch(error => 'error')", url)
    assert isinstance(told, str)
    return told


def started(gateway: Gateway) -> int:
    """How many runs have been started."""
    return len(gateway.call("GET", "/runs").json["runs"])


@pytest.mark.parametrize("name", TRIES)
def test_x6_another_sites_page_gets_nothing(browser: Browser, gateway: Gateway, elsewhere: int, name: str) -> None:
    """Whatever its page tries, with a preflight or without: nothing starts, and it reads nothing."""
    before = started(gateway)
    with browser.page() as seen:
        seen.page.goto(f"http://127.0.0.1:{elsewhere}/")
        told = tried(seen.page, TRIES[name], gateway.url)

    assert told in ("", "error")
    assert started(gateway) == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
@pytest.mark.parametrize("page", ["page", "sandboxed"])
def test_x6_another_sites_form_starts_nothing(
    browser: Browser, gateway: Gateway, elsewhere: int, kind: str, page: str
) -> None:
    """A form that a page sends by itself is refused, also from a page whose origin is ``null``."""
    before = started(gateway)
    form = urlencode({"kind": kind, "action": f"{gateway.url}/chat/stream?message=hi"})
    with browser.page() as seen:
        with seen.page.expect_response(lambda response: "/chat/stream" in response.url, timeout=PATIENCE) as waiting:
            seen.page.goto(f"http://127.0.0.1:{elsewhere}/{page}?{form}", wait_until="commit")
        assert waiting.value.status == 403

    assert started(gateway) == before


def test_x6_a_site_that_is_allowed(browser: Browser, gateway: Gateway, elsewhere: int) -> None:
    """The page of the one origin that ``--allow-origin`` names asks with a preflight, and reads the answer."""
    ask = """async url => {
        const answer = await fetch(url + "/chat/stream", {method: "POST", body: '{"message": "hi", "model": "m"}',
            headers: {"Content-Type": "application/json", "X-Priority": "batch", "X-Stainless-Lang": "js"}});
        return answer.headers.get("Location") + " " + await answer.text();
    }"""
    before = started(gateway)
    with browser.page() as seen:
        seen.page.goto(f"http://localhost:{elsewhere}/")
        told = tried(seen.page, ask, gateway.url)

    assert told.startswith("/runs/run_")
    assert '"content":"Hello"' in told
    assert started(gateway) == before + 1


def test_x5_a_rebound_page(browser: Browser, gateway: Gateway) -> None:
    """A page whose own name was made to point here is of the same origin, in its browser's eyes; not in ours."""
    before = started(gateway)
    with browser.page() as seen:
        answer = seen.page.goto(f"http://{REBOUND}:{gateway.url.rpartition(':')[2]}/")
        status, text = seen.page.evaluate("""async () => {
            const answer = await fetch("/runs", {method: "POST", body: '{"message": "hi"}'});
            return [answer.status, await answer.text()];
        }""")

    assert answer is not None
    assert (answer.status, status) == (403, 403)
    assert "does not go by that name" in text
    assert started(gateway) == before
