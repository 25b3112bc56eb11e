"""A terminal that goes away without a signal, and bytes typed that are no text: a pty held by the test itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.cli.driver import Command

from tailrace.testing import FakeOllama, hold, say

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pty")

DEADLINE = 60.0  # no test waits for it, unless something is wrong


class Terminal:
    """A chat on a pty that is not its controlling terminal: when it is closed, no SIGHUP comes.

    Args:
        env: the environment of the command.
        errors: the file that takes its standard error.
    """

    def __init__(self, env: dict[str, str], errors: Path) -> None:
        self.ours, theirs = os.openpty()
        self.errors = errors
        self.seen = b""
        with errors.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tailrace", "chat"],
                env={**env, "TERM": "xterm"},
                stdin=theirs,
                stdout=theirs,
                stderr=file,
                start_new_session=True,
            )
        os.close(theirs)

    def wait(self, text: str) -> None:
        """Reads until `text` has come, and forgets what was before it; answers when asked where the cursor is."""
        while text.encode() not in self.seen:
            data = os.read(self.ours, 65536)
            if b"\x1b[6n" in data:
                os.write(self.ours, b"\x1b[1;1R")
            self.seen += data
        self.seen = self.seen.split(text.encode(), 1)[1]

    def type(self, data: bytes) -> None:
        """Types."""
        os.write(self.ours, data)

    def close(self) -> None:
        """Goes away."""
        if self.ours >= 0:
            os.close(self.ours)
            self.ours = -1

    def end(self) -> int:
        """Waits until the command has ended; its exit code."""
        return self.process.wait(DEADLINE)


@pytest.fixture
def server() -> Iterator[FakeOllama]:
    with FakeOllama(models=["m"]) as server:
        yield server


Open = Callable[[], Terminal]


@pytest.fixture
def terminal(server: FakeOllama, tmp_path: Path) -> Iterator[Open]:
    """Opens a chat on a pty."""
    opened: list[Terminal] = []

    def open_() -> Terminal:
        command = Command(tmp_path / "home", {"OLLAMA_HOST": server.url, "TAILRACE_MODEL": "m"})
        opened.append(Terminal(dict(command.environment()), tmp_path / "errors"))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()
        with suppress(subprocess.TimeoutExpired):
            each.process.wait(5)
        each.process.kill()
        each.process.wait()


@pytest.mark.parametrize("where", ["answer", "prompt"])
def test_a_terminal_that_vanishes_without_a_signal(server: FakeOllama, terminal: Open, state: Path, where: str) -> None:
    """It ends quietly, and what was said is in the state folder."""
    server.script(say("half ", "done"), *([hold(), say(" more" * 9)] if where == "answer" else []))
    pty = terminal()
    pty.wait(">>> ")
    pty.type(b"hi\r")
    pty.wait("done")
    if where == "prompt":
        pty.wait(">>> ")
    pty.close()
    if where == "answer":
        server.release()
    assert pty.end() == 129  # as after SIGHUP, which a terminal that is not the controlling one does not send
    assert "Traceback" not in pty.errors.read_text()
    (file,) = (state / "conversations").glob("closed-*.json")
    saved = json.loads(file.read_text())
    assert saved["messages"][0]["content"] == "hi"
    assert saved["messages"][1]["content"].startswith("half done")


@pytest.mark.parametrize("pasted", [False, True])
def test_bytes_that_are_not_utf8(server: FakeOllama, terminal: Open, pasted: bool) -> None:
    """They are sent as U+FFFD, and the conversation goes on."""
    server.always(say("yes"))
    pty = terminal()
    pty.wait(">>> ")
    raw = b"a\xff\xfeb \xe4\xbd\xa0"
    pty.type((b"\x1b[200~" + raw + b"\x1b[201~" if pasted else raw) + b"\r")
    content = server.wait_for_request(path="/api/chat").json["messages"][0]["content"]
    assert (content[0], content[-3:]) == ("a", "b 你")
    assert "\ufffd" in content
    content.encode()
    pty.wait("yes")
    pty.wait(">>> ")
    pty.type(b"/bye\r")
    assert pty.end() == 0
    assert "Traceback" not in pty.errors.read_text()
