"""The runs of a server: found by id, kept for a while after their end, within bounds. Safe from several threads."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from tailrace.protocols.problems import ProblemError
from tailrace.run.bounded_log import BoundedLog
from tailrace.run.run import Run

__all__ = ["Bounds", "Registry"]

_FRESH = 0.25  # seconds for which the memory sum of all active runs is cached
_RUN = 8 * 1024  # bytes that a run takes beside the events of its log


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a server keeps.

    Attributes:
        runs: how many may run at once.
        run_bytes: memory of one run's log.
        log_bytes: memory of all logs, and of the requests of what runs.
        keep: seconds that a run is kept after its end.
    """

    runs: int = 1000
    run_bytes: int = 8 * 1024 * 1024
    log_bytes: int = 512 * 1024 * 1024
    keep: float = 600.0


class _Entry:
    __slots__ = ("asked", "created", "ended", "kept", "key", "owner", "run", "size")

    def __init__(self, run: Run, key: tuple[str, str] | None, owner: str, asked: int) -> None:
        self.run = run
        self.asked = asked  # bytes of the request, while the run goes on
        self.kept = 0  # bytes that are kept with it beside its log
        self.owner = owner
        self.key = key
        self.created = time.time()
        self.ended = math.inf  # when its connection was closed, on the monotonic clock
        self.size = 0  # once it has ended


class Registry:
    """Keeps runs.

    Args:
        bounds: how many, how much, how long.
    """

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.bounds = bounds or Bounds()
        self.closed = ""
        self.lock = threading.RLock()  # hold it from `joined` to `add`, where several threads start runs
        self._entries: dict[str, _Entry] = {}  # in the order of their start
        self._running: dict[str, _Entry] = {}
        self._ended: dict[str, _Entry] = {}  # in the order of their end
        self._ended_size = 0
        self._let_go: deque[_Entry] = deque()  # of those that run, who have ended; filled on any thread, without a lock
        self._keys: dict[tuple[str, str], tuple[str, bytes]] = {}  # by owner and idempotency key
        self._sum = (-math.inf, 0)  # when it was made, of the memory of all that runs

    def new_log(self) -> BoundedLog:
        """Returns a log for the next run; give it to the client as its ``new_log``."""
        return BoundedLog(self.bounds.run_bytes)

    # -- starting ------------------------------------------------------------------------------------------------

    def close(self, why: str) -> None:
        """Refuses new runs from now on."""
        self.closed = why

    def check_room(self, starting: int = 0) -> None:
        """Makes sure that one more run may start.

        Args:
            starting: how many others are about to start.

        Raises:
            ProblemError: 503, with ``Retry-After``.
        """
        if self.closed:
            raise ProblemError(503, self.closed, headers={"Retry-After": "5"})
        with self.lock:
            self._tidy()
            full = len(self._running) + starting >= self.bounds.runs
        if full:
            hint = f"{self.bounds.runs} run already; try again soon"
            raise ProblemError(503, "too many runs at once", hint=hint, headers={"Retry-After": "1"})
        if not self._make_room():
            raise ProblemError(503, "the logs of the running answers are full", headers={"Retry-After": "5"})

    def add(self, run: Run, key: str = "", body: bytes = b"", owner: str = "", *, asked: int = 0) -> Run:
        """Keeps a started run, under an idempotency key if one was given; for its owner only.

        Args:
            run: the run.
            key: the idempotency key; empty: none.
            body: the request that came with it.
            owner: whose it is.
            asked: bytes of memory that its request takes while it goes on.
        """
        place = (owner, key) if key else None
        entry = _Entry(run, place, owner, asked)
        with self.lock:
            self._entries[run.id] = self._running[run.id] = entry
            if place is not None:
                self._keys[place] = (run.id, hashlib.sha256(body).digest())
        # In this order: one that ends in this very moment, on another thread, comes in twice rather than never.
        run.released.add(lambda: self._let_go.append(entry))
        if run.log.sealed and run.is_released:
            self._let_go.append(entry)
        return run

    def weigh(self, run: Run, kept: int) -> None:
        """Counts memory that is kept with a run beside its log, until it is forgotten.

        Args:
            run: one that was just added.
            kept: bytes.
        """
        with self.lock:
            if (entry := self._running.get(run.id)) is not None:
                entry.kept = kept

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
        with self.lock:
            self._tidy()
            entry = self._entries.get(id)
        if entry is None or entry.owner != owner:
            hint = "a run is kept for a while after its end, then forgotten"
            raise ProblemError(404, "there is no such run", hint=hint)
        return entry.run

    def created(self, id: str) -> float:
        """Returns when a run was started, in seconds since the epoch; 0 of one that is not kept any more."""
        entry = self._entries.get(id)
        return entry.created if entry is not None else 0.0

    def newest(self, owner: str | None = None) -> Iterator[Run]:
        """Yields the runs, the newest first; all of them, or one owner's."""
        with self.lock:
            self._tidy()
            entries = list(self._entries.values())
        for entry in reversed(entries):
            if owner is None or entry.owner == owner:
                yield entry.run

    @property
    def running(self) -> int:
        """How many runs go on."""
        with self.lock:
            self._tidy()
            return len(self._running)

    @property
    def size(self) -> int:
        """Memory of all runs that are kept, in bytes, as estimated, now or a moment ago."""
        return self._ended_size + self._growing()

    def __len__(self) -> int:
        return len(self._entries)

    def _growing(self) -> int:
        made, size = self._sum
        now = time.monotonic()
        if now >= made + _FRESH:
            with self.lock:
                self._tidy()
                size = sum(_size(entry.run) + entry.asked + entry.kept for entry in self._running.values())
            self._sum = (now, size)
        return size

    # -- forgetting ----------------------------------------------------------------------------------------------

    def _tidy(self) -> None:
        """Takes note of what has ended, and forgets what ended long ago; hold the lock."""
        now = time.monotonic()
        while self._let_go:
            entry = self._let_go.popleft()
            if self._running.pop(entry.run.id, None) is not None:
                entry.ended, entry.size = now, _size(entry.run) + entry.kept
                self._ended[entry.run.id] = entry
                self._ended_size += entry.size
        while self._ended:
            oldest = next(iter(self._ended.values()))
            if now < oldest.ended + self.bounds.keep:
                break
            self._forget(oldest)

    def _make_room(self) -> bool:
        """Forgets ended runs, those that ended first, until there is room for one more; False if there is none."""
        if self.size < self.bounds.log_bytes:
            return True
        self._sum = (-math.inf, 0)
        size = self._growing()
        with self.lock:
            while self._ended and self._ended_size + size >= self.bounds.log_bytes:
                self._forget(next(iter(self._ended.values())))
            return self._ended_size + size < self.bounds.log_bytes

    def _forget(self, entry: _Entry) -> None:
        self._ended.pop(entry.run.id)
        self._ended_size -= entry.size
        self._entries.pop(entry.run.id)
        if entry.key is not None:
            self._keys.pop(entry.key)

    def end_all(self, end: Callable[[Run], object]) -> list[Run]:
        """Ends every run that goes on, and returns them."""
        with self.lock:
            running = [entry.run for entry in self._running.values() if entry.run.ended is None]
        for run in running:
            end(run)
        return running


def _size(run: Run) -> int:
    return _RUN + int(getattr(run.log, "size", 0))
