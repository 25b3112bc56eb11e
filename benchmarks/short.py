"""The fixed cost of a chat: an answer of one token, over and over, sync and async, beside ollama-python.

ollama-python keeps its connection open between chats; tailrace opens one for each, so that a stop can close it.
"""

from __future__ import annotations

from typing import Any

from benchmarks.answers import ndjson, words
from benchmarks.common import contestants, in_turns, ratio, report, shown, spread, table
from tailrace.testing import FakeOllama

LIBRARIES = ("tailrace", "ollama-python")


def run(*, quick: bool) -> None:
    """Measure and print."""
    rounds, chats = (1, 5) if quick else (9, 200)
    cases = [(library, mode) for mode in ("sync", "async") for library in LIBRARIES]
    seen: dict[tuple[str, str], list[dict[str, Any]]] = {case: [] for case in cases}
    with FakeOllama() as server, contestants("readers", cases) as readers:
        server.replay(ndjson(words(1)))
        for number in range(0 if quick else -1, rounds):  # the first round warms up
            for case, reader in in_turns(list(zip(cases, readers, strict=True)), number):
                result = reader.ask(url=server.url, chats=chats)
                if number >= 0:
                    seen[case].append(result)
    results, rows = [], []
    for (library, mode), runs in seen.items():
        others = seen["ollama-python", mode]
        figures = {
            f"{clock}_ms": spread([result[clock] * 1000 / chats for result in runs]) for clock in ("wall", "cpu")
        }
        parts = {f"{c}_ratio": ratio([r[c] for r in runs], [o[c] for o in others]) for c in ("wall", "cpu")}
        results.append({"library": library, "mode": mode, **figures, **parts})
        own = library == "tailrace"
        rows.append(
            [
                f"{mode:6} {library}",
                *(shown(figure, ".2f") for figure in figures.values()),
                *(f"{part['median']:.2f}" if own else "" for part in parts.values()),
            ]
        )
    table(["mode, library", "ms/chat", "CPU ms/chat", "ratio, wall", "ratio, CPU"], rows)
    report("short", quick=quick, chats=chats, results=results)
