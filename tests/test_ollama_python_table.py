"""The table of ollama-python's surface: none of its names is missing, and each row says which of three it is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import ollama
import pytest

import tailrace

PAGE = (Path(__file__).parents[1] / "docs" / "ollama-python.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
NAMES = [row for row in ROWS if re.fullmatch(r"`[\w.]+`", row[0]) and not row[0].startswith("`httpx.")]
SURFACE = {row[0].strip("`"): row[1] for row in NAMES}


def test_it_has_every_name() -> None:
    """Every exported name, function of the module and method of the clients has a row, and no other."""
    functions = {name for name, value in vars(ollama).items() if inspect.ismethod(value)}
    methods = {name for name in dir(ollama.Client) if not name.startswith("_")} - {"close"}
    assert set(ollama.__all__) | functions | methods | {"Client.close", "AsyncClient.close"} == set(SURFACE)


def test_each_row_is_one_of_three() -> None:
    """Each row is "same", "more" or "differs, because", and the last two say what."""
    told = [row for row in ROWS if row[0] != "ollama-python"]
    assert {row[1] for row in told} == {"same", "more", "differs, because"}
    assert [row[0] for row in told if row[1] != "same" and not row[2]] == []


@pytest.mark.parametrize("name", SURFACE)
def test_what_is_not_different_is_there(name: str) -> None:
    """What is the same, or more, can be imported from tailrace."""
    found: object = tailrace
    for part in name.split("."):
        found = getattr(found, part, None)
    assert found is not None or SURFACE[name] == "differs, because"
