"""Requests as no client of ours would send them: byte for byte, on a bare socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from tests.web.reader import PATIENCE


class Told:
    """What the server answered."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        """The body, from JSON."""
        return json.loads(self.body)


def knock(url: str, request: str, lines: Sequence[str] = ("Host: localhost",), body: bytes = b"") -> Told:
    """Sends a request with these header lines and no others, but for one that tells the body's length.

    Args:
        url: of the server.
        request: the request line, such as ``GET / HTTP/1.1``.
        lines: header lines, without their ends.
        body: what follows.
    """
    where = urlsplit(url)
    measured = [f"Content-Length: {len(body)}"] if body else []
    head = "".join(f"{line}\r\n" for line in [request, *lines, *measured, "Connection: close", ""])
    with socket.create_connection((where.hostname, where.port), PATIENCE) as sock:
        sock.sendall(head.encode("latin-1") + body)
        response = http.client.HTTPResponse(sock, method=request.partition(" ")[0])
        response.begin()
        return Told(response)


def ask(url: str, *lines: str, path: str = "/runs", host: str = "localhost", kind: str = "application/json") -> Told:
    """Asks for a run, as a page or a program would."""
    body = b'{"message": "hi", "model": "m"}'
    return knock(url, f"POST {path} HTTP/1.1", [f"Host: {host}", f"Content-Type: {kind}", *lines], body)
