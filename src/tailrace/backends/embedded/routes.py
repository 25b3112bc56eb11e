"""Ollama's endpoints, in the worker process.

Two things are ours. Chat and generate also send lines ``{"tailrace": …}`` (see `answers`). And a request's connection
is closed only when the engine has let go of it, so that whoever cancels by closing its own side can see when the model
really stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tailrace.backends.embedded import answers, models, requests
from tailrace.backends.embedded.answers import Answer
from tailrace.backends.embedded.engine import Facts, Job, Kind
from tailrace.backends.embedded.forced import ForcedCall, required_tools
from tailrace.backends.embedded.http1 import ClientGoneError, Exchange
from tailrace.backends.embedded.models import ModelFile, Progress
from tailrace.backends.embedded.pool import FOREVER, KEEP_ALIVE, Loaded, Pool
from tailrace.backends.embedded.requests import EngineChatBody
from tailrace.errors import EngineError, ModelError
from tailrace.events import Event
from tailrace.protocols.ollama import requests as ollama_requests
from tailrace.protocols.ollama.encode import Lines
from tailrace.protocols.ollama.requests import ChatBody, EmbedBody, GenerateBody, NamedBody, OllamaAPIError

__all__ = ["Routes"]

NDJSON = "application/x-ndjson"
_UNSUPPORTED = ("push", "create", "copy", "delete")


class Routes:
    """Answers exchanges out of a pool of models."""

    def __init__(self, pool: Pool, version: str, default_keep_alive: float = KEEP_ALIVE) -> None:
        self._pool = pool
        self._version = version
        self._keep_alive = default_keep_alive
        self._table: dict[tuple[str, str], Callable[[Exchange], Awaitable[None]]] = {
            ("GET", "/"): self._root,
            ("HEAD", "/"): self._root,
            ("GET", "/api/version"): self._get_version,
            ("HEAD", "/api/version"): self._get_version,
            ("GET", "/api/tags"): self._tags,
            ("HEAD", "/api/tags"): self._tags,
            ("GET", "/api/ps"): self._ps,
            ("POST", "/api/show"): self._show,
            ("POST", "/api/chat"): self._chat,
            ("POST", "/api/generate"): self._generate,
            ("POST", "/api/embed"): self._embed,
            ("POST", "/api/embeddings"): self._embed,
            ("POST", "/api/pull"): self._pull,
            ("GET", "/debug/slots"): self._slots,
        }

    async def answer(self, exchange: Exchange) -> bool:
        """Answers one request; returns whether the answer is complete."""
        try:
            await self._dispatch(exchange)
        except ClientGoneError:
            return False
        except OllamaAPIError as fault:
            return await self._refuse(exchange, fault, spoken=True)
        return True

    async def _dispatch(self, exchange: Exchange) -> None:
        handler = self._table.get((exchange.method, exchange.path))
        if handler is not None:
            await handler(exchange)
            return
        name = exchange.path.removeprefix("/api/")
        if exchange.path.startswith("/api/blobs/") or name in _UNSUPPORTED:
            raise OllamaAPIError(
                501,
                f"the embedded engine cannot {name.split('/')[0]} models; use `tailrace models` or Ollama for that",
            )
        if any(path == exchange.path for _, path in self._table):
            raise OllamaAPIError(405, "method not allowed")
        raise OllamaAPIError(404, f"{exchange.path} not found")

    async def _refuse(self, exchange: Exchange, fault: OllamaAPIError, *, spoken: bool) -> bool:
        """An error answer: with its status if that is still to be sent, else as a line."""
        if not exchange.started:
            exchange.json({"error": fault.text}, fault.status)
            return True
        # Only the statuses that came before it are on the wire, so ours may still say what Ollama's status would.
        line = {"error": fault.text} if spoken else {"error": fault.text, "StatusCode": fault.status}
        await exchange.send(msgspec.json.encode(line) + b"\n")
        return True

    # ---- small ones ----

    async def _root(self, exchange: Exchange) -> None:
        exchange.whole(200, b"Ollama is running", "text/plain; charset=utf-8")

    async def _get_version(self, exchange: Exchange) -> None:
        exchange.json({"version": self._version})

    async def _tags(self, exchange: Exchange) -> None:
        listed = await asyncio.to_thread(models.list_models)
        exchange.json({"models": [_listing(model, self._pool.facts.get(model.path)) for model in listed]})

    async def _ps(self, exchange: Exchange) -> None:
        listed = []
        for loaded in self._pool.loaded.values():
            engine = loaded.engine
            entry = _listing(engine.model, engine.facts)
            entry.pop("modified_at")
            entry.update(
                expires_at=_rfc3339(loaded.expires),
                size_vram=0,
                context_length=engine.facts.n_ctx,
                # Ours: what the engine holds right now. `running` counts calls that have not returned yet.
                slots=engine.slots,
                running=len(loaded.running),
                queued=len(loaded.waiting),
            )
            listed.append(entry)
        exchange.json({"models": listed})

    async def _slots(self, exchange: Exchange) -> None:
        """The library's own word on its slots, for tests and bug reports; answered between two batches."""
        out = {}
        for loaded in list(self._pool.loaded.values()):
            slots = await asyncio.to_thread(loaded.engine.get, "/slots")
            busy = [bool(slot["is_processing"]) for slot in slots]
            out[loaded.engine.model.name] = {"busy": busy, "last_cancelled": loaded.last_cancelled}
        exchange.json(out)

    async def _show(self, exchange: Exchange) -> None:
        body: NamedBody = ollama_requests.decode(exchange.body, NamedBody)
        model = _find(body.called())
        facts = self._pool.facts.get(model.path)
        if facts is None:  # what a model can do is only known to the engine, and only once it has loaded it
            loaded = await exchange.unless_gone(self._acquire(model, None))
            facts = loaded.engine.facts
            self._pool.release(loaded, self._keep_alive)
        family = model.details.get("family") or "unknown"  # clients look for the rest under its name
        lines = [f"{name:<30} {value}" for name, values in model.options.items() for value in _each(values)]
        shown: dict[str, Any] = {
            "modelfile": f"# made by tailrace\nFROM {model.path}\n",
            "parameters": "\n".join(lines),
            "template": facts.template,
            "system": model.system or "",
            "details": _details(model, facts),
            "model_info": {
                "general.architecture": family,
                "general.parameter_count": facts.n_params,
                f"{family}.context_length": facts.n_ctx_train,
                f"{family}.embedding_length": facts.n_embd,
                f"{family}.vocab_size": facts.n_vocab,
            },
            "capabilities": facts.capabilities(),
            "modified_at": _rfc3339(model.modified),
        }
        exchange.json({name: value for name, value in shown.items() if value != ""})

    # ---- chat and generate ----

    async def _chat(self, exchange: Exchange) -> None:
        body = ollama_requests.decode(exchange.body, EngineChatBody)
        if not body.model:
            raise OllamaAPIError(400, "model is required")
        await self._run(exchange, body, empty=not body.messages)

    async def _generate(self, exchange: Exchange) -> None:
        body: GenerateBody = ollama_requests.decode(exchange.body, GenerateBody)
        if body.suffix:
            raise OllamaAPIError(400, f'"{body.model}" does not support insert')
        await self._run(exchange, body, empty=not body.prompt and not body.images)

    async def _run(self, exchange: Exchange, body: ChatBody | GenerateBody, *, empty: bool) -> None:
        started = time.perf_counter_ns()
        ollama_requests.check_run(body)
        stay = ollama_requests.keep_alive(body.keep_alive, self._keep_alive)
        model = _find(body.model)
        chosen = requests.options(body.options, model.options)
        chat = isinstance(body, ChatBody)
        if empty and stay == 0:
            self._pool.unload(model)
            exchange.json(Lines(body.model, chat=chat, clock=time.time_ns).last("unload"))
            return
        context = max(chosen["num_ctx"], 4) if "num_ctx" in chosen else None
        streaming = body.stream is not False and not empty
        if streaming and not self._pool.ready(model, context):
            exchange.start(200, NDJSON)
            await exchange.send(answers.status_line("loading"))
        try:
            loaded = await exchange.unless_gone(self._acquire(model, context))
        except OllamaAPIError as fault:
            await self._refuse(exchange, fault, spoken=False)
            return
        load_ns = time.perf_counter_ns() - started
        try:
            if empty:
                exchange.json(Lines(body.model, chat=chat, clock=time.time_ns).last("load"))
                return
            forced = isinstance(body, EngineChatBody) and required_tools(body.tools, body.tool_choice)
            call = ForcedCall() if forced else None
            answer = Answer(body.model, chat=chat, load_ns=load_ns, started_ns=started, call=call)
            job = loaded.submit(_job(body, chosen, loaded.engine.facts, model.system))
            try:
                await self._relay(exchange, job, answer, streaming=streaming)
            except ClientGoneError:
                loaded.last_cancelled = _progress(answer)
                raise
        except OllamaAPIError as fault:
            await self._refuse(exchange, fault, spoken=False)
        finally:
            self._pool.release(loaded, stay)

    async def _relay(self, exchange: Exchange, job: Job, answer: Answer, *, streaming: bool) -> None:
        """Passes on what the engine says until it has let go of the job, however that comes about."""
        exchange.on_gone(job.cancel)
        position = 0
        events: list[Event] = []
        try:
            while not (job.ended and not job.chunks):
                await job.changed.wait()
                job.changed.clear()
                lines = bytearray()
                if job.position != position:
                    position = job.position
                    if position and streaming:
                        lines += answers.status_line("queued", position=position)
                while job.chunks and not answer.error:
                    events += answer.feed(job.chunks.popleft())
                if answer.error:
                    job.chunks.clear()
                if streaming:
                    lines += answer.lines(events)
                    events.clear()
                if lines and not exchange.gone.is_set():
                    if not exchange.started:
                        exchange.start(200, NDJSON)
                    await exchange.send(bytes(lines))
        finally:
            await _let_go(job)
        if exchange.gone.is_set():
            raise ClientGoneError
        fault = answer.error or _failure(job, answer)
        if fault:
            await self._refuse(exchange, fault, spoken=answer.spoken)
        elif not streaming:
            exchange.whole(200, answer.whole(events))

    async def _acquire(self, model: ModelFile, context: int | None, *, embedding: bool = False) -> Loaded:
        try:
            return await self._pool.acquire(model, context, embedding)
        except (ModelError, EngineError) as error:
            raise OllamaAPIError(500, str(error)) from error

    # ---- embeddings ----

    async def _embed(self, exchange: Exchange) -> None:
        started = time.perf_counter_ns()
        body: EmbedBody = ollama_requests.decode(exchange.body, EmbedBody)
        older = exchange.path == "/api/embeddings"
        given = body.prompt if older else body.input
        inputs = [given] if isinstance(given, str) else list(given or ())
        stay = ollama_requests.keep_alive(body.keep_alive, self._keep_alive)
        model = _find(body.model)
        loaded = await exchange.unless_gone(self._acquire(model, None, embedding=True))
        load_ns = time.perf_counter_ns() - started
        vectors: list[list[float]] = []
        tokens = 0
        try:
            if any(inputs):
                reply = await self._embeddings(exchange, loaded, inputs)
                vectors = [_shortened(item["embedding"], body.dimensions) for item in reply["data"]]
                tokens = reply["usage"]["prompt_tokens"]
        finally:
            self._pool.release(loaded, stay)
        if older:
            exchange.json({"embedding": vectors[0] if vectors else []})
            return
        took = time.perf_counter_ns() - started
        metrics = {"total_duration": took, "load_duration": load_ns, "prompt_eval_count": tokens}
        exchange.json({"model": body.model, "embeddings": vectors, **metrics})

    async def _embeddings(self, exchange: Exchange, loaded: Loaded, inputs: list[str]) -> Any:
        job = loaded.submit(Job("embed", msgspec.json.encode({"input": inputs})))
        exchange.on_gone(job.cancel)
        try:
            while not job.ended:
                await job.changed.wait()
                job.changed.clear()
        finally:
            await _let_go(job)
        if exchange.gone.is_set():
            raise ClientGoneError
        if job.failure is not None:
            raise OllamaAPIError(400, str(job.failure))
        reply = msgspec.json.decode(b"".join(job.chunks) or b"{}")
        if "data" not in reply:
            error = reply.get("error") or {}
            raise OllamaAPIError(error.get("code") or 500, str(error.get("message") or "the engine gave no embeddings"))
        return reply

    # ---- pull ----

    async def _pull(self, exchange: Exchange) -> None:
        body: NamedBody = ollama_requests.decode(exchange.body, NamedBody)
        if body.called() != models.DEFAULT_MODEL:
            raise OllamaAPIError(
                501,
                f"the embedded engine can only pull {models.DEFAULT_MODEL}; "
                "add other models with: tailrace models add FILE",
            )
        from tailrace.backends.embedded.fetch import fetch_default  # rarely needed, and slow to import

        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def report(progress: Progress) -> None:
            if exchange.gone.is_set():
                raise ClientGoneError  # ends the fetch, which then removes what it had
            loop.call_soon_threadsafe(lines.put_nowait, _pull_line(progress))

        task = loop.create_task(asyncio.to_thread(fetch_default, report))
        task.add_done_callback(lambda _: lines.put_nowait(None))
        streaming = body.stream is not False
        if streaming:
            exchange.start(200, NDJSON)
            await exchange.send(b'{"status":"pulling manifest"}\n')
        while (line := await lines.get()) is not None:
            if streaming:
                await exchange.send(line)
        try:
            await task
        except ModelError as error:
            await self._refuse(exchange, OllamaAPIError(500, str(error)), spoken=True)
            return
        if not streaming:
            exchange.json({"status": "success"})


