"""A run as server-sent events: an ASGI application that needs no framework.

A disconnect is noticed while the model is silent, because a task waits for it: ASGI servers report it through
``receive`` only (ours calls back), and a stream that only sends would learn of it at its next token. A disconnect does
not stop the model by itself; that is decided by the run's linger time.

A token costs a wake-up and a send, on our own server only a write, and no timer: one timer a stream watches for
silences and for sends that block.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from tailrace.client.streams import BaseStream
from tailrace.errors import EvictedError
from tailrace.run.run import Run
from tailrace.run.wakeups import Wakeup
from tailrace.web.asgi_types import Receive, Scope, Send
from tailrace.web.detach import detach_response
from tailrace.web.direct_writer import DIRECT_WRITE, DirectWrite, DirectWriter
from tailrace.web.send_watchdog import WatchedSender
from tailrace.web.source import Source, plain_feed
from tailrace.web.starting import start
from tailrace.web.stream_settings import EVENTS, Medium, OnLeave, StreamSettings, linger_of, opening

__all__ = ["EventStream", "RawHeaders", "frames", "sse", "streams"]

RawHeaders = Iterable[tuple[bytes, bytes]]

_LOOK = 1.0  # seconds between looks at whether the owner, if it lives on another loop, still does
_TURNS = 4  # iterations of the loop before the end of a response: an earlier disconnect is known by then
_SLICE = 64 * 1024  # bytes of one send


class EventStream:
    """A response that streams a run: an ASGI application, to be returned from an endpoint or called.

    It counts as a reader of the run from the moment it is made, until it has been called or is dropped.

    Args:
        run: the run, started.
        source: where the reader is in it.
        stream_settings: pings and limits.
        headers: further response headers.
        medium: how the protocol is carried in a response; by default server-sent events that can be resumed.

    Attributes:
        taken: True once all of it was sent to a reader that, as far as is known, was still connected.
    """

    _mark: object | None = None  # while it counts as a reader

    def __init__(
        self,
        run: Run,
        source: Source,
        *,
        stream_settings: StreamSettings | None = None,
        headers: Iterable[tuple[str, str]] = (),
        medium: Medium = EVENTS,
    ) -> None:
        self.headers = [*medium.headers, *headers]
        self._run = run
        self._source = source
        self._stream_settings = stream_settings or StreamSettings()
        self._medium = medium
        self.taken = False
        run.attach()
        self._mark = object()
        _open.add(self._mark)

    def leave(self) -> None:
        """Counts the reader no more; idempotent."""
        mark, self._mark = self._mark, None
        if mark is not None:
            _open.discard(mark)
            self._run.detach()

    def __del__(self) -> None:
        # An endpoint may raise between making a response and returning it: then nobody ever calls it.
        if not sys.is_finalizing():
            self.leave()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the run until its end, or until the reader leaves."""
        if not detach_response(self, scope, receive, send):
            await self.answer(scope, receive, send, _raw(self.headers))

    async def answer(self, scope: Scope, receive: Receive, send: Send, headers: RawHeaders) -> None:
        """Like a call, with exactly these headers."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
            headers = ()  # not kept for as long as the stream lasts
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await self._read_out(receive, send, scope.get(DIRECT_WRITE))
        except TimeoutError:
            pass  # the client does not read: the server closes the connection of an unfinished response
        except OSError:
            pass  # some servers raise when the reader has gone
        finally:
            self.leave()

    async def _read_out(self, receive: Receive, send: Send, push: DirectWrite | None) -> None:
        medium = self._medium
        sender = WatchedSender(send, self._stream_settings.send_timeout)
        tap = _Tap(self._run, self._source, self._stream_settings, medium.ping, push, sender)
        listener: asyncio.Task[None] | None = None
        try:
            if push is None or not push.watch(tap.leave):
                # After the head: `receive` may make the server ask the client for a body that is not needed.
                listener = asyncio.ensure_future(_listen(receive, tap))
            async with sender:
                first = opening(streams()) if medium.opening is None else medium.opening
                if first:
                    await sender.body(first)
                while data := await tap.next():
                    # In slices: a slow reader is not taken for a stalled one, and buffers stay small.
                    for start in range(0, len(data), _SLICE):
                        await sender.body(data[start : start + _SLICE])
                for _ in range(_TURNS):
                    await asyncio.sleep(0)
                if not tap.left:
                    await sender.body(b"", more=False)
                    self.taken = self._source.at_end
        finally:
            tap.close()
            if listener is not None:
                listener.cancel()
        if listener is not None and listener.done():
            listener.result()  # a middleware that cannot receive raises there


_open: set[object] = set()


def streams() -> int:
    """Returns how many streams this process has now."""
    return len(_open)


def _raw(headers: Iterable[tuple[str, str]]) -> RawHeaders:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _listen(receive: Receive, tap: _Tap) -> None:
    """Waits for the client's disconnect."""
    try:
        while (await receive())["type"] != "http.disconnect":
            pass  # the rest of the request's body
    finally:
        tap.leave()


