"""Chunks per second of a client, wall and CPU, on the same replay.

Three feeds: `burst`, the whole answer in one send; `sends`, one send a chunk, as fast as the server can; `paced`, one
send a millisecond, so that each chunk is waited for. What a fast model costs its reader lies between the last two.
Beside the libraries that are used today runs a bare loop around a socket and msgspec: the least that reading can cost.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks import common
from benchmarks.answers import ndjson, sse, words
from benchmarks.common import Contestant, contestants, in_turns, ratio, report, shown, spread, table
from tailrace.testing import FakeOllama, FakeOpenAI, FakeServer, say

EVERY = 0.001
WIRES = {"ollama": ("tailrace", "ollama-python", "bare"), "openai": ("tailrace", "openai-python")}
MODES = ("sync", "async")


def run(*, quick: bool) -> None:
    """Measure and print."""
    rounds, chunks, paced = (1, 200, 50) if quick else (common.rounds or 9, 20_000, 300)
    feeds = {"burst": chunks, "sends": chunks, "paced": paced}
    sizes = {(wire, feed): n // 5 if wire == "openai" else n for wire in WIRES for feed, n in feeds.items()}
    cases = [(wire, library, mode) for wire, libraries in WIRES.items() for mode in MODES for library in libraries]
    seen: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    with ExitStack() as stack:
        urls = {(wire, feed): _serve(stack, wire, feed, n) for (wire, feed), n in sizes.items()}
        readers = stack.enter_context(contestants("readers", [(library, mode) for _, library, mode in cases]))
        for number in range(0 if quick else -1, rounds):  # the first round warms up
            for feed in feeds:
                for case, reader in in_turns(list(zip(cases, readers, strict=True)), number):
                    result = _read(reader, case, urls[case[0], feed], sizes[case[0], feed])
                    if number >= 0:
                        seen.setdefault((feed, *case), []).append(result)
    _print(seen, sizes, quick)


def _serve(stack: ExitStack, wire: str, feed: str, chunks: int) -> str:
    server: FakeServer = stack.enter_context(FakeOllama() if wire == "ollama" else FakeOpenAI())
    pieces = words(chunks)
    if feed == "paced":
        server.always(say(*pieces, every=EVERY))
    else:
        server.replay(ndjson(pieces) if wire == "ollama" else sse(pieces), burst=feed == "burst")
    return server.url


def _read(reader: Contestant, case: tuple[str, str, str], url: str, pieces: int) -> dict[str, Any]:
    wire, library, _ = case
    through_openai = wire == "openai" and library == "tailrace"
    result = reader.ask(url=f"openai:{url}/v1" if through_openai else url, chats=1)
    wanted = sum(map(len, words(pieces)))
    if result["characters"] != wanted:  # a contestant that loses text has not run the same race
        raise RuntimeError(f"{case} read {result['characters']} characters of {wanted}")
    return result


def _print(seen: dict[tuple[str, ...], list[dict[str, Any]]], sizes: dict[tuple[str, str], int], quick: bool) -> None:
    results, rows = [], []
    for (feed, wire, library, mode), runs in seen.items():
        result: dict[str, Any] = {"feed": feed, "wire": wire, "library": library, "mode": mode}
        result["chunks"] = sizes[wire, feed]
        for clock in ("wall", "cpu"):
            result[f"per_{clock}_second"] = spread([sizes[wire, feed] / run[clock] for run in runs])
        for other in WIRES[wire][1:] if library == "tailrace" else ():
            for clock in ("wall", "cpu"):
                times = ratio([run[clock] for run in seen[feed, wire, other, mode]], [run[clock] for run in runs])
                result[f"times_{other}_{clock}"] = times
        results.append(result)
        rows.append([f"{feed:6} {mode:6} {wire:7} {library}", *_cells(result)])
    rows.sort()
    heads = [
        "feed, mode, wire, library",
        "chunks/s",
        "chunks/CPU s",
        "times the library, wall",
        "CPU",
        "bare, wall",
        "CPU",
    ]
    table(heads, rows)
    report("client", quick=quick, results=results)


def _cells(result: dict[str, Any]) -> list[str]:
    clocks = ("cpu",) if result["feed"] == "paced" else ("wall", "cpu")  # the server sets the pace, not the reader
    cells = [shown(result[f"per_{clock}_second"]) if clock in clocks else "-" for clock in ("wall", "cpu")]
    for other in (WIRES[result["wire"]][1], "bare"):
        for clock in ("wall", "cpu"):
            times = result.get(f"times_{other}_{clock}")
            cells.append(shown(times, ".2f") if times and clock in clocks else "")
    return cells
