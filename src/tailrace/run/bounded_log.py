"""A log with a limit in bytes. Older events in it are packed, which takes a fifth of the memory."""

from __future__ import annotations

import copy
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby, pairwise
from operator import attrgetter
from typing import Any

import msgspec

from tailrace.errors import EvictedError, LogFullError
from tailrace.events import Ended, Event, TextDelta, ThinkingDelta
from tailrace.run.log import MemoryLog
from tailrace.run.reply import Reply, fold

__all__ = ["BoundedLog"]

_COST = 160  # bytes that an event takes beside its text: the object, its place, its time
_PACKED = 24  # the same of one that is packed
_PACK = 64  # events: a pack takes up more of them until it has as many
_NEW = 8  # newest events, never packed: a reader that keeps up reads only these
_STEP = 16  # events that are packed together
_FEW = 8  # events of one kind that are no pack of their own

_Kind = type[TextDelta] | type[ThinkingDelta]


class _Pack:
    """Pieces of text that came one after another, in one string."""

    __slots__ = ("kind", "lengths", "text")

    def __init__(self, kind: _Kind, texts: Sequence[str], before: _Pack | None = None) -> None:
        self.kind = kind
        lengths: Iterable[int] = map(len, texts)
        if before is None:
            self.text = "".join(texts)
        else:
            self.text = before.text + "".join(texts)
            lengths = [*before.lengths, *lengths]
        try:
            self.lengths: Sequence[int] = bytes(lengths)
        except ValueError:  # one length does not fit into a byte
            self.lengths = array("Q", [*(before.lengths if before is not None else ()), *map(len, texts)])

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Event]:
        kind, text = self.kind, self.text
        return (kind(text[start:end]) for start, end in pairwise(accumulate(self.lengths, initial=0)))

    def whole(self) -> Iterable[Event]:
        """Returns events that fold to the same reply."""
        return (self.kind(self.text),)


_text_of: Callable[[Any], str] = attrgetter("text")
_logprobs_of: Callable[[Any], Any] = attrgetter("logprobs")


def _kind(event: Event) -> _Kind | None:
    """Returns of what kind an event is, if it has nothing but text."""
    kind = type(event)
    if kind is ThinkingDelta or (kind is TextDelta and not event.logprobs):  # type: ignore[union-attr]
        return kind
    return None


def _by_kind(events: list[Event]) -> Iterable[tuple[_Kind | None, list[Event]]]:
    """Returns events that come one after another and are of one kind together."""
    if set(map(type, events)) == {TextDelta} and not any(map(_logprobs_of, events)):
        return ((TextDelta, events),)  # as nearly always, and a step in C for each of them
    return ((kind, list(group)) for kind, group in groupby(events, _kind))


_Packs = list[tuple[int, "_Pack | list[Event]"]]
"""Packs in order, each with how many events were ever appended before it."""

_Kept = tuple[int, int, list[Event], _Packs, Reply]
"""How many events are no longer kept; how many come before the new ones; those; the packs between; the fold of the
first ones. One value, so that readers on other threads never see two that do not belong together."""


def _add(packs: _Packs, start: int, events: list[Event]) -> int:
    """Adds events to packs; returns how many of them have become text."""
    packed = 0
    for kind, same in _by_kind(events):
        begin, last = packs[-1] if packs else (start, [])
        if not 0 < len(last) < _PACK:
            begin, last = start, []
        goes_on = isinstance(last, _Pack) and last.kind is kind
        pack: _Pack | list[Event]
        if kind is not None and (goes_on or len(same) >= _FEW):
            pack = _Pack(kind, list(map(_text_of, same)), last if goes_on and isinstance(last, _Pack) else None)
            packed += len(same)
        else:
            goes_on = isinstance(last, list) and bool(last)
            pack = [*last, *same] if isinstance(last, list) else same
        if goes_on:
            packs[-1] = begin, pack  # a reader that knows of fewer reads no more of them
        else:
            packs.append((start, pack))
        start += len(same)
    return packed


def _cut(packs: _Packs, after: int, end: int) -> Iterator[_Pack | list[Event]]:
    """Yields the packs with the events after number `after`, up to number `end`."""
    for start, pack in packs[max(0, bisect_right(packs, after, key=_start) - 1) :]:
        if start >= end:
            return
        if start >= after and start + len(pack) <= end:
            yield pack
        else:
            yield list(pack)[max(0, after - start) : end - start]


def _start(place: tuple[int, object]) -> int:
    return place[0]


