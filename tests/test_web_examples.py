"""The example pages in a real browser: they print the answer, read on after a loss, and stop the model.

What the example servers do for other readers is in tests/web/test_web_examples.py.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser import Browser, Seen
from tests.conftest import give_up
from tests.page.gateway import Gateway
from tests.page.line import Line
from tests.programs import need
from tests.web.process import running
from tests.web.reader import PATIENCE

from tailrace.testing import FakeOllama, Record, closed_port, error, hold, say, stall, think

FOLDER = Path(__file__).resolve().parents[1] / "examples"
PIECES = ["One ", "línea\n", "data: x\n\n", "水🌊", "\u2028", "<b>", " end"]
expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def address() -> str:
    """Where the servers look for the model server."""
    return f"http://127.0.0.1:{closed_port()}"


@pytest.fixture
def upstream(address: str) -> Iterator[FakeOllama]:
    """The model server: each test has its own, at the same address."""
    with FakeOllama(models=["demo"], port=int(address.rpartition(":")[2])) as upstream:
        yield upstream


@contextlib.contextmanager
def example(name: str, address: str, **env: str) -> Iterator[int]:
    """Runs an example server; gives its port. `env` is what the environment has besides."""

    def command(port: int) -> list[str]:
        return ["env", f"PORT={port}", sys.executable, "-W", "error", f"examples/{name}"]

    with running(command, {"TAILRACE_UPSTREAM": address, "TAILRACE_MODEL": "demo", **env}) as server:
        yield server.port
        assert "Traceback" not in server.output


@pytest.fixture(scope="module")
def gateway(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(address, tmp_path_factory.mktemp("gateway"), "--model", "demo") as gateway:
        yield gateway


@pytest.fixture(scope="module", params=["web_flask.py", "web_fastapi.py", "gateway"])
def port(request: pytest.FixtureRequest, address: str) -> Iterator[int]:
    """The port of each kind of server of ours."""
    if request.param == "gateway":
        gateway: Gateway = request.getfixturevalue("gateway")
        yield gateway.port
        return
    with example(request.param, address) as port:
        yield port


@pytest.fixture
def line(port: int) -> Iterator[Line]:
    """A network to a server, which can be cut."""
    with Line(port) as line:
        yield line


@contextlib.contextmanager
def page(browser: Browser, name: str, url: str) -> Iterator[Seen]:
    """Opens an example page as if it lay on this server."""
    with browser.page() as seen:
        seen.page.route(f"{url}/{name}", lambda route: route.fulfill(path=FOLDER / name))
        seen.page.goto(f"{url}/{name}")
        yield seen


def send(seen: Seen, message: str = "hi") -> None:
    seen.page.fill("#message", message)
    seen.page.click("text=Send")


def last_record(upstream: FakeOllama, n: int = 1) -> Record:
    return upstream.wait_for_request(n, path="/api/chat", timeout=PATIENCE)


def shows(seen: Seen, text: str) -> None:
    """Waits until the answer is this text, to the last character."""
    seen.page.wait_for_function("text => document.getElementById('answer').textContent === text", arg=text)


# -- fetch -------------------------------------------------------------------------------------------------------------


def test_the_fetch_reader_prints_the_answer(browser: Browser, line: Line, upstream: FakeOllama) -> None:
    """Text appears as it comes, whatever is in it; nobody else is asked for anything; nothing is complained of."""
    upstream.script(think("Hm"), say("One "), hold(), say(*PIECES[1:]))
    with page(browser, "reader_fetch.html", line.url) as seen:
        send(seen, "Tell <me>")
        shows(seen, "One ")
        expect(seen.page.locator("#state")).to_have_text("streaming")
        upstream.release()
        shows(seen, "".join(PIECES))
        expect(seen.page.locator("#state")).to_have_text("complete")

        assert seen.complaints == []
        assert seen.elsewhere(line.url) == []
    assert last_record(upstream).json["messages"] == [{"role": "user", "content": "Tell <me>"}]


def test_the_fetch_reader_reads_on(browser: Browser, line: Line, upstream: FakeOllama) -> None:
    """The connection is cut after each piece: in the end the text is whole, of one generation."""
    upstream.script(*[step for piece in PIECES for step in (hold(), say(piece))])
    with page(browser, "reader_fetch.html", line.url) as seen:
        send(seen)
        text = ""
        for piece in PIECES:
            upstream.release()
            text += piece
            shows(seen, text)
            line.drop()
        expect(seen.page.locator("#state")).to_have_text("complete")
        shows(seen, text)
    assert sum(record.path == "/api/chat" for record in upstream.requests) == 1


def test_the_fetch_reader_waits_for_the_network(browser: Browser, line: Line, upstream: FakeOllama) -> None:
    """While nobody can be reached it tries again; what came meanwhile is there afterwards."""
    upstream.script(say("One "), hold(), say("two"))
    with page(browser, "reader_fetch.html", line.url) as seen:
        send(seen)
        shows(seen, "One ")
        with seen.page.expect_event("requestfailed"):
            line.cut()
        expect(seen.page.locator("#state")).to_have_text("connection lost, reading on")
        upstream.release()
        assert last_record(upstream).wait_until_ended(PATIENCE)
        line.mend()
        shows(seen, "One two")


def test_the_fetch_reader_stops_the_model(browser: Browser, line: Line, upstream: FakeOllama) -> None:
    """Its button works before the first token too, and what was said stays."""
    upstream.script(stall())
    upstream.script(say("half"), stall())
    with page(browser, "reader_fetch.html", line.url) as seen:
        for n, text in ((1, ""), (2, "half")):
            send(seen)
            shows(seen, text)
            assert last_record(upstream, n).wait_until_phase("stalling", timeout=PATIENCE)
            seen.page.click("text=Stop")
            assert last_record(upstream, n).wait_until_left(PATIENCE)
            expect(seen.page.locator("#state")).to_have_text("cancelled")
            shows(seen, text)


def test_the_fetch_reader_shows_errors(browser: Browser, line: Line, upstream: FakeOllama) -> None:
    """One in the middle of an answer, and a refusal."""
    upstream.script(say("half"), error("the runner crashed"))
    with page(browser, "reader_fetch.html", line.url) as seen:
        send(seen)
        expect(seen.page.locator("#state")).to_have_text("error: the runner crashed")
        shows(seen, "half")
        send(seen, "")
        expect(seen.page.locator("#state")).to_have_text("error: there is no message")


@pytest.mark.parametrize("port", ["web_flask.py"], indirect=True)
def test_web_flask_serves_the_page(browser: Browser, upstream: FakeOllama, port: int) -> None:
    """The address that the example names has the page, and the page reads from the example."""
    upstream.script(say("ok"))
    with browser.page() as seen:
        seen.page.goto(f"http://127.0.0.1:{port}/reader_fetch.html")
        send(seen)
        shows(seen, "ok")
        assert seen.complaints == []


# -- EventSource -------------------------------------------------------------------------------------------------------


def test_the_eventsource_reader_reads_on(browser: Browser, gateway: Gateway, upstream: FakeOllama) -> None:
    """The browser itself comes back after each cut, and the text is whole in the end."""
    upstream.script(*[step for piece in PIECES for step in (hold(), say(piece))])
    with Line(gateway.port) as line, page(browser, "reader_eventsource.html", line.url) as seen:
        send(seen)
        text = ""
        for piece in PIECES:
            upstream.release()
            text += piece
            shows(seen, text)
            line.drop()
        expect(seen.page.locator("#state")).to_have_text("complete")
        shows(seen, text)
        assert seen.elsewhere(line.url) == []


def test_the_eventsource_reader_survives_a_reload(browser: Browser, gateway: Gateway, upstream: FakeOllama) -> None:
    """A reload in mid-answer shows it from the start, and goes on; after the end it shows all of it."""
    upstream.script(say("One "), hold(), say("two"))
    with page(browser, "reader_eventsource.html", gateway.url) as seen:
        send(seen)
        shows(seen, "One ")
        seen.page.reload()
        shows(seen, "One ")
        upstream.release()
        shows(seen, "One two")
        expect(seen.page.locator("#state")).to_have_text("complete")
        seen.page.reload()
        shows(seen, "One two")
        expect(seen.page.locator("#state")).to_have_text("complete")
        assert seen.complaints == []


def test_the_eventsource_reader_stops_the_model(browser: Browser, gateway: Gateway, upstream: FakeOllama) -> None:
    """Its button ends the run before the first token."""
    upstream.script(stall())
    with page(browser, "reader_eventsource.html", gateway.url) as seen:
        send(seen)
        assert last_record(upstream).wait_until_phase("stalling", timeout=PATIENCE)
        seen.page.click("text=Stop")
        assert last_record(upstream).wait_until_left(PATIENCE)
        expect(seen.page.locator("#state")).to_have_text("cancelled")


def test_the_eventsource_reader_shows_errors(browser: Browser, upstream: FakeOllama, tmp_path: Path) -> None:
    """One in the middle, a refusal, and a run that the server does not know any more."""
    upstream.script(say("half"), error("the runner crashed"))
    with (
        Gateway(upstream.url, tmp_path, "--model", "demo") as gateway,
        page(browser, "reader_eventsource.html", gateway.url) as seen,
    ):
        send(seen)
        expect(seen.page.locator("#state")).to_have_text("error: the runner crashed")
        shows(seen, "half")
        send(seen, "")
        expect(seen.page.locator("#state")).to_have_text("error: there is no message")
        gateway.kill()
        gateway.start()
        seen.page.reload()
        expect(seen.page.locator("#state")).to_have_text("gone")


# -- from another address ----------------------------------------------------------------------------------------------


class _Files(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    """The folder of the examples on a server of its own, as the pages say."""
    handler: Callable[..., _Files] = functools.partial(_Files, directory=str(FOLDER))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def allowing(address: str, files: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that lets the pages of that server ask."""
    options = ("--model", "demo", "--allow-origin", files)
    with Gateway(address, tmp_path_factory.mktemp("gateway"), *options) as gateway:
        yield gateway


