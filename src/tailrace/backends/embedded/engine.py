"""One loaded model: llama.cpp through `xllamacpp`, in the worker process only.

What the native library requires (observed with xllamacpp 2026.10, llama.cpp's ``tools/server`` in process):

- its callback stops a request by returning True, and is called during prompt evaluation only with ``return_progress``;
- anything but an `Exception` raised in the callback is dropped or fatal, so ours catches everything and returns True;
- a request beyond its slots waits where nothing can stop it, so no more than `slots` are ever inside (see `pool`);
- a server that is destroyed before its loop has begun hangs for ever (the loop's start undoes the stop);
- without ``max_tokens`` a small model runs to the end of its context.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import http.client
import os
import platform
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from tailrace.backends.embedded import models
from tailrace.backends.embedded.models import ModelFile
from tailrace.errors import EngineError, ModelError

__all__ = ["Engine", "Facts", "Job", "Kind"]

Kind = Literal["chat", "raw", "embed"]

# Two answers at a time: a second reader does not wait for the first one's long story, and together they cost less
# than one after the other (one pass over the weights makes a token for each). The price is one more context in memory.
SLOTS = 2
CONTEXT = 4096  # tokens a slot, Ollama's default on machines without a large graphics card
# A prompt is evaluated in batches, and a stop is looked at between them. On a processor, 64 at a time costs some 5 to
# 20 percent of the speed of 512 (measured, noisily) and a stop is seen eight times sooner, as is progress; a graphics
# card wants larger ones and is fast enough.
BATCH_CPU = 64
BATCH_GPU = 512
EMBED_BATCH = 512


class Facts(msgspec.Struct, frozen=True):
    """What the engine says of a model once it is loaded."""

    n_ctx: int
    n_ctx_train: int = 0
    n_params: int = 0
    n_embd: int = 0
    n_vocab: int = 0
    ftype: str = ""
    template: str = ""
    tools: bool = False
    thinking: bool = False
    vision: bool = False

    def capabilities(self) -> list[str]:
        """Returns Ollama's names for what the model can do."""
        named = (("tools", self.tools), ("thinking", self.thinking), ("vision", self.vision))
        return ["completion", *(name for name, has in named if has)]


class Job:
    """One request to the engine, seen from the event loop; the engine's own work for it runs on a thread.

    Attributes:
        position: place in the queue, 1 is next; 0 once it runs.
        chunks: what the engine said and nobody has read yet.
        changed: set when `position` or `chunks` changed, or the job ended.
        ended: the engine has let go of it (or never saw it).
        cancelled: `cancel` was called.
        failure: what the native call raised.
    """

    def __init__(self, kind: Kind, payload: bytes) -> None:
        self.kind = kind
        self.payload = payload
        self.position = 0
        self.chunks: collections.deque[bytes] = collections.deque()
        self.changed = asyncio.Event()
        self.ended = False
        self.cancelled = False
        self.failure: BaseException | None = None
        self.on_end: Callable[[], None] = lambda: None
        self.on_cancel: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._woken = False

    def cancel(self) -> None:
        """Stops the job: at once if it is queued, else at the engine's next chunk. Any number of times."""
        if not self.cancelled:
            self.cancelled = True
            self.on_cancel()

    def start(self, engine: Engine) -> None:
        """Runs the job on a thread of its own."""
        self.moved(0)
        threading.Thread(target=self._work, args=(engine,), name="tailrace-engine", daemon=True).start()

    def moved(self, position: int) -> None:
        """Takes note of a new place in the queue."""
        if position != self.position:
            self.position = position
            self.changed.set()

    def finish(self) -> None:
        """Marks the job as over."""
        if not self.ended:
            self.ended = True
            self.on_end()
            self.changed.set()

    def _work(self, engine: Engine) -> None:
        try:
            if not self.cancelled:
                engine.call(self.kind, self.payload, self._on_chunk)
        except BaseException as error:  # the thread has nobody else to tell
            self.failure = error
        finally:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
                self._loop.call_soon_threadsafe(self.finish)

    def _on_chunk(self, chunk: bytes) -> bool:
        """The engine's callback. True stops the engine; nothing may be raised out of it."""
        try:
            self.chunks.append(chunk)
            if not self._woken:  # chunks that come before the loop gets round to it share one wake-up
                self._woken = True
                self._loop.call_soon_threadsafe(self._wake)
            return self.cancelled
        except BaseException:
            return True

    def _wake(self) -> None:
        self._woken = False
        self.changed.set()


