"""The embedded backend: the Ollama backend, against our own worker's private socket."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from tailrace import errors
from tailrace.backends.http import Http
from tailrace.backends.ollama import OllamaBackend
from tailrace.events import Ended, Event, Loading, Outcome
from tailrace.run.run import Exchange, Opener, Report, ended_by

__all__ = ["EmbeddedBackend"]


class EmbeddedBackend(OllamaBackend):
    """Starts the engine's process on first use; all clients of this process share it.

    Args:
        model: path of a GGUF file that answers to every name, or empty for the models that are here.
    """

    kind = "embedded"
    confirms = 15.0  # the worker closes its side when the engine has let go; a batch of a long prompt takes seconds

    def __init__(self, model: str = "") -> None:
        self.url = f"embedded:{model}"
        self._model = model or None

    async def http(self, report: Report | None = None) -> Http:
        """Returns where the worker listens, starting it if there is none."""
        from tailrace.backends.embedded import supervisor

        if report is not None and not supervisor.shared().running:
            report(Loading())
        endpoint = await supervisor.shared().aendpoint(self._model, on_note=_note)
        headers = {"content-type": "application/json"}
        if endpoint.key:
            headers["authorization"] = f"Bearer {endpoint.key}"
        return Http(endpoint.url or "http://localhost", socket_path=endpoint.socket_path, headers=headers)

    def _opener(self, path: str, body: Any, decoder: Any, model: str | None) -> Opener:
        opener = super()._opener(path, body, decoder, model)

        async def open(report: Report) -> Exchange:
            try:
                return _Watched(await opener(report))
            except (errors.TruncatedError, errors.ConnectionError) as error:
                raise await _crash(error) from error

        return open


class _Watched:
    """An exchange with the worker, which tells a crash of the engine from a plain broken stream."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.confirms = exchange.confirms
        self.half_close = exchange.half_close
        self.abort = exchange.abort
        self.finish = exchange.finish

    async def receive(self) -> Sequence[Event]:
        """Returns the next events."""
        events = await self._exchange.receive()
        last = events[-1] if events else None
        if isinstance(last, Ended) and last.outcome is Outcome.TRUNCATED:
            error = await _crash(errors.TruncatedError(last.fault.message if last.fault else ""))
            return [*events[:-1], ended_by(error)]
        return events


async def _crash(error: errors.TailraceError) -> errors.TailraceError:
    """Returns what a broken connection to the worker means: a crash, if it has gone; else `error` itself."""
    from tailrace.backends.embedded import supervisor

    words = await asyncio.to_thread(supervisor.shared().describe_crash)
    if not words:
        return error
    return errors.EngineError(words, hint="the next run starts it again; a smaller model or context may help")


def _note(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
