"""`python -m fuzz [TARGET …] [--inputs N] [--seed N] [--plain]`, `python -m fuzz linear`."""

from __future__ import annotations

import argparse
import json
import sys
import time

from fuzz import corpus, linear
from fuzz.running import Found, guided, has_atheris, plain


def main() -> int:
    """Run what was named, or everything; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Tries inputs on what reads foreign bytes.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"{', '.join(corpus.WORDS)}; or linear; all without one"
    )
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N", help="of each target; 100,000 by default")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all chance")
    parser.add_argument("--plain", action="store_true", help="at random, also where atheris is installed")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - {*corpus.WORDS, "linear"}
    if unknown:
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(corpus.WORDS)} and linear")
    with_atheris = has_atheris() and not arguments.plain
    if not with_atheris:
        print("at random; `pip install atheris` lets a fuzzer look at what inputs reach", file=sys.stderr)
    for target in arguments.targets or [*corpus.WORDS, "linear"]:
        if target == "linear":
            if not linear.run():
                return 1
            continue
        try:
            print(json.dumps({"target": target, **_tried(target, arguments, with_atheris=with_atheris)}), flush=True)
        except Found as found:
            print(f"{found}\n\nkeep it: fuzz/corpus/{target}/", file=sys.stderr)
            return 1
    return 0


def _tried(target: str, arguments: argparse.Namespace, *, with_atheris: bool) -> dict[str, object]:
    if with_atheris:
        return guided(target, arguments.inputs, arguments.seed)
    start = time.monotonic()
    return {"inputs": plain(target, arguments.inputs, arguments.seed), "seconds": time.monotonic() - start}


if __name__ == "__main__":
    sys.exit(main())
