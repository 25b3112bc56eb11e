"""Measure what the tests cover, in every process that they start: `python -m tests.covered [PYTEST ARGUMENTS]`.

The tests run under coverage, and so does every Python that they start: gateways and their workers, commands, the
engine's process. What each of them wrote is put together, and every package of tailrace gets a line: how many of its
lines and branches were run. The exit code is pytest's, or 1 where a package is below its floor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/tailrace/"
FLOORS = {"protocols": 100.0, "run": 100.0, "transport": 100.0, "backends": 100.0}  # per cent of the branches


@dataclass
class Figures:
    """How much there is of a package, and how much of that was run."""

    lines: int = 0
    lines_run: int = 0
    branches: int = 0
    branches_run: int = 0

    def add(self, summary: dict[str, Any]) -> None:
        """Count one file of the package in."""
        self.lines += summary["num_statements"]
        self.lines_run += summary["covered_lines"]
        self.branches += summary["num_branches"]
        self.branches_run += summary["covered_branches"]

    def of_lines(self) -> float:
        """Return the share of the lines, in per cent."""
        return share(self.lines_run, self.lines)

    def of_branches(self) -> float:
        """Return the share of the branches, in per cent."""
        return share(self.branches_run, self.branches)


def share(part: int, whole: int) -> float:
    """Return `part` of `whole` in per cent; of nothing, all is run."""
    return 100 * part / whole if whole else 100.0


def main(arguments: list[str]) -> int:
    """Run the tests and print the table; the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COVERAGE_FILE"] = str(Path(folder, "data"))
        tests = coverage("run", "-m", "pytest", *arguments)
        report = Path(folder, "report.json")
        if coverage("combine", "--quiet") or coverage("json", "--quiet", "-o", str(report)):
            return tests or 1
        packages = by_package(json.loads(report.read_bytes())["files"])
    print(table(packages))
    low = below(packages)
    for line in low:
        print(line, file=sys.stderr)
    return tests or int(bool(low))


def coverage(*arguments: str) -> int:
    """Run a command of coverage in the project's folder, with its settings in `pyproject.toml`; the exit code."""
    return subprocess.run([sys.executable, "-m", "coverage", *arguments], cwd=ROOT, check=False).returncode


def by_package(files: dict[str, Any]) -> dict[str, Figures]:
    """Sum up the files of each package; the modules beside the packages are one more."""
    packages: dict[str, Figures] = defaultdict(Figures)
    for name, file in files.items():
        package, slash, _ = Path(name).as_posix().removeprefix(PACKAGE).partition("/")
        packages[package if slash else "modules"].add(file["summary"])
    return dict(sorted(packages.items()))


def table(packages: dict[str, Figures]) -> str:
    """Return one line for each package, and one for all."""
    total = Figures()
    for figures in packages.values():
        total.lines += figures.lines
        total.lines_run += figures.lines_run
        total.branches += figures.branches
        total.branches_run += figures.branches_run
    rows = [f"{'covered':<12}{'branches':>10}{'not run':>10}{'lines':>10}{'not run':>10}"]
    for name, figures in {**packages, "all": total}.items():
        branches = f"{figures.of_branches():>9.2f}%{figures.branches - figures.branches_run:>10}"
        rows.append(f"{name:<12}{branches}{figures.of_lines():>9.2f}%{figures.lines - figures.lines_run:>10}")
    return "\n".join(rows)


def below(packages: dict[str, Figures]) -> list[str]:
    """Return a line for each package that has fewer of its branches run than it must have."""
    low = []
    for name, floor in FLOORS.items():
        branches = packages.get(name, Figures()).of_branches()
        if branches < floor:
            low.append(f"{name}: {branches:.2f} % of its branches are run by a test, and {floor:g} % must be")
    return low


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
