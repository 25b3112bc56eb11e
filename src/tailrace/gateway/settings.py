"""Settings of the gateway: one value, made by the command line or by who builds the application."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tailrace.gateway.access.keys import Keys
from tailrace.gateway.access.limits import Limits
from tailrace.web.bodies import MAX_BODY
from tailrace.web.registry import Bounds
from tailrace.web.stream_settings import OnLeave, StreamSettings

__all__ = ["Settings"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `tailrace serve` can be told.

    Attributes:
        upstreams: where the models run, each in one of the forms of `tailrace.Client`; none: look.
        timeout: seconds without a token; 0 for no limit, None for the defaults.
        model: the model that is meant when none is named; empty: the upstream's default.
        aliases: other names of models, so that code written for one runs with another.
        model_options: options of models, by the model's name or a pattern (``*`` for all); a request's own count more.
        max_running: how many runs each upstream is given at once; None: as many as come.
        max_queued: how many more may wait for it.
        max_per_key: how many one client may have, running and waiting; None: no limit.
        limits: what one request may ask for.
        host: the address to listen on.
        port: the port; 0 lets the system choose.
        on_leave: what becomes of a run of ``/runs`` when its last reader leaves: ``cancel``, ``continue`` or seconds.
        drain: seconds that running answers get when the server stops.
        max_body: bytes of a request's body.
        head_time: seconds that a request's head may take.
        body_time: seconds that its body may take.
        bounds: how many runs are kept, how long, and in how much memory.
        stream_settings: pings and limits of the streams.
        database: URL of the conversations' database, or a path; None: in the user's data folder.
        page: serve the chat page and its conversations.
        keys: the API keys that open the gateway; none: it is open to whoever reaches it.
        hosts: further names that this server goes by.
        origins: sites whose pages may ask; ``*`` for all.
        admins: the keys that may pull, create, copy and delete models, ``*`` for all; None: everybody on a server of
            this machine without keys, else nobody.
        local_files: let `/api/create` name files on the model servers' machines, which they read.
        proxies: addresses and networks of proxies, which are believed when they say who their client is.
        telemetry: make OpenTelemetry's spans and metrics; None: do not. True tells contents as well.
    """

    upstreams: tuple[str, ...] = ()
    timeout: float | None = None
    model: str = ""
    aliases: dict[str, str] = {}
    model_options: dict[str, dict[str, Any]] = {}
    max_running: int | None = None
    max_queued: int = 512
    max_per_key: int | None = None
    limits: Limits = Limits()
    host: str = "127.0.0.1"
    port: int = 8080
    on_leave: OnLeave = 30.0
    drain: float = 10.0
    max_body: int = MAX_BODY
    head_time: float = 10.0
    body_time: float = 30.0
    bounds: Bounds = Bounds()
    stream_settings: StreamSettings = StreamSettings()
    database: str | Path | None = None
    page: bool = True
    keys: Keys = msgspec.field(default_factory=Keys)
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    admins: tuple[str, ...] | None = None
    local_files: bool = False
    proxies: tuple[str, ...] = ()
    telemetry: bool | None = None
