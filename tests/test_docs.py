"""What the documents claim is so: the state diagram is the table's, links lead somewhere, both READMEs keep step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.testing import FakeOllama, Record, Step, done, say

ROOT = Path(__file__).resolve().parents[1]
PAGES = [path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")] if path.is_file()]


def test_the_state_diagram_is_drawn_from_the_table() -> None:
    """docs/architecture.md shows the table as it is."""
    done = subprocess.run([sys.executable, str(ROOT / "docs" / "state_diagram.py"), "--check"], check=False)

    assert done.returncode == 0, "run: python docs/state_diagram.py"


def test_the_pictures_name_what_is_in_the_code() -> None:
    """Each step of a token's way in docs/architecture.md is a function or a class of the file that it names."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = set(re.findall(r'"([\w/]+\.py): ([\w.]+)"', page))

    assert len(steps) >= 12
    for file, name in steps:
        code = (ROOT / "src" / "tailrace" / file).read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"^ *(async )?(def|class) {part}\b", code, re.MULTILINE), (file, name)


def test_the_files_that_the_architecture_names_exist() -> None:
    """Each file or folder of the package that the page names is there."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z_]+/[\w/]*(?:\.py)?)`", page)) - {"docs/state_diagram.py"}

    assert {name for name in named if not (ROOT / "src" / "tailrace" / name).exists()} == set()


def test_the_newcomers_questions_are_answered_by_files() -> None:
    """CONTRIBUTING asks twelve questions, and the one file that answers each is there."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## A newcomer's test")[2]
    answers = re.findall(r"^\d+\. [^`]+\? `(src/[\w/.]+)`$", page, re.MULTILINE)

    assert len(set(answers)) == 12
    assert [answer for answer in answers if not (ROOT / answer).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    """Each relative link of a page names a file that is there."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]

    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_chinese_readme_keeps_step() -> None:
    """Both READMEs have the same code blocks, line for line but for comments, and as many sections."""
    english = (ROOT / "README.md").read_text(encoding="utf-8")
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")

    def blocks(text: str) -> list[str]:
        found = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
        return [re.sub(r"\s*#.*", "", block) for block in found]

    def sections(text: str) -> int:
        return len(re.findall(r"^#+ ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE))

    assert (blocks(english), sections(english)) == (blocks(chinese), sections(chinese))


def snippets() -> list[str]:
    """Returns the Python blocks of the README."""
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def answer(record: Record) -> list[Step]:
    """Answers in the form that was asked for."""
    return [say('{"name": "Ad', 'a"}') if (record.json or {}).get("format") else say(*["word "] * 60), done()]


@pytest.mark.parametrize("number", range(len(snippets())))
def test_the_readmes_python_runs(number: int, tmp_path: Path) -> None:
    """Each Python block of the README runs as it is, in a fresh interpreter, against a model server."""
    with FakeOllama(models=["smollm2:135m", "qwen3:0.6b"]) as server:
        server.respond(answer)
        ran = subprocess.run(
            [sys.executable, "-W", "error", "-c", snippets()[number]],
            cwd=tmp_path,
            env={**os.environ, "TAILRACE_UPSTREAM": server.url, "PYTHONUTF8": "1"},
            capture_output=True,
            timeout=60,
            check=False,
        )

    assert (ran.returncode, ran.stderr.decode()) == (0, "")
