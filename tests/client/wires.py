"""The two wires that a test of clients runs on, and ways to wait for what a reader sees."""

from __future__ import annotations

import queue
from collections.abc import Callable
from typing import Any

from tailrace.events import Ended, Event
from tailrace.testing import FakeOllama, FakeOpenAI, FakeServer, Step, chunk

__all__ = ["MESSAGES", "Seen", "Wire"]

MESSAGES = [{"role": "user", "content": "hi"}]
_PATIENCE = 60.0  # seconds until a test that waits in vain fails


class Wire:
    """A fake server of one wire, and the client's name for it."""

    def __init__(self, name: str, *, parallel: int | None = None) -> None:
        self.name = name
        self.server: FakeServer = FakeOllama(parallel=parallel) if name == "ollama" else FakeOpenAI(parallel=parallel)

    @property
    def host(self) -> str:
        """What a client is given."""
        return self.server.url if self.name == "ollama" else f"openai:{self.server.url}/v1"

    def reading(self, processed: int, total: int) -> Step:
        """The prompt is being read: a record that both decoders make a `Prefill` of, with the fixture `believed`."""
        if self.name == "ollama":
            return chunk({"tailrace": {"status": "prefill", "processed": processed, "total": total}})
        progress = {"processed": processed, "total": total}
        return chunk({"choices": [{"index": 0, "delta": {"role": "assistant"}}], "prompt_progress": progress})


class Seen:
    """The events that a reader has seen, for a test to wait for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._arrived: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def add(self, event: Event) -> None:
        """The reader saw an event."""
        self._arrived.put(event)

    def until(self, found: Callable[[Event], Any]) -> Event:
        """Waits for the next event that is what the test looks for; returns it."""
        while True:
            event = self._arrived.get(timeout=_PATIENCE)
            self.events.append(event)
            if found(event):
                return event

    def to_the_end(self) -> Ended:
        """Waits for the ending; returns it."""
        ended = self.until(lambda event: type(event) is Ended)
        assert isinstance(ended, Ended)
        return ended
