"""The stream: does anything between here and a server, such as a proxy, buffer an answer?

The check requests a short answer and records when its bytes arrive. Ollama puts the time of its making into each chunk,
so both ends can be compared; for other servers only the times of arrival are known.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec

from tailrace import errors
from tailrace.backends.base import Backend, raise_for_status
from tailrace.backends.ollama import OllamaBackend
from tailrace.backends.openai import OpenAIBackend
from tailrace.backends.resolve import Resolver
from tailrace.cli.checks.finding import Finding, reason_of
from tailrace.cli.checks.secrets import redacted
from tailrace.cli.checks.upstreams import can_chat, is_openai, name_of, proxy_for
from tailrace.cli.session import hint_for
from tailrace.i18n import say
from tailrace.transport.http_client import Http, HttpExchange
from tailrace.types import ListedModel

__all__ = ["Arrivals", "judge", "stream"]

Verdict = Literal["streams", "buffers", "unknown"]
Reason = Literal["apart", "together", "bursts", "whole", "few", "fast"]

_TOKENS = 64
_PROMPT = "Count from 1 to 40, separated by spaces."
_FEW = 4  # records; fewer tell nothing
_PACE = 0.1  # seconds the server must have taken for a comparison to mean anything
_HEADERS = ("Server", "Via", "X-Accel-Buffering", "Content-Encoding", "Content-Length", "Transfer-Encoding", "X-Cache")


class Arrivals(msgspec.Struct):
    """What arrived, and when, in seconds of one clock.

    Attributes:
        sent: when the request went out.
        headers: when the answer's headers came; None if they never did.
        moments: when bytes of its body came.
        records: how many records it held.
        pace: seconds from the first to the last record at the server; None if it does not tell.
        whole: True if the body's length was known before its first byte.
        ended: True if the answer came to its end.
        cut: True if the connection broke before.
    """

    sent: float
    headers: float | None = None
    moments: list[float] = []
    records: int = 0
    pace: float | None = None
    whole: bool = False
    ended: bool = False
    cut: bool = False

    @property
    def spread(self) -> float:
        """Seconds from the first byte to the last."""
        return self.moments[-1] - self.moments[0] if self.moments else 0.0


def judge(seen: Arrivals) -> tuple[Verdict, Reason]:
    """Says whether a stream came as it was made.

    >>> judge(Arrivals(0.0, 2.0, [2.0, 2.01], records=40, pace=1.9))
    ('buffers', 'together')
    >>> judge(Arrivals(0.0, 0.1, [n / 10 for n in range(1, 21)], records=20, pace=1.9))
    ('streams', 'apart')
    """
    count = len(seen.moments)
    if seen.records < _FEW:
        return "unknown", "few"
    if seen.whole:
        return "buffers", "whole"
    if seen.pace is not None and seen.pace >= _PACE:
        share = seen.spread / seen.pace
        if share < 0.2:
            return "buffers", "together"
        if count < min(8, seen.records // 4):
            return "buffers", "bursts"
        return ("streams", "apart") if share >= 0.5 else ("unknown", "fast")
    total = seen.moments[-1] - seen.sent
    if count * 2 >= seen.records and seen.spread >= 0.05 * total:
        return "streams", "apart"
    if seen.pace is None and count * 4 <= seen.records and seen.spread < 0.1 * total and total >= 3 * _PACE:
        return "buffers", "together"
    return "unknown", "fast"


async def stream(url: str, model: str | None, timeout: float, clock: Callable[[], float] = time.monotonic) -> Finding:
    """Measures one answer.

    Args:
        url: a server, in any of the forms of an upstream.
        model: the model to ask; by default one that is loaded, or else the smallest.
        timeout: seconds for the answer.
        clock: tells the time.
    """
    facts: dict[str, Any] = {"url": redacted(url), "verdict": "unknown"}
    seen = Arrivals(clock())
    try:
        backend = _backend(url)
        http = await backend.http() if isinstance(backend, OllamaBackend) else backend._http
        facts["proxy"] = proxy_for(backend.url)
        facts["model"] = model or os.environ.get("TAILRACE_MODEL", "").strip() or await _a_model(backend)
        if not facts["model"]:
            return _failed(say("doctor.stream_no_model", url=facts["url"]), say("hint.get_ollama", model="…"), facts)
        await _measure(http, backend, facts, seen, timeout, clock)
    except errors.TailraceError as error:
        do = hint_for(error) if error.about else error.hint
        if isinstance(error, errors.ResponseError) and error.status_code == 404 and await is_openai(facts["url"]):
            do = say("doctor.use_openai", url=facts["url"])
        return _failed(say("doctor.stream_failed", url=facts["url"], reason=reason_of(error)), do, facts)
    return _told(facts, seen, timeout)


def _failed(words: str, do: str, facts: dict[str, Any]) -> Finding:
    return Finding(name="stream", mark="problem", seen=words, do=do, facts={**facts, "error": words})


def _backend(url: str) -> OllamaBackend | OpenAIBackend:
    """Takes a URL for what it is meant to be: one that ends in /v1 is no Ollama's."""
    backend = Resolver(url).known
    if backend is None or backend.kind not in ("ollama", "openai"):
        raise errors.RequestError(say("doctor.stream_no_url", url=redacted(url)))
    assert isinstance(backend, (OllamaBackend, OpenAIBackend))
    return backend


