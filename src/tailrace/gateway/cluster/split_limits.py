"""Split limits: what each worker may have of what the gateway may. Together they never have more."""

from __future__ import annotations

import msgspec

from tailrace.errors import RequestError
from tailrace.gateway.settings import Settings

__all__ = ["check", "split"]


def check(settings: Settings, count: int) -> None:
    """Makes sure that each worker gets something of each limit.

    Raises:
        RequestError: one is too small for that.
    """
    limits = {
        "--max-running": settings.max_running,
        "--max-queued": settings.max_queued or None,  # 0: nobody waits, anywhere
        "--max-per-key": settings.max_per_key,
        "--max-runs": settings.bounds.runs,
        "--log-bytes": settings.bounds.log_bytes,
    }
    for name, limit in limits.items():
        if limit is not None and limit < count:
            text = f"{name} {limit} cannot be shared out among {count} workers"
            raise RequestError(text, hint=f"raise it to {count} at least, or start fewer --workers")


def split(settings: Settings, index: int, count: int) -> Settings:
    """Returns the settings of one worker: limits of the whole gateway in parts, the rest as it is."""

    def part(whole: int) -> int:
        return whole // count + (index < whole % count)

    replace, bounds = msgspec.structs.replace, settings.bounds
    return replace(
        settings,
        max_running=None if settings.max_running is None else part(settings.max_running),
        max_queued=part(settings.max_queued),
        max_per_key=None if settings.max_per_key is None else part(settings.max_per_key),
        bounds=replace(bounds, runs=part(bounds.runs), log_bytes=part(bounds.log_bytes)),
    )
