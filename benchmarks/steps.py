"""Where a token's time goes between the two sockets: each step on top of those before, without any system calls.

Once with one run over and over, whose data are in the processor's caches; and once with a thousand runs in turn, as a
server has them, whose data are not.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable

from benchmarks.common import Skipped, event_loop, quiet, report, shown, spread, table
from tailrace.backends.base import WireExchange
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.run.bounded_log import BoundedLog
from tailrace.run.exchange import Exchange, Report
from tailrace.run.run import Run
from tailrace.transport.connect import Link
from tailrace.transport.connection import Connection
from tailrace.transport.http_client import HttpExchange
from tailrace.transport.io_batch import IOBatch

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
_LINE = (
    b'{"model":"m","created_at":"2026-11-27T12:00:00.123456Z","message":{"role":"assistant","content":" token"},'
    b'"done":false}\n'
)
_FRAME = b"%x\r\n%b\r\n" % (len(_LINE), _LINE)
_TOKENS = 20_000
_LIMIT = 64 * 1024 * 1024  # bytes of a log


class _Nowhere(asyncio.Transport):
    """A connection without a socket."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def abort(self) -> None:
        pass


class _Line:
    """A client's connection, without a socket."""

    default_headers = ()
    batch: IOBatch | None = None
    writable: asyncio.Event | None = None

    def __init__(self) -> None:
        self.transport: asyncio.Transport = _Nowhere()

    def resume_reading(self) -> None:
        pass

    def answered(self, _cycle: object) -> None:
        pass


async def _framed(connection: Connection) -> None:
    await connection.deliver(lambda _: False)


async def _decoded(connection: Connection) -> None:
    feed = AnswerDecoder().feed
    await connection.deliver(lambda data: not feed(data))


def _run(connection: Connection) -> Run:
    async def open(_report: Report) -> Exchange:
        return WireExchange(HttpExchange(Link(connection), "", ""), AnswerDecoder(), "application/x-ndjson")

    run = Run(open, log=BoundedLog(_LIMIT))
    run.start(asyncio.get_running_loop())
    return run


async def _logged(connection: Connection) -> None:
    run = _run(connection)
    try:
        await run.log.changed.wait_async(lambda: run.log.sealed)
        await asyncio.Event().wait()
    finally:
        run.cancel()


async def _sent(connection: Connection) -> None:
    from tailrace.gateway.server.request_cycle import RequestCycle
    from tailrace.web.asgi import EventStream
    from tailrace.web.direct_writer import DIRECT_WRITE
    from tailrace.web.source import Source, plain_feed

    cycle = RequestCycle(_Line(), "GET", "1.1", keep_alive=True, expects=False)
    cycle.end_body()
    run = _run(connection)
    try:
        scope = {"type": "http", "method": "GET", DIRECT_WRITE: cycle}
        await EventStream(run, Source(plain_feed(run)))(scope, cycle.receive, cycle.send)
    finally:
        run.cancel()


STEPS: dict[str, Callable[[Connection], Awaitable[None]]] = {
    "out of its HTTP frame": _framed,
    "decoded to an event": _decoded,
    "in the run's log": _logged,
    "encoded, framed and handed to the transport": _sent,
}


def run(*, quick: bool) -> None:
    """Measure and print."""
    try:
        import uvicorn  # noqa: F401
    except ImportError as missing:
        raise Skipped(f"{missing.name} is not installed") from missing
    rounds, tokens = (1, 2_000) if quick else (5, _TOKENS)
    results, rows = [], []
    with asyncio.Runner(loop_factory=event_loop()) as runner, quiet():
        for name, step in STEPS.items():
            costs = {}
            for runs in (1, 1000):
                costs[runs] = spread([runner.run(_measured(step, runs, tokens)) for _ in range(rounds)])
                results.append({"step": name, "runs": runs, "us_per_token": costs[runs]})
            rows.append([name, *(shown(cost, ".1f") for cost in costs.values())])
    table(["a token, until it is …", "µs, one run", "µs, a thousand in turn"], rows)
    report("steps", quick=quick, tokens=tokens, rounds=rounds, results=results)


async def _measured(step: Callable[[Connection], Awaitable[None]], runs: int, tokens: int) -> float:
    """Microseconds of processor time for a token."""
    connections, tasks = [], []
    for _ in range(runs):
        connection = Connection("")
        connection.connection_made(_Nowhere())
        connection.data_received(_HEAD)
        connections.append(connection)
        tasks.append(asyncio.ensure_future(step(connection)))
    for _ in range(5):
        for connection in connections:
            connection.data_received(_FRAME)
        await asyncio.sleep(0)
    gc.collect()
    gc.disable()
    try:
        start = time.process_time()
        for _ in range(tokens // runs):
            for connection in connections:
                connection.data_received(_FRAME)
        return 1e6 * (time.process_time() - start) / tokens
    finally:
        gc.enable()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
