"""The proxy that makes a recording of a real server: see `tailrace.testing.recording`."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from tailrace.testing import steps
from tailrace.testing.encoding import JSONLines
from tailrace.testing.recording import Exchange, Recording
from tailrace.testing.records import Record
from tailrace.testing.response import Response
from tailrace.testing.server import FakeServer, Plan

__all__ = ["RecordingProxy"]

_OURS = {"host", "connection", "keep-alive", "accept-encoding", "content-length", "transfer-encoding", "expect"}


class RecordingProxy(FakeServer):
    """A proxy in front of a real server that records every answer.

    Args:
        upstream_url: The real server, `http://127.0.0.1:11434`.
        unix_path: Listen on a Unix socket at this path too.
        port: The port; 0 lets the system choose.
    """

    def __init__(self, upstream_url: str, *, unix_path: str | Path | None = None, port: int = 0) -> None:
        super().__init__(unix_path=unix_path, port=port)
        parts = urlsplit(upstream_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{upstream_url!r} is no http or https address")
        self._host = parts.hostname
        self._netloc = parts.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._upstream_port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self.recording = Recording()

    def _plan(self, record: Record) -> Plan:
        return Plan([], JSONLines())

    async def _perform(self, plan: Plan, record: Record, response: Response) -> None:
        exchange = Exchange(record.method, record.path)
        self.recording.exchanges.append(exchange)
        try:
            reader, writer = await asyncio.open_connection(self._host, self._upstream_port, ssl=self._tls)
        except OSError as exc:
            text = f"the server behind the recording proxy cannot be reached: {exc}"
            await response.simple(steps.Status(502, text.encode(), "text/plain; charset=utf-8"))
            return
        try:
            writer.write(self._request(record))
            await self._pass_on(reader, exchange, record, response)
        finally:
            writer.transport.abort()  # at once, also when our client left: the real server has to notice

    def _request(self, record: Record) -> bytes:
        # Connection: close, so that the end of the connection is the end of the answer, which saves us the parsing.
        headers = [(name, value) for name, value in record.headers if name.lower() not in _OURS]
        headers += [("Host", self._netloc), ("Connection", "close"), ("Content-Length", str(len(record.body)))]
        target = self._prefix + record.path + (f"?{record.query}" if record.query else "")
        lines = [f"{record.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode("latin-1") + record.body

    async def _pass_on(
        self, reader: asyncio.StreamReader, exchange: Exchange, record: Record, response: Response
    ) -> None:
        last = time.monotonic()
        record._enter("streaming")
        try:
            while data := await reader.read(1 << 20):
                now = time.monotonic()
                exchange.pieces.append((round(now - last, 6), data))
                last = now
                await response.unframed(steps.Raw(data, framed=False))
        except ConnectionError:
            exchange.ended = "rst"
            await response.end(steps.End("rst"))
        else:
            exchange.ended = "fin"
            response.closes = True