class Engine:
    """A model in memory. The constructor, `call` and `close` block; run them on threads."""

    def __init__(
        self,
        model: ModelFile,
        folder: Path,
        *,
        context: int = CONTEXT,
        slots: int = SLOTS,
        embedding: bool = False,
        log: Path | None = None,
    ) -> None:
        """Loads a model.

        Args:
            model: the file.
            folder: a private folder for the library's own socket.
            context: tokens a slot; the library caps it at what the model was trained for.
            slots: how many requests run at a time.
            embedding: load for embeddings instead of text.
            log: the file that this process's stderr goes to, to read the library's reasons from.

        Raises:
            ModelError: the engine cannot load the file.
            EngineError: `xllamacpp` is not installed.
        """
        self.model = model
        self.slots = slots
        self.embedding = embedding
        self.asked_context = context
        self._folder = folder
        self._log = log
        self._key = secrets.token_urlsafe(24)
        self._server: Any = None
        self._load("unspecified")
        if embedding and self._pooling_is_none():
            self.close()
            self._load("last")  # what Ollama takes from a model that was not made for embeddings
        self.facts = self._read_facts()

    def call(self, kind: Kind, payload: bytes, on_chunk: Callable[[bytes], bool]) -> None:
        """Runs one request to its end; `on_chunk` gets each chunk and stops it by returning True."""
        if kind == "embed":  # takes no callback, so it cannot be stopped
            on_chunk(self._server.handle_embeddings(payload))
        elif kind == "raw":
            self._server.handle_completions(payload, on_chunk)
        else:
            self._server.handle_chat_completions(payload, on_chunk)

    def close(self) -> None:
        """Frees the model. No call may be running."""
        self._server = None  # the only reference: its destructor stops the library's threads
        if self._socket:
            self._socket.unlink(missing_ok=True)

    def get(self, path: str) -> Any:
        """Asks the library's own HTTP listener, which also answers what its calls do not."""
        connection = self._connect()
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self._key}"})
            return msgspec.json.decode(connection.getresponse().read())
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        if self._socket:
            return _UnixConnection(str(self._socket))
        host, _, port = self._server.listening_address.rpartition("://")[2].rpartition(":")
        return http.client.HTTPConnection(host, int(port), timeout=30)

    def _load(self, pooling: str) -> None:
        try:
            import xllamacpp
        except ImportError as error:
            raise EngineError(
                f"the embedded engine is not installed ({error}): pip install 'tailrace[embedded]'"
            ) from error
        self._socket: Path | None = None
        params = xllamacpp.CommonParams()
        params.model.path = str(self.model.path)
        params.n_ctx = self.asked_context * self.slots  # the library divides it by the slots
        params.n_parallel = self.slots
        batch = EMBED_BATCH if self.embedding else BATCH_GPU if _has_gpu(xllamacpp) else BATCH_CPU
        params.n_batch = params.n_ubatch = batch
        params.cache_ram_mib = 0  # slots keep their last prompt anyway; 8 GiB of copies do not belong in a library
        params.verbosity = 1  # errors only: they are the reasons in our messages
        params.ui = False
        params.endpoint_props = True
        if self.embedding:
            params.embedding = True
            if pooling == "last":
                params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_LAST
        if self.model.projector:
            params.mmproj.path = str(self.model.projector)
        threads = _threads()
        if threads:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        if hasattr(socket, "AF_UNIX") and sys.platform != "win32":
            self._socket = self._folder / f"{secrets.token_hex(3)}.sock"
            params.hostnames = [str(self._socket)]
        else:
            params.port = 0
            params.api_keys = [self._key]
            params.cors_origins = "null"
        before = self._log.stat().st_size if self._log else 0
        try:
            self._server = xllamacpp.Server(params)
        except Exception as error:  # the library raises RuntimeError with one text for every cause
            raise ModelError(self._why(before)) from error
        self.get("/slots")  # answered by the loop: it has begun, so from now on this server may be closed

    def _why(self, before: int) -> str:
        models.check(self.model.path)  # it may have gone since it was found
        reason = ""
        if self._log:
            with contextlib.suppress(OSError), self._log.open("rb") as file:
                file.seek(before)
                reason = load_error(file.read(65536).decode("utf-8", "replace"))
        return (
            f"the engine cannot load {self.model.path} ({self.model.size:,} bytes): "
            f"{reason or 'no reason given'}; if the file is damaged, download it again"
        )

    def _pooling_is_none(self) -> bool:
        answer = self._server.handle_embeddings({"input": "x"})
        return "Pooling type" in str(answer.get("error", ""))

    def _read_facts(self) -> Facts:
        props = self.get("/props")
        listed = self.get("/v1/models")["data"][0].get("meta") or {}
        template = props.get("chat_template") or ""
        capable = props.get("chat_template_caps") or {}
        return Facts(
            n_ctx=props["default_generation_settings"]["n_ctx"],
            n_ctx_train=listed.get("n_ctx_train", 0),
            n_params=listed.get("n_params", 0),
            n_embd=listed.get("n_embd", 0),
            n_vocab=listed.get("n_vocab", 0),
            ftype=listed.get("ftype") or props.get("model_ftype", ""),
            template=template,
            tools=bool(capable.get("supports_tools")),
            thinking="enable_thinking" in template or "<think>" in template,
            vision=bool((props.get("modalities") or {}).get("vision")),
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)  # type: ignore[attr-defined,unused-ignore]
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def load_error(text: str) -> str:
    """Picks the reason out of what the library wrote while a load failed."""
    lines = text.splitlines()
    for line in lines:
        if "error loading model:" in line and "failed to load model from" not in line:
            return line.partition("error loading model:")[2].strip()
    for line in lines:
        words = line.split(None, 3)
        if len(words) == 4 and words[1] == "E":
            return words[3].strip()
    return ""


def _threads() -> int:
    """How many threads to compute with; 0 leaves it to the library, which counts physical cores.

    Where the engine's threads sleep soon when they wait for each other (Linux: see `supervisor`), that is one on
    every core we may use. Elsewhere they wait in busy loops, and on a small machine one core is left to the program
    that reads the tokens: with a thread on every core and anything else to do, the engine is ten times slower.
    """
    chosen = os.environ.get("TAILRACE_NUM_THREADS", "")
    if chosen.isdecimal() and int(chosen):
        return int(chosen)
    every = os.cpu_count() or 1
    if platform.system() == "Linux":
        allowed = len(os.sched_getaffinity(0))
        return allowed if allowed < every else 0
    return every - 1 if 1 < every <= 8 else 0


def _has_gpu(xllamacpp: Any) -> bool:
    try:
        return any(device["type"].value in (1, 2) for device in xllamacpp.get_device_info())
    except Exception:
        return False
