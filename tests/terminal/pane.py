"""A terminal of its own for the command: a pane of a private tmux, typed into and read as a person would."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.programs import need

DEADLINE = 60.0  # no test waits for it, unless something is wrong
PROMPT = ">>> "
_NUMBERS = itertools.count()


class Pane:
    """A pane.

    Args:
        env: the environment of the command.
        command: what is run in it.
        folder: where it runs.
        size: columns and lines.
    """

    def __init__(
        self, env: Mapping[str, str], command: Sequence[str], folder: Path, size: tuple[int, int] = (100, 30)
    ) -> None:
        self._tmux = [need("tmux"), "-L", f"tailrace-{os.getpid()}-{next(_NUMBERS)}", "-f", "/dev/null", "-u"]
        # The shell tells how it ended, and stays so that the screen does.
        script = f'{shlex.join(command)}; echo "[exit $?]"; exec sleep 1000'
        columns, lines = size
        # Else what is cleared below a prompt in the first line would stay in the history, a second time. An old tmux
        # has neither the option (-q) nor that habit.
        start = ["start-server", ";", "set-option", "-gq", "scroll-on-clear", "off", ";"]
        start += ["new-session", "-d", "-x", str(columns), "-y", str(lines), "-c", str(folder), script]
        clean = {name: value for name, value in env.items() if not name.startswith("TMUX")}
        subprocess.run([*self._tmux, *start], env=clean, check=True, timeout=DEADLINE)

    def tmux(self, *arguments: str, stdin: str | None = None) -> str:
        """Asks tmux."""
        done = subprocess.run(
            [*self._tmux, *arguments], input=stdin, capture_output=True, text=True, check=True, timeout=DEADLINE
        )
        return done.stdout

    def screen(self) -> str:
        """What can be seen, and what has scrolled away; long lines are one."""
        return self.tmux("capture-pane", "-p", "-J", "-S", "-").rstrip()

    def rows(self) -> list[str]:
        """The lines that can be seen, as they are broken."""
        return self.tmux("capture-pane", "-p").splitlines()

    def wait(self, text: str, times: int = 1) -> str:
        """Waits until the screen has `text` so many times; returns the screen."""
        return self.wait_for(re.escape(text), times)

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """Waits until so many places of the screen match a regular expression; returns the screen."""
        deadline = time.monotonic() + DEADLINE
        while len(re.findall(pattern, screen := self.screen())) < times:
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} did not appear {times} times; the screen:\n{screen}")
            time.sleep(0.02)
        return screen

    def wait_gone(self, text: str) -> str:
        """Waits until the screen does not have `text`; returns the screen."""
        deadline = time.monotonic() + DEADLINE
        while text in (screen := self.screen()):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} is still there; the screen:\n{screen}")
            time.sleep(0.02)
        return screen

    def ready(self, times: int = 1) -> str:
        """Waits for the prompt at the end of the screen, for the `times`-th prompt or a later one."""
        deadline = time.monotonic() + DEADLINE
        while True:
            screen = self.screen()
            last = screen.rsplit("\n", 1)[-1]
            if (last == PROMPT.strip() or last.startswith((PROMPT + "Send", PROMPT + "输入"))) and screen.count(
                PROMPT.strip()
            ) >= times:
                return screen
            if time.monotonic() > deadline:
                raise AssertionError(f"no prompt; the screen:\n{screen}")
            time.sleep(0.02)

    def type(self, text: str, *keys: str) -> None:
        """Types text, then presses keys, by default Enter."""
        if text:
            self.tmux("send-keys", "-l", "--", text)
        self.tmux("send-keys", *(keys or ("Enter",)))

    def press(self, *keys: str) -> None:
        """Presses keys, by tmux's names."""
        self.tmux("send-keys", *keys)

    def paste(self, text: str) -> None:
        """Pastes, as a terminal does when the program wants to know it."""
        self.tmux("load-buffer", "-", stdin=text)
        self.tmux("paste-buffer", "-p", "-r")

    def resize(self, columns: int, lines: int) -> None:
        """Changes the size."""
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def say(self, line: str, expect: str) -> str:
        """Types a line when the prompt is there, and waits until the prompt is back below `expect`."""
        before = self.ready().count(PROMPT.strip())
        self.type(line)
        self.wait(expect)
        return self.ready(before + 1)

    def end(self) -> int:
        """Waits until the command has ended; its exit code."""
        screen = self.wait("[exit ")
        return int(screen.split("[exit ")[1].split("]")[0])

    def close(self) -> None:
        """Ends everything in it; the command gets SIGHUP."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False, timeout=DEADLINE)
