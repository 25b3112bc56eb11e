"""Exceptions of httpx that programs written for ollama-python catch: the same ``except`` catches ours."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import httpx
import ollama
import pytest

import tailrace
from tailrace import errors
from tailrace.testing import FakeOllama, Step, closed_port, cut, say, stall

ASKED = [{"role": "user", "content": "hi"}]
BOTH = pytest.mark.parametrize("library", [ollama, tailrace], ids=["ollama", "tailrace"])


def read(library: ModuleType, url: str, **options: Any) -> None:
    for _ in library.Client(url, **options).chat("m", ASKED, stream=True):
        pass


async def read_async(library: ModuleType, url: str, **options: Any) -> None:
    async for _ in await library.AsyncClient(url, **options).chat("m", ASKED, stream=True):
        pass


def reads_async(library: ModuleType, url: str, **options: Any) -> None:
    asyncio.run(read_async(library, url, **options))


READS = pytest.mark.parametrize("reads", [read, reads_async], ids=["sync", "async"])
Reads = Callable[..., None]


@BOTH
@READS
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_listens(library: ModuleType, reads: Reads) -> None:
    """Where nobody listens, a stream raises what ``except httpx.ConnectError`` catches."""
    with pytest.raises(httpx.ConnectError):
        reads(library, f"http://127.0.0.1:{closed_port()}")


@BOTH
@READS
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("steps", [[stall()], [say("a"), stall()]], ids=["first", "next"])
@pytest.mark.parametrize("kind", [httpx.ReadTimeout, httpx.TimeoutException, httpx.HTTPError])
def test_nothing_comes(library: ModuleType, reads: Reads, steps: list[Step], kind: type[Exception]) -> None:
    """Where nothing comes in time, a stream raises what ``except httpx.ReadTimeout`` and its bases catch."""
    with FakeOllama() as server:
        server.script(*steps)
        with pytest.raises(kind):
            reads(library, server.url, timeout=0.05)


@BOTH
@READS
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_connection_breaks(library: ModuleType, reads: Reads) -> None:
    """Where the server closes in the middle of the body, ``except httpx.RemoteProtocolError`` catches it."""
    with FakeOllama() as server:
        server.script(say("a"), cut())
        with pytest.raises(httpx.RemoteProtocolError):
            reads(library, server.url)


KINDS = [errors.ConnectionError, errors.TimedOutError, errors.TruncatedError, errors.ProtocolError]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_of_both(kind: type[errors.TailraceError]) -> None:
    """An error that is httpx's too keeps its own name, message, hint and attributes, and can be sent to a process."""
    error: Any = kind("said", hint="do")
    theirs: Any = httpx.HTTPError
    assert type(error) is kind
    assert (str(error), error.hint, error.reply) == ("said", "do", None)
    assert isinstance(error, theirs)
    with pytest.raises(RuntimeError, match="request"):
        _ = error.request  # as of one that httpx raised without a request
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.hint) == (kind, "said", "do")


@pytest.mark.parametrize("kind", [errors.RequestError, errors.ResponseError, errors.OwnerLostError])
def test_other_errors_are_ours_alone(kind: type[errors.TailraceError]) -> None:
    """What ollama-python has exceptions of its own for, or has not at all, is no exception of httpx."""
    assert type(kind("said")) is kind
    assert isinstance(pickle.loads(pickle.dumps(kind("said"))), kind)


def test_httpx_is_not_imported() -> None:
    """Without httpx our errors are ours, and nothing imports it."""
    code = """
import sys, tailrace
print(type(tailrace.ConnectionError("said")) is tailrace.ConnectionError, "httpx" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "True False\n"
