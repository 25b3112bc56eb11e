"""Settings of a streamed response: pings, limits, headers, and what a disconnect means. The same for ASGI and WSGI."""

from __future__ import annotations

import random

import msgspec

from tailrace.protocols import sse

__all__ = ["EVENTS", "HEADERS", "Medium", "StreamSettings", "linger_of", "opening"]

HEADERS = (
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache, no-transform"),  # no-transform (RFC 9111): no proxy compresses it and so buffers it
    ("X-Accel-Buffering", "no"),  # nginx
)

_RETRY = 500  # ms; without it Chromium waits 3 s
_HERD = 2000  # ms over which many readers are spread, so that they do not all reconnect at once

OnLeave = str | float


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of a streamed response.

    Attributes:
        ping: seconds of silence after which, at the latest, a comment is sent: proxies then keep the connection open.
        send_timeout: seconds that a send may block because the reader does not read; then it is disconnected.
        frame: minimum seconds between two frames of rendered HTML.
    """

    ping: float = 15.0
    send_timeout: float = 30.0
    frame: float = 0.05


class Medium(msgspec.Struct, frozen=True, kw_only=True):
    """How a protocol is carried in a response.

    Attributes:
        headers: of the response.
        opening: what the body begins with, sent at once; None: how soon to come back, and a comment.
        ping: sent in silences; empty for a protocol without comments.
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
