"""The embedded backend: the Ollama backend, against our own worker's private socket."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from tailrace import errors
from tailrace.backends.continuing import asked_again, given_of
from tailrace.backends.ollama import OllamaBackend
from tailrace.events import Ended, Event, Loading, Outcome
from tailrace.i18n.output import put
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.run.exchange import Exchange, OnEvents, Opener, Report
from tailrace.run.run import ended_by
from tailrace.transport.http_client import Http
from tailrace.types import ChatRequest, ContinueRequest, EmbedResponse, GenerateRequest, ShowResponse

__all__ = ["EmbeddedBackend"]


class EmbeddedBackend(OllamaBackend):
    """Starts the engine's process on first use; all clients of this process share it.

    Args:
        model: a GGUF file, or the name of a model, that answers to every name; empty for the models that are here.
    """

    kind = "embedded"
    confirms = 15.0  # the worker closes its side when the engine has let go; a batch of a long prompt takes seconds

    def __init__(self, model: str = "") -> None:
        from tailrace.backends.embedded.models import is_path

        self.url = f"embedded:{model}"
        # A name works too (embedded:smollm2:135m); only a path has to be made one that the worker can follow.
        self._path = str(Path(model).expanduser().absolute()) if model and is_path(model) else model or None

    def way(self) -> str:
        """No proxy stands before a process of our own."""
        return ""

    def with_headers(self, headers: Mapping[str, str | None]) -> EmbeddedBackend:
        """Returns itself: no header means anything to the engine."""
        return self

    async def http(self, report: Report | None = None, model: str | None = None) -> Http:
        """Returns where the worker listens, starting it if there is none, and fetching the default model if need be."""
        from tailrace.backends.embedded.supervisor import shared

        if report is not None and not shared().running:
            report(Loading(model or ""))
        endpoint = await shared().aendpoint(model, on_note=_note)
        headers = {"content-type": "application/json"}
        if endpoint.key:
            headers["authorization"] = f"Bearer {endpoint.key}"
        return Http(endpoint.url, socket_path=endpoint.socket_path, headers=headers)

    def chat(self, request: ChatRequest) -> Opener:
        """Returns what opens a chat."""
        return super().chat(msgspec.structs.replace(request, model=self._path or request.model))

    def continue_chat(self, request: ContinueRequest) -> Opener:
        """Returns what opens the rest of an answer: llama.cpp goes on with a last message, and with its thoughts."""
        given = given_of(request)
        return self.chat(request if given.text or given.thinking else asked_again(request))

    def generate(self, request: GenerateRequest) -> Opener:
        """Returns what opens a completion."""
        return super().generate(msgspec.structs.replace(request, model=self._path or request.model))

    def _body(self, request: ChatRequest | GenerateRequest) -> Any:
        """Returns what is sent for a request, with what OpenAI's protocol knows and this engine honours too."""
        choice = (request.openai_body or {}).get("tool_choice")
        if choice is not None:
            extra = {"tool_choice": choice, **(request.extra_body or {})}
            request = msgspec.structs.replace(request, extra_body=extra)
        return super()._body(request)

    async def show(self, model: str) -> ShowResponse:
        """Returns what is known of a model."""
        return await super().show(self._path or model)

    async def embed(self, body: dict[str, Any]) -> EmbedResponse:
        """Returns embeddings."""
        return await super().embed({**body, "model": self._path or body.get("model", "")})

    def _decoder(self, stream: bool | None) -> AnswerDecoder:
        return AnswerDecoder(whole=stream is False, reports=True)

    def _opener(self, path: str, body: Any, decoder: Any, model: str | None) -> Opener:
        opener = super()._opener(path, body, decoder, model)

        async def open(report: Report) -> Exchange:
            try:
                return _Watched(await opener(report))
            except (errors.TruncatedError, errors.ConnectionError) as error:
                raise await _crash(error) from error

        return open


class _Watched:
    """An exchange with the worker, which distinguishes a crash of the engine from a broken stream."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._leaving = False
        self.confirms = exchange.confirms
        self.abort = exchange.abort
        self.finish = exchange.finish

    def half_close(self) -> bool:
        """Ends our side; from then on it is expected that the worker closes its side."""
        self._leaving = True
        return self._exchange.half_close()

    async def relay(self, on_events: OnEvents) -> None:
        """Passes the events on as they arrive."""
        broken: list[Sequence[Event]] = []

        def heard(events: Sequence[Event]) -> bool:
            last = events[-1]
            if type(last) is Ended and last.outcome is Outcome.TRUNCATED and not self._leaving:
                broken.append(events)
                return True
            return on_events(events)

        await self._exchange.relay(heard)
        for events in broken:
            last = events[-1]
            assert isinstance(last, Ended)
            error = await _crash(errors.TruncatedError(last.fault.message if last.fault else ""))
            on_events([*events[:-1], ended_by(error)])


async def _crash(error: errors.TailraceError) -> errors.TailraceError:
    """Returns what a broken connection to the worker means: a crash, if it has gone; else `error` itself."""
    from tailrace.backends.embedded.supervisor import shared

    words = await asyncio.to_thread(shared().describe_crash)
    if not words:
        return error
    return errors.EngineError(words, hint="the next run starts it again; a smaller model or context may help")


def _note(words: str) -> None:
    put(f"{words}\n", sys.stderr)
