"""The worker's process by itself: what it says when it cannot start, and what a mistake in it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tailrace.backends.embedded import worker

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes as POSIX knows them")

MAIN = "from tailrace.backends.embedded import worker\nworker.main()"
WITHOUT = "import sys\nsys.modules['xllamacpp'] = None\n" + MAIN
MISTAKEN = (
    """
from tailrace.backends.embedded.routes import Routes

async def before(self, exchange):
    raise KeyError("before")

async def after(self, exchange):
    exchange.start(200, "text/plain")
    raise KeyError("after")

Routes._root, Routes._get_version = before, after
"""
    + MAIN
)
BROKEN = (
    """
from tailrace.backends.embedded import worker

async def read(reader, writer, key):
    raise KeyError("while reading")

worker.read_request = read
"""
    + MAIN
)


@contextmanager
def started(code: str) -> Iterator[subprocess.Popen[str]]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def config(folder: Path) -> str:
    return json.dumps({"folder": str(folder), "parent": os.getpid()}) + "\n"


@pytest.mark.parametrize(
    ("code", "line", "error", "status"),
    [
        (MAIN, "nonsense\n", "DecodeError: ", 1),
        (MAIN, "", "EOFError: the parent closed", 1),
        (MAIN, "half a li", "EOFError: the parent closed", 1),
        (WITHOUT, None, "the embedded engine is not installed", 3),
    ],
    ids=["nonsense", "nothing", "half", "no engine"],
)
def test_why_it_cannot_start(code: str, line: str | None, error: str, status: int, tmp_path: Path) -> None:
    """It says so on its one line, and ends; its folder is the parent's, which wants to read the log."""
    with started(code) as process:
        output, _ = process.communicate(config(tmp_path) if line is None else line)

    assert error in json.loads(output)["error"]
    assert (process.returncode, tmp_path.exists()) == (status, True)


def answered(path: str, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(100)
        client.connect(path)
        client.sendall(request)
        data = b""
        while piece := client.recv(65536):
            data += piece
        return data


def test_a_mistake_ends_one_answer(tmp_path: Path) -> None:
    """It is told as an error, before the answer or in it, its trace is in the log, and the next request is served."""
    with started(MISTAKEN) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(config(tmp_path) + "more that nobody reads\n")
        process.stdin.flush()
        path = json.loads(process.stdout.readline())["socket"]
        before = answered(path, b"GET / HTTP/1.1\r\n\r\n")
        after = answered(path, b"GET /api/version HTTP/1.1\r\n\r\n")
        tags = answered(path, b"GET /api/ps HTTP/1.1\r\n\r\n")
        _, errors = process.communicate()

    assert before.startswith(b"HTTP/1.1 500 ")
    assert before.endswith(b"""{"error":"internal error: KeyError: 'before'"}""")
    assert after.startswith(b"HTTP/1.1 200 ")
    assert b"""{"error":"internal error: KeyError: 'after'"}""" in after
    assert after.endswith(b"0\r\n\r\n")
    assert tags.endswith(b'{"models":[]}')
    assert errors.count("Traceback") == 2


def test_a_mistake_before_there_is_a_request(tmp_path: Path) -> None:
    """It ends one connection, and its trace is in the log."""
    with started(BROKEN) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(config(tmp_path))
        process.stdin.flush()
        path = json.loads(process.stdout.readline())["socket"]
        assert [answered(path, b""), answered(path, b"")] == [b"", b""]
        _, errors = process.communicate()

    assert errors.count("KeyError: 'while reading'") == 2
    assert process.returncode == 0


def test_a_kernel_that_cannot_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the signal has another number, or another system, nothing is set up."""
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(sys, "platform", "darwin")

    worker._end_if_stuck()

    assert signal.getsignal(signal.SIGUSR1) is before
