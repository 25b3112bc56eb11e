"""Merging: what all workers tell, as one answer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import msgspec

__all__ = ["merged"]

_LEAST = ("process_start_time_seconds",)
_MOST = ("tailrace_upstream_out",)
_DEFAULT_LIMIT = 100  # of a list of runs, as its route has it


def merged(path: str, query: bytes, bodies: Sequence[bytes]) -> bytes:
    """Returns one body of what several workers answered, each with 200.

    Args:
        path: what they were asked for.
        query: of the request.
        bodies: what they said.
    """
    merge: Callable[[Sequence[bytes]], bytes] = {"/metrics": _figures, "/queue": _queues}.get(path, _first)
    return _runs(query, bodies) if path == "/runs" else merge(bodies)


def _first(bodies: Sequence[bytes]) -> bytes:
    return bodies[0]


def _figures(bodies: Sequence[bytes]) -> bytes:
    """Adds figures up, the buckets of histograms too; each sample stays where it was."""
    told: dict[str, list[Decimal]] = {}
    lines: list[str] = []  # of the first; a sample without its value
    for number, body in enumerate(bodies):
        for line in body.decode().splitlines():
            name, _, value = line.rpartition(" ")
            if line.startswith("#"):
                name = line
            elif name in told:
                told[name].append(Decimal(value))
            else:
                told[name] = [Decimal(value)]
            if not number:
                lines.append(name)
    lines = [line if line.startswith("#") else f"{line} {_together(line, told[line])}" for line in lines]
    lines += ["# HELP tailrace_workers Worker processes that told these figures.", "# TYPE tailrace_workers gauge"]
    return "\n".join([*lines, f"tailrace_workers {len(bodies)}", ""]).encode()


def _together(name: str, values: list[Decimal]) -> Decimal:
    family = name.partition("{")[0]
    if family in _LEAST:
        return min(values)
    return max(values) if family in _MOST else sum(values, Decimal(0))


def _queues(bodies: Sequence[bytes]) -> bytes:
    found: dict[str, dict[str, Any]] = {}
    for body in bodies:
        for entry in msgspec.json.decode(body)["upstreams"]:
            there = found.setdefault(entry["url"], {**entry, "running": 0, "waiting": 0, "out": False})
            there["running"] += entry["running"]
            there["waiting"] += entry["waiting"]
            there["out"] = there["out"] or entry["out"]
    return msgspec.json.encode({"upstreams": list(found.values())})


def _runs(query: bytes, bodies: Sequence[bytes]) -> bytes:
    runs = [run for body in bodies for run in msgspec.json.decode(body)["runs"]]
    runs.sort(key=lambda run: str(run["created"]), reverse=True)
    limit = parse_qs(query.decode("latin-1")).get("limit", [str(_DEFAULT_LIMIT)])[-1]
    return msgspec.json.encode({"runs": runs[: int(limit)]})
