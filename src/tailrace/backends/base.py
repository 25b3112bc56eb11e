"""The interface of a backend, and what all backends on HTTP share: retries with a busy server, and errors by status."""

from __future__ import annotations

import asyncio
import random
from asyncio import sleep
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import msgspec

from tailrace import errors
from tailrace.events import Ended, Event, Queued
from tailrace.protocols.error_words import body_text, page_title
from tailrace.protocols.faults import advice
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

__all__ = ["Backend", "Decoder", "WireExchange", "open_patiently", "other_form", "raise_for_status"]

_SHOWN = 500  # characters of an address that a server redirects to
RETRIES = 2  # of a request that a busy server refused; only before the first token
_RETRY_AFTER_MOST = 30.0  # a server that wants us to wait longer than this gets its error shown instead
SETTLE = 2.0  # seconds of silence after which an answer that is whole, but not marked as such, is taken for whole


class Backend(Protocol):
    """A model server. Its methods are called on any event loop; it holds no connection.

    Attributes:
        kind: ``ollama``, ``openai`` or ``embedded``.
        url: the upstream as one would write it in TAILRACE_UPSTREAM.
    """

    kind: str
    url: str

    def way(self) -> str:
        """Returns ``through the proxy …`` if one stands before the server, else nothing."""

    def with_headers(self, headers: Mapping[str, str | None]) -> Backend:
        """Returns one whose requests carry these headers too, by names in lower case; None takes one away."""

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

    @property
    def settling(self) -> bool:
        """True while what came may be the whole answer, though nothing says that it is."""

    def settle(self) -> Sequence[Event]:
        """The server says nothing more: returns the rest and the ending if the answer is whole, else nothing."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """Takes bytes, returns events."""

    def eof(self) -> Sequence[Event]:
        """Returns the rest."""


class WireExchange:
    """An exchange that is an HTTP response read through a protocol's decoder.

    Args:
        media: the media type of the protocol's streams. Another one is accepted with a warning; JSON is a whole answer.
    """

    __slots__ = (
        *("_decoder", "_http", "_note", "_on_events", "_over", "_silence", "abort", "confirms", "finish", "half_close"),
    )

    def __init__(self, http: HttpExchange, decoder: Decoder, media: str, *, confirms: float = 0.1) -> None:
        self.confirms = confirms
        self.half_close = http.half_close
        self.abort = http.abort
        self.finish = http.finish
        self._http = http
        self._decoder = decoder
        self._on_events: OnEvents = bool  # until `relay` sets its own
        self._silence: _Silence | None = None
        self._over = False
        known = http.content_type in ("", media, "application/json")
        self._note = "" if known else f"the server sent the answer as {http.content_type}"

    async def relay(self, on_events: OnEvents) -> None:
        """Passes the events on as they arrive. A broken connection is an ending too, not an exception."""
        self._on_events = on_events
        if self._decoder.settling:  # not the first call: all that there is may have come by then
            self._await_silence(True)
        try:
            await self._http.deliver(self._on_data)
        except errors.StreamError as error:
            if not self._over:  # else we broke it ourselves
                on_events([ended_by(error)])
        finally:
            if self._silence is not None:
                self._silence.stop()

    def _on_data(self, data: bytes) -> bool:
        if self._over:
            return True
        events = self._decoder.feed(data) if data else self._decoder.eof()
        if self._decoder.settling:
            self._await_silence(bool(events))
        return self._pass_on(events) if events else False

    def _await_silence(self, content: bool) -> None:
        if self._silence is None:
            self._silence = _Silence(self._settle)
        self._silence.heard(content)

    def _pass_on(self, events: Sequence[Event]) -> bool:
        if self._note and isinstance(ended := events[-1], Ended):
            events = [*events[:-1], msgspec.structs.replace(ended, warnings=(self._note, *ended.warnings))]
        return self._on_events(events)

    def _settle(self) -> None:
        events = self._decoder.settle()
        if events:
            self._over = True
            try:
                self._pass_on(events)
            finally:
                self.abort()  # which ends `relay`


class _Silence:
    """Notices that a server says nothing more. A token moves no timer: it looks again when it fires."""

    __slots__ = ("_came", "_settle", "_timer")

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self._came = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def heard(self, content: bool) -> None:
        """Something came that may have been the last; what is no content, such as pings, gives no more time."""
        loop = asyncio.get_running_loop()
        if content or self._timer is None:
            self._came = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(SETTLE, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        rest = self._came + SETTLE - loop.time()
        if rest > 0:
            self._timer = loop.call_later(rest, self._look, loop)
        else:
            self._settle()

    def stop(self) -> None:
        """Looks no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


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
    status = exchange.status
    if exchange.content_type == "text/html":
        raise _of_page(exchange, await exchange.read_error())
    if status < 400:
        if exchange.redirect is not None:
            where = exchange.redirect
            raise errors.NotModelServerError(f"{exchange.url} redirects to {where}", status)
        return
    body = await exchange.read_error()
    if body.lstrip()[:1] == "<":
        raise _of_page(exchange, body)
    text, is_told = _body_text(body)
    if status == 407:
        raise _of_proxy_key(exchange)
    if exchange.via is not None and status in (502, 503, 504) and not is_told:
        raise _of_proxy(exchange, text)
    text = text or _EMPTY.get(status, "") or f"HTTP {status} without a word"
    if status == 401:
        raise _of_key(exchange, text, body)
    if status == 404 and "model" in text:
        raise errors.ModelNotFoundError(text, status, hint="pull it first, or name one of those that list() shows")
    if status in (429, 503):
        error = errors.BusyError(text, status)
        error.retry_after = _retry_after(exchange.headers)
        raise error
    if status == 501:
        raise errors.UnsupportedError(text, status)
    hint = advice(text) or (other_form(exchange.url) if status == 404 else "")
    raise errors.ResponseError(text, status, hint=hint or _came_through(exchange))


