"""Programs that print through a console of another encoding: helpers and conversations never die of a character."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.i18n.output import put
from tailrace.testing import FakeOllama, say

TEXT = "né 一 😀 \ud83d end"
PROGRAMS = {
    "stream_with_progress": "tailrace.stream_with_progress('hi', 'm')",
    "CancellableStream": "tailrace.CancellableStream().stream('m', [{'role': 'user', 'content': 'hi'}])",
    "StreamingChat": "tailrace.StreamingChat('m').send('hi')",
    "AsyncStreamingChat": "import asyncio; asyncio.run(tailrace.AsyncStreamingChat('m').send('hi'))",
}


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "ascii", "utf-8"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_can_be_printed_is(program: str, encoding: str) -> None:
    """The rest becomes a question mark; words of our own, which are Chinese here, likewise."""
    with FakeOllama(models=["m"]) as server:
        server.script(say("né 一 ", "😀", " end"))
        done = subprocess.run(
            [sys.executable, "-c", f"import tailrace; {PROGRAMS[program]}"],
            env={
                **os.environ,
                "OLLAMA_HOST": server.url,
                "PYTHONIOENCODING": encoding,
                "TAILRACE_LANG": "zh",
                "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
            },
            capture_output=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "né 一 😀 end".encode(encoding, "replace") in done.stdout


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "ascii", "utf-8"])
def test_each_console(encoding: str) -> None:
    """Half a character, too, which no encoding has."""
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    put(TEXT, console)
    assert raw.getvalue() == TEXT.encode(encoding, "replace")


def test_no_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """A windowed program has none, a notebook's is an object of its own."""
    monkeypatch.setattr(sys, "stdout", None)
    put("text")
    console = io.StringIO()
    monkeypatch.setattr(sys, "stdout", console)
    put("text")
    assert console.getvalue() == "text"
