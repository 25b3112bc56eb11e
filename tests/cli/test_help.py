"""The help and the errors of usage, in both languages."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.cli.driver import TIMEOUT, Command


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["chat"],
        ["completion"],
        ["doctor"],
        ["generate"],
        ["models"],
        ["models", "list"],
        ["models", "get"],
        ["pull"],
    ],
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
    heavy = {"httptools", "asyncio", "msgspec", "rich", "ssl", "tailrace.client", "tailrace.run", "tailrace.types"}
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
