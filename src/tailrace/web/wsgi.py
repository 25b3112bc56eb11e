"""A run read out as server-sent events by a WSGI server: an iterable of bytes, no framework, nothing to install.

    from tailrace.web.wsgi import frames

    def application(environ, start_response):
        stream = frames(client.chat("qwen3:0.6b", messages, stream=True), environ)
        start_response("200 OK", stream.headers)
        return stream

A stream holds a thread of the server for its whole life, so one thread is always kept free: when no other is left, the
next stream is refused at once (503) instead of waiting unanswered. A server shows that its client has gone when it
writes, so a comment is written each second of silence. What the leaving means is the run's linger time; the server's
call of ``close()`` is the leaving.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tailrace.client.streams import SyncStream
from tailrace.errors import EvictedError
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.sse import PING
from tailrace.run.run import Run
from tailrace.web import wsgi_servers
from tailrace.web.source import Source, plain_feed
from tailrace.web.starting import start
from tailrace.web.stream_settings import HEADERS, OnLeave, StreamSettings, linger_of, opening

__all__ = ["WSGI_SETTINGS", "EventStream", "Place", "frames", "streams"]

WSGI_SETTINGS = StreamSettings(
    ping=0.75
)  # the second write after a client has left fails, and waitress needs another moment

_LOOK = 0.25  # seconds between looks at whether the client has gone, where that can be seen


class _Room:
    """Counts the streams of this process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a finaliser may give a place back while one is taken
        self.taken = 0

    def enter(self, most: int | None) -> bool:
        with self._lock:
            if most is not None and self.taken >= most:
                return False
            self.taken += 1
            return True

    def leave(self) -> None:
        with self._lock:
            self.taken -= 1


_room = _Room()


def _after_fork() -> None:
    global _room
    _room = _Room()  # the streams are the parent's


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def streams() -> int:
    """Returns how many streams this process has now."""
    return _room.taken


class Place:
    """A place among the streams of this process, taken as soon as it is made.

    Args:
        environ: of the request.
        most: how many streams there may be at once; None: as many as the server has threads, but one.

    Raises:
        ProblemError: 503, with ``Retry-After``: all are taken.
    """

    def __init__(self, environ: Mapping[str, Any], most: int | None = None) -> None:
        wsgi_servers.warn_if_single(environ)
        if most is None:
            most = wsgi_servers.most_streams(environ)
        room = _room
        if not room.enter(most):
            raise ProblemError(
                503,
                f"{most} answers are streamed already, and each holds a thread of the server",
                hint="try again soon; the server's operator can give it more threads",
                headers={"Retry-After": "1"},
            )
        self.environ = environ
        self._leave = weakref.finalize(self, room.leave)
        self._leave.atexit = False

    def free(self) -> None:
        """Gives the place back; idempotent."""
        self._leave()


class EventStream:
    """One reader of a run, for a WSGI server: bytes to iterate over, and `close`, which the server calls at the end.

    Args:
        run: the run, started.
        source: where the reader is in it.
        place: its place among the streams; given back at the end.
        stream_settings: pings and limits.

    Attributes:
        headers: the response's.
    """

    def __init__(
        self, run: Run, source: Source, place: Place, *, stream_settings: StreamSettings = WSGI_SETTINGS
    ) -> None:
        self.headers = list(HEADERS)
        wsgi_servers.limit_sends(place.environ, stream_settings.send_timeout)
        run.attach()
        # The server calls `close`; this is for one that a middleware keeps from it.
        self._leave = weakref.finalize(self, _left, run, place)
        self._leave.atexit = False
        self._pieces = _pieces(run, source, stream_settings, wsgi_servers.gone(place.environ))

    def __iter__(self) -> EventStream:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """The reader has gone, or has all; idempotent."""
        self._leave()


def _left(run: Run, place: Place) -> None:
    run.detach()
    place.free()


def _pieces(run: Run, source: Source, stream_settings: StreamSettings, gone: Callable[[], bool]) -> Iterator[bytes]:
    """Yields what is to be sent, pings in silences included, until the end of the run or of the reader."""
    yield opening()
    heard = time.monotonic()
    while not gone():
        try:
            data = source.take()
        except EvictedError:
            yield source.feed.wire.lagged()
            return
        if data:
            yield data
            heard = time.monotonic()
        elif source.at_end:
            return
        elif (left := heard + stream_settings.ping - time.monotonic()) > 0:
            source.log.changed.wait(source.ready, min(left, _LOOK))
            run.settle()
        else:
            yield PING
            heard = time.monotonic()


def frames(
    stream: SyncStream[Any],
    environ: Mapping[str, Any],
    *,
    on_leave: OnLeave = "cancel",
    max_streams: int | None = None,
    stream_settings: StreamSettings = WSGI_SETTINGS,
) -> EventStream:
    """Returns a stream as the tutorial's server-sent events: what a WSGI application returns.

    Args:
        stream: what ``chat(…, stream=True)`` of a synchronous client returned.
        environ: of the request.
        on_leave: what becomes of the run when its reader leaves: ``"cancel"``, ``"continue"``, or seconds to wait for
            a reader to come back.
        max_streams: how many streams this process may have at once; None: the server's threads but one, where they
            are known (gunicorn's gthread, waitress, granian with ``--blocking-threads``), else no limit.
        stream_settings: pings and limits.

    Raises:
        ValueError: `on_leave` is no policy.
        ProblemError: 503: there is no thread left for one more stream. Nothing was asked of the model.
    """
    linger = linger_of(on_leave)
    place = Place(environ, max_streams)

    def read(run: Run) -> EventStream:
        return EventStream(run, Source(plain_feed(run)), place, stream_settings=stream_settings)

    try:
        return start(stream, linger, read)
    except BaseException:
        place.free()
        raise
