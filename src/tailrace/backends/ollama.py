"""The Ollama backend: NDJSON over HTTP."""

from __future__ import annotations

import asyncio
import copy
import datetime
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec

from tailrace import errors
from tailrace.backends.base import WireExchange, open_patiently, raise_for_status
from tailrace.backends.continuing import OllamaWay, asked_again, given_of, in_words, ollama_way, probe, rendered_way
from tailrace.backends.seam import Seam, Seamed
from tailrace.events import Event, Loading, Prefill
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.ollama.progress import ProgressDecoder
from tailrace.run.exchange import Exchange, Opener, Report
from tailrace.run.state import Signal
from tailrace.transport.http_client import Http, HttpExchange
from tailrace.types import (
    ChatRequest,
    ContinueRequest,
    EmbedResponse,
    GenerateRequest,
    ListResponse,
    ProcessResponse,
    ShowResponse,
    VersionResponse,
)

__all__ = ["OllamaBackend"]

T = TypeVar("T")

_WATCH_AFTER = 2.0  # seconds without data before we ask what the server is doing, and between two such requests
_WATCH_ANSWER = 2.0  # seconds that it has to answer one
_encode = msgspec.json.Encoder().encode


class _Debug(msgspec.Struct):
    rendered_template: str = ""


class _Rendered(msgspec.Struct):
    debug: _Debug | None = msgspec.field(default=None, name="_debug_info")


