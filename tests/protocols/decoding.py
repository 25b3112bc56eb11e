"""Decoding in every way that a network may deliver: whole, byte by byte, cut anywhere, and with bytes left over."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from hypothesis import HealthCheck, settings

from tailrace.events import Ended, Event

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
"""For hypothesis: a busy machine fails no test."""

FIXTURES = Path(__file__).parent / "fixtures"
_SURPLUS = re.compile(r"\d+ (lines|events) after the end of the answer were dropped")
_CUTS = 300  # places where a long stream is cut in two; a short one is cut everywhere


class Decoder(Protocol):
    """What every decoder of a wire is."""

    @property
    def ended(self) -> bool: ...
    def feed(self, data: bytes) -> list[Event]: ...
    def eof(self) -> list[Event]: ...


def recorded(name: str) -> bytes:
    """The bytes of a recording."""
    return (FIXTURES / name).read_bytes()


def recordings(*patterns: str) -> list[str]:
    """The names of recordings."""
    return sorted(path.name for pattern in patterns for path in FIXTURES.glob(pattern))


def decode(decoder: Decoder, pieces: Iterable[bytes]) -> list[Event]:
    """What a decoder makes of bytes that come in pieces."""
    events: list[Event] = []
    for piece in pieces:
        events += decoder.feed(piece)
    return events + decoder.eof()


def one_by_one(data: bytes) -> list[bytes]:
    """Each byte by itself."""
    return [data[at : at + 1] for at in range(len(data))]


def sealed(events: Sequence[Event]) -> Sequence[Event]:
    """Checks what holds for whatever a server sends: one ending, which is last, and nothing that JSON cannot hold."""
    assert [type(event) for event in events].count(Ended) == 1
    assert type(events[-1]) is Ended
    for event in events:
        msgspec.json.encode(event)
    return events


def every_way(make: Callable[[], Decoder], data: bytes) -> list[Event]:
    """Decodes `data` in every way, checks that all of them agree, and returns the events.

    What the last event says of surplus lines depends on whether they came with the ending, so that is not compared.
    """
    whole = decode(make(), [data])
    sealed(whole)
    expected = without_surplus(whole)
    assert without_surplus(decode(make(), one_by_one(data))) == expected
    for cut in range(1, len(data), max(1, len(data) // _CUTS)):
        assert without_surplus(decode(make(), [data[:cut], b"", data[cut:]])) == expected

    decoder = make()
    begun = decoder.feed(data)
    if decoder.ended:  # the ending is in the data: what is left over changes nothing
        assert decode(make(), [data, b"left over\n\n", b"\xff{"]) == begun
        assert without_surplus(decode(make(), [data + b"left over\n\n\xff{"])) == expected
        assert (decoder.eof(), decoder.feed(b"more\n\n"), decoder.eof()) == ([], [], [])
    return whole


def without_surplus(events: Sequence[Event]) -> list[Event]:
    """The events without the ending's remark on surplus lines."""
    last = events[-1] if events else None
    if isinstance(last, Ended):
        warnings = tuple(warning for warning in last.warnings if not _SURPLUS.fullmatch(warning))
        return [*events[:-1], msgspec.structs.replace(last, warnings=warnings)]
    return list(events)


def cut_at(data: bytes, places: Iterable[int]) -> list[bytes]:
    """`data` cut at the places, in order."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]
