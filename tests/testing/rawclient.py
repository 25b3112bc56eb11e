"""A client on a bare socket: what it reads is what was sent."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class RawClient:
    def __init__(self, url: str = "", unix: Path | None = None) -> None:
        if unix is None:
            parts = urlsplit(url)
            self.sock = socket.create_connection((parts.hostname, parts.port), timeout=30)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(30)
            self.sock.connect(str(unix))
        self.seen = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, method: str, path: str, body: Any = None, headers: str = "") -> None:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
        self.sock.sendall(head.encode() + data)

    def chat(self, path: str = "/api/chat", **more: Any) -> None:
        self.send("POST", path, CHAT | more)

    def until(self, mark: bytes) -> bytes:
        """Read until the bytes have come; what came after them is kept."""
        while mark not in self.seen:
            data = self.sock.recv(65536)
            assert data, f"the server closed before {mark!r}: {self.seen!r}"
            self.seen += data
        before, _, self.seen = self.seen.partition(mark)
        return before + mark

    def rest(self) -> bytes:
        """Read until the server closes."""
        while data := self.sock.recv(65536):
            self.seen += data
        data, self.seen = self.seen, b""
        return data

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """Read a response that has a length or chunks."""
        lines = self.until(b"\r\n\r\n").decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:-2])}
        if "content-length" in headers:
            length = int(headers["content-length"])
            while len(self.seen) < length:
                self.seen += self.sock.recv(65536)
            body, self.seen = self.seen[:length], self.seen[length:]
        else:
            body = b"".join(self.chunks())
        return int(lines[0].split(" ")[1]), headers, body

    def chunks(self) -> list[bytes]:
        """Read the HTTP chunks up to the last."""
        chunks = []
        while size := int(self.until(b"\r\n"), 16):
            while len(self.seen) < size + 2:
                data = self.sock.recv(65536)
                assert data, "the server closed inside a chunk"
                self.seen += data
            chunks.append(self.seen[:size])
            self.seen = self.seen[size + 2 :]
        self.until(b"\r\n")
        return chunks

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def lines(body: bytes) -> list[Any]:
    return [json.loads(line) for line in body.split(b"\n") if line.strip()]


def events(body: bytes) -> list[Any]:
    """The JSON of SSE events, `[DONE]` as text."""
    found: list[Any] = []
    for event in body.split(b"\n\n"):
        if event.startswith(b"data: "):
            text = event.removeprefix(b"data: ")
            found.append("[DONE]" if text == b"[DONE]" else json.loads(text))
    return found