class OllamaBackend:
    """Talks to an Ollama server.

    Ollama sends no response headers before its first chunk: nothing is sent while it queues, loads and evaluates the
    prompt (ollama/ollama, ``server/routes.go``). So after a while without data we ask `/api/ps` whether the model is
    loaded, which distinguishes loading from prefill.
    """

    kind = "ollama"
    confirms = 0.1

    def __init__(self, http: Http) -> None:
        self._http = http
        self.url = http.base

    def way(self) -> str:
        """Returns ``through the proxy …`` if one stands before the server, else nothing."""
        return self._http.way()

    def with_headers(self, headers: Mapping[str, str | None]) -> OllamaBackend:
        """Returns one whose requests carry these headers too; None takes one away."""
        changed = copy.copy(self)
        changed._http = self._http.with_headers(headers)
        return changed

    async def http(self, report: Report | None = None, model: str | None = None) -> Http:
        """Returns where to connect for `model`; the embedded engine starts here."""
        return self._http

    # -- runs ----------------------------------------------------------------------------------------------------

    def chat(self, request: ChatRequest) -> Opener:
        """Returns what opens a chat."""
        return self._opener("/api/chat", self._body(request), partial(self._decoder, request.stream), request.model)

    def generate(self, request: GenerateRequest) -> Opener:
        """Returns what opens a completion."""
        return self._opener("/api/generate", self._body(request), partial(self._decoder, request.stream), request.model)

    def _body(self, request: ChatRequest | GenerateRequest) -> Any:
        """Returns what is sent for a request: itself, or with members that it has no place for."""
        if request.openai_only:
            raise errors.UnsupportedError(request.openai_only, 400, hint="ask a server of OpenAI's protocol")
        extra = request.extra_body
        if request.openai_body is None and extra is None:
            return request
        own = msgspec.to_builtins(msgspec.structs.replace(request, extra_body=None, openai_body=None))
        return {**own, **extra, "stream": own.get("stream", True)} if extra else own

    def continue_chat(self, request: ContinueRequest) -> Opener:
        """Returns what opens the rest of an answer; the model's template decides how it is asked for."""

        async def open(report: Report) -> Exchange:
            given = given_of(request)
            if not (given.text or given.thinking):
                return await self.chat(asked_again(request))(report)
            way = await self._way(request, report)
            opener = self.chat(way.request) if isinstance(way.request, ChatRequest) else self.generate(way.request)
            return Seamed(await opener(report), Seam(given, words=way.words, close=way.close))

        return open

    async def _way(self, request: ContinueRequest, report: Report) -> OllamaWay:
        async def told(path: str, body: Any, kind: type[T]) -> T:
            return self._read(await self._sent("POST", path, body, report), kind)

        try:
            shown = await told("/api/show", {"model": request.model}, ShowResponse)
        except errors.ModelNotFoundError:
            raise
        except (errors.ResponseError, errors.ProtocolError):  # a server that only looks like Ollama
            return OllamaWay(in_words(request), words=True)
        today = datetime.date.today().isoformat()  # noqa: DTZ011  (the reader's own day)
        way = ollama_way(request, shown, today)
        if way is None:
            answer = await told("/api/chat", probe(request), _Rendered)
            way = rendered_way(request, answer.debug.rendered_template if answer.debug is not None else "")
        return way

    def progress(self, operation: str, body: dict[str, Any]) -> Opener:
        """Returns what opens a pull, push or create."""
        decoder = partial(ProgressDecoder, whole=body.get("stream") is False)
        return self._opener(f"/api/{operation}", body, decoder, None)

    def _decoder(self, stream: bool | None) -> AnswerDecoder:
        return AnswerDecoder(whole=stream is False)

    def _opener(
        self, path: str, body: Any, decoder: Callable[[], AnswerDecoder | ProgressDecoder], model: str | None
    ) -> Opener:
        async def open(report: Report) -> Exchange:
            http = await self.http(report, model)
            payload = _encode(body)

            async def send() -> HttpExchange:
                report.way = http.way
                report(Signal.CONNECT)
                return await http.open(
                    "POST", path, payload, headers=report.headers, connected=lambda: report(Signal.SENT)
                )

            exchange = None
            try:
                async with _Watch(self, model, report):
                    exchange = await open_patiently(send, report)
            except BaseException:
                if exchange is not None:  # cancelled when it stood already, while the watch was ending
                    exchange.abort()
                raise
            return WireExchange(exchange, decoder(), "application/x-ndjson", confirms=self.confirms)

        return open

    # -- single answers ------------------------------------------------------------------------------------------

    async def list(self) -> ListResponse:
        """Returns the models that the server has."""
        return self._read(await self.call("GET", "/api/tags"), ListResponse)

    async def ps(self) -> ProcessResponse:
        """Returns the models that are loaded."""
        return self._read(await self.call("GET", "/api/ps"), ProcessResponse)

    async def show(self, model: str) -> ShowResponse:
        """Returns what the server knows of a model."""
        return self._read(await self.call("POST", "/api/show", {"model": model}), ShowResponse)

    async def version(self) -> str:
        """Returns the server's version."""
        return self._read(await self.call("GET", "/api/version"), VersionResponse).version or ""

    async def embed(self, body: dict[str, Any]) -> EmbedResponse:
        """Returns embeddings."""
        return self._read(await self.call("POST", "/api/embed", body), EmbedResponse)

    async def call(self, method: str, path: str, body: Any = None) -> bytes:
        """Sends a request and returns the body of a success.

        Args:
            body: JSON types, bytes, an async iterable of bytes, or None.
        """
        return await self._sent(method, path, body)

    async def _sent(self, method: str, path: str, body: Any, report: Report | None = None) -> bytes:
        """Sends a request as `call` does; one of a run's, to which it reports, has that run's limits."""
        http = await self.http()
        payload = body if body is None or isinstance(body, bytes) or hasattr(body, "__aiter__") else _encode(body)
        if report is None:
            exchange = await http.open(method, path, payload)
        else:
            report.way = http.way
            report(Signal.CONNECT)
            exchange = await http.open(method, path, payload, connected=lambda: report(Signal.SENT))
        try:
            await raise_for_status(exchange)
            return await exchange.read_all()
        finally:
            exchange.abort()

    def _read(self, data: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(data, type=kind, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            shown = data[:200].decode("utf-8", "replace")
            message = f"{self.url} answered with something that is not Ollama's protocol ({error}): {shown!r}"
            raise errors.ProtocolError(message) from error


class _Watch:
    """While no headers have come, asks the server now and then whether the model is loaded."""

    def __init__(self, backend: OllamaBackend, model: str | None, report: Report) -> None:
        self._backend = backend
        self._model = model
        self._report = report
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        if self._model is not None and self._backend.kind == "ollama":  # the embedded engine reports it unasked
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_WATCH_AFTER, self._start, loop)

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._task = loop.create_task(self._ask(), name="tailrace watch")

    async def _ask(self) -> None:
        reported: Event | None = None
        wanted = {self._model, f"{self._model}:latest"}
        while True:
            try:
                async with asyncio.timeout(_WATCH_ANSWER):
                    models = (await self._backend.ps()).models
            except (TimeoutError, errors.TailraceError):
                return  # it does not say; the run reports what it knows without it
            loaded = any(wanted & {model.model, model.name} for model in models)
            now: Event = Prefill() if loaded else Loading(self._model or "")
            if now != reported:
                self._report(now)
                reported = now
            await asyncio.sleep(_WATCH_AFTER)

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
