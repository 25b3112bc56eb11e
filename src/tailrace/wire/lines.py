"""Lines: byte chunks of any size to lines, cut on the byte LF and on nothing else.

``str.splitlines`` and the ``iter_lines`` of common clients also cut at U+0085 and U+2028, which JSON strings may hold
as they are; cutting there breaks the JSON.
"""

from __future__ import annotations

__all__ = ["MAX_LINE", "LineSplitter"]

MAX_LINE = 16 * 1024 * 1024
"""Bytes of the longest line taken. Ollama's own client and server stop at 8,000,000."""


class LineSplitter:
    """Collects bytes and hands out finished lines, without their LF.

    Attributes:
        overflow: True once a line outgrew the limit; nothing more comes out then.
        taken: bytes handed out in finished lines so far, for error positions.
    """

    __slots__ = ("_held", "_limit", "_parts", "overflow", "taken")

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []  # the open line; joined once, so a long line is not copied per read
        self._held = 0
        self.overflow = False
        self.taken = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Takes bytes, returns the lines they finish."""
        if self.overflow:
            return []
        lines = data.split(b"\n")
        tail = lines.pop()
        if not lines:
            self._hold(tail)
            return lines
        if self._parts:
            self._parts.append(lines[0])
            lines[0] = b"".join(self._parts)
            self._parts.clear()
            self._held = 0
        if len(data) > self._limit or len(lines[0]) > self._limit:
            lines = self._within_limit(lines)
        self.taken += sum(map(len, lines)) + len(lines)
        if tail:
            self._hold(tail)
        return lines

    def eof(self) -> bytes:
        """Returns what is left: a last line without LF, or half a line. Empty if nothing is."""
        rest = b"".join(self._parts)
        self._parts.clear()
        self._held = 0
        return rest

    def _hold(self, tail: bytes) -> None:
        if tail:
            self._parts.append(tail)
            self._held += len(tail)
            if self._held > self._limit:
                self.overflow = True
                self._parts.clear()

    def _within_limit(self, lines: list[bytes]) -> list[bytes]:
        for index, line in enumerate(lines):
            if len(line) > self._limit:
                self.overflow = True
                return lines[:index]
        return lines
