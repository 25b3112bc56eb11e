"""What each wire of the gateway costs a token, beside the tutorial's: processor time and bytes.

A token is encoded when it comes, so each is a batch of its own; that several come together is the cheaper case.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import contestants, in_turns, ratio, report, shown, spread, table

CONTESTANTS = ("plain", "runs", "ollama", "ollama-generate", "openai", "ai")
TOKENS = 100_000
PIECES = ("Once", " upon", " a", " time", ",", " there", "水", ' "was"', "\n", " a mill")


def wire(name: str) -> Any:
    """Begin an encoder of that name, for a reader from the start."""
    from tailrace.protocols.aisdk.encode import UIWire
    from tailrace.protocols.ollama.encode import Lines, OllamaWire
    from tailrace.protocols.openai.encode import Answer, ChatWire
    from tailrace.protocols.runs.encode import RunsWire
    from tailrace.protocols.tutorial.encode import PlainWire

    def ollama(*, chat: bool) -> OllamaWire:
        return OllamaWire(Lines("smollm2:135m", chat=chat, clock=time.time_ns), "run_0", lambda usage: usage)

    begin: dict[str, Callable[[], Any]] = {
        "plain": lambda: PlainWire("3fa9c2d1", dict),
        "runs": lambda: RunsWire("3fa9c2d1", dict),
        "ollama": lambda: ollama(chat=True),
        "ollama-generate": lambda: ollama(chat=False),
        "openai": lambda: ChatWire(Answer(run="run_0", created=1, model="smollm2:135m")),
        "ai": lambda: UIWire("run_0", "smollm2:135m", "msg-0"),
    }
    return begin[name]()


def main() -> None:
    """Be a contestant: for each request encode an answer, and tell what that costs."""
    from tailrace.events import TextDelta

    for line in sys.stdin:
        batches = [[TextDelta(text)] for text in itertools.islice(itertools.cycle(PIECES), json.loads(line)["tokens"])]
        encode = wire(sys.argv[1]).encode
        encode(batches[0], 0)  # what comes once
        began = time.process_time()
        size = sum(len(encode(batch, number)) for number, batch in enumerate(batches, 1))
        print(
            json.dumps({"cpu": (time.process_time() - began) / len(batches), "bytes": size / len(batches)}), flush=True
        )


def run(*, quick: bool) -> None:
    """Measure and print."""
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    with contestants("wires", [[name] for name in CONTESTANTS]) as encoders:
        for number in range(1 if quick else 7):
            for encoder in in_turns(encoders, number):
                seen[encoder.name].append(encoder.ask(tokens=1000 if quick else TOKENS))
    results, rows = [], []
    for name, runs in seen.items():
        figures = {
            "nanoseconds": spread([one["cpu"] * 1e9 for one in runs]),
            "bytes": spread([one["bytes"] for one in runs]),
        }
        beside = ratio([one["cpu"] for one in runs], [one["cpu"] for one in seen["plain"]])
        results.append({"wire": name, **figures, "cpu_ratio": beside})
        rows.append([name, *(shown(figure) for figure in figures.values()), f"{beside['median']:.2f}"])
    table(["wire", "CPU ns a token", "bytes a token", "times plain"], rows)
    report("wires", quick=quick, results=results)


if __name__ == "__main__":
    main()
