"""What uvicorn keeps for each connection, in less memory: its own are asyncio's events and deques, 600 bytes each."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Flag", "Flow", "Pipeline"]


class Flag:
    """What uvicorn uses of an `asyncio.Event`."""

    __slots__ = ("_set", "_waiting")

    def __init__(self, *, is_set: bool = False) -> None:
        self._set = is_set
        self._waiting: tuple[asyncio.Future[None], ...] = ()

    def set(self) -> None:
        """Wakes who waits; who comes until it is cleared does not wait."""
        self._set = True
        waiting, self._waiting = self._waiting, ()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def clear(self) -> None:
        """Who comes from now on waits."""
        self._set = False

    async def wait(self) -> None:
        """Waits until it is set."""
        if not self._set:
            future = asyncio.get_running_loop().create_future()
            self._waiting = (*self._waiting, future)
            try:
                await future
            finally:
                self._waiting = tuple(other for other in self._waiting if other is not future)


class Flow:
    """What uvicorn uses of its `FlowControl`.

    Args:
        transport: of the connection.

    Attributes:
        read_paused: what the client sends is left to the system.
        write_paused: the client does not take what is written.
    """

    __slots__ = ("_transport", "_writable", "read_paused", "write_paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._writable = Flag(is_set=True)
        self.read_paused = False
        self.write_paused = False

    async def drain(self) -> None:
        """Waits until the client takes what is written."""
        await self._writable.wait()

    def pause_reading(self) -> None:
        """Reads no more of what the client sends."""
        if not self.read_paused:
            self.read_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Reads on."""
        if self.read_paused:
            self.read_paused = False
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        """The client does not take what is written."""
        self.write_paused = True
        self._writable.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self.write_paused = False
        self._writable.set()


class Pipeline(list[Any]):
    """What uvicorn uses of a deque, for requests that come before the one before them is answered."""

    __slots__ = ()

    def appendleft(self, request: Any) -> None:
        """Puts a request behind all others: the first is the last in the list."""
        self.insert(0, request)
