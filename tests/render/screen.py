"""A terminal in memory: as much of one as our frames may use, and an error for all else."""

from __future__ import annotations

import re

from tailrace.render.layout import text_width

_CODE = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|\x1b\]8;;([^\x1b\x07]*)\x1b\\")


class Screen:
    """A terminal with a scrollback.

    Args:
        width: columns.
        height: lines on the screen.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.rows: list[list[str]] = [[]]  # the scrollback, and then the screen
        self.top = 0  # the first row of the screen
        self.y = self.x = 0  # the cursor, its row counted from the first of all
        self.wraps = True
        self.hidden = False
        self.writes = 0
        self.highest = 0  # the cursor was never above this row since it was set
        self.modes: dict[str, str] = {}

    def write(self, text: str) -> None:
        """Obeys one write."""
        self.writes += 1
        at = 0
        while at < len(text):
            char = text[at]
            if char == "\x1b":
                found = _CODE.match(text, at)
                assert found, f"unknown code {text[at : at + 12]!r}"
                if found[2]:
                    self._obey(found[1], found[2])
                at = found.end()
                continue
            at += 1
            if char == "\r":
                self.x = 0
            elif char == "\n":
                self._down()
            else:
                assert char.isprintable() or char in "\u3000\xa0\u200d", f"control character {char!r}"
                self._put(char)

    def _down(self) -> None:
        self.y += 1
        while len(self.rows) <= self.y:
            self.rows.append([])
        self.top = max(self.top, self.y - self.height + 1)

    def _put(self, char: str) -> None:
        width = text_width(char)
        if width == 0 or char == "\ufe0f":
            return
        if self.x + width > self.width:
            if self.wraps:
                self.x = 0
                self._down()
            else:
                self.x = self.width - width
        row = self.rows[self.y]
        row += [" "] * (self.x - len(row))
        row[self.x : self.x + width] = [char, *[""] * (width - 1)]
        self.x += width

    def _obey(self, parameters: str, code: str) -> None:
        number = int(parameters) if parameters.isdigit() else 1
        if code == "A":
            assert self.y - number >= self.top, "went above the screen"
            self.y -= number
        elif code == "B":
            assert self.y + number < self.top + self.height, "went below the screen"
            self.y += number
        elif code == "K":
            del self.rows[self.y][self.x :]
        elif code == "J":
            del self.rows[self.y][self.x :]
            del self.rows[self.y + 1 :]
        elif code == "h" or code == "l":
            assert parameters in {"?7", "?25", "?2026"}
            self.modes[parameters] = code
            self.wraps = self.modes.get("?7", "h") == "h"
            self.hidden = self.modes.get("?25", "h") == "l"
        else:
            assert code == "m", f"unknown code {code}"

    def resize(self, width: int, height: int, *, reflow: bool, keep_end: bool = False) -> None:
        """Changes the size as terminals do: with lines broken anew, or cut off.

        Args:
            width: columns.
            height: lines on the screen.
            reflow: lines are broken anew.
            keep_end: the last rows stay on the screen, and a cursor above them is moved into it, as tmux does it.
        """
        rows: list[list[str]] = []
        cursor = 0
        for at, row in enumerate(self.rows):
            if at == self.y:
                cursor = len(rows)
            if reflow:
                rows += self._broken(row, width)
            else:
                rows.append(row[:width])
        self.rows, self.y = rows, cursor
        assert self.x == 0
        self.width, self.height = width, height
        self.top = max(len(rows) - height, 0)
        if keep_end:
            self.y = max(self.y, self.top)
        elif self.y < self.top:  # terminals drop lines below the cursor rather than the cursor's
            self.top = self.y
        del self.rows[self.top + height :]

    @staticmethod
    def _broken(row: list[str], width: int) -> list[list[str]]:
        out: list[list[str]] = [[]]
        for at, cell in enumerate(row):
            wide = at + 1 < len(row) and row[at + 1] == ""
            if len(out[-1]) + 1 + wide > width and cell != "":
                out.append([])
            out[-1].append(cell)
        return out

    @property
    def text(self) -> list[str]:
        """All lines, the scrollback too, without what is empty at their ends."""
        lines = ["".join(row).rstrip() for row in self.rows]
        while lines and not lines[-1]:
            lines.pop()
        return lines
