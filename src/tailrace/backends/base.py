"""The interface of a backend, and what all backends on HTTP share: retries with a busy server, and errors by status."""

from __future__ import annotations

import random
import re
from asyncio import sleep
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec

from tailrace import errors
from tailrace.events import Ended, Event, Queued
from tailrace.protocols.faults import advice, error_text
from tailrace.run.exchange import OnEvents, Opener, Report
from tailrace.run.run import ended_by
from tailrace.types import (
    ChatRequest,
    ContinueRequest,
    EmbedResponse,
    GenerateRequest,
    ListResponse,
    ProcessResponse,
    ShowResponse,
)

if TYPE_CHECKING:  # the HTTP client takes longer to import than all of ours; making a client imports it
    from tailrace.transport.http_client import HttpExchange

__all__ = ["Backend", "Decoder", "WireExchange", "open_patiently", "raise_for_status"]

RETRIES = 2  # of a request that a busy server refused; only before the first token
_RETRY_AFTER_MOST = 30.0  # a server that wants us to wait longer than this gets its error shown instead


class Backend(Protocol):
    """A model server. Its methods are called on any event loop; it holds no connection.

    Attributes:
        kind: ``ollama``, ``openai`` or ``embedded``.
        url: the upstream as one would write it in TAILRACE_UPSTREAM.
    """

    kind: str
    url: str

    def chat(self, request: ChatRequest) -> Opener:
        """Returns what opens a run of a chat."""

    def continue_chat(self, request: ContinueRequest) -> Opener:
        """Returns what opens a run that continues an answer; its events are what is new."""

    def generate(self, request: GenerateRequest) -> Opener:
        """Returns what opens a run of a completion."""

    def progress(self, operation: str, body: dict[str, Any]) -> Opener:
        """Returns what opens a run of ``pull``, ``push`` or ``create``."""

    async def list(self) -> ListResponse:
        """Returns the models that the server has."""

    async def ps(self) -> ProcessResponse:
        """Returns the models that are loaded."""

    async def show(self, model: str) -> ShowResponse:
        """Returns what the server knows of a model."""

    async def version(self) -> str:
        """Returns the server's version."""

    async def embed(self, body: dict[str, Any]) -> EmbedResponse:
        """Returns embeddings."""

    async def call(self, method: str, path: str, body: Any = None) -> bytes:
        """Sends any other request of the server's own API and returns the body of a success."""


class Decoder(Protocol):
    """A protocol's decoder."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """Takes bytes, returns events."""

    def eof(self) -> Sequence[Event]:
        """Returns the rest."""


class WireExchange:
    """An exchange that is an HTTP response read through a protocol's decoder.

    Args:
        media: the media type of the protocol's streams. Another one is accepted with a warning; JSON is a whole answer.
    """

    __slots__ = ("_decoder", "_http", "_note", "_on_events", "abort", "confirms", "finish", "half_close")

    def __init__(self, http: HttpExchange, decoder: Decoder, media: str, *, confirms: float = 0.1) -> None:
        self.confirms = confirms
        self.half_close = http.half_close
        self.abort = http.abort
        self.finish = http.finish
        self._http = http
        self._decoder = decoder
        self._on_events: OnEvents = bool  # until `relay` sets its own
        known = http.content_type in ("", media, "application/json")
        self._note = "" if known else f"the server sent the answer as {http.content_type}"

    async def relay(self, on_events: OnEvents) -> None:
        """Passes the events on as they arrive. A broken connection is an ending too, not an exception."""
        self._on_events = on_events
        try:
            await self._http.deliver(self._on_data)
        except errors.StreamError as error:
            on_events([ended_by(error)])

    def _on_data(self, data: bytes) -> bool:
        events = self._decoder.feed(data) if data else self._decoder.eof()
        if not events:
            return False
        if self._note and isinstance(ended := events[-1], Ended):
            events = [*events[:-1], msgspec.structs.replace(ended, warnings=(self._note, *ended.warnings))]
        return self._on_events(events)


async def open_patiently(send: Callable[[], Awaitable[HttpExchange]], report: Report) -> HttpExchange:
    """Sends a request, and retries a bounded number of times while the server is busy. Only before any token.

    Raises:
        BusyError: the server stayed busy.
        ResponseError: it answered with another error.
    """
    attempt = 0
    while True:
        exchange = await send()
        try:
            await raise_for_status(exchange)
        except errors.BusyError as busy:
            exchange.abort()
            wait = busy.retry_after
            if wait is None:
                wait = 0.5 * 2**attempt * random.uniform(0.5, 1.5)  # spread, so that clients do not come back together
            if attempt >= RETRIES or wait > _RETRY_AFTER_MOST:
                raise
            attempt += 1
            report(Queued(retry_in=wait))
            await sleep(wait)
        except BaseException:
            exchange.abort()
            raise
        else:
            return exchange


async def raise_for_status(exchange: HttpExchange) -> None:
    """Raises the exception for an HTTP error, or for a web page in place of an answer.

    Raises:
        NotModelServerError: HTML.
        ModelNotFoundError, BusyError, UnsupportedError, ResponseError: by status.
    """
    if exchange.content_type == "text/html":
        _raise_html(exchange, await exchange.read_error())
    if exchange.status < 400:
        if exchange.redirect is not None:
            where = exchange.redirect
            raise errors.NotModelServerError(f"{exchange.url} redirects to {where}", exchange.status)
        return
    body = await exchange.read_error()
    if body.lstrip()[:1] == "<":
        _raise_html(exchange, body)
    text = _body_text(body) or _EMPTY.get(exchange.status, "") or f"HTTP {exchange.status} without a word"
    status = exchange.status
    if status == 404 and "model" in text:
        raise errors.ModelNotFoundError(text, status, hint="pull it first, or name one of those that list() shows")
    if status in (429, 503):
        error = errors.BusyError(text, status)
        error.retry_after = _seconds(exchange.headers.get("Retry-After", ""))
        raise error
    if status == 501:
        raise errors.UnsupportedError(text, status)
    raise errors.ResponseError(text, status, hint=advice(text))


_EMPTY = {
    401: "unauthorized: set OLLAMA_API_KEY or TAILRACE_API_KEY",
    403: "forbidden: the server does not accept this Host or Origin",
    404: "the server does not have this path; is it the right kind of upstream?",
}


def _body_text(body: str) -> str:
    """Returns the error text of a body: JSON's ``error``, else the body as it is."""
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return body.strip()
    if isinstance(parsed, dict) and parsed.get("error"):
        return error_text(parsed["error"])
    return body.strip()


def _raise_html(exchange: HttpExchange, body: str) -> NoReturn:
    title = re.search(r"<title[^>]*>([^<]{1,200})", body, re.IGNORECASE)
    named = f' ("{" ".join(title[1].split())}")' if title else ""
    raise errors.NotModelServerError(
        f"{exchange.url} answered with a web page{named}, not as a model server",
        exchange.status,
        hint="check the host and the port, and whether a proxy stands in between",
    )


def _seconds(value: str) -> float | None:
    return float(value) if value.strip().isdigit() and len(value) < 10 else None
