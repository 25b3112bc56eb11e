"""`python -m benchmarks [NAME …] [--quick] [--json FILE] [--svg FOLDER] [--peers] …`."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
from pathlib import Path
from typing import Any

from benchmarks import common, results
from benchmarks.common import Failed, Skipped

NAMES = {
    "client": "chunks per second, sync and async, beside ollama-python and openai-python",
    "short": "the fixed cost of one short chat, beside ollama-python",
    "cancel": "from cancel until the server saw the connection close",
    "start": "import time and `tailrace --help`",
    "embedded": "tokens per second of the embedded engine beside a bare xllamacpp loop",
    "stopping": "from Ctrl-C on a terminal until a 100,000-character answer has stopped",
    "terminal": "live Markdown on a terminal, beside rich.Live",
    "html": "live Markdown on a page, beside markdown-it-py for the whole answer each time",
    "wires": "what each wire of the gateway costs a token, beside the tutorial's",
    "gateway": "what a token costs `tailrace serve`, by the way it is read",
    "web": "many streams through one web server, beside nginx, a bare relay, ollama-python, the tutorial's and LiteLLM",
    "held": "4,000 streams held in one process, and readers that never read",
    "fanout": "one answer to a thousand readers",
    "growth": "whether a token costs more among many streams, and late in a long answer",
    "steps": "where the time of a token goes between the two sockets",
    "ready": "from the start of `tailrace serve` to its first answer",
    "soak": "an hour of mixed faults: is the gateway afterwards as it was before?",
}
LONG = {"soak"}  # run when it is named, or for a moment with --quick


def main() -> int:
    """Run what was named, or everything; the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers that were started are ended, too
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What tailrace costs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="; ".join(f"{n}: {what}" for n, what in NAMES.items()))
    parser.add_argument("--quick", action="store_true", help="a smoke test: the figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append each result to this file")
    parser.add_argument("--svg", type=Path, metavar="FOLDER", help="draw each result into this folder")
    parser.add_argument("--peers", action="store_true", help="first install the heavy peers; without NAME, only that")
    parser.add_argument(
        "--lock", type=Path, action="append", default=[], metavar="FILE", help="locked during each measurement"
    )
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help="of the benchmarks that take long")
    parser.add_argument("--minutes", type=float, default=0.0, metavar="N", help="of the soak; 60 by default")
    parser.add_argument("--rate", type=float, default=0.0, metavar="N", help="visits a second of the soak")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the soak")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are: {', '.join(NAMES)}")
    common.locks += arguments.lock
    common.rounds = arguments.rounds
    common.minutes, common.rate, common.seed = arguments.minutes, arguments.rate, arguments.seed
    if arguments.peers:
        from benchmarks import peers

        try:
            peers.install()
        except Skipped as why:
            print(why, file=sys.stderr)
            return 1
        if not arguments.names:
            return 0
    if arguments.json:
        common.keepers.append(lambda record: results.append(arguments.json, record))
    if arguments.svg:
        common.keepers.append(lambda record: _draw(arguments.svg, record))
    failed = False
    for name in arguments.names or [name for name in NAMES if arguments.quick or name not in LONG]:
        print(f"\n{name}: {NAMES[name]}\n", flush=True)
        try:
            importlib.import_module(f"benchmarks.{name}").run(quick=arguments.quick)
        except Skipped as why:
            print(f"skipped: {why}")
        except Failed as why:
            failed = True
            print(f"failed: {why}", file=sys.stderr)
    return int(failed)


def _draw(folder: Path, record: dict[str, Any]) -> None:
    from benchmarks.figures import VIEWS
    from benchmarks.views import picture

    folder.mkdir(parents=True, exist_ok=True)
    for view in VIEWS:
        if view.benchmark == record["benchmark"] and view.rows(record):
            (folder / f"{view.name}.svg").write_text(picture(view, record), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
