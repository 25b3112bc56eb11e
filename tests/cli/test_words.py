"""The words: one catalogue, two languages, nothing missing and nothing left over; and the help that is made of them."""

from __future__ import annotations

import ast
import string
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.driver import TIMEOUT, Command

from tailrace import i18n

SOURCES = sorted((Path(i18n.__file__).parent).rglob("*.py"))


def strings() -> set[str]:
    """Every string in the sources but the catalogue's own."""
    found: set[str] = set()
    for path in SOURCES:
        if path.name != "i18n.py":
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found |= {
                node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and type(node.value) is str
            }
    return found


def calls() -> list[ast.Call]:
    """Every call of `say` in the sources."""
    return [
        node
        for path in SOURCES
        for source in (path.read_text(encoding="utf-8"),)
        if "i18n import" in source or "import i18n" in source  # others have a `say` of their own
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id == "say")
            or (isinstance(node.func, ast.Attribute) and node.func.attr == "say")
        )
    ]


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_key_that_is_said_exists_and_gets_its_values() -> None:
    """Each call names a key of the catalogue and fills in just what its words want."""
    for call in calls():
        assert isinstance(call.args[0], ast.Constant), ast.unparse(call)
        key = call.args[0].value
        assert key in i18n.CATALOGUE, ast.unparse(call)
        given = {keyword.arg for keyword in call.keywords} - {"lang"}
        assert given == fields(i18n.CATALOGUE[key][0]), ast.unparse(call)


def test_no_key_is_left_over() -> None:
    """Words nobody says are taken out."""
    assert set(i18n.CATALOGUE) - strings() == set()


@pytest.mark.parametrize("key", i18n.CATALOGUE)
def test_both_languages_fill_in_the_same(key: str) -> None:
    """The same placeholders; and the Chinese is Chinese, where there is anything to say."""
    english, chinese = i18n.CATALOGUE[key]
    assert fields(english) == fields(chinese)
    assert english.strip()
    assert chinese.strip()


@pytest.mark.parametrize(
    "arguments", [[], ["chat"], ["generate"], ["models"], ["models", "list"], ["models", "get"], ["pull"]]
)
def test_help_in_both_languages(tailrace: Command, arguments: list[str]) -> None:
    """-h is --help; none of it is left in click's English."""
    english = tailrace(*arguments, "--help")
    short = tailrace(*arguments, "-h")
    chinese = tailrace(*arguments, "-h", "--lang", "zh")
    by_environment = tailrace(*arguments, "-h", env={"LC_ALL": "zh_CN.UTF-8"})
    assert english.code == short.code == chinese.code == 0
    assert english.out == short.out
    assert english.out.startswith(b"Usage: tailrace")
    text = chinese.out.decode()
    assert text == by_environment.out.decode()
    assert text.startswith("用法：")
    for word in ("Usage", "Options", "Commands", "Show this message", "exit."):
        assert word not in text


def test_errors_in_chinese(tailrace: Command) -> None:
    """Usage errors and hints speak the language that was asked for."""
    assert "没有这个选项" in tailrace("chat", "--nope", "--lang=zh").err
    assert "缺少 MODEL" in tailrace("pull", env={"TAILRACE_LANG": "zh"}).err
    assert "现有：m:latest" in tailrace("chat", "-m", "x", "hi", env={"TAILRACE_LANG": "zh"}).err
    assert "'fr' is not one of en, zh" in tailrace("chat", "--lang", "fr", "hi").err


def test_version(tailrace: Command) -> None:
    """The version, and nothing else."""
    from tailrace import __version__

    result = tailrace("--version")
    assert (result.code, result.out, result.err) == (0, f"tailrace {__version__}\n".encode(), "")


def test_help_imports_nothing_heavy(tailrace: Command) -> None:
    """What makes the help slow would be one of these."""
    code = """
import atexit, sys
from tailrace.cli import main
def look():
    heavy = {"aiohttp", "asyncio", "msgspec", "rich", "ssl", "tailrace.client", "tailrace.run", "tailrace.types"}
    print(sorted(heavy & set(sys.modules)), file=sys.stderr)
atexit.register(look)
main(["chat", "--help"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=tailrace.environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.stderr == "[]\n"
