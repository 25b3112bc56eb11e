"""The log that stays within a limit of bytes. What is not new in it is packed: a fifth of the memory."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise

import msgspec

from tailrace.errors import EvictedError, LogFullError
from tailrace.events import Ended, Event, TextDelta, ThinkingDelta
from tailrace.run.log import MemoryLog
from tailrace.run.reply import Reply, fold

__all__ = ["BoundedLog"]

_COST = 160  # bytes that an event takes beside its text: the object, its place, its time
_PACKED = 24  # the same of one that is packed
_PACK = 64  # events
_NEW = 16  # events that are never packed: who keeps up reads no others


class _Pack:
    """Pieces of text that came one after another, in one string."""

    __slots__ = ("_ends", "_kind", "_text")

    def __init__(self, kind: type[TextDelta | ThinkingDelta], texts: Sequence[str]) -> None:
        self._kind = kind
        self._text = "".join(texts)
        self._ends = array("H" if len(self._text) < 1 << 16 else "Q", accumulate(map(len, texts)))

    def __iter__(self) -> Iterator[Event]:
        kind, text = self._kind, self._text
        return (kind(text[start:end]) for start, end in pairwise((0, *self._ends)))

    def whole(self) -> Iterable[Event]:
        """What is as good to fold."""
        return (self._kind(self._text),)


def _pack(events: list[Event]) -> _Pack | list[Event]:
    """Packs events, if they are pieces of one kind and nothing but text."""
    for kind in (TextDelta, ThinkingDelta):
        if all(type(event) is kind and not getattr(event, "logprobs", None) for event in events):
            return _Pack(kind, [event.text for event in events])  # type: ignore[union-attr]
    return events


_Packs = list[_Pack | list[Event]]  # of `_PACK` events each
_Kept = tuple[int, int, list[Event], _Packs, Reply]
"""How many events are no longer kept; how many come before the new ones; those; the packs between; the fold of the
first ones. One value, so that readers on other threads never see two that do not belong together."""


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
            RuntimeError: the log is sealed; a bug of ours.
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
        if len(self._events) >= _PACK + _NEW:
            self._pack()

    def _pack(self) -> None:
        """Packs all but the last few."""
        gone, start, events, packs, folded = self._whole()
        place = 0
        while place + _PACK + _NEW <= len(events):
            pack = _pack(events[place : place + _PACK])
            packs.append(pack)  # a reader that knows of fewer reads no more of them
            if isinstance(pack, _Pack):
                self.size -= (_COST - _PACKED) * _PACK
            place += _PACK
        self._keep((gone, start + place, events[place:], packs, folded))

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
            old, packs = packs[:count], packs[count:]
            gone += _PACK * count
            self.size -= sum((_PACKED if isinstance(pack, _Pack) else _COST) * _PACK for pack in old)
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
            for pack in packs[(after - gone) // _PACK : (start - gone) // _PACK]:
                read += pack
                if most is not None and len(read) >= most + _PACK:
                    break
            else:
                read += events
            events, place = read, (after - gone) % _PACK
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
        return fold(chain(_all(packs[: (start - gone) // _PACK]), events), reply)


def _all(packs: _Packs) -> Iterable[Event]:
    """What is as good to fold as the events of packs."""
    return chain.from_iterable(pack.whole() if isinstance(pack, _Pack) else pack for pack in packs)


def _text(event: Event) -> int:
    """Bytes of an event's text, as Python keeps them."""
    kind = type(event)
    if kind is TextDelta or kind is ThinkingDelta:
        text: str = event.text  # type: ignore[union-attr]
        return len(text) if text.isascii() else 2 * len(text)
    return len(msgspec.json.encode(event))
