"""A proxy that cuts connections in the middle of an answer, and a reader that comes back each time."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.web.reader import PATIENCE, Reader

from tailrace.protocols.sse import ServerSentEvent, SSEDecoder

Cut = Callable[[bytes], int | None]
"""Looks at what a connection has sent in all; returns how much of that still passes, or None while it may live on."""


def after_bytes(count: int) -> Cut:
    """Cuts after so many bytes, the head of the answer included."""
    return lambda data: count if len(data) >= count else None


def after_blocks(count: int) -> Cut:
    """Cuts after so many blocks: a block ends with an empty line, as an event does. The first is that of `retry`."""

    def cut(data: bytes) -> int | None:
        body = data.find(b"\r\n\r\n") + 4
        end = body - 2
        for _ in range(count):
            end = data.find(b"\n\n", end) + 2
            if end < 2:
                return None
        return end

    return cut if count else after_bytes(0)


class CuttingProxy:
    """Passes connections on to a server, and cuts one after the other as it was told, the later ones not at all.

    Args:
        port: of the server.
        cuts: where to cut, one for each connection.
    """

    def __init__(self, port: int, cuts: Iterable[Cut] = ()) -> None:
        self._server = port
        self._cuts = iter(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> CuttingProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._listener.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._server)) as server:
                client.settimeout(PATIENCE)
                server.settimeout(PATIENCE)
                server.sendall(_request(client))
                _pass_on(server, client, next(self._cuts, None))


def _request(client: socket.socket) -> bytes:
    """The head of a request; these have no body. Its connection is to end with the answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(65536)
    return data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)


def _pass_on(server: socket.socket, client: socket.socket, cut: Cut | None) -> None:
    sent, data = 0, b""
    while piece := server.recv(65536):
        data += piece
        end = cut(data) if cut is not None else None
        client.sendall(data[sent:end])
        sent = len(data)
        if end is not None:
            return


class ResumingReader:
    """Reads a run, and comes back with the id it saw last as often as it is cut off.

    Args:
        url: of the server.
        path: of the run.
        on_event: called for each event.
    """

    def __init__(self, url: str, path: str, on_event: Callable[[ServerSentEvent], object] = lambda _: None) -> None:
        self.url = url
        self.path = path
        self.on_event = on_event
        self.last = ""
        self.texts: list[str] = []  # of each unnamed event with content
        self.numbers: list[int] = []  # of the events that carry one, in the order of their coming
        self.outcome = ""
        self.connections = 0

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def read(self) -> str:
        """Reads until nothing more comes; returns the answer."""
        while True:
            self.connections += 1
            decoder = SSEDecoder()
            decoder.last_event_id = self.last
            headers = f"Last-Event-ID: {self.last}\r\n" if self.last else ""
            with Reader(self.url, self.path, method="GET", headers=headers) as reader:
                reader.decoder = decoder
                whole = self._read(reader)
            self.last = decoder.last_event_id
            if whole:
                return self.text

    def _read(self, reader: Reader) -> bool:
        """Takes what one connection brings; returns True if that was all there is."""
        try:
            if reader.status == 204:
                return True
            for event in _events(reader):
                self._take(event)
        except (AssertionError, OSError):
            return False  # cut off
        return bool(self.outcome)

    def _take(self, event: ServerSentEvent) -> None:
        self.on_event(event)
        self.numbers.append(int(event.id.partition("-")[0]))
        if event.type == "reset":
            self.texts.clear()
        elif event.type == "ended":
            self.outcome = json.loads(event.data)["outcome"]
        elif event.type == "message" and event.data != b"[DONE]":
            told: Any = json.loads(event.data)
            if told["content"]:
                self.texts.append(told["content"])


def _events(reader: Reader) -> Iterator[ServerSentEvent]:
    while True:
        while reader.events:
            yield reader.events.pop(0)
        if not reader.more():
            return
