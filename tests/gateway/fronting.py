"""The gateway in front of any upstreams, in a process of its own, and requests of other protocols' clients to it."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from tests.gateway.serving import Answer
from tests.web.process import Running, running
from tests.web.reader import PATIENCE, Reader

from tailrace.testing import FakeOllama, FakeOpenAI, Record


class Front:
    """A gateway that runs.

    Args:
        server: its process.
        behind: the fake model server behind it, if there is just one.
    """

    def __init__(self, server: Running, behind: FakeOllama | FakeOpenAI | None = None) -> None:
        self.server = server
        self.behind = behind

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def ollama(self) -> FakeOllama:
        """The Ollama server behind it."""
        assert isinstance(self.behind, FakeOllama)
        return self.behind

    @property
    def openai(self) -> FakeOpenAI:
        """The server of OpenAI's protocol behind it."""
        assert isinstance(self.behind, FakeOpenAI)
        return self.behind

    def open(self, path: str, body: Any = None, method: str = "POST", **headers: str) -> Reader:
        """Sends a request; its answer is read as it comes."""
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return Reader(self.url, path, body, method=method, headers=f"Connection: close\r\n{lines}")

    def call(self, path: str, body: Any = None, method: str = "POST", **headers: str) -> Answer:
        """Sends a request; returns its answer."""
        with self.open(path, body, method, **headers) as reader:
            return Answer(reader)

    def get(self, path: str, **headers: str) -> Answer:
        """Asks for something."""
        return self.call(path, None, "GET", **headers)

    def seen(self, path: str) -> int:
        """How many requests of a path the model server has had."""
        assert self.behind is not None
        return sum(record.path == path for record in self.behind.requests)

    def next(self, path: str, before: int) -> Record:
        """Waits for the model server's next request of a path, after so many before."""
        assert self.behind is not None
        return self.behind.wait_for_request(before + 1, PATIENCE, path=path)

    def ended(self, run: str) -> Any:
        """Waits for a run's end without reading it, which would keep it going; returns the run."""
        while True:
            described = self.get(f"/runs/{run}").json
            if described["state"] == "ended":
                return described


@contextlib.contextmanager
def fronting(*upstreams: FakeOllama | FakeOpenAI | str, options: tuple[str, ...] = (), **env: str) -> Iterator[Front]:
    """Runs ``tailrace serve`` in front of upstreams; at the end it must have told of nothing that it did not expect.

    Args:
        upstreams: fake servers, or what `--upstream` takes.
        options: of the command.
        env: variables.
    """
    with tempfile.TemporaryDirectory() as folder:

        def command(port: int) -> list[str]:
            named = [part for each in upstreams for part in ("--upstream", address(each))]
            base = [sys.executable, "-m", "tailrace", "serve", "--port", str(port), "--data", folder]
            return [*base, *named, *options]

        with running(command, {"TAILRACE_HOME": folder, **env}) as server:
            single = upstreams[0] if len(upstreams) == 1 else None
            yield Front(server, None if isinstance(single, str) else single)
            assert "Traceback" not in server.output, server.output
            assert "Exception" not in server.output, server.output


def address(upstream: FakeOllama | FakeOpenAI | str) -> str:
    """An upstream as `--upstream` takes it."""
    if isinstance(upstream, str):
        return upstream
    return f"openai:{upstream.url}/v1" if isinstance(upstream, FakeOpenAI) else upstream.url


def records(data: bytes) -> list[Any]:
    """The objects of NDJSON, each of whose lines is whole."""
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.split(b"\n")[:-1]]
