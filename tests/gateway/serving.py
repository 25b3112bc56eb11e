"""The gateway in a process of its own, as a user starts it, in front of a fake model server."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.web.process import Running, running
from tests.web.reader import PATIENCE, Reader

from tailrace.protocols.sse import ServerSentEvent
from tailrace.testing import FakeOllama, Record, Step

HOST = "Host: localhost\r\n"


class Answer:
    """An answer that has come."""

    def __init__(self, reader: Reader) -> None:
        self.status = reader.status
        self.headers = reader.headers
        self.body = reader.body()

    @property
    def json(self) -> Any:
        """The body, from JSON."""
        return json.loads(self.body)


class Gateway:
    """A gateway that runs, and the model server behind it."""

    def __init__(self, server: Running, upstream: FakeOllama) -> None:
        self.server = server
        self.upstream = upstream
        self._settled = False

    def settle(self) -> None:
        """Waits until the server has nothing more to do for its start: the conversations' library comes last."""
        if not self._settled:
            assert self.call("GET", "/conversations").status == 200
            self._settled = True

    @property
    def url(self) -> str:
        return self.server.url

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Sends a request; returns its answer."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        with Reader(self.url, path, body, method=method, headers=f"Connection: close\r\n{lines}") as reader:
            return Answer(reader)

    def read(self, path: str, after: str = "", **more: Any) -> Reader:
        """Reads a run, from the event after one that was seen."""
        headers = f"Last-Event-ID: {after}\r\n" if after else ""
        return Reader(self.url, path, method="GET", headers=headers, **more)

    def start(self, *script: Step, key: str = "", **body: Any) -> tuple[str, Record]:
        """Starts a run that goes as the script says; returns its path, and what the model server saw of it."""
        asked = self.asked
        self.upstream.script(*script, path="/api/chat")
        headers = {"Idempotency_Key": key} if key else {}
        answer = self.call("POST", "/runs", {"message": "hi", "model": "m", **body}, **headers)
        assert answer.status == 201, answer.body
        record = self.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")
        return answer.headers["location"], record

    def chat(self, *script: Step, body: Any = None, **more: Any) -> tuple[Reader, Record]:
        """Asks on the tutorial's route; returns the reader, and what the model server saw."""
        asked = self.asked
        self.upstream.script(*script, path="/api/chat")
        reader = Reader(self.url, "/chat/stream", body or {"message": "hi", "model": "m"}, **more)
        return reader, self.upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")

    @property
    def asked(self) -> int:
        """How many answers the model server was asked for."""
        return sum(record.path == "/api/chat" for record in self.upstream.requests)

    def ended(self, path: str) -> Any:
        """Waits for a run's end; returns the run."""
        with self.read(f"{path}/events") as reader:
            reader.body()
        return self.call("GET", path).json

    def memory(self) -> int:
        """Bytes of memory that the server has, once it has started."""
        self.settle()
        return self.server.memory()

    def open_files(self) -> int:
        """How many files the server has open, once it has started."""
        self.settle()
        return len(list(Path(f"/proc/{self.server.process.pid}/fd").iterdir()))


@contextlib.contextmanager
def serving(
    *options: str,
    upstream: FakeOllama | None = None,
    address: str = "",
    data: Path | None = None,
    prefix: Sequence[str] = (),
    **environment: str,
) -> Iterator[Gateway]:
    """Runs ``tailrace serve``; at the end it must have told of nothing that it did not expect.

    Args:
        options: of the command.
        upstream: the model server; one of its own if None.
        address: where the gateway looks for a model server, if that is another one.
        data: the folder of the conversations; one of its own if None.
        prefix: what runs the command.
        environment: variables.
    """
    with contextlib.ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        behind = upstream or stack.enter_context(FakeOllama(models=["m"]))

        def command(port: int) -> list[str]:
            return [*prefix, *serve(port, address or behind.url), "--data", str(folder), *options]

        server = stack.enter_context(running(command, {"TAILRACE_HOME": str(folder), **environment}))
        yield Gateway(server, behind)
        assert "Traceback" not in server.output, server.output
        assert "Exception" not in server.output, server.output


def serve(port: int, upstream: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "tailrace", "serve", "--port", str(port), "--upstream", upstream]


def said(events: list[ServerSentEvent]) -> str:
    """The text of a run's events."""
    return "".join(json.loads(event.data)["text"] for event in events if event.type == "text_delta")


def numbers(events: list[ServerSentEvent]) -> list[int]:
    """Their numbers in the run's log."""
    return [int(event.id.partition("-")[0]) for event in events]
