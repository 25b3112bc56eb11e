"""A run read out as server-sent events, as an ASGI application of its own: no framework, nothing to install.

The reader's leaving is noticed while the model is silent, because somebody listens for it: servers tell it through
``receive`` alone, and a stream that only sends would learn of it at its next token. Readers never touch the model; what
their leaving means is the run's linger time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from tailrace.client.streams import BaseStream
from tailrace.errors import EvictedError
from tailrace.run.run import Run
from tailrace.run.signals import Bell
from tailrace.web.manners import HEADERS, Manners, OnLeave, linger_of, opening
from tailrace.web.source import Source, plain_feed
from tailrace.wire.sse import PING

__all__ = ["EventStream", "frames", "sse"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_LOOK = 1.0  # seconds between looks at whether the owner, if it lives on another loop, still does


class EventStream:
    """A response that reads a run out: an ASGI application, to be returned from an endpoint or called.

    Args:
        run: the run, started.
        source: where the reader is in it.
        manners: pings and limits.
        headers: further response headers.
        readers: how many readers there are besides.
    """

    def __init__(
        self,
        run: Run,
        source: Source,
        *,
        manners: Manners | None = None,
        headers: Iterable[tuple[str, str]] = (),
        readers: int = 1,
    ) -> None:
        self._run = run
        self._source = source
        self._manners = manners or Manners()
        self._headers = [*HEADERS, *headers]
        self._readers = readers
        self._gone = False

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Sends the run until its end, or until the reader leaves."""
        self._run.attach()
        bell = Bell(self._source.log.changed)
        listener = asyncio.ensure_future(self._listen(receive, bell))
        try:
            await self._send_all(scope, send, bell)
        finally:
            listener.cancel()
            self._run.detach()

    async def _listen(self, receive: Receive, bell: Bell) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass  # the rest of the request's body
        self._gone = True
        bell.ring()

    async def _send_all(self, scope: MutableMapping[str, Any], send: Send, bell: Bell) -> None:
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        limit = self._manners.send_timeout
        try:
            await _within(limit, send, opening(self._readers))
            async for data in _pieces(self._run, self._source, bell, self._manners, lambda: self._gone):
                await _within(limit, send, data)
            if not self._gone:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            pass  # it takes nothing: the server closes the connection of an answer that does not end
        except OSError:
            pass  # some servers raise when the reader has gone


async def _within(limit: float, send: Send, data: bytes) -> None:
    """Sends within a time: a reader that takes nothing is let go, and comes back with its last id."""
    message = {"type": "http.response.body", "body": data, "more_body": True}
    sending = send(message)
    async with asyncio.timeout(limit):
        await sending


async def _pieces(
    run: Run, source: Source, bell: Bell, manners: Manners, gone: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yields what is to be sent, pings in silences included, until the end of the run or of the reader."""
    here = run.lives_on(asyncio.get_running_loop())
    silent = 0.0
    while not gone():
        try:
            data = source.take()
        except EvictedError:
            yield source.feed.wire.lagged()
            return
        if data:
            silent = 0.0
            yield data
        elif source.at_end:
            return
        else:
            patience = manners.ping - silent if here else min(_LOOK, manners.ping - silent)
            start = asyncio.get_running_loop().time()
            await bell.wait(lambda: gone() or source.ready(), patience)
            silent += asyncio.get_running_loop().time() - start
            run.settle()
            if silent >= manners.ping and not source.ready():
                silent = 0.0
                yield PING


def sse(
    stream: BaseStream[Any],
    *,
    on_leave: OnLeave = "cancel",
    manners: Manners | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> EventStream:
    """Returns a stream as the tutorial's server-sent events: a response for any ASGI application.

    It starts the run, so call it on the event loop (in an ``async def``).

    Args:
        stream: what ``chat(…, stream=True)`` returned, synchronous or asynchronous.
        on_leave: what becomes of the run when its reader leaves: ``"cancel"``, ``"continue"``, or seconds to wait for
            a reader to come back.
        manners: pings and limits.
        headers: further response headers.

    Raises:
        ValueError: `on_leave` is no policy.
    """
    linger = linger_of(on_leave)
    run = stream.hand_over()
    run.set_linger(linger)
    return EventStream(run, Source(plain_feed(run)), manners=manners, headers=headers)


async def frames(stream: BaseStream[Any], *, on_leave: OnLeave = "cancel") -> AsyncIterator[bytes]:
    """Yields a stream as the tutorial's server-sent events, for frameworks whose responses take an async iterator.

    Leaving the iterator is the reader's leaving; a framework that does not close it, or that notices a reader's
    leaving only when it sends, is best given `sse` instead. Pings come each second, so that sending tells.

    Args:
        stream: what ``chat(…, stream=True)`` returned.
        on_leave: as for `sse`.
    """
    run = stream.hand_over()
    run.set_linger(linger_of(on_leave))
    run.attach()
    try:
        yield opening()
        source = Source(plain_feed(run))
        async for data in _pieces(run, source, Bell(source.log.changed), Manners(ping=1.0), lambda: False):
            yield data
    finally:
        run.detach()
