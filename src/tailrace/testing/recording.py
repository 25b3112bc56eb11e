"""Record what a real server sends, with its timing, and play it back.

    with RecordingProxy("http://127.0.0.1:11434") as proxy:
        ...                                     # your program talks to proxy.url
        proxy.recording.save("chat.json")

    server.play(Recording.load("chat.json"))    # a FakeOllama or FakeOpenAI

Neither requests nor their headers are stored, so no key gets into a recording. The answers are, word for word.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from tailrace.testing import steps
from tailrace.testing.encoding import JSONLines
from tailrace.testing.records import Record
from tailrace.testing.response import Response
from tailrace.testing.server import FakeServer, Plan

__all__ = ["Exchange", "Recording", "RecordingProxy"]

_FORMAT = 1
_OURS = {"host", "connection", "keep-alive", "accept-encoding", "content-length", "transfer-encoding", "expect"}


@dataclass
class Exchange:
    """One answer.

    Attributes:
        method: The method of its request.
        path: The path of its request.
        pieces: What came, head and framing included: seconds since the piece before (or the request), and the bytes.
        ended: How the connection ended: `fin`, `rst`, or `left` if our client went away first.
    """

    method: str
    path: str
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    ended: Literal["fin", "rst", "left"] = "left"

    def script(self, speed: float | None = None) -> tuple[steps.Step, ...]:
        """Return the steps that play this answer.

        Args:
            speed: 1 keeps the recorded gaps, 10 is ten times as fast; None leaves them out.
        """
        script: list[steps.Step] = []
        for gap, data in self.pieces:
            if speed is not None and gap > 0:
                script.append(steps.delay(gap / speed))
            script.append(steps.unframed(data))
        if self.ended == "rst":
            script.append(steps.rst())
        return tuple(script)


@dataclass
class Recording:
    """The answers of a server, in the order of their requests."""

    exchanges: list[Exchange] = field(default_factory=list)

    def save(self, path: str | Path) -> None:
        """Write it to a JSON file."""
        value = {"tailrace_recording": _FORMAT, "exchanges": [_to_json(exchange) for exchange in self.exchanges]}
        Path(path).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        """Read it from a JSON file.

        Raises:
            ValueError: The file is no recording of this format.
        """
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(value, dict) or value.get("tailrace_recording") != _FORMAT:
            raise ValueError(f"{path} is no recording of format {_FORMAT}; make one with RecordingProxy")
        return cls([_from_json(exchange) for exchange in value["exchanges"]])


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


def _to_json(exchange: Exchange) -> dict[str, Any]:
    pieces = [[gap, _readable(data)] for gap, data in exchange.pieces]
    return {"method": exchange.method, "path": exchange.path, "ended": exchange.ended, "pieces": pieces}


def _readable(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:  # a character cut in two
        return {"base64": base64.b64encode(data).decode()}


def _from_json(value: dict[str, Any]) -> Exchange:
    pieces = [
        (gap, data.encode() if isinstance(data, str) else base64.b64decode(data["base64"]))
        for gap, data in value["pieces"]
    ]
    return Exchange(value["method"], value["path"], pieces, value["ended"])
