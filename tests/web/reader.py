"""A reader of event streams on a bare socket: it sees what a browser sees, and leaves as a browser leaves."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any, Self
from urllib.parse import urlsplit

from tailrace.protocols.sse import ServerSentEvent, SSEDecoder

PATIENCE = 60.0  # seconds, for whatever is waited for


class Reader:
    """Sends one request and reads its answer as it comes.

    Args:
        url: of the server.
        path: of the request, with its query.
        body: sent as JSON; bytes are sent as they are; None sends none.
        method: of the request.
        headers: further header lines, each with its line end.
        kind: what the body says it is.
        version: of HTTP.
        rcvbuf: how many bytes the system keeps for us, about.
    """

    def __init__(
        self,
        url: str,
        path: str = "/chat/stream",
        body: Any = None,
        *,
        method: str = "POST",
        headers: str = "",
        kind: str = "application/json",
        version: str = "1.1",
        rcvbuf: int | None = None,
    ) -> None:
        where = urlsplit(url)
        self.sock = socket.socket()
        self.sock.settimeout(PATIENCE)
        if rcvbuf is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.connect((where.hostname, where.port))
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if data or method == "POST":
            headers += f"Content-Length: {len(data)}\r\n"
        if data:
            headers += f"Content-Type: {kind}\r\n"
        head = f"{method} {path} HTTP/{version}\r\nHost: {where.netloc}\r\n{headers}\r\n"
        self.sock.sendall(head.encode("latin-1") + data)
        self.method = method
        self.decoder = SSEDecoder()
        self.raw = bytearray()  # of the body, as it came
        self.events: list[ServerSentEvent] = []  # what was decoded and not taken
        self.ended = False
        self._seen = b""
        self._left = 0  # of a chunk
        self._status = 0
        self._headers: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    # -- the head ------------------------------------------------------------------------------------------------

    @property
    def status(self) -> int:
        self._read_head()
        return self._status

    @property
    def headers(self) -> dict[str, str]:
        self._read_head()
        return self._headers

    def _read_head(self) -> None:
        while not self._status:
            while b"\r\n\r\n" not in self._seen:
                self._receive()
            head, _, self._seen = self._seen.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            status = int(first.split(" ")[1])
            if status >= 200:  # those below announce another
                self._status = status
                self._headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}

    def _receive(self) -> None:
        data = self.sock.recv(65536)
        assert data, f"the server closed before it had answered: {self._seen!r}"
        self._seen += data

    # -- the body ------------------------------------------------------------------------------------------------

    def more(self) -> bytes:
        """Waits for more of the body; empty at its end."""
        self._read_head()
        if self.ended or self.method == "HEAD" or self._status in (204, 304):
            self.ended = True
            return b""
        if "transfer-encoding" in self._headers:
            data = self._chunk()
        elif "content-length" in self._headers:
            data = self._measured(int(self._headers["content-length"]) - len(self.raw))
        else:
            data = self._seen or self.sock.recv(65536)
            self._seen = b""
        self.ended = not data
        self.raw += data
        self.events += self.decoder.feed(data)
        return data

    def _chunk(self) -> bytes:
        """More of a chunk, also of one that is not whole yet: it may never be."""
        if not self._left:
            self._left = int(self._line() or self._line(), 16)  # an empty line ends the chunk before
            if not self._left:
                self._line()
                return b""
        if not self._seen:
            self._receive()
        data, self._seen = self._seen[: self._left], self._seen[self._left :]
        self._left -= len(data)
        return data

    def _line(self) -> bytes:
        while b"\r\n" not in self._seen:
            self._receive()
        line, _, self._seen = self._seen.partition(b"\r\n")
        return line

    def _measured(self, left: int) -> bytes:
        if left <= 0:
            return b""
        if not self._seen:
            self._receive()
        data, self._seen = self._seen[:left], self._seen[left:]
        return data

    def until(self, mark: bytes) -> bytes:
        """Waits until the body has these bytes, and returns all of the body until now."""
        while mark not in self.raw:
            assert self.more(), f"the answer ended before {mark!r}: {self.raw[-1000:]!r}"
        return bytes(self.raw)

    def body(self) -> bytes:
        """Reads to the end, and returns all of the body."""
        while self.more():
            pass
        return bytes(self.raw)

    @property
    def json(self) -> Any:
        return json.loads(self.body())

    # -- events --------------------------------------------------------------------------------------------------

    def next(self) -> ServerSentEvent:
        """Waits for the next event."""
        while not self.events:
            assert self.more(), f"the answer ended: {self.raw[-1000:]!r}"
        return self.events.pop(0)

    def all(self) -> list[ServerSentEvent]:
        """Reads to the end, and returns the events not taken yet."""
        self.body()
        events, self.events = self.events, []
        return events

    @property
    def run(self) -> str:
        """The path of the run that is read."""
        return self.headers["location"]

    # -- leaving -------------------------------------------------------------------------------------------------

    def leave(self, how: str = "fin") -> None:
        """Goes away, as a closed tab does (`fin`) or a crashed one (`rst`)."""
        if how == "rst":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def texts(events: list[ServerSentEvent]) -> list[str]:
    """What a reader of the tutorial's prints: the content of the unnamed events."""
    plain = [event.data for event in events if event.type == "message" and event.data != b"[DONE]"]
    return [text for text in (json.loads(data)["content"] for data in plain) if text]


def text(events: list[ServerSentEvent]) -> str:
    """The answer."""
    return "".join(texts(events))
