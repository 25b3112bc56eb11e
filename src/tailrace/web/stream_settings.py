"""How a run is read out: pings, limits, headers, and what happens when the reader leaves. The same on ASGI and WSGI."""

from __future__ import annotations

import random

import msgspec

from tailrace.protocols import sse

__all__ = ["EVENTS", "HEADERS", "Medium", "StreamSettings", "linger_of", "opening"]

HEADERS = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache, no-transform"),  # no-transform: no proxy packs it, and waits to fill a buffer
    ("X-Accel-Buffering", "no"),  # nginx
)

_RETRY = 500  # ms: Chromium waits 3 s if it is told nothing
_HERD = 2000  # ms that many readers are spread over, so that they do not all come back at once

OnLeave = str | float


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is read out.

    Attributes:
        ping: seconds of silence after which, at the latest, a comment is sent: proxies then keep the connection open.
        send_timeout: seconds that a send may wait for a reader who takes nothing; then the reader is let go.
        frame: seconds between two frames of a rendered reader, at least.
    """

    ping: float = 15.0
    send_timeout: float = 30.0
    frame: float = 0.05


class Medium(msgspec.Struct, frozen=True, kw_only=True):
    """How a wire is carried in a response.

    Attributes:
        headers: of the response.
        opening: what the body begins with, sent at once; None: how soon to come back, and a comment.
        ping: what is sent in silences; empty: nothing, on a wire that has nothing of the kind.
    """

    headers: tuple[tuple[str, str], ...] = HEADERS
    opening: bytes | None = None
    ping: bytes = sse.PING


EVENTS = Medium()


def linger_of(on_leave: OnLeave) -> float | None:
    """Returns how many seconds a run goes on without readers; None: to its end.

    Args:
        on_leave: ``"cancel"``, ``"continue"``, ``"linger=SECONDS"`` or the seconds.

    Raises:
        ValueError: it is none of them.
    """
    if on_leave == "cancel":
        return 0.0
    if on_leave == "continue":
        return None
    try:
        seconds = float(str(on_leave).removeprefix("linger="))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"on_leave is 'cancel', 'continue', 'linger=SECONDS' or seconds, not {on_leave!r}")
    return seconds


def opening(readers: int = 1) -> bytes:
    """Returns what a stream begins with, to be sent at once: how soon to come back, and a comment.

    Args:
        readers: how many there are; with many, the time to come back is spread.
    """
    spread = max(0, min(_HERD, readers - 1))
    return sse.retry(_RETRY + random.randint(0, spread)) + sse.comment("tailrace")
