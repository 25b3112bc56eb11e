"""What has been written is not kept in memory."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
from tests.gateway.conversations.turns import begun, ending

from tailrace.events import Outcome
from tailrace.gateway.conversations.store import Store

LONG = 64 * 1024 * 1024


def memory() -> int:
    """Bytes of memory that this process has."""
    gc.collect()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
async def test_a_long_answer_is_not_kept(store: Store) -> None:
    """Once a long answer is in the database, it takes no memory: a statement that is kept would keep what it wrote."""
    _, answer = await begun(store)
    await store.write([], [ending(answer, Outcome.COMPLETE, "short")])
    before = memory()

    _, answer = await begun(store)
    await store.write([], [ending(answer, Outcome.COMPLETE, "x" * LONG)])

    assert memory() - before < LONG / 2
