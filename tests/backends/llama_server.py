"""A llama-server with the default model, which ends with whoever started it; `xllamacpp` has a real one in it.

Run as a program, with the model's file and the number of slots, it prints where it listens and waits for the end of its
input.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def llama_server(model: Path, slots: int = 1) -> Iterator[str]:
    """Runs a server; yields its address."""
    command = [sys.executable, __file__, str(model), str(slots)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def _main(model: str, slots: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_parallel = int(slots)
    params.n_ctx = 4096 * params.n_parallel
    params.n_batch = params.n_ubatch = 64  # progress, and a look at whether the client is there, four times as often
    params.port = 0
    params.verbosity = 0
    params.ui = False
    params.endpoint_metrics = True
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # whatever it is doing


if __name__ == "__main__":
    _main(*sys.argv[1:])