@pytest.mark.parametrize("name", ["reader_fetch.html", "reader_eventsource.html"])
def test_a_page_of_an_address_that_is_allowed(
    browser: Browser, upstream: FakeOllama, files: str, allowing: Gateway, name: str
) -> None:
    """With `--allow-origin` and `?server=` the pages read, read on and stop from elsewhere."""
    upstream.script(say("One "), hold(), say("two"), stall())
    with Line(allowing.port) as line, browser.page() as seen:
        seen.page.goto(f"{files}/{name}?server={line.url}")
        send(seen)
        shows(seen, "One ")
        line.drop()
        upstream.release()
        shows(seen, "One two")
        seen.page.click("text=Stop")
        expect(seen.page.locator("#state")).to_have_text("cancelled")
        assert seen.elsewhere(files, line.url) == []


# -- htmx --------------------------------------------------------------------------------------------------------------

MARKDOWN = ["Three **rivers**:\n\n", "1. Elbe\n2. <script>x()</script>\n\n", "```python\npri", "nt(1)\n```\n\nB", "ye"]
BLOCKS = ["Three rivers:", "Elbe<script>x()</script>", "print(1)"]


@pytest.fixture(scope="module", params=[("htmx.org@4",), ("htmx.org@2", "htmx-ext-sse@2")], ids=["4", "2"])
def htmx(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What npm makes of htmx: the example says how, and takes nothing from elsewhere."""
    folder = tmp_path_factory.mktemp("htmx")
    command = [need("npm"), "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run([*command, *request.param], capture_output=True, text=True, timeout=100, check=False)
    if done.returncode:
        give_up(f"htmx cannot be fetched here: {done.stderr.strip().splitlines()[-1:]}; see npm config list")
    return folder / "node_modules"


@pytest.fixture(scope="module")
def web_htmx(address: str, htmx: Path) -> Iterator[int]:
    """The port of the example for htmx."""
    with example("web_htmx.py", address, HTMX=str(htmx)) as port:
        yield port


def test_htmx_shows_blocks_once_and_the_tail_as_it_grows(browser: Browser, upstream: FakeOllama, web_htmx: int) -> None:
    """The answer grows as HTML, over lost connections too; what the model says is text; no other host is asked."""
    upstream.script(*[step for piece in MARKDOWN for step in (hold(), say(piece))])
    with Line(web_htmx) as line, browser.page() as seen:
        seen.page.goto(line.url)
        seen.page.fill("[name=message]", "Rivers <b>?")
        seen.page.click("text=Send")
        article = seen.page.locator("article")
        for shown in ("Three rivers:", "<script>x()</script>", "pri", "print(1)", "Bye"):
            upstream.release()
            expect(article).to_contain_text(shown)
            seen.page.evaluate("window.first ??= document.querySelector('.blocks > p')")
            line.drop()
        expect(seen.page.locator(".blocks > *")).to_have_text(BLOCKS)
        expect(seen.page.locator(".tail")).to_have_text("Bye")
        expect(seen.page.locator("h2")).to_have_text("Rivers <b>?")
        assert seen.page.evaluate("window.first === document.querySelector('.blocks > p')")  # it was never made again
        assert seen.page.locator("article strong").count() == 1
        assert seen.page.locator("article script").count() == 0
        assert seen.elsewhere(line.url) == []


def test_htmx_stops_the_model(browser: Browser, upstream: FakeOllama, web_htmx: int) -> None:
    """Its button ends the run, and what was said stays."""
    upstream.script(say("half"), stall())
    with browser.page() as seen:
        seen.page.goto(f"http://127.0.0.1:{web_htmx}")
        seen.page.click("text=Send")
        expect(seen.page.locator(".tail")).to_have_text("half")
        seen.page.click("text=Stop")
        assert last_record(upstream).wait_until_left(PATIENCE)
        expect(seen.page.locator(".tail")).to_have_text("half")
        assert seen.complaints == []