class BoundedLog(MemoryLog):
    """A log in memory that stays within a limit of bytes.

    Over the limit the oldest events are folded into what `fold` returns: the text is kept, a cursor before them is not.
    An answer whose text alone is larger than the limit ends its run.

    Args:
        limit: bytes, as estimated.

    Attributes:
        size: bytes taken, as estimated.
    """

    __slots__ = ("_kept", "_limit", "size")

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._kept: _Kept | None = None  # while all of them are new: one object less that each token touches
        self.size = 0

    @property
    def first(self) -> int:  # type: ignore[override]
        """The number of the first event that is still kept."""
        return 1 if self._kept is None else self._kept[0] + 1

    @property
    def end(self) -> int:
        """The number of the last event."""
        events, kept = self._events, self._kept
        return len(events) if kept is None else kept[1] + len(kept[2])

    def append(self, events: Sequence[Event]) -> None:
        """Appends and wakes the readers; many in parts, which are packed before the next one needs room.

        Raises:
            LogFullError: the answer is larger than the limit; the part that makes it so was not appended.
            RuntimeError: the log is sealed; a bug in tailrace.
        """
        if len(events) > _PACK:
            for start in range(0, len(events), _PACK):
                self.append(events[start : start + _PACK])
            return
        size = _COST * len(events) + sum(map(_text, events))
        if self.size + size > self._limit and type(events[-1]) is not Ended:
            self._make_room(size)
        self.size += size
        super().append(events)
        if len(self._events) >= _STEP + _NEW:
            self._pack()

    def _pack(self) -> None:
        """Packs all but the last few."""
        gone, start, events, packs, folded = self._whole()
        self.size -= (_COST - _PACKED) * _add(packs, start, events[:-_NEW])
        self._keep((gone, start + len(events) - _NEW, events[-_NEW:], packs, folded))

    def _make_room(self, size: int) -> None:
        """Folds the older half of the packs or, without any, of the events; more of them if that is not enough."""
        while self.end >= self.first and self.size + size > self._limit // 2:
            self._drop()
        if self.size + size > self._limit:
            raise LogFullError(f"the answer is larger than the {self._limit:,} bytes that a run may keep")

    def _drop(self) -> None:
        gone, start, events, packs, folded = self._whole()
        if packs:
            count = (len(packs) + 1) // 2
            old, packs = [pack for _, pack in packs[:count]], packs[count:]
            gone += sum(map(len, old))
            self.size -= sum((_PACKED if isinstance(pack, _Pack) else _COST) * len(pack) for pack in old)
        else:
            count = (len(events) + 1) // 2
            old, events = [events[:count]], events[count:]
            gone = start = start + count
            self.size -= _COST * count
        self._keep((gone, start, events, packs, fold(_all(old), copy.copy(folded))))

    def _keep(self, kept: _Kept) -> None:
        self._kept = kept
        self._events = kept[2]  # in this order: see `_whole`

    def _whole(self) -> _Kept:
        # In this order: events that were seen while nothing was packed or gone are all there are.
        events, kept = self._events, self._kept
        return kept or (0, 0, events, [], Reply())

    def read(self, after: int, most: int | None = None) -> Sequence[Event]:
        """Returns what is new after `after`, but no more than `most`.

        Raises:
            EvictedError: some of it is no longer kept.
        """
        events, kept = self._events, self._kept
        if kept is None:
            return events[after:] if most is None else events[after : after + most]
        gone, start, events, packs, _ = kept
        if after < gone:
            raise EvictedError(f"events up to number {gone} are no longer kept")
        place = after - start
        if place < 0:
            read: list[Event] = []
            for pack in _cut(packs, after, start):
                read += pack
                if most is not None and len(read) >= most:
                    break
            else:
                read += events
            events, place = read, 0
        return events[place:] if most is None else events[place : place + most]

    def fold(self, reply: Reply) -> Reply:
        """Adds all that was ever appended to `reply`, and returns it."""
        return self._fold(self._whole(), reply)

    def so_far(self) -> tuple[Reply, int]:
        """Returns all that was ever appended, and the number of its last event."""
        gone, start, events, packs, folded = self._whole()
        events = events[:]  # the owner may append meanwhile, on another thread
        return self._fold((gone, start, events, packs, folded), Reply()), start + len(events)

    @staticmethod
    def _fold(kept: _Kept, reply: Reply) -> Reply:
        gone, start, events, packs, folded = kept
        for name in ("text", "thinking", "tool_calls", "logprobs"):
            setattr(reply, name, getattr(folded, name))
        return fold(chain(_all(_cut(packs, gone, start)), events), reply)


def _all(packs: Iterable[_Pack | list[Event]]) -> Iterable[Event]:
    """Returns events that fold to the same reply as those of the packs."""
    return chain.from_iterable(pack.whole() if isinstance(pack, _Pack) else pack for pack in packs)


def _text(event: Event) -> int:
    """Bytes of an event's text, as Python keeps them."""
    kind = type(event)
    if kind is TextDelta or kind is ThinkingDelta:
        text: str = event.text  # type: ignore[union-attr]
        return len(text) if text.isascii() else 2 * len(text)
    return len(msgspec.json.encode(event))
