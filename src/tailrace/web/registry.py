"""The runs of a server: found by id, kept for a while after their end, within bounds. Safe from several threads."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator

import msgspec

from tailrace.run.log import BoundedLog
from tailrace.run.run import Run
from tailrace.web.problems import ProblemError

__all__ = ["Bounds", "Registry"]

_SWEEP = 5.0  # seconds between two looks for what is to be forgotten, at least


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a server keeps.

    Attributes:
        runs: how many may run at once.
        run_bytes: memory of one run's log.
        log_bytes: memory of all logs.
        keep: seconds that a run is kept after its end.
    """

    runs: int = 1000
    run_bytes: int = 8 * 1024 * 1024
    log_bytes: int = 512 * 1024 * 1024
    keep: float = 600.0


class _Entry:
    __slots__ = ("created", "key", "owner", "run", "seen_ended")

    def __init__(self, run: Run, key: tuple[str, str] | None, owner: str) -> None:
        self.run = run
        self.owner = owner
        self.created = time.time()
        self.key = key
        self.seen_ended: float | None = None


class Registry:
    """Keeps runs.

    Args:
        bounds: how many, how much, how long.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.closed = ""
        self._entries: dict[str, _Entry] = {}  # in the order of their start
        self._keys: dict[tuple[str, str], tuple[str, bytes]] = {}  # by owner and idempotency key
        self.lock = threading.RLock()  # hold it from `joined` to `add`, where several threads start runs
        self._swept = 0.0

    def new_log(self) -> BoundedLog:
        """Returns a log for the next run; give it to the client as its ``new_log``."""
        return BoundedLog(self.bounds.run_bytes)

    # -- starting ------------------------------------------------------------------------------------------------

    def close(self, why: str) -> None:
        """Takes no more runs."""
        self.closed = why

    def check_room(self) -> None:
        """Makes sure that one more run may start.

        Raises:
            ProblemError: 503, with ``Retry-After``.
        """
        if self.closed:
            raise ProblemError(503, self.closed, headers={"Retry-After": "5"})
        self._sweep(force=len(self._entries) >= self.bounds.runs)
        if self.running >= self.bounds.runs:
            hint = f"{self.bounds.runs} run already; try again soon"
            raise ProblemError(503, "too many runs at once", hint=hint, headers={"Retry-After": "1"})
        if not self._make_room():
            raise ProblemError(503, "the logs of the running answers are full", headers={"Retry-After": "5"})

    def add(self, run: Run, key: str = "", body: bytes = b"", owner: str = "") -> Run:
        """Keeps a run, under an idempotency key if one was given; for its owner only."""
        place = (owner, key) if key else None
        with self.lock:
            self._entries[run.id] = _Entry(run, place, owner)
            if place is not None:
                self._keys[place] = (run.id, hashlib.sha256(body).digest())
        return run

    def joined(self, key: str, body: bytes, owner: str = "") -> Run | None:
        """Returns the run that an earlier request with this key started; None if there is none.

        Raises:
            ProblemError: 422: that request was another one.
        """
        found = self._keys.get((owner, key)) if key else None
        if found is None:
            return None
        id, digest = found
        if digest != hashlib.sha256(body).digest():
            raise ProblemError(422, "this Idempotency-Key was used for another request")
        entry = self._entries.get(id)
        return entry.run if entry is not None else None

    # -- finding -------------------------------------------------------------------------------------------------

    def get(self, id: str, owner: str = "") -> Run:
        """Returns a run.

        Raises:
            ProblemError: 404: there is none, or it is somebody else's, which is not told apart.
        """
        self._sweep()
        entry = self._entries.get(id)
        if entry is None or entry.owner != owner:
            raise ProblemError(
                404, "there is no such run", hint="a run is kept for a while after its end, then forgotten"
            )
        return entry.run

    def created(self, id: str) -> float:
        """Returns when a run was started, in seconds since the epoch."""
        return self._entries[id].created

    def newest(self, owner: str | None = None) -> Iterator[Run]:
        """Yields the runs, the newest first; all of them, or one owner's."""
        self._sweep()
        for entry in reversed(list(self._entries.values())):
            if owner is None or entry.owner == owner:
                yield entry.run

    @property
    def running(self) -> int:
        """How many runs go on."""
        return sum(entry.run.ended is None for entry in list(self._entries.values()))

    @property
    def readers(self) -> int:
        """How many readers all runs have."""
        return sum(entry.run.readers for entry in list(self._entries.values()))

    @property
    def size(self) -> int:
        """Memory of all logs, in bytes, as estimated."""
        return sum(_size(entry.run) for entry in list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    # -- forgetting ----------------------------------------------------------------------------------------------

    def _sweep(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._swept < min(_SWEEP, self.bounds.keep):
            return
        with self.lock:
            self._swept = now
            for entry in list(self._entries.values()):
                if entry.run.ended is None:
                    continue
                if entry.seen_ended is None:
                    entry.seen_ended = entry.run.watch.ended or now
                if now - entry.seen_ended >= self.bounds.keep:
                    self._forget(entry)

    def _make_room(self) -> bool:
        """Forgets ended runs, the oldest first, until there is room for one more; False if there is none."""
        size = self.size
        with self.lock:
            for entry in list(self._entries.values()):
                if size < self.bounds.log_bytes:
                    break
                if entry.run.ended is not None:
                    size -= _size(entry.run)
                    self._forget(entry)
        return size < self.bounds.log_bytes

    def _forget(self, entry: _Entry) -> None:
        self._entries.pop(entry.run.id, None)
        if entry.key is not None:
            self._keys.pop(entry.key, None)

    def end_all(self, end: Callable[[Run], object]) -> list[Run]:
        """Ends every run that goes on, and returns them."""
        running = [entry.run for entry in list(self._entries.values()) if entry.run.ended is None]
        for run in running:
            end(run)
        return running


def _size(run: Run) -> int:
    return getattr(run.log, "size", 0)