def _find(name: str) -> ModelFile:
    if not name:
        raise OllamaAPIError(404, "model '' not found")
    if models.is_path(name) and not models.is_absolute(name):  # this process has another working folder
        raise OllamaAPIError(400, f"give the whole path of the model file, not {name[:200]!r}")
    try:
        # On the loop, because it is quick, and requests have to enter the queue in the order in which they came.
        model = models.find(name)
    except models.UnknownModelError as error:
        raise OllamaAPIError(404 if models.is_name(name) else 400, str(error)) from error
    except (ModelError, EngineError) as error:
        raise OllamaAPIError(500, str(error)) from error
    if model.details.get("adapter"):
        raise OllamaAPIError(
            501, f"{name} uses an adapter (LoRA), which the embedded engine does not apply; use Ollama for it"
        )
    return model


async def _let_go(job: Job) -> None:
    """Waits until the engine has returned from the job, even if we are cancelled meanwhile."""
    if not job.ended:
        job.cancel()
        while not job.ended:
            with contextlib.suppress(asyncio.CancelledError):
                await job.changed.wait()
                job.changed.clear()


def _job(body: ChatBody | GenerateBody, chosen: dict[str, Any], facts: Facts, system: str | None) -> Job:
    kind: Kind = "chat"
    if isinstance(body, ChatBody):
        payload = requests.chat_payload(body, chosen, facts, system)
    elif body.raw:
        kind, payload = "raw", requests.raw_payload(body, chosen, facts)
    else:
        payload = requests.generate_payload(body, chosen, facts, system)
    return Job(kind, payload)


