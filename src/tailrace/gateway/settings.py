"""Settings of the gateway: one value, made by the command line or by who builds the application."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tailrace.web.manners import Manners, OnLeave
from tailrace.web.registry import Bounds

__all__ = ["Settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `tailrace serve` can be told.

    Attributes:
        upstream: where the models run, in one of the forms of `tailrace.Client`; None looks.
        timeout: seconds without a token; 0 for no limit, None for the defaults.
        model: the model that is meant when none is named; empty: the upstream's default.
        host: the address to listen on.
        port: the port; 0 lets the system choose.
        on_leave: what becomes of a run of ``/runs`` when its last reader leaves: ``cancel``, ``continue`` or seconds.
        drain: seconds that running answers get when the server stops.
        max_body: bytes of a request's body.
        bounds: how many runs are kept, how long, and in how much memory.
        manners: pings and limits of the streams.
        database: URL of the conversations' database, or a path; None: in the user's data folder.
        page: serve the chat page and its conversations.
    """

    upstream: str | None = None
    timeout: float | None = None
    model: str = ""
    host: str = "127.0.0.1"
    port: int = 8080
    on_leave: OnLeave = 30.0
    drain: float = 10.0
    max_body: int = 4 * 1024 * 1024
    bounds: Bounds = Bounds()
    manners: Manners = Manners()
    database: str | Path | None = None
    page: bool = True
