"""The history of typed lines, kept between sessions: a JSON string a line, so that a damaged line costs only itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit.history import History

from tailrace.i18n import say
from tailrace.terminal.repl import places

__all__ = ["LineHistory"]

_KEPT = 2000  # lines
_LONGEST = 100_000  # characters of one of them


class LineHistory(History):
    """The history of a file.

    Args:
        path: the file; it may not exist yet.
        tell: takes a remark, at most one for each thing that can go wrong.

    Attributes:
        is_on: False to keep nothing from now on.
    """

    def __init__(self, path: Path, tell: Callable[[str], object]) -> None:
        super().__init__()
        self.is_on = True
        self._path = path
        self._tell = tell
        self._told = False

    def load_history_strings(self) -> Iterable[str]:
        """Returns the lines of the file, the newest first."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            self._tell(say("repl.history_unread", path=self._path, reason=error.strerror))
            return []
        lines: list[str] = []
        damaged = 0
        for raw in data.splitlines():
            try:
                line = json.loads(raw)
                line.encode()
                lines.append(line)
            except (ValueError, AttributeError, RecursionError):
                damaged += 1
        if damaged:
            self._tell(say("repl.history_damaged", path=self._path, count=damaged))
        if len(lines) > 2 * _KEPT:
            self._shorten(lines[-_KEPT:])
        return reversed(lines[-_KEPT:])

    def store_string(self, string: str) -> None:
        """Appends a line to the file."""
        if not self.is_on or len(string) > _LONGEST:
            return
        try:
            places.make_folder(self._path.parent)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            with os.fdopen(os.open(self._path, flags, 0o600), "ab") as file:
                if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o777 != 0o600:
                    self._path.chmod(0o600)  # an earlier version's, or by an odd umask
                file.write(json.dumps(string, ensure_ascii=False).encode(errors="replace") + b"\n")
        except OSError as error:
            if not self._told:
                self._told = True
                self._tell(say("repl.history_unwritten", path=self._path, reason=error.strerror))

    def _shorten(self, lines: list[str]) -> None:
        from tailrace.terminal.repl.tree import write_whole

        try:
            write_whole(self._path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        except OSError:
            pass  # it is only long
