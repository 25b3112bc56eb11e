"""The engine's side that no real model here shows: another library, another platform, and what goes wrong in it."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import platform
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace.backends.embedded import engine, models
from tailrace.backends.embedded.engine import BATCH_CPU, BATCH_GPU, Engine, Job
from tailrace.backends.embedded.models import ModelFile
from tailrace.errors import EngineError, ModelError

PROPS = {"default_generation_settings": {"n_ctx": 2048}, "chat_template": "<think>"}


class Library(types.ModuleType):
    """A library like `xllamacpp` that only takes note of what it is asked to load, and answers over HTTP."""

    def __init__(self, url: str) -> None:
        super().__init__("xllamacpp")
        self.url = url
        self.loaded: list[Any] = []
        self.devices: list[Any] = []
        self.failure: Exception | None = None

    def CommonParams(self) -> Any:
        return types.SimpleNamespace(
            **{name: types.SimpleNamespace() for name in ("model", "mmproj", "cpuparams", "cpuparams_batch")}
        )

    def Server(self, params: Any) -> Any:
        self.loaded.append(params)
        if self.failure is not None:
            raise self.failure
        return types.SimpleNamespace(listening_address=self.url)

    def get_device_info(self) -> Any:
        if not self.devices:
            raise RuntimeError("no driver")
        return self.devices


class Listener(http.server.BaseHTTPRequestHandler):
    """What the library's own listener says of its model."""

    def do_GET(self) -> None:
        answer = {"/props": PROPS, "/v1/models": {"data": [{}]}, "/slots": []}[self.path]
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    """The library, on a platform without Unix sockets, so that its listener is a port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        library = Library(f"http://127.0.0.1:{server.server_address[1]}")
        monkeypatch.setitem(sys.modules, "xllamacpp", library)
        monkeypatch.setattr(sys, "platform", "win32")
        yield library
        server.shutdown()
        thread.join()


def a_model(folder: Path, **more: Any) -> ModelFile:
    path = folder / "m.gguf"
    path.write_bytes(b"GGUF" + bytes(models.MIN_SIZE))
    return ModelFile(name="m", path=path, size=path.stat().st_size, source="path", **more)


def test_where_there_are_no_unix_sockets(library: Library, tmp_path: Path) -> None:
    """The library listens on a port of its choice, behind a key, and is asked there."""
    one = Engine(a_model(tmp_path), tmp_path)

    (params,) = library.loaded
    assert (params.port, params.cors_origins) == (0, "null")
    assert params.api_keys == [one._key]
    assert (one.facts.n_ctx, one.facts.thinking, one.facts.tools) == (2048, True, False)
    one.close()


def test_what_is_loaded(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A projector comes along, the threads are the user's if they say so, and a graphics card gets larger batches."""
    monkeypatch.setenv("TAILRACE_NUM_THREADS", "3")
    library.devices = [{"type": types.SimpleNamespace(value=0)}, {"type": types.SimpleNamespace(value=1)}]

    Engine(a_model(tmp_path, projector=tmp_path / "p.gguf"), tmp_path, context=100, slots=2)

    (params,) = library.loaded
    assert params.mmproj.path == str(tmp_path / "p.gguf")
    assert (params.cpuparams.n_threads, params.cpuparams_batch.n_threads) == (3, 3)
    assert (params.n_batch, params.n_ctx) == (BATCH_GPU, 200)


def test_a_library_that_does_not_tell_its_devices(library: Library, tmp_path: Path) -> None:
    """Without a word on graphics cards there is none."""
    Engine(a_model(tmp_path), tmp_path)

    assert library.loaded[0].n_batch == BATCH_CPU


def test_a_load_that_fails_without_a_log(library: Library, tmp_path: Path) -> None:
    """Where nobody wrote down what the library said, no reason is given, and none is made up."""
    library.failure = RuntimeError("failed")

    with pytest.raises(ModelError, match="no reason given; if the file is damaged"):
        Engine(a_model(tmp_path), tmp_path)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    with pytest.raises(EngineError, match=r"pip install 'tailrace\[embedded\]'"):
        Engine(a_model(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("system", "cores", "allowed", "threads"),
    [
        ("Linux", 8, 8, 0),
        ("Linux", 8, 2, 2),
        ("Darwin", 8, 8, 7),
        ("Darwin", 1, 1, 0),
        ("Darwin", 12, 12, 0),
        ("Darwin", None, 1, 0),
    ],
)
def test_threads(system: str, cores: int | None, allowed: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on every core we may use where they sleep, one core left free where not; 0 is the library's choice."""
    monkeypatch.delenv("TAILRACE_NUM_THREADS", raising=False)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)), raising=False)

    assert engine._threads() == threads


# ---- jobs ----


def job_of_a_closed_loop() -> Job:
    async def make() -> Job:
        return Job("chat", b"{}")

    return asyncio.run(make())


def test_a_chunk_that_comes_after_the_loop_has_gone() -> None:
    """Nobody is left to read it: the engine is told to stop, and nothing is raised into it."""
    assert job_of_a_closed_loop()._on_chunk(b"chunk") is True


def test_a_job_that_ends_after_the_loop_has_gone() -> None:
    """What the engine raised is kept, and the end is told to nobody."""
    job = job_of_a_closed_loop()

    job._work(None)  # type: ignore[arg-type]

    assert isinstance(job.failure, AttributeError)
    assert not job.ended


async def test_a_job_that_was_cancelled_before_its_thread_began() -> None:
    """The engine never sees it, and it ends once."""
    job, ends = Job("chat", b"{}"), []
    job.on_end = lambda: ends.append(True)
    job.cancel()

    job.start(None)  # type: ignore[arg-type]
    while not job.ended:
        await job.changed.wait()
        job.changed.clear()
    job.finish()

    assert (job.failure, ends) == (None, [True])
