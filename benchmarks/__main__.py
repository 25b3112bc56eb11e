"""`python -m benchmarks [NAME …] [--quick]`."""

from __future__ import annotations

import argparse
import importlib
import sys

from benchmarks.common import Skipped

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
    "web": "many streams through one web server, beside ollama-python behind the same one",
}


def main() -> int:
    """Run what was named, or everything; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What tailrace costs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="a smoke test: the figures mean nothing")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are: {', '.join(NAMES)}")
    for name in arguments.names or NAMES:
        print(f"\n{name}: {NAMES[name]}\n", flush=True)
        try:
            importlib.import_module(f"benchmarks.{name}").run(quick=arguments.quick)
        except Skipped as why:
            print(f"skipped: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
