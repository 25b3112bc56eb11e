"""Addresses with a fault: closed, never accepting, never answering."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from types import TracebackType
from typing import Self

from tailrace.testing.http1 import Connection
from tailrace.testing.records import Record
from tailrace.testing.server import FakeServer

__all__ = ["NeverAccepts", "Silent", "closed_port"]


def closed_port() -> int:
    """Return a loopback port on which nothing listens: connecting to it is refused.

    The port stays taken while this process lives, so that no other program comes to listen there. A fake server of
    yours may: `FakeOllama(port=port)`.
    """
    sock = socket.socket()
    if os.name != "nt":  # there it would let others take the port
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    sock.detach()  # bound for good
    return port


class NeverAccepts:
    """A port that neither accepts nor refuses: connecting to it hangs, as with a host behind a silent firewall.

    Its backlog is full, which Linux answers by dropping further connection requests.
    """

    def __init__(self) -> None:
        self.port = 0
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        listener = socket.socket()
        self._sockets = [listener]
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self.port = listener.getsockname()[1]
        while self._fills():
            pass
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets = []

    @property
    def url(self) -> str:
        """The address, `http://127.0.0.1:<port>`."""
        return f"http://127.0.0.1:{self.port}"

    def _fills(self) -> bool:
        """Take one more place in the backlog; False if there was none."""
        sock = socket.socket()
        self._sockets.append(sock)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect(("127.0.0.1", self.port))
        # The loopback's handshake is over when connect() returns; the little patience is for other systems.
        return bool(select.select([], [sock], [], 0.05)[1])


class Silent(FakeServer):
    """A server that accepts, reads, and never answers.

    Every connection, not every request, has a record; its `body` is what came over it.
    """

    async def _requests(self, connection: Connection) -> None:
        record = Record("", "", _board=self._board)
        with self._board.change():
            self.requests.append(record)
        record._enter("stalling")
        try:
            how = await connection.left
            record.body = bytes(connection.buffer)
            record._left(how)
        finally:
            record._end(completed=False)
