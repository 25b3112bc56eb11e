"""The command `tailrace`, which tells on a signal how many tasks, threads and objects it has.

    python -m benchmarks.soaking.watched serve …

SIGUSR1 has it write a line of JSON to its standard output. So does SIGUSR2, once what is garbage has been collected and
given back to the system, and with the kinds of all objects. The gateway itself has nothing of the kind: a route for
that would be a way in.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import signal
import threading
from collections import Counter
from typing import Any

from tailrace.cli import main

_MOST = 60  # kinds of objects that are named


def _tell(number: int, _frame: Any) -> None:
    told: dict[str, Any] = {"threads": threading.active_count(), "objects": 0, "kinds": {}}
    tasks = asyncio.all_tasks()
    told["tasks"] = len(tasks)
    if number == signal.SIGUSR2:
        gc.collect()
        _trim()
        kinds = Counter(type(each).__qualname__ for each in gc.get_objects())
        told["objects"] = kinds.total()
        told["kinds"] = dict(kinds.most_common(_MOST))
        told["doing"] = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in tasks)
    os.write(1, json.dumps(told).encode() + b"\n")


def _trim() -> None:
    """Has the C library give back what it keeps of freed memory, where it can: what is left is held by somebody."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _tell)
    signal.signal(signal.SIGUSR2, _tell)
    main()
