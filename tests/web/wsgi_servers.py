"""WSGI servers that the tests run: how each is started with four threads, and a fake model server behind it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.web.process import ROOT, Running, running
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import FakeOllama, Record, Step

APP = "tests.web.flask_app:app"
THREADS = 4
_BIN = Path(sys.executable).parent


def gunicorn(port: int, *more: str) -> list[str]:
    return [sys.executable, "-m", "gunicorn", "--no-control-socket", "-b", f"127.0.0.1:{port}", *more, APP]


def gthread(port: int) -> list[str]:
    return gunicorn(port, "-k", "gthread", "--threads", str(THREADS), "--preload")


def waitress(port: int) -> list[str]:
    return [str(_BIN / "waitress-serve"), f"--threads={THREADS}", f"--listen=127.0.0.1:{port}", APP]


def granian(port: int) -> list[str]:
    options = ["--interface", "wsgi", "--port", str(port), "--blocking-threads", str(THREADS)]
    return [sys.executable, "-m", "granian", *options, APP]


def flask(port: int) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", APP, "run", "--port", str(port)]


SERVERS = {"gunicorn": gthread, "waitress": waitress, "granian": granian, "flask": flask}


class WSGIServer:
    """A server of ours, and the model server behind it.

    Attributes:
        name: of the server.
        server: ours.
        model: the fake.
    """

    def __init__(self, name: str, server: Running, model: FakeOllama) -> None:
        self.name = name
        self.server = server
        self.model = model

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def limited(self) -> bool:
        """True if the server has a number of threads, and not one for each request."""
        return self.name != "flask"

    def ask(self, *script: Step, url: str = "", path: str = "/chat/stream", **more: Any) -> Reader:
        """Asks something that the model answers by this script; `more` is the body besides the message."""
        self.model.script(*script)
        return Reader(url or self.url, path, {"message": "hi", **more})

    def again(self, run: str, cursor: str = "", url: str = "", **more: Any) -> Reader:
        """Comes back to a run."""
        headers = f"Last-Event-ID: {cursor}\r\n" if cursor else ""
        return Reader(url or self.url, run, method="GET", headers=headers, **more)

    def stop(self, run: str) -> Any:
        """Stops a run, and returns what the server says of it."""
        with Reader(self.url, run, method="DELETE") as reader:
            assert reader.status == 200
            return reader.json

    def streams(self) -> int:
        """How many streams the server has now."""
        with Reader(self.url, "/healthz", method="GET") as reader:
            return int(reader.json["streams"])

    def until_quiet(self) -> None:
        """Waits until the server has noticed that all of its readers have gone."""
        end = time.monotonic() + PATIENCE
        while self.streams():
            assert time.monotonic() < end, "the server keeps a place for a reader that has gone"

    @contextlib.contextmanager
    def answering(self, *script: Step, **more: Any) -> Iterator[tuple[Reader, Record]]:
        """Asks, and waits until the model server has the request; gives the reader and the record of it."""
        asked = sum(record.path == "/api/chat" for record in self.model.requests)
        with self.ask(*script, **more) as reader:
            yield reader, self.model.wait_for_request(asked + 1, path="/api/chat", timeout=PATIENCE)


@contextlib.contextmanager
def serving(name: str, command: Any = None, env: Mapping[str, str] | None = None) -> Iterator[WSGIServer]:
    """Runs a WSGI server with the application of the tests.

    Args:
        name: of the server.
        command: its command line for a port, if it is another one than usual.
        env: what the environment has besides.
    """
    with FakeOllama(models=["m"]) as model:
        more = {"TAILRACE_UPSTREAM": model.url, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})}
        more["TAILRACE_MODEL"] = "m"
        with running(command or SERVERS[name], more) as server:
            yield WSGIServer(name, server, model)
