"""Ollama's own client for Go, of which its command is made, driven from Python: built once for all test runs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.clients.node import Script
from tests.conftest import give_up
from tests.programs import need

HERE = Path(__file__).parent / "go"
_SOURCES = ("main.go", "go.mod", "go.sum")
BUILDING = 500.0  # seconds that the first build may take, on a busy machine


def built(home: Path) -> Path:
    """Returns the program, built if need be.

    Args:
        home: where tests keep what they fetch.
    """
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in _SOURCES)).hexdigest()[:16]
    program = home / "clients" / f"go-{digest}"
    if program.exists():
        return program
    go = need("go")
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as temporary:
        fresh = Path(temporary) / "client"
        command = [go, "build", "-mod=readonly", "-trimpath", "-o", str(fresh), "."]
        env = {**os.environ, "GOTOOLCHAIN": "local"}
        try:
            done = subprocess.run(
                command, cwd=HERE, env=env, capture_output=True, text=True, timeout=BUILDING, check=False
            )
        except subprocess.TimeoutExpired:
            give_up("go does not come to an end")
        if done.returncode != 0:
            give_up(f"go cannot build the client: {done.stderr[-500:]}")
        fresh.replace(program)
    return program


@contextlib.contextmanager
def golang(program: Path, url: str) -> Iterator[Script]:
    """Runs the program against a server."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        with output.open("w") as errors:
            process = subprocess.Popen(
                [str(program), url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
            )
        try:
            yield Script(process, output)
        finally:
            process.kill()
            process.communicate()
