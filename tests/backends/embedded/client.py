"""A client of a few lines: it shows the wire as it is, and lets a test leave in every way there is."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

from tailrace.backends.embedded.supervisor import Endpoint

MODEL = "smollm2:135m"
# The model ends many a "very long story" after a few dozen tokens. An answer of this form it cannot end for thousands.
ENDLESS = {
    "type": "array",
    "minItems": 60,
    "items": {"type": "array", "minItems": 60, "items": {"type": "integer"}},
}


class Call:
    """One request on its own connection; the answer is read piece by piece."""

    def __init__(self, endpoint: Endpoint, method: str, path: str, body: object = None) -> None:
        self.socket = connect(endpoint)
        data = b"" if body is None else json.dumps(body).encode()
        key = f"Authorization: Bearer {endpoint.key}\r\n" if endpoint.key else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{key}Content-Length: {len(data)}\r\n\r\n"
        self.socket.sendall(head.encode() + data)
        self.file = self.socket.makefile("rb")
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False

    def read_head(self) -> None:
        if self.status:
            return
        self.status = int(self.file.readline().split()[1])
        while (line := self.file.readline().strip()) != b"":
            name, _, value = line.decode().partition(":")
            self.headers[name.lower()] = value.strip()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Lines of a chunked body as they come; ends at its end, and where the connection is cut."""
        self.read_head()
        rest = b""
        while True:
            size = self.file.readline()
            if not size or int(size, 16) == 0:
                self.complete = bool(size)
                assert rest == b""
                return
            rest += self.file.read(int(size, 16))
            self.file.readline()
            *whole, rest = rest.split(b"\n")
            for line in whole:
                yield json.loads(line)

    def until(self, **wanted: Any) -> dict[str, Any]:
        """Reads on to the first line, or report, that has these members; a value may be a test."""
        for each in self.lines():
            line: dict[str, Any] = each.get("tailrace", each)
            if all(
                value(line.get(key)) if callable(value) else line.get(key) == value for key, value in wanted.items()
            ):
                return line
        raise AssertionError(f"no line with {wanted}")

    def until_token(self) -> dict[str, Any]:
        return self.until(message=lambda message: message and message["content"])

    def whole(self) -> Any:
        """The body of an answer with a length."""
        self.read_head()
        text = self.file.read(int(self.headers["content-length"]))
        return json.loads(text)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def wait_closed(self) -> bytes:
        """Waits for the worker to close its side; returns what was still on the way."""
        return self.file.read()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def reset(self) -> None:
        """Leaves with RST instead of FIN, where there is such a thing."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(endpoint: Endpoint) -> socket.socket:
    if endpoint.socket_path:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(100)
        sock.connect(endpoint.socket_path)
        return sock
    host, _, port = endpoint.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=100)


def ask(endpoint: Endpoint, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """A request with a whole answer: its status and body."""
    with Call(endpoint, method, path, body) as call:
        body = call.whole()
        return call.status, body


def stream(endpoint: Endpoint, path: str, body: object) -> list[dict[str, Any]]:
    """A streamed request to its end: its lines."""
    with Call(endpoint, "POST", path, body) as call:
        lines = list(call.lines())
        assert call.complete
        return lines


def chat(endpoint: Endpoint, prompt: str, *, model: str = MODEL, predict: int = 400, **more: Any) -> Call:
    """Starts a streamed chat."""
    options = {"num_predict": predict, **more.pop("options", {})}
    messages = [{"role": "user", "content": prompt}]
    return Call(endpoint, "POST", "/api/chat", {"model": model, "messages": messages, "options": options, **more})


def endless(endpoint: Endpoint, **more: Any) -> Call:
    """Starts a streamed chat that goes on until somebody stops it."""
    return chat(endpoint, f"Count. {words(5)}", predict=3000, format=ENDLESS, **more)


def words(count: int) -> str:
    """A prompt that no cache has seen; a word is a token."""
    return " ".join(random.choice(("red", "blue", "cat", "dog", "sun", "moon", "tree", "fish")) for _ in range(count))


def models_loaded(endpoint: Endpoint) -> dict[str, dict[str, Any]]:
    return {model["name"]: model for model in ask(endpoint, "GET", "/api/ps")[1]["models"]}


def until_idle(endpoint: Endpoint, model: str = MODEL) -> dict[str, Any]:
    """Polls the engine's own word until every slot is idle; returns how far the last cancelled request had got."""
    while True:
        slots = ask(endpoint, "GET", "/debug/slots")[1][model]
        if not any(slots["busy"]):
            return dict(slots["last_cancelled"] or {})
        time.sleep(0.02)  # the test's own time limit bounds this
