"""Inputs at random, where no fuzzer is installed that looks at what they reach: kept ones, changed in several ways."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

__all__ = ["LONGEST", "inputs"]

LONGEST = 1024  # bytes
_ODD = (b"\0", b"\xff", b"\xed\xa0\x80", b"\r", b"\n", b"\xef\xbb\xbf", b'"', b"\\", b"{", b"}", b"[", b"]", b" ")


def inputs(kept: Sequence[bytes], words: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """Yields so many inputs; the same for the same seed. The kept ones come first, as they are.

    Args:
        kept: of the target.
        words: what its inputs are made of.
    """
    yield from kept[:count]
    chance = random.Random(seed)
    for _ in range(count - len(kept)):
        data = chance.choice(kept)
        for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
            data = _changed(data, kept, words, chance)
        yield data[:LONGEST]


def _changed(data: bytes, kept: Sequence[bytes], words: Sequence[bytes], chance: random.Random) -> bytes:
    """Changes an input once."""
    start, end = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
    match chance.randrange(8):
        case 0:  # a piece is gone
            return data[:start] + data[min(end, start + 16) :]
        case 1:  # a piece comes again
            return data[:end] + data[start:end] + data[end:]
        case 2:  # a word of its language
            return data[:start] + chance.choice(words) + data[start:]
        case 3:  # a word in the place of something
            return data[:start] + chance.choice(words) + data[end:]
        case 4:  # the end of another
            other = chance.choice(kept)
            return data[:start] + other[chance.randint(0, len(other)) :]
        case 5:  # a bit
            return (
                data[:start] + bytes([data[start] ^ 1 << chance.randrange(8)]) + data[start + 1 :]
                if data[start:]
                else data
            )
        case 6:
            return data[:start] + chance.choice(_ODD) + data[start:]
        case _:
            return data[:start]
