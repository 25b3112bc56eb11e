"""Samples of the gateway: what it holds, by /proc, by its own signal (`watched`) and by its /metrics."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from pathlib import Path

import msgspec

from benchmarks.processes import Process
from benchmarks.soaking.asking import call

__all__ = ["HELD", "STILL", "Sample", "Sampler", "Standing", "slope"]

HELD = {
    "files": "open files",
    "sockets": "of them sockets",
    "threads": "threads",
    "tasks": "asyncio tasks",
    "running": "runs that go on",
    "kept": "runs kept",
    "readers": "readers",
    "queue": "in the queues",
    "log_bytes": "bytes of logs",
}
"""What has to be back where it was, one by one; memory beside it."""

_METRICS = {
    "running": rb"(?m)^tailrace_runs_running (\S+)",
    "kept": rb"(?m)^tailrace_runs_kept (\S+)",
    "readers": rb"(?m)^tailrace_readers (\S+)",
    "log_bytes": rb"(?m)^tailrace_log_bytes (\S+)",
    "queue": rb"(?m)^tailrace_queue_(?:running|waiting)\{\S+\} (\S+)",
}
_PATIENCE = 10.0  # seconds
_TICK = 0.5  # seconds
STILL = 2.0  # seconds without a turn for us, after which times tell of the machine and not of the gateway


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway holds at a moment.

    Attributes:
        at: seconds since the load began.
        memory: bytes.
        untrimmed: bytes, before garbage was collected and freed memory given back to the system, if that was asked for.
        cpu: seconds of processor time that it has used.
        objects: objects that the collector knows; 0 where they were not counted.
        kinds: how many there are of each.
        doing: the functions of its tasks; where objects were counted.
    """

    at: float
    memory: int
    untrimmed: int
    cpu: float
    files: int
    sockets: int
    threads: int
    tasks: int
    running: int
    kept: int
    readers: int
    queue: int
    log_bytes: int
    objects: int = 0
    kinds: dict[str, int] = {}
    doing: dict[str, int] = {}


class Sampler:
    """Takes samples of a gateway.

    Args:
        process: its process, whose standard output is a pipe.
        port: where it listens.
    """

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._port = port
        self._used = Process(process.pid)
        self._began = asyncio.get_running_loop().time()

    async def take(self, *, collect: bool = False) -> Sample:
        """Takes a sample.

        Args:
            collect: have it collect its garbage first, and count its objects.
        """
        _, metrics = await call(self._port, "GET", "/metrics")
        counts = {name: int(sum(map(float, re.findall(pattern, metrics)))) for name, pattern in _METRICS.items()}
        await asyncio.sleep(0.1)  # what the call itself needed is gone
        untrimmed = self._used.memory()
        os.kill(self._process.pid, signal.SIGUSR2 if collect else signal.SIGUSR1)
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            told = json.loads(await self._process.stdout.readline())
        files, sockets = self._files()
        return Sample(
            at=asyncio.get_running_loop().time() - self._began,
            memory=self._used.memory(),
            untrimmed=untrimmed,
            cpu=self._used.cpu(),
            files=files,
            sockets=sockets,
            threads=self._threads(),
            tasks=told["tasks"],
            objects=told["objects"],
            kinds=told["kinds"],
            doing=told.get("doing", {}),
            **counts,
        )

    def _threads(self) -> int:
        return len(list(Path(f"/proc/{self._process.pid}/task").iterdir()))

    def _files(self) -> tuple[int, int]:
        """How many files are open, and how many of them are sockets."""
        targets = []
        for link in Path(f"/proc/{self._process.pid}/fd").iterdir():
            try:
                targets.append(str(link.readlink()))
            except OSError:  # closed meanwhile
                continue
        return len(targets), sum(target.startswith("socket:") for target in targets)


class Standing:
    """Notes when the machine stood still: when nobody else had a turn either, as far as we can tell.

    Attributes:
        longest: seconds.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = -float("inf")  # when it last stood still for long
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(_TICK)
            late = time.monotonic() - began - _TICK
            self.longest = max(self.longest, late)
            if late > STILL:
                self._last = time.monotonic()

    def since(self, began: float) -> bool:
        """Tells whether it stood still for long at any moment since then."""
        return self._last >= began

    def stop(self) -> None:
        """Notes no more."""
        self._ticking.cancel()


def slope(samples: list[Sample]) -> float:
    """Bytes an hour by which memory grows: the straight line that fits the samples best (least squares)."""
    if len(samples) < 3:
        return 0.0
    times, held = [sample.at for sample in samples], [sample.memory for sample in samples]
    middle, mean = sum(times) / len(times), sum(held) / len(held)
    spread = sum((at - middle) ** 2 for at in times)
    return 3600 * sum((at - middle) * (each - mean) for at, each in zip(times, held, strict=True)) / spread
