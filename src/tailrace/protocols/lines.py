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
        lines = self.feed_block(data).split(b"\n")
        lines.pop()
        return lines

    def feed_block(self, data: bytes) -> bytes:
        """Takes bytes, returns the lines they finish in one piece, each with its LF."""
        if self.overflow:
            return b""
        cut = data.rfind(b"\n") + 1
        if not cut:
            self._hold(data)
            return b""
        block = data[:cut]
        if self._parts:
            block = b"".join((*self._parts, block))
            self._parts.clear()
            self._held = 0
        if len(block) > self._limit:
            block = self._within_limit(block)
        self.taken += len(block)
        self._hold(data[cut:])
        return block

    @property
    def held(self) -> int:
        """Bytes of the open line."""
        return self._held

    def peek(self) -> bytes:
        """Returns the open line so far."""
        return b"".join(self._parts)

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

    def _within_limit(self, block: bytes) -> bytes:
        start = 0
        while start < len(block):
            end = block.index(b"\n", start)
            if end - start > self._limit:
                self.overflow = True
                return block[:start]
            start = end + 1
        return block
