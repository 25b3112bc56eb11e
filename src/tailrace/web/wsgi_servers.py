"""What a WSGI server tells about itself: how many threads it has, and whether a client has gone.

WSGI says nothing of either. What is used here is what servers document or put into ``environ`` for applications; where
there is nothing of that kind, nothing is assumed.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["gone", "limit_sends", "most_streams", "thread_count", "warn_if_single"]

_log = logging.getLogger(__name__)

Environ = Mapping[str, Any]


# -- threads -----------------------------------------------------------------------------------------------------------


def most_streams(environ: Environ) -> int | None:
    """Returns how many streams may run at once: one less than threads, so that one is left to answer all else.

    None if there is no limit, or none is known: Flask's own server makes a thread for each request.
    """
    threads = thread_count(environ)
    return max(1, threads - 1) if threads is not None else None


def thread_count(environ: Environ) -> int | None:
    """Returns how many threads the server answers requests with in this process; None if unknown or without end."""
    if "gunicorn.socket" in environ:
        return _gunicorn_threads()
    if "waitress.client_disconnected" in environ:
        channel = getattr(environ["waitress.client_disconnected"], "__self__", None)
        return _number(channel, "server", "adj", "threads")
    if environ.get("SERVER_SOFTWARE") == "Granian":
        return _granian_threads()
    return None


def _number(start: object, *names: str) -> int | None:
    value = functools.reduce(lambda thing, name: getattr(thing, name, None), names, start)
    return value if isinstance(value, int) and value > 0 else None


def _gunicorn_threads() -> int | None:
    """The setting of a worker of threads. A worker handles its signals itself, which leads to it and its settings."""
    for name in ("SIGTERM", "SIGQUIT", "SIGABRT"):
        worker = getattr(signal.getsignal(getattr(signal, name, signal.SIGTERM)), "__self__", None)
        kind = getattr(getattr(worker, "cfg", None), "worker_class_str", "")
        if kind.endswith(("gthread", "ThreadWorker")):
            return _number(worker, "cfg", "threads")
    return None


def _granian_threads() -> int | None:
    """The setting of the command line or of the environment. The default is hundreds, and cannot be asked for."""
    option, words = "--blocking-threads", sys.argv
    told = [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]
    told += [value for word, value in itertools.pairwise(words) if word == option]
    told.append(os.environ.get("GRANIAN_BLOCKING_THREADS", ""))
    return int(told[0]) if told[0].isdecimal() else None


_warned = False


def warn_if_single(environ: Environ) -> None:
    """Says once, in the log, that the server answers one request at a time: a stream then stops all others."""
    global _warned
    if environ.get("wsgi.multithread", True) or _warned:
        return
    _warned = True
    text = (
        "this server answers one request at a time in each process (wsgi.multithread is false): while an answer is "
        "streamed nothing else is answered, stopping it included"
    )
    if "gunicorn.socket" in environ:
        text += ", and gunicorn kills its worker after --timeout (30 s). Use threads: gunicorn -k gthread --threads 16"
    _log.warning("%s", text)


# -- clients -----------------------------------------------------------------------------------------------------------


def gone(environ: Environ) -> Callable[[], bool]:
    """Returns what tells whether the client has gone, as far as that can be known without sending.

    waitress says so itself; gunicorn and Flask's own server hand out the connection, whose end can be seen. With other
    servers, and over TLS, only a send tells.
    """
    told: Callable[[], bool] | None = environ.get("waitress.client_disconnected")
    if told is not None:
        return told
    sock = _socket(environ)
    if type(sock) is socket.socket and not sock.gettimeout() and hasattr(socket, "MSG_DONTWAIT"):
        return functools.partial(_at_end, sock)
    return lambda: False


def limit_sends(environ: Environ, seconds: float) -> None:
    """Has the system end a connection whose client takes nothing for so long, silent losses included.

    Where the server hands out the connection and the system can (Linux). waitress takes what a client does not into a
    buffer of its own, so it holds no thread.
    """
    sock = _socket(environ)
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if sock is not None and option is not None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, option, round(seconds * 1000))
        except OSError:
            pass  # a Unix socket: whoever is at its other end has limits of its own


def _socket(environ: Environ) -> Any:
    return environ.get("gunicorn.socket") or environ.get("werkzeug.socket")


def _at_end(sock: socket.socket) -> bool:
    """True if the client has ended its side; nothing is taken from what it may have sent."""
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