class _Tap:
    """The data for one reader, piece by piece: events, and pings in silences.

    Args:
        run: the run.
        source: where the reader is in it.
        stream_settings: silences and paces.
        comment: sent in silences; empty: nothing is.
        push: the server's way to write from anywhere, if it has one.
        sender: sends it; its time limit is checked here.
    """

    __slots__ = (
        *("_beats", "_wakeup", "_comment", "_due", "_frame", "_loop", "_next", "_over", "_ping", "_push", "_direct"),
        *("_run", "_seen", "_sender", "_source", "_timer", "left"),
    )

    def __init__(
        self,
        run: Run,
        source: Source,
        stream_settings: StreamSettings,
        comment: bytes = EVENTS.ping,
        push: DirectWrite | None = None,
        sender: WatchedSender | None = None,
    ) -> None:
        ping = stream_settings.ping
        self.left = False
        self._comment = comment
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._source = source
        self._push = push
        self._sender = sender
        here = run.lives_on(self._loop)
        self._direct: DirectWriter | None = None
        if push is None or source.paced or not here:
            self._wakeup = Wakeup(source.log.changed)
        else:
            self._wakeup = Wakeup(None)
            self._direct = DirectWriter(push, source, self._wakeup.wake)
        self._ping = ping
        self._due = self._loop.time() + ping
        self._seen = source.after  # when it was looked at last
        self._beats = min(ping / 2, math.inf if here else _LOOK)  # seconds between two looks
        self._over = False
        self._frame = stream_settings.frame if source.paced else 0.0
        self._next = 0.0  # when the next frame may come
        self._timer = self._loop.call_later(self._until(math.inf), self._beat)

    def leave(self) -> None:
        """The client has disconnected."""
        self.left = True
        self._wakeup.wake()

    def close(self) -> None:
        """Stops; idempotent."""
        self._timer.cancel()
        if self._push is not None:
            self._push.watch(None)
        if self._direct is not None:
            self._direct.close()

    def _beat(self) -> None:
        self._run.settle()
        now = self._loop.time()
        if self._seen != self._source.after:  # events came since the last look, at most half of the interval ago
            self._seen = self._source.after
            self._due = max(self._due, now + self._ping / 2)
        wait = self._due - now
        if wait <= 0:
            self._wakeup.wake()
        self._timer = self._loop.call_later(self._until(wait if wait > 0 else math.inf), self._beat)

    def _until(self, wait: float) -> float:
        """Returns the seconds until the next look, of which a send that takes too long may want an earlier one."""
        return min(wait, self._beats, self._sender.look() if self._sender is not None else math.inf)

    def _ready(self) -> bool:
        source = self._source
        return source.ready() or self.left or source.at_end or self._loop.time() >= self._due

    async def next(self) -> bytes:
        """Waits for the next piece; empty after the last one, and when the reader has left."""
        source, direct = self._source, self._direct
        while not (self.left or self._over):
            if direct is not None and direct.left:
                data, direct.left = direct.left, b""
                self._due = self._loop.time() + self._ping
                return data
            if self._frame and await self._paused():
                continue
            try:
                data = source.take()
            except EvictedError:
                self._over = True
                return source.feed.wire.lagged()
            if not data:
                if source.at_end:
                    break
                if self._loop.time() < self._due:
                    if direct is not None:
                        direct.waits = True
                    await self._wakeup.wait(self._ready)
                    if direct is not None:
                        direct.waits = False
                    continue
                data = self._comment
            now = self._loop.time()
            self._due, self._next = now + self._ping, now if source.ready() else now + self._frame
            if data:
                return data
        return b""

    async def _paused(self) -> bool:
        """Waits until the next frame is due, the run ends or the reader leaves; returns whether it waited."""
        wait = self._next - self._loop.time()
        if wait <= 0 or self._source.log.sealed:
            return False
        await self._wakeup.wait(lambda: self.left or self._source.log.sealed, wait)
        return True


def sse(
    stream: BaseStream[Any],
    *,
    on_leave: OnLeave = "cancel",
    stream_settings: StreamSettings | None = None,
    headers: Iterable[tuple[str, str]] = (),
) -> EventStream:
    """Returns a stream as the tutorial's server-sent events: a response for any ASGI application.

    It starts the run, so call it on the event loop (in an ``async def``).

    Args:
        stream: what ``chat(…, stream=True)`` returned, synchronous or asynchronous.
        on_leave: what happens to the run when its reader leaves: ``"cancel"``, ``"continue"``, or seconds to wait for
            a reader to come back.
        stream_settings: pings and limits.
        headers: further response headers.

    Raises:
        ValueError: `on_leave` is no policy.
    """
    linger = linger_of(on_leave)

    def read(run: Run) -> EventStream:
        return EventStream(run, Source(plain_feed(run)), stream_settings=stream_settings, headers=headers)

    return start(stream, linger, read)


async def frames(stream: BaseStream[Any], *, on_leave: OnLeave = "cancel") -> AsyncGenerator[bytes, None]:
    """Yields a stream as the tutorial's server-sent events, for frameworks whose responses take an async iterator.

    Closing the iterator counts as a disconnect. With a framework that does not close it, or that notices a disconnect
    only when it sends, use `sse` instead. A ping is sent each second, so that a disconnect is noticed.

    Args:
        stream: what ``chat(…, stream=True)`` returned.
        on_leave: as for `sse`.

    Raises:
        ValueError: `on_leave` is no policy.
    """
    linger = linger_of(on_leave)

    def attached(run: Run) -> Run:
        run.attach()
        return run

    run = start(stream, linger, attached)
    tap = _Tap(run, Source(plain_feed(run)), StreamSettings(ping=1.0))
    try:
        yield opening()
        while data := await tap.next():
            yield data
    finally:
        tap.close()
        run.detach()
