"""Listening sockets, with the kernel's help against readers that take nothing."""

from __future__ import annotations

import contextlib
import errno
import socket
import sys

from tailrace.errors import TailraceError

__all__ = ["BACKLOG", "listen", "listen_together"]

BACKLOG = 4096
_SEND_BUFFER = 256 * 1024  # bytes: the kernel's own limit of 4 MB would hold a reader's whole answer
_UNACKNOWLEDGED = 30_000  # ms after which a peer that acknowledges nothing, or takes nothing, is gone


def listen(host: str, port: int, *, together: bool = False) -> socket.socket:
    """Returns a listening socket.

    Args:
        host: the address.
        port: the port; 0 for any that is free.
        together: others are to listen there as well, and the kernel shares connections out among them. The socket does
            not listen yet: nobody is to be let in while the others are not there.

    Raises:
        TailraceError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if together:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted sockets inherit both.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED)
        listener.bind((host, port))
        if not together:
            listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        hint = "name another port with --port, or 0 for any free one"
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            hint = "name an address of this computer with --host"
        raise TailraceError(f"cannot listen on {host}:{port}: {reason}", hint=hint) from error
    listener.setblocking(False)
    return listener


def listen_together(host: str, port: int, count: int) -> list[socket.socket]:
    """Returns so many sockets that can listen on one address.

    Raises:
        TailraceError: the address cannot be listened on.
    """
    if port:  # another program of ours that listens there as we want to would simply share it with us
        listen(host, port).close()
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(contextlib.closing(listen(host, port, together=True)))]
        port = listeners[0].getsockname()[1]
        while len(listeners) < count:
            listeners += [stack.enter_context(contextlib.closing(listen(host, port, together=True)))]
        stack.pop_all()
    return listeners
