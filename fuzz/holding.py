"""What has to hold whatever comes, and how a check says that it does not."""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec

from tailrace.events import Ended, Event

__all__ = ["BrokenError", "Decoder", "cut", "every_way", "hold", "shallow", "without_surplus"]

_SURPLUS = re.compile(r"\d+ (lines|events) after the end of the answer were dropped")
_FEW = 48  # bytes of an input that is decoded byte by byte too
_ROOM = 120  # calls within calls that an input gets, so that even a short one is nested too deeply


class BrokenError(AssertionError):
    """Something that has to hold does not."""


class Decoder(Protocol):
    """What every decoder of an answer is."""

    @property
    def ended(self) -> bool:
        """True once the ending came out."""

    def feed(self, data: bytes) -> list[Event]:
        """Takes bytes as they came."""

    def eof(self) -> list[Event]:
        """The server closed."""


def hold(true: bool, what: str, *values: Any) -> None:
    """Makes sure that something is true.

    Raises:
        BrokenError: it is not.
    """
    if not true:
        raise BrokenError(f"{what}: {', '.join(map(repr, values))}")


def cut(data: bytes) -> list[bytes]:
    """Cuts an input at one place or two, or everywhere. They depend on all of it: another input is cut elsewhere."""
    chance = zlib.crc32(data)
    if len(data) <= _FEW and not chance % 64:
        return [data[at : at + 1] for at in range(len(data))]
    first, second = (chance >> 6) % (len(data) + 1), (chance >> 16) % (len(data) + 1)
    if first > second:
        return [data[:first], data[first:]]
    return [data[:first], data[first:second], data[second:]]


def every_way(make: Callable[[], Decoder], data: bytes) -> list[Event]:
    """Decodes an input whole and in pieces: the events are the same, and there is one ending, which is last.

    What the ending says of surplus depends on what came with it, so that is not compared.
    """
    whole = _decoded(make(), [data])
    hold([type(event) for event in whole].count(Ended) == 1, "not one ending", whole)
    hold(type(whole[-1]) is Ended, "something after the ending", whole)
    for event in whole:
        msgspec.json.encode(event)
    decoder = make()
    pieces = _decoded(decoder, cut(data))
    hold(decoder.feed(b"more\n\n") == [], "something after the end")
    hold(without_surplus(pieces) == without_surplus(whole), "cut another way", pieces, whole)
    return whole


def _decoded(decoder: Decoder, pieces: Sequence[bytes]) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    events += decoder.eof()
    hold(decoder.ended and decoder.eof() == [], "not ended", events)
    return events


def without_surplus(events: Sequence[Event]) -> list[Event]:
    """The events without the ending's remark on what came after it."""
    last = events[-1] if events else None
    if isinstance(last, Ended) and last.warnings:
        warnings = tuple(warning for warning in last.warnings if not _SURPLUS.fullmatch(warning))
        return [*events[:-1], msgspec.structs.replace(last, warnings=warnings)]
    return list(events)


@contextmanager
def shallow() -> Iterator[None]:
    """Gives what is called little room for calls within calls: what is nested too deeply is short then."""
    depth, frame = 0, sys._getframe()
    while frame.f_back is not None:
        depth, frame = depth + 1, frame.f_back
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(depth + _ROOM)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
