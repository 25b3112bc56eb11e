"""A stop that is asked for over the web: it answers when the backend has let go, with how long that took."""

from __future__ import annotations

import msgspec

from tailrace.run.run import Run

__all__ = ["Stopped", "stop", "stop_sync", "until_released"]

_LOOK = 1.0  # seconds between looks at whether the owner still lives


class Stopped(msgspec.Struct, kw_only=True):
    """What a stop found out.

    Attributes:
        outcome: how the run ended, which may have been before the stop.
        seconds: until the backend had let go.
        confirmed: whether the backend showed that itself, by closing its side.
    """

    id: str
    outcome: str
    seconds: float
    confirmed: bool


async def stop(run: Run) -> Stopped:
    """Stops a run, and waits until the backend has let go; of an ended run it returns how that ended."""
    run.cancel(confirm=True)
    await until_released(run)
    return _stopped(run)


def stop_sync(run: Run) -> Stopped:
    """Does what `stop` does, on a thread."""
    run.cancel(confirm=True)
    while not run.is_released:
        run.released.wait(lambda: run.is_released, _LOOK)
        run.settle()
    return _stopped(run)


def _stopped(run: Run) -> Stopped:
    receipt, ended = run.receipt(), run.ended
    assert ended is not None
    return Stopped(
        id=run.id, outcome=ended.outcome.value, seconds=round(receipt.seconds, 6), confirmed=receipt.confirmed
    )


async def until_released(run: Run) -> None:
    """Waits until the backend has let go of a run."""
    while not run.is_released:
        await run.released.wait_async(lambda: run.is_released, _LOOK)
        run.settle()
