"""Records of a fake server: one a request, with ways to wait for its phases without sleeping."""

from __future__ import annotations

import asyncio
import json as _json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Board", "Record", "Sent"]

PATIENCE = 30.0  # seconds that a test waits, if it does not say; a busy machine is slow, and only failures wait so long
Phase = Literal["received", "queued", "loading", "holding", "delaying", "streaming", "stalling", "half_closed", "ended"]


class Board:
    """What the server's thread changes and the test waits for."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._listeners: set[Callable[[], None]] = set()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Change something under the lock, and wake all who wait."""
        with self._condition:
            yield
            self._condition.notify_all()
            for listener in self._listeners:
                listener()

    def wait(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        """Block this thread until the predicate holds; False after `timeout` seconds."""
        with self._condition:
            return self._condition.wait_for(predicate, timeout)

    async def await_(self, predicate: Callable[[], bool], timeout: float | None) -> bool:
        """Do the same for a task, without a thread."""
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def listener() -> None:
            try:
                loop.call_soon_threadsafe(changed.set)
            except RuntimeError:
                pass  # the waiter's loop was closed under it; nobody waits any more

        with self._condition:
            self._listeners.add(listener)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    changed.clear()
                    with self._condition:
                        if predicate():
                            return True
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            with self._condition:
                self._listeners.discard(listener)


@dataclass(frozen=True, slots=True)
class Sent:
    """How far an answer got.

    Attributes:
        bytes: Bytes handed to the socket, the response head included.
        steps: Steps of the script done whole.
    """

    bytes: int = 0
    steps: int = 0


@dataclass(eq=False)
class Record:
    """One request, and what became of it.

    A record is written by the server's thread while the test reads it; the `wait_...` methods wait for what is still to
    come, and their twins with an `a` in front (`await record.await_until_left()`) do so in a task. All times are
    `time.monotonic()`.

    Attributes:
        method: The request's method.
        path: Its path, without the query.
        query: What followed the `?`.
        headers: Its headers, in the order and spelling in which they came.
        body: Its body.
        phase: What the server is doing about it; once the client has left, what it was doing then.
        phases: Every phase so far, with the time it began.
        received_at: When the whole request was there.
        first_byte_at: When the first byte of the answer was sent.
        ended_at: When the server was through with it, whatever the reason.
        completed: Whether the script was played to its end.
        client_left: Whether the client went away before that.
        left_at: When.
        left_how: `fin` (it closed) or `rst` (it reset; closing with unread data is a reset too).
        sent: How far the answer got.
    """

    method: str
    path: str
    query: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    version: str = "1.1"
    phase: Phase = "received"
    phases: list[tuple[Phase, float]] = field(default_factory=list)
    received_at: float = field(default_factory=time.monotonic)
    first_byte_at: float | None = None
    ended_at: float | None = None
    completed: bool = False
    left_at: float | None = None
    left_how: Literal["fin", "rst"] | None = None
    sent: Sent = Sent()
    _board: Board = field(default_factory=Board, repr=False)

    def __post_init__(self) -> None:
        self.phases.append((self.phase, self.received_at))

    @property
    def client_left(self) -> bool:
        """Whether the client went away before the answer was complete."""
        return self.left_at is not None

    @property
    def ended(self) -> bool:
        """Whether the server is through with the request."""
        return self.ended_at is not None

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return _json.loads(self.body)

    def header(self, name: str) -> str | None:
        """Return the value of a header, whatever its spelling, or None."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    # For the test

    def wait_until_left(self, timeout: float = PATIENCE) -> bool:
        """Wait until the client went away; False if it did not, or if the answer was complete before."""
        self._board.wait(lambda: self.client_left or self.ended, timeout)
        return self.client_left

    def wait_until_ended(self, timeout: float = PATIENCE) -> bool:
        """Wait until the server is through with the request; False if it is not in time."""
        return self._board.wait(lambda: self.ended, timeout)

    def wait_until_phase(self, phase: Phase, n: int = 1, timeout: float = PATIENCE) -> bool:
        """Wait until a phase has begun for the `n`th time; False if it has not in time."""
        return self._board.wait(lambda: self._times(phase) >= n, timeout)

    async def await_until_left(self, timeout: float = PATIENCE) -> bool:
        """Do what `wait_until_left` does, in a task."""
        await self._board.await_(lambda: self.client_left or self.ended, timeout)
        return self.client_left

    async def await_until_ended(self, timeout: float = PATIENCE) -> bool:
        """Do what `wait_until_ended` does, in a task."""
        return await self._board.await_(lambda: self.ended, timeout)

    async def await_until_phase(self, phase: Phase, n: int = 1, timeout: float = PATIENCE) -> bool:
        """Do what `wait_until_phase` does, in a task."""
        return await self._board.await_(lambda: self._times(phase) >= n, timeout)

    def _times(self, phase: Phase) -> int:
        return sum(1 for name, _ in self.phases if name == phase)

    # For the server

    def _enter(self, phase: Phase) -> None:
        if self.phase == "streaming" == phase:
            return
        with self._board.change():
            self.phase = phase
            self.phases.append((phase, time.monotonic()))

    def _sent_bytes(self, count: int) -> None:
        # No lock and no wake-up: nobody waits for bytes, and this runs once a send.
        if self.first_byte_at is None:
            self.first_byte_at = time.monotonic()
        self.sent = Sent(self.sent.bytes + count, self.sent.steps)

    def _step_done(self) -> None:
        self.sent = Sent(self.sent.bytes, self.sent.steps + 1)

    def _left(self, how: Literal["fin", "rst"]) -> None:
        with self._board.change():
            self.left_at = self.ended_at = time.monotonic()
            self.left_how = how

    def _end(self, *, completed: bool) -> None:
        if self.ended:
            return
        with self._board.change():
            self.ended_at = time.monotonic()
            self.completed = completed
            self.phase = "ended"
            self.phases.append(("ended", self.ended_at))
