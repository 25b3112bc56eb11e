"""A worker process: ``python -m tailrace.gateway.workers FD``, with its parent at the other end of that socket."""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import shutil
import socket
import sys
from collections.abc import Callable

import msgspec

from tailrace.errors import TailraceError
from tailrace.gateway.workers.process import Task, Told

__all__ = ["main"]


def main() -> int:
    """Serves until a signal, or until the parent has gone."""
    parent = _inherited(int(sys.argv[1]))
    with parent.makefile("rb") as told:
        task = pickle.load(told)  # noqa: S301 - from our parent
    assert isinstance(task, Task)

    def tell(what: Told) -> None:
        with contextlib.suppress(OSError):  # the parent has gone, which the server notices as well
            parent.sendall(msgspec.json.encode(what) + b"\n")

    try:
        _serve(task, parent, tell)
    except ModuleNotFoundError as error:
        tell(Told(error=str(error), missing=error.name or ""))
        return 1
    except TailraceError as error:
        tell(Told(error=str(error), hint=error.hint))
        return 1
    return 0


def _serve(task: Task, parent: socket.socket, tell: Callable[[Told], None]) -> None:
    from tailrace.gateway.app import create_app
    from tailrace.gateway.server import serve
    from tailrace.gateway.workers.crossing import Neighbours

    app = create_app(task.settings, neighbours=Neighbours(task.here, task.count, task.folder))
    listener, private = _inherited(task.listener), _inherited(task.private)
    serve(app, listener, ready=lambda: tell(Told(ready=True)), private=private, parent=parent)
    if _is_closed(parent):
        shutil.rmtree(task.folder, ignore_errors=True)


def _inherited(number: int) -> socket.socket:
    """Returns a socket that the parent has left us; what we start ourselves does not get it."""
    left = socket.socket(fileno=number)
    left.set_inheritable(False)
    return left


def _is_closed(parent: socket.socket) -> bool:
    parent.setblocking(False)
    try:
        return not parent.recv(1)
    except OSError:
        return False


if __name__ == "__main__":
    done = main()
    # Without waiting for threads: one that looks up a name may take long.
    atexit._run_exitfuncs()
    os._exit(done)
