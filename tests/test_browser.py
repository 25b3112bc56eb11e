"""The browser of the tests: it shows a page, and tells what the page asked for and complained about."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator

import pytest
from tests.browser import Browser

PAGE = b"""<!doctype html><title>t</title><link rel="icon" href="data:,"><p id=p>hello</p>
<script>console.error("oh dear"); fetch("/elsewhere")</script>"""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_what_a_page_does_is_seen(browser: Browser, site: str) -> None:
    """Text, complaints and requests of a page are there to be looked at."""
    with browser.page() as seen:
        with seen.page.expect_response("**/elsewhere"):
            seen.page.goto(site)

        assert seen.page.inner_text("#p") == "hello"
        assert ["oh dear" in complaint for complaint in seen.complaints] == [True]
        assert seen.elsewhere(site) == []
        assert [f"{site}/", f"{site}/elsewhere"] == seen.elsewhere("http://another.test")


def test_other_event_loops_run_while_no_page_is_open(browser: Browser, site: str) -> None:
    """Chromium stays for all tests, and asynchronous ones may come in between."""
    for _ in range(2):
        assert asyncio.run(asyncio.sleep(0, "ran")) == "ran"
        with browser.page() as seen:
            seen.page.goto(site)

            assert seen.page.inner_text("#p") == "hello"
    assert asyncio.run(asyncio.sleep(0, "ran")) == "ran"
