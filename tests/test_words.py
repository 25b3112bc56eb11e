"""The words people see: one catalogue, two languages, nothing missing, nothing left over, nothing beside it."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest

from tailrace import i18n

PACKAGE = Path(i18n.__file__).parent.parent
SOURCES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent.name != "i18n"]
CATALOGUE = {key: (english, i18n.words("zh").get(key, "")) for key, english in i18n.words("en").items()}
# Where people's eyes are. Errors of the library stay English, see i18n.
SEEN = [
    path
    for path in SOURCES
    if path.parts[len(PACKAGE.parts)] in ("cli", "terminal", "helpers.py", "conversation.py", "export.py")
]
PRINTERS = {"echo", "secho", "print", "write", "line", "draw", "report", "fail", "input", "prompt", "confirm"}
SHOWN_ARGUMENTS = {"help", "short_help", "epilog", "seen", "do", "hint", "late", "prompt"}
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
WORD = re.compile(r"[^\W\d_]{2,}")
WORDS = re.compile(r"[^\W\d_]{2,}[ ,;:]+[^\W\d_]{2,}|[\u4e00-\u9fff]")
# Commands (`/set system `) and prompt_toolkit's styles (`bg:#222222 bold`) are no words of ours either.
STYLE = r"((bg:|fg:)?(#[0-9a-fA-F]{3,6}|ansi\w+)|no\w+|bold|italic|underline|dim|reverse| )+"
CODE = re.compile(rf"/\w+( [\w.|]+)* ?|{STYLE}")
UNSHOWN = {"encode", "decode", "get", "getattr", "removeprefix", "removesuffix", "startswith", "endswith", "split"}

# What looks like words and is none of ours, and why.
ALLOWED = {
    "tailrace ": "the program's name, before its version",
    # the labels of `--verbose` are Ollama's in every language, because programs look for them
    "total duration": "Ollama's label",
    "load duration": "Ollama's label",
    "time to first token": "a label among Ollama's",
    "prompt eval count": "Ollama's label",
    "prompt eval duration": "Ollama's label",
    "prompt eval rate": "Ollama's label",
    "eval count": "Ollama's label",
    "eval duration": "Ollama's label",
    "eval rate": "Ollama's label",
    "context length": "Ollama's label",
    "xclip -selection clipboard": "a program",
    "one of": "click's name of a kind of argument, never shown: each has a metavar",
    "Count from 1 to 40, separated by spaces.": "said to a model, not to people",
    "中": "to be measured, not to be read",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def strings() -> set[str]:
    """Every string in the sources but the catalogue's own."""
    return {
        node.value
        for path in SOURCES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and type(node.value) is str
    }


