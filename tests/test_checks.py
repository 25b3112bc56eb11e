"""Style, format, layers and types: the commands of ``run.py lint`` and ``run.py types``, beside the other tests."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHECKS: dict[str, list[str]] = runpy.run_path(str(ROOT / "run.py"))["CHECKS"]


@pytest.mark.timeout(1200)  # mypy with nothing cached, on a busy machine
@pytest.mark.parametrize("line", [line for lines in CHECKS.values() for line in lines])
def test_a_check_finds_nothing(line: str) -> None:
    """What it finds is shown."""
    program, *arguments = line.split()
    command = [str(Path(sys.executable).with_name(program)), *arguments]

    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    assert done.returncode == 0, done.stdout
