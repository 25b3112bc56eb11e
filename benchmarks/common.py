"""What all benchmarks share: contestants in processes of their own, medians, tables and the line of JSON."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import tailrace

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 120.0  # seconds a contestant has for one answer; then it is killed and the run fails
_PACKAGES = (
    *("tailrace", "aiohttp", "msgspec", "uvicorn", "uvloop", "starlette"),
    *("ollama", "httpx", "openai", "fastapi", "flask", "xllamacpp", "rich", "markdown-it-py"),
)


keepers: list[Callable[[dict[str, Any]], None]] = []
"""What is done with each record, besides printing it."""

rounds = 0  # of the benchmarks that take long; 0: as many as they want
minutes = 0.0  # of those that go on for a time; 0: as long as they want
rate = 0.0  # visits a second in such a time; 0: as many as they want
seed = 1  # of all chance
locks: list[Path] = []
"""Files that all who measure on this machine lock in this order, each while it does."""

_KEPT = 120.0  # seconds
_PATIENCE = 60.0  # seconds
_held = ExitStack()
_since = 0.0


class Skipped(Exception):  # noqa: N818 - not an error
    """This benchmark cannot run here; the message says why."""


class Failed(Exception):  # noqa: N818 - what was measured, not an error of the program
    """Something was not as it has to be; the message says what."""


class Contestant:
    """A program of `benchmarks` in a process of its own, asked by lines of JSON."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.name = " ".join(arguments)
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
            text=True,
        )

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def tell(self, **request: Any) -> None:
        """Send a request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Return its answer.

        Raises:
            RuntimeError: It died, or took too long and was killed.
        """
        assert self._process.stdout is not None
        timer = threading.Timer(LIMIT, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self._process.wait()} or was killed after {LIMIT:g} s")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer."""
        self.tell(**request)
        return self.hear()

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@contextmanager
def contestants(module: str, names: Sequence[Sequence[str]]) -> Iterator[list[Contestant]]:
    """Start one process for each, and end them all."""
    with ExitStack() as stack:
        started = []
        for arguments in names:
            contestant = Contestant(module, *arguments)
            stack.callback(contestant.stop)
            started.append(contestant)
        yield started


def environment() -> dict[str, str]:
    """The environment of a contestant: the same tailrace as ours, and nothing that leads it elsewhere."""
    source = str(Path(tailrace.__file__).resolve().parents[1])
    # What is compiled is kept, as it is for users: who forbids it here would measure the compiler.
    left = ("PYTHONDONTWRITEBYTECODE",)
    kept = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and name not in left
    }
    return {**kept, "PYTHONPATH": source, "OPENAI_API_KEY": "none"}


@contextmanager
def quiet() -> Iterator[None]:
    """Waits until nobody else measures, where locks for that were named, and measures.

    The locks are kept for some measurements: who waits for a quiet machine each time waits long.
    """
    global _since
    if locks and not _since:
        for path in locks:
            _lock(_held.enter_context(path.open("ab")))
        _since = time.monotonic()
    yield
    if time.monotonic() - _since > _KEPT:
        _held.close()
        _since = 0.0


def _lock(file: IO[bytes]) -> None:
    """Locks a file, or says after a while that the machine is not quiet."""
    import fcntl

    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return print(f"{file.name} is not free: this is measured on a busy machine", file=sys.stderr)
        time.sleep(0.1)


def event_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """Returns the loop for those who are not measured: the cheapest there is."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def in_turns(items: Sequence[Any], number: int) -> list[Any]:
    """The items, each round beginning with another one."""
    first = number % len(items)
    return [*items[first:], *items[:first]]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(values: Sequence[float], others: Sequence[float]) -> dict[str, float]:
    """Median and range of the ratios of each round."""
    return spread([value / other for value, other in zip(values, others, strict=True)])


def quantile(values: Sequence[float], q: float) -> float:
    """The value that the part `q` of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def shown(value: Mapping[str, float], form: str = ",.0f") -> str:
    """A median with its range, for a table."""
    median, least, most = (f"{value[key]:{form}}" for key in ("median", "min", "max"))
    return median if least == most else f"{median} ({least} to {most})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are figures."""
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    for row in (heads, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip(), flush=True)


def _command(name: str) -> str:
    return f"python3 run.py bench {name}" + (f" --rounds {rounds}" if rounds else "")


def report(name: str, *, quick: bool, **results: Any) -> None:
    """Print the line of JSON, and hand the record to those who keep it."""
    record = {"benchmark": name, "quick": quick, "command": _command(name), "day": _today()}
    record |= {"machine": machine(), **_rounded(results)}
    print(json.dumps(record), flush=True)
    for keep in keepers:
        keep(record)


def _today() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d")


def _rounded(value: Any) -> Any:
    """Four digits of each figure: the rest is noise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    versions["tailrace"] = tailrace.__version__  # in a clone the metadata may be older than the source
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "versions": versions,
    }


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
