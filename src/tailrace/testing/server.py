"""The fake server: a thread with its own event loop, real sockets, scripts, and records of requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tailrace.testing import steps
from tailrace.testing.encoding import Encoder, JSONLines
from tailrace.testing.http1 import ClientLeft, Connection, frame, head, read_request
from tailrace.testing.player import Gates, play
from tailrace.testing.recording import Recording
from tailrace.testing.records import PATIENCE, Board, Record
from tailrace.testing.response import Response
from tailrace.testing.steps import Step
from tailrace.transport.http_server import BadRequestError

__all__ = ["FakeServer", "Plan", "refuse"]

_BACKLOG = 4096


@dataclass
class Plan:
    """What a server means to do about a request.

    Attributes:
        steps: The answer if no script stands ready.
        encoder: How it is written.
        generates: Whether it is a generation: takes the next script, and a slot of `parallel`.
        scriptable: Whether a script may take the answer's place. Refusals are not.
        started: Called when the first byte goes out.
    """

    steps: Sequence[Step]
    encoder: Encoder = field(default_factory=JSONLines)
    generates: bool = False
    scriptable: bool = True
    started: Callable[[], None] = lambda: None


def refuse(code: int, body: Any) -> Plan:
    """Plan a refusal that no script replaces."""
    return Plan([steps.status(code, body)], scriptable=False)


class FakeServer:
    """What `FakeOllama` and `FakeOpenAI` have in common.

    Use it as a context manager, in synchronous and asynchronous tests alike: the server runs in a thread of its own.

    Args:
        parallel: How many generations run at once; further ones wait in silence. None is no limit.
        unix_path: Listen on a Unix socket at this path too.
        port: The port; 0 lets the system choose.

    Attributes:
        requests: A record of every request, in the order of their coming.
        errors: What went wrong inside the server itself. Raised when the server is stopped.
    """

    def __init__(self, *, parallel: int | None = None, unix_path: str | Path | None = None, port: int = 0) -> None:
        if parallel is not None and parallel < 1:
            raise ValueError("parallel counts the generations that run at once: 1 or more, or None for no limit")
        self.parallel = parallel
        self.unix_path = None if unix_path is None else Path(unix_path)
        self.port = port
        self.requests: list[Record] = []
        self.errors: list[BaseException] = []
        self._board = Board()
        self._gates = Gates()
        self._scripts: deque[tuple[str | None, tuple[Step, ...]]] = deque()
        self._always: dict[str | None, tuple[Step, ...]] = {}
        self._respond: Callable[[Record], Iterable[Step]] | None = None
        self._connections = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._slots: asyncio.Semaphore | None = None
        self._serving: set[asyncio.Task[None]] = set()

    # Life

    def start(self) -> Self:
        """Listen, and return the server. `with` does this."""
        if self._thread is not None:
            raise RuntimeError("the server is running already")
        listeners = [socket.create_server(("127.0.0.1", self.port), backlog=_BACKLOG)]
        self.port = listeners[0].getsockname()[1]
        if self.unix_path is not None:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.unix_path))
            listener.listen(_BACKLOG)
            listeners.append(listener)
        ready = threading.Event()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._main(listeners, ready)),
            name=f"{type(self).__name__}:{self.port}",
            daemon=True,
        )
        self._thread.start()
        ready.wait()
        return self

    def stop(self) -> None:
        """Close every connection and stop listening. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()
        self._loop = None
        if self.unix_path is not None:
            self.unix_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        if self.errors and exc is None:
            raise self.errors[0]

    @property
    def url(self) -> str:
        """The server's address, `http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self.port}"

    # Scripts

    def script(self, *script: Step, path: str | None = None) -> Self:
        """Line up a script for the next generation; call it again for the one after.

        Args:
            *script: The steps. Without an ending of its own a script gets `done()`.
            path: Only for requests to this path, which may be any endpoint (`/api/pull`, `/api/tags`).
        """
        self._scripts.append((path, self._checked(script, path)))
        return self

    def always(self, *script: Step, path: str | None = None) -> Self:
        """Say what is answered when no script is lined up. See `script`."""
        self._always[path] = self._checked(script, path)
        return self

    def respond(self, function: Callable[[Record], Iterable[Step]]) -> Self:
        """Let a function choose the steps when no script is lined up. It runs on the server's thread."""
        self._respond = function
        return self

    def replay(self, data: bytes, *, burst: bool = True) -> Self:
        """Always answer generations with these bytes of an NDJSON or SSE body, as fast as the socket takes them.

        Args:
            data: The body.
            burst: Send all of it at once; False sends every line, or SSE event, by itself.
        """
        sse = data.lstrip().startswith((b"data:", b":", b"event:", b"id:"))
        kind = "text/event-stream" if sse else "application/x-ndjson"
        start = head(200, [("Content-Type", kind), ("Transfer-Encoding", "chunked")])
        end = b"\n\n" if sse else b"\n"
        lines = [line + end for line in data.split(end) if line]
        pieces = [start + frame(data) + b"0\r\n\r\n"] if burst else [start, *map(frame, lines), b"0\r\n\r\n"]
        self._always[None] = (steps.Replay(tuple(pieces)),)
        return self

    def play(self, recording: Recording, *, speed: float | None = None) -> Self:
        """Line up the answers of a recording, each for the next request to its path.

        Args:
            recording: Made by a `RecordingProxy`, or loaded with `Recording.load`.
            speed: 1 keeps the recorded gaps, 10 is ten times as fast; None leaves them out.
        """
        for exchange in recording.exchanges:
            self._scripts.append((exchange.path, exchange.script(speed)))
        return self

    def _checked(self, script: Sequence[Step], path: str | None) -> tuple[Step, ...]:
        return steps.check(script)

    def release(self, name: str = "hold", count: int = 1) -> None:
        """Let a script go on that waits at `hold(name)`, now or when it gets there."""
        self._call(self._gates.release, name, count)

    def open(self, name: str) -> None:
        """Open the gate that scripts wait at with `wait_for(name)`, for good."""
        self._call(self._gates.open, name)

    def drop_connections(self) -> None:
        """Close every connection (FIN), idle or busy, and go on serving: what a restarted server does to a client."""
        self._call(self._drop)

    def _drop(self) -> None:
        for task in self._serving:
            task.cancel()

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        if self._loop is None:
            function(*args)
        else:
            self._loop.call_soon_threadsafe(function, *args)

    # What came

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return self._connections

    def wait_for_request(self, n: int = 1, timeout: float = PATIENCE, *, path: str | None = None) -> Record:
        """Wait until `n` requests have come in all, and return the `n`th.

        Args:
            n: Counts from 1, from the start of the server.
            timeout: In seconds.
            path: Count only requests to this path.

        Raises:
            TimeoutError: They did not come.
        """
        self._board.wait(lambda: len(self._to(path)) >= n, timeout)
        return self._nth(n, timeout, path)

    async def await_for_request(self, n: int = 1, timeout: float = PATIENCE, *, path: str | None = None) -> Record:
        """Do what `wait_for_request` does, in a task."""
        await self._board.await_(lambda: len(self._to(path)) >= n, timeout)
        return self._nth(n, timeout, path)

    def wait_until_idle(self, timeout: float = PATIENCE) -> bool:
        """Wait until no connection is open; False if some still is."""
        return self._board.wait(lambda: not self._connections, timeout)

    async def await_until_idle(self, timeout: float = PATIENCE) -> bool:
        """Do what `wait_until_idle` does, in a task."""
        return await self._board.await_(lambda: not self._connections, timeout)

    def _to(self, path: str | None) -> list[Record]:
        return [record for record in self.requests if path is None or record.path == path]

    def _nth(self, n: int, timeout: float, path: str | None) -> Record:
        records = self._to(path)
        if len(records) >= n:
            return records[n - 1]
        came = ", ".join(f"{record.method} {record.path}" for record in self.requests) or "none at all"
        where = f" to {path}" if path else ""
        raise TimeoutError(f"request {n}{where} did not come within {timeout} s; these came: {came}")

    # The server's thread

    async def _main(self, listeners: list[socket.socket], ready: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(self.parallel) if self.parallel else None
        for listener in listeners:
            listener.setblocking(False)
            self._loop.add_reader(listener, self._accept, listener)
        ready.set()
        await self._stopping.wait()
        for listener in listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._drop()
        if self._serving:
            await asyncio.wait(self._serving)

    def _accept(self, listener: socket.socket) -> None:
        # A callback, not a task: a task cancelled with an accepted socket in its hands would leak it.
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        connection = Connection(sock)
        with self._board.change():
            self._connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._serving.add(task)
        task.add_done_callback(lambda task: self._served(task, connection))

    def _served(self, task: asyncio.Task[None], connection: Connection) -> None:
        self._serving.discard(task)
        connection.close()
        if not task.cancelled() and (exc := task.exception()) is not None:
            self.errors.append(exc)
        with self._board.change():
            self._connections -= 1

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._requests(connection)
        except ClientLeft:
            pass
        except BadRequestError as exc:
            body = str(exc).encode()
            with contextlib.suppress(ClientLeft):
                await connection.send(head(400, [("Content-Length", str(len(body))), ("Connection", "close")]) + body)

    async def _requests(self, connection: Connection) -> None:
        while (record := await read_request(connection)) is not None:
            record._board = self._board
            with self._board.change():
                self.requests.append(record)
            if not await self._answer(connection, record):
                break

    async def _answer(self, connection: Connection, record: Record) -> bool:
        """Answer a request while watching the connection; return whether it may be used again."""
        try:
            plan = self._plan(record)
        except Exception as exc:
            self.errors.append(exc)
            plan = refuse(500, {"error": f"the fake server failed: {exc!r}"})
        response = Response(connection, record, plan.started)
        task = asyncio.create_task(self._perform(plan, record, response))
        try:
            watched: set[asyncio.Future[Any]] = {task, connection.left}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
            self._note_ending(task, connection, record)
        return record.completed and not response.closes

    def _note_ending(self, task: asyncio.Task[None], connection: Connection, record: Record) -> None:
        if task.cancelled():
            if connection.left.done():
                record._left(connection.left.result())
        elif isinstance(exc := task.exception(), ClientLeft):
            record._left(exc.how)
        elif exc is not None:
            self.errors.append(exc)
        record._end(completed=not task.cancelled() and exc is None)

    async def _perform(self, plan: Plan, record: Record, response: Response) -> None:
        script = self._choose(plan, record)
        if not plan.generates or self._slots is None:
            await play(script, response, plan.encoder, record, self._gates)
            return
        if self._slots.locked():
            record._enter("queued")
        async with self._slots:
            await play(script, response, plan.encoder, record, self._gates)

    def _choose(self, plan: Plan, record: Record) -> Sequence[Step]:
        if not plan.scriptable:
            return plan.steps
        for place, (path, script) in enumerate(self._scripts):
            if path == record.path or (path is None and plan.generates):
                del self._scripts[place]
                return script
        if record.path in self._always:
            return self._always[record.path]
        if plan.generates and self._respond is not None:
            return self._checked(tuple(self._respond(record)), record.path)
        if plan.generates and None in self._always:
            return self._always[None]
        return plan.steps

    def _plan(self, record: Record) -> Plan:
        """Decide what to do about a request."""
        raise NotImplementedError
