"""Results are kept, drawn and written into the docs as they were measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks import results, tutorial, written
from benchmarks.figures import VIEWS
from benchmarks.picture import Bar, draw
from benchmarks.views import Column, View, markdown
from tests.test_tutorial import TUTORIAL, blocks

ROOT = Path(__file__).resolve().parents[1]
RECORD = {
    "benchmark": "b",
    "command": "python3 run.py bench b",
    "day": "2026-11-27",
    "machine": {"cpu": "A & B", "cores": 2, "system": "Linux 6", "python": "CPython 3.11.7", "versions": {"x": "1"}},
    "results": [
        {"who": "one <two>", "ms": {"median": 2.0, "min": 1.0, "max": 4.0}, "lost": {"median": 0, "min": 0, "max": 0}},
        {"who": "other", "lost": {"median": 1234, "min": 1, "max": 2000}},
    ],
}
VIEW = View(
    *("b", "b-ms", "How long", "Less is better."),
    (Column("ms", "ms", ".1f"), Column("lost", "lost")),
    lambda row: str(row["who"]),
    lambda row: "ours" if row["who"] == "other" else "other",
)


def test_docs_are_as_measured() -> None:
    """Every table and picture of docs/speed.md is made from the committed results, and nothing in it was changed."""
    made = written.files(written.PAGE.read_text(encoding="utf-8"), results.newest(written.RESULTS))

    assert written.PAGE in made
    for path, text in made.items():
        assert text == path.read_text(encoding="utf-8"), f"{path}: python -m benchmarks.written"


def test_docs_name_no_picture_that_is_not_made() -> None:
    """A picture beside the results that no view draws is left from an older one."""
    assert {path.stem for path in written.FOLDER.glob("*.svg")} <= {view.name for view in VIEWS}


def test_no_quick_result_is_kept_in_the_docs() -> None:
    """The figures of a smoke test mean nothing."""
    assert not [record["benchmark"] for record in results.read(written.RESULTS) if record["quick"]]


def test_a_marked_section_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands between the marks is made anew; what stands around them stays."""
    monkeypatch.setattr(written, "VIEWS", (VIEW,))
    page = "before\n<!-- figures: b-ms -->\nold\n<!-- end -->\nafter\n"

    made = written.files(page, {"b": RECORD})

    assert {written.PAGE, written.FOLDER / "b-ms.svg"} == set(made)
    lines = made[written.PAGE].splitlines()
    assert lines[:3] == ["before", "<!-- figures: b-ms -->", "![How long](speed/b-ms.svg)"]
    assert lines[-2:] == ["<!-- end -->", "after"]
    assert "old" not in lines
    assert "`python3 run.py bench b`" in lines[-3]


def test_what_was_not_measured_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A section without a result has the command that measures it, and no picture."""
    monkeypatch.setattr(written, "VIEWS", (VIEW,))

    made = written.files("<!-- figures: b-ms -->\n<!-- end -->\n", {})

    text = "<!-- figures: b-ms -->\nNot measured yet: `python3 run.py bench b`.\n<!-- end -->\n"
    assert made == {written.PAGE: text}


def test_every_figure_has_a_place_in_the_docs() -> None:
    """Whatever can be drawn has its mark on the page, and each mark something that can be drawn."""
    marks = re.findall(r"<!-- figures: (\S+) -->", written.PAGE.read_text(encoding="utf-8"))

    assert sorted(marks) == sorted(view.name for view in VIEWS)


def test_table_shows_median_and_range() -> None:
    """The first figure has its range, the others their median alone; what was not measured is a dash."""
    assert markdown(VIEW, RECORD).splitlines() == [
        "| | ms | lost |",
        "|---|--:|--:|",
        "| one <two> | 2.0 (1.0 to 4.0) | 0 |",
        "| **other** | – | 1,234 |",
    ]


def test_picture_is_whole() -> None:
    """It is XML, has bar, whisker and figure of each row to scale, and says its figures to those who hear it."""
    bars = [Bar("a & b", "4 ms", 4.0, 2.0, 8.0, "ours"), Bar("c", "8 ms", 8.0, 8.0, 8.0), Bar("none", "–", None)]
    root = ElementTree.fromstring(draw("Title", "Caption", bars, ["machine " * 40, "command"]))
    space = "{http://www.w3.org/2000/svg}"

    widths = [float(box.get("width", "")) for box in root.iter(f"{space}rect")][1:]
    texts = ["".join(text.itertext()) for text in root.iter(f"{space}text")]

    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)
    assert len(list(root.iter(f"{space}path"))) == 1
    assert texts[:8] == ["Title", "Caption", "a & b", "4 ms", "c", "8 ms", "none", "–"]
    assert texts[-1] == "command"
    assert len(texts) > 11  # the long note was broken
    assert root.get("aria-label") == "Title. a & b: 4 ms; c: 8 ms; none: –"
    assert float(root.get("height", "")) > max(float(text.get("y", "")) for text in root.iter(f"{space}text"))


def test_result_files_grow(tmp_path: Path) -> None:
    """Each run is appended, in a folder that need not exist; the newest of a benchmark is the last."""
    path = tmp_path / "new" / "results.json"

    for number in range(3):
        results.append(path, {"benchmark": "b" if number else "a", "number": number, "results": [{"x": number}]})

    assert [record["number"] for record in results.read(path)] == [0, 1, 2]
    assert {name: record["number"] for name, record in results.newest(path).items()} == {"a": 0, "b": 2}
    assert [left.name for left in path.parent.iterdir()] == ["results.json"]


def test_bench_keeps_and_draws(tmp_path: Path) -> None:
    """`--json` appends the result and `--svg` draws it."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    command = [sys.executable, "-m", "benchmarks", "ready", "--quick", "--json", "r.json", "--svg", "svg"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=200
    )

    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()[-1]
    if said.startswith("skipped: "):
        pytest.skip(said)
    assert [json.loads(said)] == results.read(tmp_path / "r.json")
    assert [drawn.name for drawn in (tmp_path / "svg").iterdir()] == ["ready.svg"]
    assert "python3 run.py bench ready" in (tmp_path / "svg" / "ready.svg").read_text(encoding="utf-8")


@pytest.mark.skipif(not TUTORIAL.exists(), reason="the tutorial is not beside this clone: ../shared/tutorial.md")
def test_the_tutorials_servers_are_its_own() -> None:
    """What is measured as the tutorial's code is the tutorial's code, to the letter."""
    found = blocks()

    assert found["FastAPI 流式响应"] == tutorial.FASTAPI
    assert found["Flask 流式响应"] == tutorial.FLASK