def _progress(answer: Answer) -> dict[str, int]:
    return {"processed": answer.processed, "total": answer.total, "pieces": answer.pieces}


def _failure(job: Job, answer: Answer) -> OllamaAPIError | None:
    if job.failure is not None:  # the library raises ValueError for what it finds wrong with a request
        return OllamaAPIError(400 if isinstance(job.failure, ValueError) else 500, str(job.failure))
    if not answer.finished:
        return OllamaAPIError(500, "the engine stopped before the answer was complete: the worker is shutting down")
    return None


def _shortened(vector: list[float], dimensions: int | None) -> list[float]:
    if not dimensions or not 0 < dimensions < len(vector):
        return vector
    vector = vector[:dimensions]
    length = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / length for value in vector]


def _listing(model: ModelFile, facts: Facts | None) -> dict[str, Any]:
    entry = {
        "name": model.name,
        "model": model.name,
        "modified_at": _rfc3339(model.modified),
        "size": model.size,
        "digest": (model.digest or "").removeprefix("sha256:"),
        "details": _details(model, facts),
    }
    return {**entry, "capabilities": facts.capabilities()} if facts else entry


def _details(model: ModelFile, facts: Facts | None) -> dict[str, Any]:
    family = model.details.get("family") or ""
    size = model.details.get("parameter_size") or ""
    if facts and facts.n_params and not size:
        size = f"{facts.n_params / 1e9:.1f}B" if facts.n_params >= 1e9 else f"{facts.n_params / 1e6:.2f}M"
    return {
        "parent_model": "",
        "format": "gguf",
        "family": family,
        "families": [family] if family else [],
        "parameter_size": size,
        "quantization_level": model.details.get("quantization_level") or (facts.ftype if facts else ""),
    }


def _pull_line(progress: Progress) -> bytes:
    digest = f"sha256:{models.DEFAULT_SHA256}"
    line: dict[str, Any] = {"status": progress.status}
    if progress.status == "fetching":
        line = {"status": f"pulling {models.DEFAULT_SHA256[:12]}", "digest": digest}
    elif progress.status == "verifying":
        line = {"status": "verifying sha256 digest"}
    if progress.total and "digest" in line:
        line["total"] = progress.total
        if progress.completed:
            line["completed"] = progress.completed
    return msgspec.json.encode(line) + b"\n"


def _each(values: object) -> list[object]:
    return values if isinstance(values, list) else [values]


def _rfc3339(seconds: float) -> str:
    if seconds == FOREVER:
        return "2318-01-01T00:00:00Z"  # about what Ollama shows for "never"
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
