"""What live Markdown on a page costs its server: an answer in Chinese and English, a frame for every 8 tokens.

tailrace sends finished pieces once and only the open tail again; the usual way renders the whole answer for each frame
and sends all of it. The peer is bare markdown-it-py, which colours no code and makes nothing safe but HTML. The growth
from 16,000 to 48,000 characters says whether a frame costs the same however long the answer is; 3 is linear.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from benchmarks.common import Skipped, contestants, in_turns, ratio, report, shown, spread, table
from benchmarks.terminal import SIZES, answer, frames

CONTESTANTS = ("tailrace", "markdown-it-py")

Show = Callable[[str], list[str]]  # takes what a frame brings; returns what is sent


def with_tailrace() -> Show:
    """Show an answer with tailrace."""
    from tailrace.render.html import HtmlStream

    stream = HtmlStream()
    return lambda piece: [*stream.feed(piece), stream.tail]


def with_markdown_it() -> Show:
    """Show an answer with markdown-it-py, all of it for each frame."""
    from markdown_it import MarkdownIt

    md = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    pieces: list[str] = []

    def feed(piece: str) -> list[str]:
        pieces.append(piece)
        return [md.render("".join(pieces))]

    return feed


def main() -> None:
    """Be a contestant: for each request show an answer, and tell what that costs."""
    begin = {"tailrace": with_tailrace, "markdown-it-py": with_markdown_it}[sys.argv[1]]
    feed = begin()
    for piece in frames(answer(2000)):  # what is imported when it is needed
        feed(piece)
    for line in sys.stdin:
        pieces = frames(answer(json.loads(line)["size"]))
        feed = begin()
        sent = 0
        times = [time.process_time()]
        for piece in pieces:
            sent += sum(len(part.encode()) for part in feed(piece))
            times.append(time.process_time())
        worst = max(after - before for before, after in pairwise(times))
        used = times[-1] - times[0]
        print(json.dumps({"cpu": used, "worst": worst, "bytes": sent, "frames": len(pieces)}), flush=True)


def run(*, quick: bool) -> None:
    """Measure and print."""
    try:
        import markdown_it  # noqa: F401
    except ImportError:
        raise Skipped("markdown-it-py is not installed: pip install 'tailrace[serve]'") from None
    sizes = (1000, 3000) if quick else SIZES
    seen: dict[tuple[str, int], list[dict[str, Any]]] = {(name, size): [] for name in CONTESTANTS for size in sizes}
    with contestants("html", [[name] for name in CONTESTANTS]) as shows:
        for number in range(1 if quick else 5):
            for size in sizes:
                for show in in_turns(shows, number):
                    # Of what is quadratic one round of the longer answer says enough.
                    if show.name == "tailrace" or number == 0 or size == sizes[0]:
                        seen[show.name, size].append(show.ask(size=size))
    results, rows = [], []
    for (name, size), runs in seen.items():
        figures = {
            "cpu_ms": spread([one["cpu"] * 1000 for one in runs]),
            "worst_frame_ms": spread([one["worst"] * 1000 for one in runs]),
            "kilobytes": spread([one["bytes"] / 1000 for one in runs]),
        }
        result = {"library": name, "characters": size, "frames": runs[0]["frames"], **figures}
        if name == "tailrace":
            others = seen[CONTESTANTS[1], size]
            result["cpu_ratio"] = ratio([other["cpu"] for other in others], [one["cpu"] for one in runs[: len(others)]])
        if size == sizes[1]:
            first = seen[name, sizes[0]][: len(runs)]
            result["growth"] = ratio([one["cpu"] for one in runs], [one["cpu"] for one in first])
        results.append(result)
        rows.append(
            [
                f"{size:6,} {name}",
                *(shown(figure, ",.1f") for figure in figures.values()),
                *(f"{result[key]['median']:.2f}" if key in result else "" for key in ("cpu_ratio", "growth")),
            ]
        )
    table(["characters", "CPU ms", "worst frame, ms", "KB sent", "whole / ours", "growth"], rows)
    report("html", quick=quick, results=results)


if __name__ == "__main__":
    main()