def name_of(call: ast.Call) -> str:
    """The last part of what is called."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def calls() -> list[ast.Call]:
    """Every call of `say` in the sources."""
    return [
        node
        for path in SOURCES
        if "i18n import" in (source := path.read_text(encoding="utf-8")) or "import i18n" in source
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and name_of(node) == "say"  # others have a `say` of their own
    ]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


# -- the catalogue ----------------------------------------------------------------------------------------------------


def test_every_key_that_is_said_exists_and_gets_its_values() -> None:
    """Each call names a key of the catalogue and fills in just what its words want."""
    for call in calls():
        assert isinstance(call.args[0], ast.Constant), ast.unparse(call)
        key = call.args[0].value
        assert key in CATALOGUE, ast.unparse(call)
        given = {keyword.arg for keyword in call.keywords} - {"lang"}
        assert given == fields(CATALOGUE[key][0]), ast.unparse(call)


def test_no_key_is_left_over() -> None:
    """Words nobody says are taken out."""
    assert set(CATALOGUE) - strings() == set()


@pytest.mark.parametrize("language", i18n.LANGUAGES)
def test_no_key_stands_twice(language: str) -> None:
    """Of two entries with one key, Python would keep the last and say nothing; and both files have the same keys."""
    pairs = next(
        node.value for node in tree(PACKAGE / "i18n" / f"{language}.py").body if isinstance(node, ast.AnnAssign)
    )
    assert isinstance(pairs, ast.Dict)
    keys = [key.value for key in pairs.keys if isinstance(key, ast.Constant)]
    assert keys == list(CATALOGUE)


@pytest.mark.parametrize(("english", "chinese"), CATALOGUE.values(), ids=CATALOGUE)
def test_both_languages_fill_in_the_same(english: str, chinese: str) -> None:
    """Both languages say something, with the same placeholders."""
    assert fields(english) == fields(chinese)
    assert english.strip()
    assert chinese.strip()
    assert not re.search(r"[\u3000-\u30ff\u4e00-\u9fff\uff00-\uffef]", english)


# -- the page ---------------------------------------------------------------------------------------------------------

PAGE = PACKAGE / "gateway" / "page"
PAGE_WORDS = {name: msgspec.json.decode((PAGE / "words" / f"{name}.json").read_bytes()) for name in i18n.LANGUAGES}
SCRIPTS = {path: path.read_text(encoding="utf-8") for path in sorted(PAGE.glob("*.js"))}
INDEX = (PAGE / "index.html").read_text(encoding="utf-8")
LITERAL = re.compile(r"""(["'`])((?:\\.|(?!\1).)*)\1""")
# The ways in which a script says a key: a call that says it, or a property of an element that is made.
SAID = re.compile(
    r'\bt\("(\w+)"'
    r'|\b(?:say|label)\((?:[^,()]|\([^()]*\))+, "(\w+)"'
    r'|\b(?:say|label|key): "(\w+)"'
    r'|\biconButton\("\w+", "(\w+)"'
)
# The ways in which it shows a text, and what looks like a sentence.
SHOWN = re.compile(r"""(?:\btext: |textContent = |\.title = |placeholder = |\bannounce\(|\btoast\()(["'`])(.*?)\1""")
SENTENCE = re.compile(r"(?:^|[^\w-])[A-Z][a-z]+ [a-z]+|[\u3000-\u9fff]")


def page_keys() -> set[str]:
    """The keys that the page's files have, in whatever way."""
    literals = {found[2] for text in SCRIPTS.values() for found in LITERAL.finditer(text)}
    return literals | set(re.findall(r'data-t(?:-\w+)?="(\w+)"', INDEX))


def test_no_key_of_the_page_is_left_over() -> None:
    """Words that the page does not say are taken out; both languages have the same ones."""
    assert set(PAGE_WORDS["en"]) - page_keys() == set()
    assert list(PAGE_WORDS["en"]) == list(PAGE_WORDS["zh"])


@pytest.mark.parametrize("key", PAGE_WORDS["en"])
def test_both_languages_of_the_page_fill_in_the_same(key: str) -> None:
    """As with the program's words."""
    test_both_languages_fill_in_the_same(PAGE_WORDS["en"][key], PAGE_WORDS["zh"][key])


def test_every_key_of_the_page_exists() -> None:
    """What a script says and what the page's elements name is among its words."""
    said = [key for text in SCRIPTS.values() for found in SAID.finditer(text) for key in found.groups() if key]
    named = re.findall(r'data-t(?:-\w+)?="(\w+)"', INDEX)

    assert len(said) > 40
    assert {key for key in (*said, *named) if key not in PAGE_WORDS["en"]} == set()


def test_the_page_has_no_words_of_its_own() -> None:
    """The elements are empty until they are told; what stands in them is the same in every language."""
    between = {text.strip() for text in re.findall(r">([^<>]+)<", INDEX)}
    assert {text for text in between if WORD.search(text)} == {
        "tailrace", "English", "简体中文", "Enter", "Ctrl", "Shift", "Esc",
        "temperature", "top_p", "num_ctx", "num_predict", "seed",
    }  # fmt: skip


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.name))
def test_no_script_has_words_of_its_own(path: Path) -> None:
    """No string that a script shows is one of its own, and none is a sentence that could be shown."""
    code = re.sub(r"/\*.*?\*/|(?<![:\"'])//[^\n]*", "", SCRIPTS[path], flags=re.DOTALL)
    shown = {re.sub(r"\$\{[^}]*\}", "", found[2]) for found in SHOWN.finditer(code)}
    assert {text for text in shown if WORD.search(text)} == set()
    assert {found[2] for found in LITERAL.finditer(code) if SENTENCE.search(found[2])} == set()


