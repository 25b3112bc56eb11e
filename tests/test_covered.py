"""The measuring of what the tests cover: the table, the floors, and that other processes are measured too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.covered import FLOORS, ROOT, Figures, below, by_package, table

PATIENCE = 200


def summary(lines: int, lines_run: int, branches: int, branches_run: int) -> dict[str, dict[str, int]]:
    figures = {
        "num_statements": lines,
        "covered_lines": lines_run,
        "num_branches": branches,
        "covered_branches": branches_run,
    }
    return {"summary": figures}


FILES = {
    "src/tailrace/protocols/a.py": summary(10, 10, 4, 4),
    "src/tailrace/protocols/b.py": summary(10, 8, 6, 5),
    "src/tailrace/gateway/store/rows.py": summary(5, 5, 0, 0),
    "src/tailrace/types.py": summary(7, 0, 2, 0),
}


def test_packages() -> None:
    """The files of a package are summed up, however deep they lie; modules beside the packages are one more."""
    assert by_package(FILES) == {
        "gateway": Figures(5, 5, 0, 0),
        "modules": Figures(7, 0, 2, 0),
        "protocols": Figures(20, 18, 10, 9),
    }


def test_table() -> None:
    """Each package has one line, and so has all; a package without branches has all of them run."""
    head, *rows = table(by_package(FILES)).splitlines()

    assert head.split() == ["covered", "branches", "not", "run", "lines", "not", "run"]
    assert [row.split() for row in rows] == [
        ["gateway", "100.00%", "0", "100.00%", "0"],
        ["modules", "0.00%", "2", "0.00%", "7"],
        ["protocols", "90.00%", "1", "90.00%", "2"],
        ["all", "75.00%", "3", "71.88%", "9"],
    ]


def test_floors() -> None:
    """A package below its floor is named, with both figures; one that has its floor is not."""
    full = dict.fromkeys(FLOORS, Figures(1, 1, 1, 1))

    assert below(full) == []
    (line,) = below({**full, "protocols": Figures(20, 18, 10, 9)})
    assert line.startswith("protocols: 90.00 % of its branches")


CHILD = "import tailrace.protocols.lines as lines; lines.LineSplitter(10).feed_block(b'a')"
TEST = f"""
import subprocess, sys

def test_in_another_process():
    subprocess.run([sys.executable, "-c", {CHILD!r}], check=True)
"""


def test_other_processes_are_measured(tmp_path: Path) -> None:
    """What only a process that a test starts has run counts; the table comes last, and what is too low fails."""
    (tmp_path / "test_child.py").write_text(TEST)

    command = [sys.executable, "-m", "tests.covered", "-q", "-c", str(ROOT / "pyproject.toml"), str(tmp_path)]
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # ours is another
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE)

    assert "1 passed" in done.stdout
    packages = {row.split()[0]: row.split() for row in done.stdout.splitlines()[-10:] if row}
    assert float(packages["protocols"][3].rstrip("%")) > 0
    assert packages["all"]
    assert done.returncode == 1
    assert "protocols: " in done.stderr
