"""A gateway of several workers, as its clients and its machine see it."""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from tests.gateway.serving import Gateway
from tests.web.reader import PATIENCE

from tailrace.gateway.cluster.worker_ids import WorkerId
from tailrace.protocols.sse import ServerSentEvent, SSEDecoder
from tailrace.testing import Record, Step, say

JSON = {"Content-Type": "application/json"}


class Stream:
    """A stream of events on a connection."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response
        self.status = response.status
        self.raw = b""
        self._decoder = SSEDecoder()
        self._events: list[ServerSentEvent] = []

    def _more(self) -> bool:
        data = self.response.read1(65536)
        self.raw += data
        self._events += self._decoder.feed(data)
        return bool(data)

    def until(self, mark: bytes) -> list[ServerSentEvent]:
        """Reads until these bytes have come; returns all events until now."""
        while mark not in self.raw:
            assert self._more(), f"the stream ended before {mark!r}: {self.raw[-500:]!r}"
        return self._events

    def all(self) -> list[ServerSentEvent]:
        """Reads to the end; returns all events."""
        while self._more():
            pass
        self.response.read()  # `http.client` does not know else that the connection is free again
        return self._events


class Line:
    """A connection that is kept, and so stays with one worker.

    Args:
        gateway: the gateway.
        source: our own address.
        rcvbuf: how many bytes the system keeps for us, about.
        headers: sent with each request.

    Attributes:
        worker: which one it is.
        generation: how often that was started.
    """

    def __init__(
        self,
        gateway: Gateway,
        source: str = "127.0.0.1",
        rcvbuf: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.gateway = gateway
        self.headers = headers or {}
        self._answers: list[http.client.HTTPResponse] = []
        self.connection = http.client.HTTPConnection("127.0.0.1", gateway.server.port, timeout=PATIENCE)
        sock = socket.socket()
        sock.settimeout(PATIENCE)
        if rcvbuf is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", gateway.server.port))
        self.connection.sock = sock
        # A run that is begun here tells where that is; and it ends before anything else is asked.
        gateway.upstream.script(say("x"), path="/api/chat")
        status, begun = self.call("POST", "/runs", {"message": "hi", "model": "m"})
        assert status == 201, begun
        self.stream(f"/runs/{begun['id']}/events").all()
        worker_id = WorkerId.of(begun["id"])
        assert worker_id is not None
        self.worker, self.generation = worker_id.index, worker_id.generation

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves, whatever comes on the connection."""
        for answer in self._answers:
            answer.close()
        self.connection.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPResponse:
        """Sends a request; returns its answer, of which only the head was read."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, data, {**JSON, **self.headers, **more})
        answer = self.connection.getresponse()
        self._answers.append(answer)
        return answer

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Sends a request; returns the answer's status, and its body from JSON."""
        response = self.ask(method, path, body, **headers)
        data = response.read()
        return response.status, json.loads(data) if data else None

    def stream(self, path: str, after: str = "") -> Stream:
        """Reads a stream, from the event after one that was seen."""
        return Stream(self.ask("GET", path, **({"Last_Event_ID": after} if after else {})))

    def begin(self, *script: Step, **body: Any) -> tuple[str, Record]:
        """Starts a run at this worker that goes as the script says; returns its id, and what the model server saw."""
        upstream, asked = self.gateway.upstream, self.gateway.asked
        upstream.script(*script, path="/api/chat")
        status, begun = self.call("POST", "/runs", {"message": "hi", "model": "m", **body})
        assert (status, worker_of(begun["id"])) == (201, self.worker), begun
        return begun["id"], upstream.wait_for_request(asked + 1, PATIENCE, path="/api/chat")


def worker_of(run: str) -> int:
    """Which worker a run belongs to."""
    worker_id = WorkerId.of(run)
    assert worker_id is not None, run
    return worker_id.index


@contextmanager
def lines(gateway: Gateway, count: int, **settings: Any) -> Iterator[list[Line]]:
    """Yields a connection to each worker, in their order."""
    found: dict[int, Line] = {}
    with ExitStack() as stack:
        while len(found) < count:
            line = Line(gateway, **settings)
            if line.worker in found:
                line.close()
            else:
                found[line.worker] = stack.enter_context(line)
        yield [found[index] for index in range(count)]


def pids(gateway: Gateway) -> dict[int, int]:
    """The process ids of the workers that there are, by their place."""
    parent = gateway.server.process.pid
    found = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert b"tailrace.gateway.cluster" in words, words
        found[int(words[-2].partition(b"/")[0]) - 1] = int(pid)
    return found


class Watch:
    """Watches processes, of which we are not the parent."""

    def __init__(self, *processes: int) -> None:
        self._open = [os.pidfd_open(pid) for pid in processes]

    def wait_until_gone(self) -> bool:
        """Waits until all have ended; False if one has not."""
        try:
            return all(select.select([each], [], [], PATIENCE)[0] for each in self._open)
        finally:
            for each in self._open:
                os.close(each)
