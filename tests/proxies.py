"""Proxies and TLS in front of a fake server: small, on loopback, and they note what they are asked."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tests.rawserver import CERTIFICATE

__all__ = ["HttpProxy", "SocksProxy", "encrypted"]


class _Listener:
    """Takes connections until it is left; each has a thread."""

    scheme = "http"

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self.heads: list[str] = []
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def with_credentials(self, credentials: str) -> str:
        """Its address, with a name and a password."""
        return self.url.replace("://", f"://{credentials}@")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._begin, args=(accepted,), daemon=True).start()

    def _begin(self, accepted: socket.socket) -> None:
        with contextlib.suppress(OSError), accepted:  # who does not trust us leaves in the middle of it
            if self._context is None:
                self.serve(accepted)
                return
            with self._context.wrap_socket(accepted, server_side=True) as secure:
                self.serve(secure)

    def serve(self, inside: socket.socket) -> None:
        """Serves one connection."""
        raise NotImplementedError


def _head_of(inside: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        data = inside.recv(65536)
        if not data:
            raise OSError("gone")
        head += data
    return head


def _join(inside: socket.socket, port: int, first: bytes = b"") -> None:
    """Connects with a port of this machine, and carries everything both ways."""
    with socket.create_connection(("127.0.0.1", port)) as outside:
        outside.sendall(first)
        back = threading.Thread(target=_pump, args=(outside, inside), daemon=True)
        back.start()
        _pump(inside, outside)
        back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        source.shutdown(socket.SHUT_RDWR)


class HttpProxy(_Listener):
    """A proxy of HTTP: tunnels with CONNECT, and requests that name their host; all lead to this machine.

    Args:
        credentials: ``name:password`` that it wants.
        answer: what it says to everything instead.
        context: for TLS with it.
    """

    def __init__(self, credentials: str = "", answer: bytes = b"", context: ssl.SSLContext | None = None) -> None:
        super().__init__(context)
        self.scheme = "http" if context is None else "https"
        self._wanted = base64.b64encode(credentials.encode()).decode() if credentials else ""
        self._answer = answer

    def serve(self, inside: socket.socket) -> None:
        head = _head_of(inside)
        line, _, rest = head.partition(b"\r\n")
        method, url, version = line.decode().split(" ")
        self.asked.append(f"{method} {url}")
        self.heads.append(head.decode("latin-1"))
        if self._answer:
            inside.sendall(self._answer)
        elif f"\r\nproxy-authorization: basic {self._wanted}\r\n".lower() not in head.decode("latin-1").lower() and (
            self._wanted
        ):
            inside.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        elif method == "CONNECT":
            inside.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _join(inside, int(url.rpartition(":")[2]))
        else:
            parts = urlsplit(url)
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            assert parts.port is not None
            lines = [line for line in rest.split(b"\r\n") if not line.lower().startswith(b"proxy-")]
            _join(inside, parts.port, f"{method} {path} {version}\r\n".encode() + b"\r\n".join(lines))


class SocksProxy(_Listener):
    """A proxy of SOCKS5 (RFC 1928, RFC 1929) whose every way leads to this machine.

    Args:
        credentials: ``name:password`` that it wants.
        reply: what it says to a request; 0 is yes.
    """

    scheme = "socks5"

    def __init__(self, credentials: str = "", reply: int = 0) -> None:
        super().__init__()
        self._credentials = credentials
        self._reply = reply

    def serve(self, inside: socket.socket) -> None:
        def take(count: int) -> bytes:
            data = b""
            while len(data) < count:
                more = inside.recv(count - len(data))
                if not more:
                    raise OSError("gone")
                data += more
            return data

        methods = take(take(2)[1])
        wanted = 2 if self._credentials else 0
        if wanted not in methods:
            inside.sendall(b"\x05\xff")
            return
        inside.sendall(bytes([5, wanted]))
        if wanted:
            name = take(take(2)[1])
            password = take(take(1)[0])
            right = f"{name.decode()}:{password.decode()}" == self._credentials
            inside.sendall(bytes([1, 0 if right else 1]))
            if not right:
                return
        kind = take(4)[3]
        if kind == 3:
            host = take(take(1)[0]).decode()
        else:
            host = socket.inet_ntop(socket.AF_INET if kind == 1 else socket.AF_INET6, take(4 if kind == 1 else 16))
        port = int.from_bytes(take(2), "big")
        self.asked.append(f"{host}:{port}")
        inside.sendall(bytes([5, self._reply, 0, 1, 0, 0, 0, 0, 0, 0]))
        if not self._reply:
            _join(inside, port)


class _Encrypted(_Listener):
    scheme = "https"

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        super().__init__(context)
        self._to = port

    def serve(self, inside: socket.socket) -> None:
        assert isinstance(inside, ssl.SSLSocket)
        self.asked.append("with a certificate" if inside.getpeercert(binary_form=True) else "without")
        _join(inside, self._to)


@contextmanager
def encrypted(port: int, *, wants_certificate: bool = False, certificate: Path = CERTIFICATE) -> Iterator[_Listener]:
    """Speaks TLS in front of a server of this machine, as localhost.

    Args:
        port: the server's.
        wants_certificate: refuse who has not the certificate of the tests.
        certificate: its own, with its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if wants_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(CERTIFICATE)
    with _Encrypted(port, context) as listener:
        yield listener
