"""Ports of this machine: one that is free, and the moment at which somebody listens."""

from __future__ import annotations

import contextlib
import socket
import time

__all__ = ["free_port", "wait_for"]


def free_port() -> int:
    """Returns a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def wait_for(port: int, limit: float = 10.0) -> None:
    """Waits until somebody listens on a port.

    Raises:
        RuntimeError: nobody does within the limit, in seconds.
    """
    until = time.monotonic() + limit
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise RuntimeError(f"nobody listens on port {port} after {limit:g} s")
