"""The page's own files: no third party, nothing inline, nothing that nobody uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tailrace.gateway

PAGE = Path(tailrace.gateway.__file__).parent / "page"
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.js"))}
INDEX = (PAGE / "index.html").read_text(encoding="utf-8")
IMPORT = re.compile(r'^import \{([^}]+)\} from "\./([\w.]+)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:function|class|const|let) (\w+)", re.MULTILINE)
ENTRIES = {"main.js", "worker.js", "theme.js"}


def imports(name: str) -> list[tuple[str, str]]:
    """Which names a script takes, and from where, by the names that they have there."""
    return [
        (word.partition(" as ")[0].strip(), source)
        for words, source in IMPORT.findall(SCRIPTS[name])
        for word in words.split(",")
    ]


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_imported_is_there_and_used(name: str) -> None:
    """Modules take from each other what there is, and only what they need."""
    rest = IMPORT.sub("", SCRIPTS[name])
    for words, source in IMPORT.findall(SCRIPTS[name]):
        for word in words.split(","):
            there, _, here = word.strip().partition(" as ")
            assert re.search(rf"^export .*\b{there}\b", SCRIPTS[source], re.MULTILINE), there
            assert re.search(rf"\b{here or there}\b", rest), word
    assert SCRIPTS[name].count("import ") == len(IMPORT.findall(SCRIPTS[name]))


def test_what_is_exported_is_used() -> None:
    """Nothing is offered that nobody takes, and no file is left over."""
    taken = {pair for name in SCRIPTS for pair in imports(name)}
    offered = {(word, name) for name, text in SCRIPTS.items() for word in EXPORT.findall(text)}

    assert offered - taken == set()
    assert set(SCRIPTS) - {source for _, source in taken} == ENTRIES


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_keep_to_what_the_policy_allows(name: str) -> None:
    """HTML goes in at one place only, addresses are our own, and nobody is asked by the browser's own dialogs."""
    text = SCRIPTS[name]

    assert ("innerHTML" in text) is (name == "html.js")
    assert re.findall(r"\b(?:eval|Function|alert|confirm|prompt|insertAdjacentHTML|document\.write)\(", text) == []
    assert [url for url in re.findall(r"https?://[^\s\"'`]+", text) if url != "http://www.w3.org/2000/svg"] == []
    assert max(len(line) for line in text.splitlines()) <= 120


def test_the_document_has_nothing_inline() -> None:
    """No style, no script and no handler stands in it, and whatever it names is a file of ours."""
    named = re.findall(r'(?:src|href)="([^"#]+)"', INDEX)

    assert re.findall(r"\s(?:style|on\w+)=", INDEX) == []
    assert re.findall(r"<script(?![^>]*\bsrc=)", INDEX) == []
    assert [url for url in named if not url.startswith("/static/")] == []
    assert [url for url in named if not (PAGE / url.removeprefix("/static/")).is_file()] == []


def test_styles_ask_for_nothing() -> None:
    """No style sheet fetches a font, a picture, or another one."""
    for path in PAGE.glob("*.css"):
        assert re.findall(r"@import|@font-face|url\(", path.read_text(encoding="utf-8")) == [], path.name


def test_icons_are_there() -> None:
    """Each icon that is shown is drawn, and each that is drawn is shown."""
    scripts = "".join(SCRIPTS.values())
    drawn = set(re.findall(r'<symbol id="icon-(\w+)"', INDEX))
    named = re.findall(r'\bicon(?:Button)?\("(\w+)"|symbol: "(\w+)"|noteButton\("\w+", "(\w+)"|#icon-(\w+)"', scripts)
    shown = {name for names in named for name in names if name} | set(re.findall(r'href="#icon-(\w+)"', INDEX))

    assert shown - drawn == set()
    assert {name for name in drawn - shown if f'"{name}"' not in scripts} == set()
