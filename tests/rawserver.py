"""Servers of one connection, on a bare socket or over TLS: they say what they are given, whatever they are asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["CERTIFICATE", "raw_server"]

CERTIFICATE = Path(__file__).with_name("localhost.pem")


@contextmanager
def raw_server(family: int, address: str, answer: bytes, *, tls: bool = False) -> Iterator[int]:
    """Answers one connection with the bytes given; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, 0))
        except OSError as error:
            if family == socket.AF_INET6:
                pytest.skip(f"no IPv6 here: {error}")
            raise
        listener.listen()

        def serve() -> None:
            accepted, _ = listener.accept()
            # Who does not trust us, or speaks no TLS, leaves in the middle of it.
            with contextlib.suppress(OSError) if tls else contextlib.nullcontext(), accepted:
                connection = context.wrap_socket(accepted, server_side=True) if tls else accepted
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    if not tls:
                        connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()
