"""Each benchmark runs, ends, and prints what a program can read. How fast anything is, is no test's business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import NAMES

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_completes(name: str) -> None:
    """A quick run prints a table and one line of JSON, or says why it cannot run here."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=280,
    )

    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    if last.startswith("skipped: "):
        pytest.skip(last)
    result = json.loads(last)
    assert (result["benchmark"], result["quick"]) == (name, True)
    assert result["machine"]["cpu"]
    assert result["results"]


def test_unknown_benchmark_names_the_known() -> None:
    """A mistyped name is an error that lists the names there are."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "clinet"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 2
    assert "client, short, cancel, start, embedded" in done.stderr