# -- what bypasses it -------------------------------------------------------------------------------------------------


def literals(node: ast.AST) -> Iterator[str]:
    """The strings that `node` is made of: not those that name something (a key, an argument of `say`)."""
    if isinstance(node, ast.Constant):
        if type(node.value) is str:
            yield node.value
        return
    if isinstance(node, ast.Call) and name_of(node) in {"say", *UNSHOWN}:
        return
    if isinstance(node, ast.Compare):
        return
    if isinstance(node, ast.FormattedValue | ast.Subscript):  # not the format, not the key
        yield from literals(node.value)
        return
    if isinstance(node, ast.Call):  # of what is called, only what goes in
        children: list[ast.AST] = [*node.args, *(keyword.value for keyword in node.keywords)]
    else:
        children = list(ast.iter_child_nodes(node))
    for child in children:
        yield from literals(child)


def shown(path: Path) -> Iterator[tuple[int, str]]:
    """The strings that are handed to something that shows them."""
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node)
        is_printer = name in PRINTERS or (name.endswith("Error") and "cli" in path.parts)
        parts = list(node.args) if is_printer else []
        parts += [keyword.value for keyword in node.keywords if keyword.arg in SHOWN_ARGUMENTS]
        for part in parts:
            for text in literals(part):
                yield node.lineno, text


def docstrings(path: Path) -> set[int]:
    """The lines of strings that stand alone."""
    return {
        node.value.lineno
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def sentences(path: Path) -> Iterator[tuple[int, str]]:
    """The strings of two words or more, wherever they stand; in a library module they are its English errors."""
    if path.parent == PACKAGE:
        return
    alone = docstrings(path)
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Constant) or type(node.value) is not str or node.lineno in alone:
            continue
        if WORDS.search(node.value) and not CODE.fullmatch(node.value):
            yield node.lineno, node.value


def bypassing(path: Path) -> list[tuple[int, str]]:
    """All that looks like words and is not in the catalogue."""
    found = [(line, text) for line, text in shown(path) if WORD.search(ANSI.sub("", text)) and not CODE.fullmatch(text)]
    return [(line, text) for line, text in (*found, *sentences(path)) if text not in CATALOGUE]


@pytest.mark.parametrize("path", SEEN, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_words_bypass_the_catalogue(path: Path) -> None:
    """Nothing that is shown has words of its own, and nothing looks like a sentence that could be."""
    assert [found for found in bypassing(path) if found[1] not in ALLOWED] == []


def test_the_list_of_exceptions_is_not_stale() -> None:
    """An exception that nothing needs any more would hide the next one."""
    used = {text for path in SEEN for _, text in bypassing(path)}
    assert set(ALLOWED) - used == set()


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    """Words by the usual ways, and none of what is no words."""
    path = tmp_path / "cli" / "sample.py"
    path.parent.mkdir()
    path.write_text(
        '"""Not shown."""\n'
        'click.echo("hello")\n'
        'print(f"{count} files", file=x)\n'
        'click.option("--a", metavar="NAME", help="Says it.")\n'
        'sink.line("\\x1b[2m" + say("key.of") + "\\x1b[0m")\n'
        'raise click.UsageError("没有")\n'
        'words = "two words"\n'
        'sink.write(table["label"] if kind == "label" else "--")\n'
    )
    assert sorted({line for line, _ in bypassing(path)}) == [2, 3, 4, 6, 7]
