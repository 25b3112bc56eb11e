"""The gateway as a process of its own, which can be killed, stopped for a while, and started again on the same port."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

from tests.web.process import ROOT, held_port

PATIENCE = 60.0  # seconds that it may take to start, or to end


class Gateway:
    """`tailrace serve`.

    Args:
        upstream: the model server.
        folder: where it keeps its conversations.
        options: of the command line, besides.
        home: where models are; the same folder if None.
    """

    def __init__(self, upstream: str, folder: Path, *options: str, home: Path | None = None) -> None:
        self._command = [sys.executable, "-m", "tailrace", "--lang", "en", "serve", "--upstream", upstream]
        self._command += ["--database", str(folder / "conversations.db"), *options]
        self._home = home or folder
        self._open = contextlib.ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self.port = 0
        self.output: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def process(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def __enter__(self) -> Gateway:
        with contextlib.ExitStack() as stack:
            self.port = stack.enter_context(held_port())
            self.start()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._open:
            if self.process.poll() is None:
                self.thaw()
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(PATIENCE)
            self.kill()

    def start(self) -> None:
        """Starts it, on the same port each time; returns when it takes requests."""
        ready = threading.Event()
        env = {**os.environ, "TAILRACE_HOME": str(self._home), "PYTHONUTF8": "1"}
        command = [*self._command, "--port", str(self.port)]
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        if not ready.wait(PATIENCE) or self._process.poll() is not None:
            self.kill()
            raise AssertionError("".join(self.output))

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def empty(self) -> None:
        """Deletes all conversations."""
        while conversations := json.loads(self._call("GET", "/conversations"))["conversations"]:
            for conversation in conversations:
                with contextlib.suppress(urllib.error.HTTPError):  # a page that just closed may have deleted it
                    self._call("DELETE", f"/conversations/{conversation['id']}")

    def freeze(self) -> None:
        """Stops it in its tracks, as a machine does that falls asleep."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        self.process.send_signal(signal.SIGCONT)

    def _call(self, method: str, path: str) -> bytes:
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                body: bytes = response.read()
                return body
        except urllib.error.HTTPError as error:
            error.close()
            raise

    def _read(self, ready: threading.Event) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.output.append(line)
            if self.url in line:
                ready.set()
        ready.set()  # it has ended
