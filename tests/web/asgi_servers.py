"""ASGI servers in processes of their own, in front of a fake model server."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from tests.web.process import Running, running
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import FakeOllama, Record, Step

_APP = "tests.web.asgi_app"

STREAMS = ("/chat/stream", "/response", "/events", "/sync", "/bare/")
"""Where a stream is served: by the router, a response, `fastapi.sse`, a synchronous client, and without a framework."""

SERVERS: dict[str, Callable[[str, int], list[str]]] = {
    "uvicorn-h11": lambda app, port: ["uvicorn", "--http", "h11", "--port", str(port), app],
    "uvicorn-httptools": lambda app, port: ["uvicorn", "--http", "httptools", "--port", str(port), app],
    "hypercorn": lambda app, port: ["hypercorn", "--bind", f"127.0.0.1:{port}", app],
}
if sys.platform != "win32":
    SERVERS["granian"] = lambda app, port: ["granian", "--interface", "asgi", "--port", str(port), app]


class Served:
    """An application that is served, and the model server behind it."""

    def __init__(self, server: Running, upstream: FakeOllama) -> None:
        self.server = server
        self.upstream = upstream

    def ask(self, *script: Step, path: str = "/chat/stream", body: Any = None, **more: Any) -> tuple[Reader, Record]:
        """Asks for an answer that goes as the script says; returns its reader, and what the model server saw."""
        asked = sum(record.path == "/api/chat" for record in self.upstream.requests)
        self.upstream.script(*script, path="/api/chat")
        reader = Reader(self.server.url, path, {"message": "hi", "model": "m"} if body is None else body, **more)
        return reader, self.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")

    def read(self, path: str, after: str = "", **more: Any) -> Reader:
        """Reads a run, from the event after one that was seen."""
        headers = f"Last-Event-ID: {after}\r\n" if after else ""
        return Reader(self.server.url, path, method="GET", headers=headers, **more)


@contextlib.contextmanager
def serving(kind: str, app: str = "app", **environment: str) -> Iterator[Served]:
    """Runs a server of a kind; at the end it must have logged no exception."""
    with FakeOllama(models=["m"]) as upstream:
        environment = {"UPSTREAM": upstream.url, **environment}

        def command(port: int) -> list[str]:
            return [sys.executable, "-m", *SERVERS[kind](f"{_APP}:{app}", port)]

        with running(command, environment) as server:
            yield Served(server, upstream)
            assert "Traceback" not in server.output
            assert "Exception" not in server.output
