"""The start: nobody waits for the store's library but who needs the store.

In place of the library a package of its name comes first, which says that its import has begun, and then waits to be
told to go on as the real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.gateway.serving import serving
from tests.web.process import ROOT
from tests.web.reader import PATIENCE, Reader

from tailrace.gateway.app import create_app
from tailrace.gateway.conversations.values import FILE
from tailrace.gateway.settings import Settings
from tailrace.testing import FakeOllama, say, stall

if sys.platform == "win32":
    pytest.skip("named pipes of the file system", allow_module_level=True)

_STAND_IN = """
import os, sys

here = os.path.dirname(os.path.dirname(__file__))
open(os.path.join(here, "begun"), "w").close()
with open(os.path.join(here, "go")) as go:
    how = go.read()
if how != "go":
    raise ImportError(how)
sys.path.remove(here)
del sys.modules["sqlalchemy"]
import sqlalchemy
"""


class Library:
    """The stand-in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "sqlalchemy").mkdir(parents=True)
        (folder / "sqlalchemy" / "__init__.py").write_text(_STAND_IN, encoding="utf-8")
        for name in ("begun", "go"):
            os.mkfifo(folder / name)

    def wait_until_begun(self) -> None:
        """Waits until somebody imports it."""
        (self.folder / "begun").read_bytes()

    def go_on(self, how: str = "go") -> None:
        """Has the import succeed; or fail, with other words."""
        (self.folder / "go").write_text(how, encoding="ascii")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """A library whose import waits."""
    return Library(tmp_path / "library")


def test_answers_come_before_the_library(library: Library, tmp_path: Path) -> None:
    """The gateway answers, and has models answer, while the import has not come far; what needs the store waits."""
    with serving(data=tmp_path, PYTHONPATH=str(library.folder)) as gateway:
        library.wait_until_begun()
        assert gateway.call("GET", "/healthz").json == {"status": "ok"}
        assert gateway.ended(gateway.start(say("x"))[0])["reply"]["text"] == "x"
        with Reader(gateway.url, "/conversations", method="GET") as waiting:
            assert gateway.call("GET", "/readyz").status == 200
            assert not (tmp_path / FILE).exists()
            library.go_on()
            assert waiting.json == {"conversations": []}
        assert gateway.call("POST", "/conversations", {"title": "x"}).status == 201

    assert (tmp_path / FILE).exists()


def test_list_that_waited_is_of_what_was_recovered(library: Library, tmp_path: Path) -> None:
    """What a killed server left over is ended before the first request for it is answered, as early as it came."""
    with FakeOllama(models=["m"]) as upstream:
        with serving(upstream=upstream, data=tmp_path) as gateway:
            path = gateway.call("POST", "/conversations", {"model": "m"}).headers["location"]
            upstream.script(stall(), path="/api/chat")
            assert gateway.call("POST", f"{path}/turns", {"content": "hi"}).status == 201
            gateway.server.process.kill()
            gateway.server.process.wait(PATIENCE)
        with serving(upstream=upstream, data=tmp_path, PYTHONPATH=str(library.folder)) as gateway:
            library.wait_until_begun()
            with Reader(gateway.url, path, method="GET") as waiting:
                assert gateway.call("GET", "/healthz").status == 200
                library.go_on()
                message = waiting.json["messages"][-1]

    assert (message["state"], message["outcome"]) == ("interrupted", "owner_lost")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_before_the_library_is_there(library: Library, tmp_path: Path, number: signal.Signals) -> None:
    """The gateway does not wait for the import, nor for who waits for it, and tells of no error."""
    with serving("--drain", "0", data=tmp_path, PYTHONPATH=str(library.folder)) as gateway:
        library.wait_until_begun()
        with Reader(gateway.url, "/conversations", method="GET"):
            assert gateway.call("GET", "/healthz").status == 200
            gateway.server.process.send_signal(number)
            code = gateway.server.process.wait(PATIENCE)
        lines = gateway.server.output.splitlines()

    assert code == 0
    assert len(lines) == 1
    assert "serving at" in lines[0]


def test_library_that_is_broken(library: Library, tmp_path: Path) -> None:
    """Each request for a conversation says what is wrong, the terminal does once; all else is served."""
    with serving(data=tmp_path, PYTHONPATH=str(library.folder)) as gateway:
        library.wait_until_begun()
        library.go_on("half of it is missing")
        answers = [gateway.call("GET", "/conversations"), gateway.call("POST", "/conversations", {})]
        assert gateway.ended(gateway.start(say("x"))[0])["reply"]["text"] == "x"
        output = gateway.server.output

    for answer in answers:
        assert answer.status == 503
        assert "half of it is missing" in answer.json["detail"]
        assert "pip install" in answer.json["hint"]
    assert output.count("half of it is missing") == 1


def test_library_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway with its page does not start without it; the one without does."""
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)

    with pytest.raises(ModuleNotFoundError) as told:
        create_app(Settings())
    assert told.value.name == "sqlalchemy"
    assert create_app(Settings(page=False)).routes


def test_no_page_never_imports_the_library(tmp_path: Path) -> None:
    """Whatever a gateway without the page is asked for."""
    (tmp_path / "sqlalchemy.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()", encoding="utf-8")
    with serving("--no-page", data=tmp_path, PYTHONPATH=str(tmp_path)) as gateway:
        run, _ = gateway.start(say("*x*"))
        with gateway.read(f"{run}/events?render=html") as reader:
            assert b"<em>" in reader.body()
        paths = ["/healthz", "/readyz", "/metrics", "/openapi.json", "/runs", "/queue", "/models", run]
        assert {gateway.call("GET", path).status for path in paths} == {200}
        assert gateway.call("POST", "/render", {"texts": ["x"]}).status == 200
        assert gateway.call("GET", "/conversations").status == 404

    assert not (tmp_path / "imported").exists()


def test_gateway_imports_nothing_that_only_some_requests_need() -> None:
    """Neither the store's library nor what renders Markdown and code is on the way to the first answer."""
    late = ["sqlalchemy", "aiosqlite", "markdown_it", "pygments", "prompt_toolkit", "rich"]
    program = "import sys, tailrace.cli.serve, tailrace.gateway.app, tailrace.gateway.server.serve; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    imported = set(done.stdout.split())

    assert "tailrace.gateway.endpoints.conversations" in imported
    assert imported.isdisjoint(late)
