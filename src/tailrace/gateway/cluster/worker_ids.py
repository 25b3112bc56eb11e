"""Worker ids: a run's id tells which worker it belongs to, so that any worker knows where to ask.

The last twelve hex digits of an id are the id of the worker that started the run. Those before stay random, among
them the first eight, which the ids of its events carry.
"""

from __future__ import annotations

import hashlib
import re

import msgspec

__all__ = ["MOST_WORKERS", "WorkerId", "home_of"]

MOST_WORKERS = 64
_DIGITS = 12
_LAST_GENERATION = 0xFFFF
_ID = re.compile(r"run_[0-9a-f]{20}([0-9a-f]{6})([0-9a-f]{2})([0-9a-f]{4})", re.ASCII)


class WorkerId(msgspec.Struct, frozen=True):
    """Which worker this is.

    Attributes:
        life: six hex digits, drawn when the whole gateway was started: ids of an earlier one mean nothing here.
        index: its place among the workers, from 0.
        generation: how often it was started.
    """

    life: str
    index: int
    generation: int

    @classmethod
    def of(cls, run: str) -> WorkerId | None:
        """Returns the worker id in a run's id; None if there is none."""
        found = _ID.fullmatch(run)
        return cls(found[1], int(found[2], 16), int(found[3], 16)) if found is not None else None

    def mark(self, run: str) -> str:
        """Returns a run's id with this worker's in it."""
        return f"{run[:-_DIGITS]}{self.life}{self.index:02x}{min(self.generation, _LAST_GENERATION):04x}"

    def outlived(self, run: str) -> bool:
        """Returns whether a run went with the process that had this worker's place before."""
        worker_id = WorkerId.of(run)
        if worker_id is None:
            return False
        return (worker_id.life, worker_id.index) == (self.life, self.index) and worker_id.generation < self.generation


def home_of(text: str, count: int) -> int:
    """Returns the worker that something belongs to by its name, the same in every process."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count
