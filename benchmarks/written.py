"""Write the figures into the docs: `python -m benchmarks.written [--check]`.

docs/speed/results.json is what was measured. From the newest record of each benchmark come the pictures beside it and,
in docs/speed.md, all that stands between `<!-- figures: NAME -->` and `<!-- end -->`. Nobody types a figure.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.common import ROOT
from benchmarks.figures import VIEWS
from benchmarks.results import Record, newest
from benchmarks.views import View, markdown, notes, picture

PAGE = ROOT / "docs" / "speed.md"
FOLDER = ROOT / "docs" / "speed"
RESULTS = FOLDER / "results.json"
_MARKED = re.compile(r"<!-- figures: (\S+) -->\n(?:.*?\n)??<!-- end -->", re.DOTALL)


def files(page: str, records: Mapping[str, Record]) -> dict[Path, str]:
    """Returns every file that comes from the records, and what must be in it.

    Args:
        page: the docs' page as it is.
        records: the newest of each benchmark.

    Raises:
        KeyError: the page has a mark that no view is called by.
    """
    views = {view.name: view for view in VIEWS}
    made = {FOLDER / f"{view.name}.svg": picture(view, records[view.benchmark]) for view in _measured(records)}
    made[PAGE] = _MARKED.sub(lambda found: _section(views[found[1]], records), page)
    return made


def _measured(records: Mapping[str, Record]) -> list[View]:
    return [view for view in VIEWS if view.benchmark in records and view.rows(records[view.benchmark])]


def _section(view: View, records: Mapping[str, Record]) -> str:
    if view.benchmark not in records:
        return (
            f"<!-- figures: {view.name} -->\nNot measured yet: `python3 run.py bench {view.benchmark}`.\n<!-- end -->"
        )
    record = records[view.benchmark]
    machine, versions, command = notes(record)
    return "\n".join(
        [
            f"<!-- figures: {view.name} -->",
            f"![{view.title}](speed/{view.name}.svg)",
            "",
            markdown(view, record),
            "",
            f"`{command}`: {machine}; {versions}",
            "<!-- end -->",
        ]
    )


def main() -> int:
    """Write what differs, or only tell; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.written", description="Write figures into the docs.")
    parser.add_argument("--check", action="store_true", help="only tell what is not as it was measured")
    arguments = parser.parse_args()
    made = files(PAGE.read_text(encoding="utf-8"), newest(RESULTS))
    different = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in different:
        print(path.relative_to(ROOT))
        if not arguments.check:
            path.write_text(made[path], encoding="utf-8")
    if different and arguments.check:
        print("These are not as they were measured: python -m benchmarks.written", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