_EMPTY = {
    401: "unauthorized",
    403: "forbidden: the server does not accept this Host or Origin",
    404: "the server does not have this path; is it the right kind of upstream?",
}
_KEY = (
    "give a key with api_key=, TAILRACE_API_KEY or OLLAMA_API_KEY; "
    "a name and a password with auth= or as user:password@ before the host"
)
_WRONG_KEY = (
    "the key or password that was sent is not taken: correct api_key=, TAILRACE_API_KEY or OLLAMA_API_KEY, "
    "or user:password@ before the host"
)


def _of_key(exchange: HttpExchange, text: str, body: str = "") -> errors.ResponseError:
    """The error of a server that wants to know who asks."""
    if "signin_url" in body:  # this Ollama is to ask ollama.com, and is not signed in there
        error = errors.ResponseError(text, 401, hint=advice("unauthorized"))
        error.about = "sign-in"
        return error
    refused = exchange.is_authorized
    error = errors.ResponseError(text, 401, hint=_WRONG_KEY if refused else _KEY)
    error.about = "wrong-key" if refused else "key"
    return error


def _of_proxy_key(exchange: HttpExchange) -> errors.ResponseError:
    """The error of a proxy that wants to know who asks."""
    via = exchange.via
    named = str(via) if via is not None else f"a proxy before {exchange.url}"
    hint = via.key_hint if via is not None else "give the proxy its name and password, in HTTP_PROXY or proxy="
    error = errors.ResponseError(f"{named} wants a name and a password", 407, hint=hint)
    error.about = "proxy-key"
    return error


def _of_proxy(exchange: HttpExchange, text: str) -> errors.ResponseError:
    """The error of a proxy that does not reach the server, or says nothing of why."""
    via, status = exchange.via, exchange.status
    assert via is not None
    said = f" ({' '.join(text.split())[:200]})" if text else ""
    words = f"{via} answered {status}{said}: it may not reach {exchange.url}"
    error = errors.BusyError(words, status) if status == 503 else errors.ResponseError(words, status)
    error.hint = via.hint(urlsplit(exchange.url).hostname or "")
    error.about = "proxy"
    if isinstance(error, errors.BusyError):
        error.retry_after = _retry_after(exchange.headers)
    return error


def _came_through(exchange: HttpExchange) -> str:
    return "" if exchange.via is None else f"the answer came through {exchange.via}"


def other_form(url: str) -> str:
    """What to write in place of an upstream whose server does not have the path that was asked for."""
    parts = urlsplit(url)
    origin = f"{parts.scheme}://{parts.netloc}"
    prefix, found, _ = parts.path.partition("/api/")
    if found and prefix.endswith("/v1"):
        return f"leave out /v1 for Ollama; for other servers write openai:{origin}{prefix}"
    if parts.path.startswith("/api/api/"):
        return "leave out /api"
    if found:
        return f"if it is an OpenAI-compatible server, write openai:{origin}{prefix}/v1"
    if "/v1/" not in parts.path:
        return f"the address of an OpenAI-compatible server mostly ends in /v1: openai:{origin}/v1"
    return ""


def _body_text(body: str) -> tuple[str, bool]:
    """Returns what the body of an error says, and whether it is JSON, as of a model server."""
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        parsed = None
    return body_text(body), isinstance(parsed, dict)


def _of_page(exchange: HttpExchange, body: str) -> errors.ResponseError:
    """The error of a server, or whatever stands before it, that answers with a web page."""
    if exchange.status == 407:
        return _of_proxy_key(exchange)
    named = page_title(body)
    if exchange.status == 401:
        return _of_key(exchange, f"{exchange.url} answered with a web page{named}: it wants to know who asks")
    through = f" through {exchange.via}" if exchange.via is not None else ""
    error = errors.NotModelServerError(
        f"{exchange.url}{through} answered with a web page{named}, not as a model server",
        exchange.status,
        hint="check the host and the port, and whether a proxy stands in between",
    )
    if exchange.via is not None:
        error.hint = exchange.via.hint(urlsplit(exchange.url).hostname or "")
        error.about = "proxy"
    return error


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds that a server asks us to wait: a number, or a date (RFC 9110 section 10.2.3).

    The date is the server's, so it is compared with the server's own, where it tells that.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    then, now = _date(value), _date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (then - now).total_seconds()) if then is not None else None


def _date(value: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # which takes long to import

    try:
        date = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)
