"""The official JavaScript clients, driven from Python: installed once for all test runs, told what to do line by line.

A script of theirs reads commands from its input, one JSON object a line, and answers each with one line.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import give_up
from tests.programs import need

HERE = Path(__file__).parent
_PINS = ("package.json", "package-lock.json", ".npmrc")
_PATIENCE = 60.0  # seconds, for whatever is waited for
_INSTALLING = 100.0


def installed(home: Path) -> Path:
    """Returns a folder that has the clients of the lock file, installed there if need be.

    Args:
        home: where tests keep what they fetch.
    """
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in _PINS)).hexdigest()[:16]
    folder = home / "clients" / digest
    if folder.exists():
        return folder
    npm = need("npm")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        fresh = Path(temporary) / "fresh"
        fresh.mkdir()
        for name in _PINS:
            shutil.copy(HERE / name, fresh)
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=_INSTALLING, check=False)
        except subprocess.TimeoutExpired:
            give_up("npm does not come to an end")
        if done.returncode != 0:
            give_up(f"npm cannot install the clients: {done.stderr[-500:]}")
        with contextlib.suppress(OSError):  # another test run was faster
            fresh.rename(folder)
    return folder


class Script:
    """A script that runs.

    Args:
        process: Node.
        output: what it prints on its error output.
    """

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self._process = process
        self._output = output
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def tell(self, do: str, **arguments: Any) -> None:
        """Gives a command, and waits for nothing."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> Any:
        """Waits for the next answer."""
        line = self._lines.get(timeout=_PATIENCE)
        assert line, f"the script ended: {self._output.read_text()}"
        answer = json.loads(line)
        assert "bug" not in answer, answer["bug"]
        return answer

    def ask(self, do: str, **arguments: Any) -> Any:
        """Gives a command, and waits for its answer."""
        self.tell(do, **arguments)
        return self.hear()


@contextlib.contextmanager
def script(clients: Path, name: str, *arguments: str) -> Iterator[Script]:
    """Runs a script of this folder with the clients at hand.

    Args:
        clients: where they are installed.
        name: of the script.
        arguments: its command line.
    """
    node = need("node")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for file in (name, "commands.mjs"):
            shutil.copy(HERE / file, home)
        (home / "node_modules").symlink_to(clients / "node_modules")
        output = home / "output"
        with output.open("w") as errors:
            process = subprocess.Popen(
                [node, str(home / name), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env={**os.environ, "NODE_ENV": "test"},
            )
        try:
            yield Script(process, output)
        finally:
            process.kill()
            process.communicate()
