"""A worker process: ``python -m tailrace.gateway.cluster FD NAME``, with its parent at the other end of that socket."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import sys

from tailrace.errors import TailraceError
from tailrace.gateway.cluster.process import Task, Tie, Told

__all__ = ["main"]


def main() -> int:
    """Serves until a signal, or until the parent has gone."""
    tie = Tie(_inherited(int(sys.argv[1])))
    try:
        _serve(tie.task(), tie)
    except ModuleNotFoundError as error:
        tie.tell(Told(error=str(error), missing=error.name or ""))
        return 1
    except TailraceError as error:
        tie.tell(Told(error=str(error), hint=error.hint))
        return 1
    return 0


def _serve(task: Task, tie: Tie) -> None:
    from tailrace.gateway.app import create_app
    from tailrace.gateway.cluster.middleware import Neighbours
    from tailrace.gateway.server.serve import serve

    app = create_app(task.settings, neighbours=Neighbours(task.here, task.count, task.folder))
    listener, private = _inherited(task.listener), _inherited(task.private)
    serve(app, listener, ready=lambda: tie.tell(Told(listening=True)), private=private, tie=tie)
    if tie.hear() is None:
        shutil.rmtree(task.folder, ignore_errors=True)


def _inherited(number: int) -> socket.socket:
    """Returns a socket that the parent has left us; what we start ourselves does not get it."""
    left = socket.socket(fileno=number)
    left.set_inheritable(False)
    return left


if __name__ == "__main__":
    done = main()
    # Without waiting for threads: one that looks up a name may take long.
    atexit._run_exitfuncs()
    os._exit(done)
