"""A thousand streams at once through one process, as fast as models speak: every token of each, once, in order."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from benchmarks.crowd import crowd
from tests.conftest import give_up
from tests.web.asgi_servers import SERVERS
from tests.web.process import ROOT, running

STREAMS, TOKENS, RATE = 1000, 40, 20


@pytest.fixture
def room() -> Iterator[None]:
    """Room for the sockets of all readers, in this process and in those that it starts."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 3 * STREAMS
    if hard < need:
        give_up(f"a thousand streams need {need} open files, and {hard} are allowed here: ulimit -Hn {need}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def paced() -> Iterator[str]:
    """A model server in a process of its own that says tokens at a steady rate; its address."""
    command = [sys.executable, "-m", "benchmarks.paced", str(TOKENS), str(RATE)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{json.loads(process.stdout.readline())['port']}"


@pytest.mark.skipif(sys.platform == "win32", reason="sockets are not files there, and processes have other limits")
@pytest.mark.timeout(400)
def test_a_thousand_streams(room: None, paced: str) -> None:
    """A thousand streams of 20 tokens a second complete, with no token lost, doubled or in another's stream."""
    questions = [f"q{number}" for number in range(STREAMS)]

    def command(port: int) -> list[str]:
        server = SERVERS["uvicorn-httptools"]("tests.web.asgi_app:app", port)
        return [sys.executable, "-m", *server, "--no-access-log"]

    with running(command, {"UPSTREAM": paced}) as server:
        told = asyncio.run(crowd(server.port, questions))

    for question, one in zip(questions, told, strict=True):
        assert [text.rpartition(":")[0] for text in one.tokens] == [f"{question}:{token}" for token in range(TOKENS)]
        assert one.ids == [*range(1, TOKENS + 2), TOKENS + 1]
        assert one.whole
