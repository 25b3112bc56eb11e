"""Decompression: bodies that come as gzip or deflate, though nobody asked for it, unpacked as they come."""

from __future__ import annotations

import zlib

from tailrace import errors

__all__ = ["Inflater", "inflater"]

_INFLATE = 256 * 1024  # bytes inflated at a time, so that a bomb meets the line limit before it fills memory
_BOMB_RATIO, _BOMB_FLOOR = 1000, 16 * 1024 * 1024


class Inflater:
    """Unpacks gzip and deflate as it comes, bounded in ratio, and a piece at a time.

    Attributes:
        rest: packed bytes that wait until what came out before them is taken.
        pending: True until the end of the body was told by `eof`.
    """

    def __init__(self, name: str, window: int) -> None:
        self._name = name
        self._window = window
        self._packed = self._unpacked = 0
        self._z = zlib.decompressobj(window)
        self.rest = b""
        self.pending = False

    def feed(self, data: bytes) -> bytes:
        """Takes packed bytes, returns the first piece of what they hold."""
        self._packed += len(data)
        self.rest = data
        self.pending = True
        return self.take()

    def take(self) -> bytes:
        """Returns the next piece; empty if the bytes fed finish none."""
        piece = b""
        try:
            while self.rest and not piece:
                piece = self._z.decompress(self.rest, _INFLATE)
                self.rest = self._z.unconsumed_tail
                if self._z.eof:  # gzip members may follow each other
                    self.rest = self._z.unused_data
                    self._z = zlib.decompressobj(self._window)
        except zlib.error as error:
            raise errors.ProtocolError(f"{self._name} sent bytes that do not unpack: {error}") from error
        self._unpacked += len(piece)
        if self._unpacked > _BOMB_FLOOR and self._unpacked > _BOMB_RATIO * (self._packed - len(self.rest)):
            raise errors.ProtocolError(f"{self._name} sent a decompression bomb")
        return piece

    def eof(self) -> bytes:
        """The body ended."""
        self.pending = False
        return b""


def inflater(encoding: str, name: str) -> Inflater | None:
    """Returns what unpacks a body; None if it is not packed.

    Raises:
        ProtocolError: it is packed in a way that nobody asked for.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip"):
        return Inflater(name, 16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return Inflater(name, zlib.MAX_WBITS)
    raise errors.ProtocolError(f"{name} packed its answer with {encoding!r}, which nobody asked for")