async def _a_model(backend: Backend) -> str:
    """Returns a model that is loaded, else the smallest; empty if there is none."""
    there = [model for model in (await backend.list()).models if can_chat(model)]
    if isinstance(backend, OllamaBackend):
        try:
            loaded = {model.model or model.name for model in (await backend.ps()).models}
        except errors.TailraceError:
            loaded = set()
        there.sort(key=lambda model: (name_of(model) not in loaded, _size(model)))
    return name_of(there[0]) if there else ""


def _size(model: ListedModel) -> int:
    return model.size or 0


async def _measure(
    http: Http, backend: Backend, facts: dict[str, Any], seen: Arrivals, timeout: float, clock: Callable[[], float]
) -> None:
    is_ollama = backend.kind == "ollama"
    body: dict[str, Any] = {
        "model": facts["model"],
        "messages": [{"role": "user", "content": _PROMPT}],
        "stream": True,
        **({"options": {"num_predict": _TOKENS}} if is_ollama else {"max_tokens": _TOKENS}),
    }
    data = bytearray()
    exchange: HttpExchange | None = None
    seen.sent = clock()
    try:
        async with asyncio.timeout(timeout):
            path = "/api/chat" if is_ollama else "/chat/completions"
            exchange = await http.open("POST", path, msgspec.json.encode(body))
            seen.headers = clock()
            facts |= _headers(exchange, seen)
            await raise_for_status(exchange)
            while not exchange.at_eof():
                piece = await exchange.read()
                if piece:
                    seen.moments.append(clock())
                    data += piece
            seen.ended = True
    except TimeoutError:
        pass  # what came until now tells, too
    except errors.TruncatedError:
        if not data:
            raise
        seen.cut = True
    finally:
        if exchange is not None:
            exchange.abort()
    _read(bytes(data), seen)


def _headers(exchange: HttpExchange, seen: Arrivals) -> dict[str, Any]:
    seen.whole = "Content-Length" in exchange.headers
    return {"headers": {name: exchange.headers[name] for name in _HEADERS if name in exchange.headers}}


def _read(data: bytes, seen: Arrivals) -> None:
    """Counts the records, and reads the server's own clock in them."""
    from tailrace.protocols.error_words import error_in, error_text

    made: list[float] = []
    fault = None
    for line in data.split(b"\n"):
        text = line.strip().removeprefix(b"data:").removeprefix(b"error:").strip()
        if not text.startswith(b"{"):
            continue
        seen.records += 1
        try:
            record = msgspec.json.decode(text, type=dict[str, Any])
            fault = fault or error_in(record)
            made.append(datetime.fromisoformat(record["created_at"]).timestamp())
        except (msgspec.MsgspecError, KeyError, TypeError, ValueError, OverflowError):
            continue  # cut off, or of a server that keeps its time to itself
    if fault is not None:
        raise errors.ResponseError(error_text(fault[0]))
    seen.pace = round(max(made) - min(made), 6) if len(made) >= _FEW else None


def _told(facts: dict[str, Any], seen: Arrivals, timeout: float) -> Finding:
    if not seen.moments:
        words = say("doctor.stream_late", seconds=f"{timeout:g}") if not seen.ended else say("doctor.stream_empty")
        return _failed(words, say("doctor.give_time"), facts)
    verdict, reason = judge(seen)
    first, last = seen.moments[0] - seen.sent, seen.moments[-1] - seen.sent
    facts |= {
        "verdict": verdict,
        "reason": reason,
        "headers_after": round((seen.headers or seen.sent) - seen.sent, 3),
        "first_byte": round(first, 3),
        "last_byte": round(last, 3),
        "arrivals": len(seen.moments),
        "records": seen.records,
        "server_seconds": seen.pace,
        "ended": seen.ended,
        "cut": seen.cut,
    }
    words = f"{_verdict_words(verdict, reason)} ({_figures(facts)})"
    signs = [f"{name}: {value}" for name, value in facts["headers"].items()]
    if facts["proxy"]:
        signs.append(say("doctor.through", proxy=facts["proxy"]))
    if signs:
        words = f"{words}; {', '.join(signs)}"
    if seen.cut:
        words = f"{say('doctor.stream_cut')}; {words}"
        return Finding(name="stream", mark="problem", seen=words, do=say("doctor.stop_cutting"), facts=facts)
    if verdict == "streams":
        return Finding(name="stream", mark="ok", seen=words, facts=facts)
    if verdict == "unknown":
        return Finding(name="stream", mark="note", seen=words, do=say("doctor.measure_again"), facts=facts)
    return Finding(name="stream", mark="problem", seen=words, do=say("doctor.stop_buffering"), facts=facts)


def _verdict_words(verdict: Verdict, reason: Reason) -> str:
    if verdict == "streams":
        return say("doctor.streams")
    if verdict == "unknown":
        return say("doctor.too_few") if reason == "few" else say("doctor.too_fast")
    if reason == "whole":
        return say("doctor.buffers_whole")
    return say("doctor.buffers_bursts") if reason == "bursts" else say("doctor.buffers")


def _figures(facts: dict[str, Any]) -> str:
    words = say(
        "doctor.figures",
        records=facts["records"],
        arrivals=facts["arrivals"],
        first=f"{facts['first_byte']:.2f}",
        last=f"{facts['last_byte']:.2f}",
    )
    if facts["server_seconds"] is None:
        return words
    pace = f"{facts['server_seconds']:.2f}"
    return f"{words}, {say('doctor.made_in', seconds=pace)}"
