"""The chats of ``/ai/chat``: which run each is at, as long as runs are kept."""

from __future__ import annotations

from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from tailrace.run.run import Run

__all__ = ["Chats"]


class Chats:
    """The chats of one gateway.

    Attributes:
        latest: the last run of each chat, by its owner and its id.
        messages: the id of the message that a run writes.
        told: the runs whose client knows how they ended.
    """

    def __init__(self) -> None:
        self.latest: WeakValueDictionary[tuple[str, str], Run] = WeakValueDictionary()
        self.messages: WeakKeyDictionary[Run, str] = WeakKeyDictionary()
        self.told: WeakSet[Run] = WeakSet()
