"""The conversation writer: stores answers while they stream, without blocking the tasks that read the runs.

New text of all runs is written in one transaction, a few times a second. While the database fails, what could not be
written stays in memory and is written once it works again. The number of such answers is bounded: no answer starts
unless its beginning could be written, so only runs that were active when the failure began are affected.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from types import TracebackType
from typing import Any

import msgspec

from tailrace.errors import StoreError
from tailrace.events import Outcome
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.values import Ending, Message, Piece

__all__ = ["ConversationWriter"]

_log = logging.getLogger(__name__)
_SLOWEST = 5.0  # seconds between attempts while the database does not work


class _Growth:
    """The text of an answer that is not written yet, and the number of pieces that are."""

    __slots__ = ("run", "text", "thinking", "written")

    def __init__(self, run: str) -> None:
        self.run = run
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.written = 0

    def piece(self, message: str) -> Piece:
        """Returns the unwritten text as one piece; text added while it is being written goes into the next piece."""
        self.text[:] = ["".join(self.text)]
        self.thinking[:] = ["".join(self.thinking)]
        return Piece(message, self.run, self.written, self.text[0], self.thinking[0])

    def wrote(self) -> None:
        """Notes that the last piece was written."""
        del self.text[0], self.thinking[0]
        self.written += 1


class ConversationWriter:
    """Writes answers under way, for one event loop.

    Args:
        store: where to.
        every: seconds from the first new text until it is written.
    """

    def __init__(self, store: Store, *, every: float = 0.25) -> None:
        self._store = store
        self._every = every
        self._growing: dict[str, _Growth] = {}
        self._dirty: set[str] = set()
        self._endings: dict[str, Ending] = {}
        self._writing = asyncio.Lock()
        self._something = asyncio.Event()
        self._logged = ""  # the last unexpected error, which is logged once
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ConversationWriter:
        self._task = asyncio.create_task(self._work())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def add(self, answer: Message, text: str, thinking: str = "") -> None:
        """Adds new text of an answer (as it was when its run began), without input or output; never fails."""
        growth = self._growing.get(answer.id)
        if growth is None:
            growth = self._growing[answer.id] = _Growth(answer.run or "")
        if text:
            growth.text.append(text)
        if thinking:
            growth.thinking.append(thinking)
        self._dirty.add(answer.id)
        self._something.set()

    async def finish(
        self,
        answer: Message,
        outcome: Outcome,
        text: str,
        *,
        thinking: str = "",
        tool_calls: Any = (),
        metrics: Any = None,
        error: Any = None,
    ) -> bool:
        """Adds the end of an answer, and returns once it is written.

        Args:
            answer: the answer, as it was when its run began.
            outcome: how its run ended.
            text: the whole text of this run, including what `add` was given.
            thinking: the same of the reasoning.
            tool_calls: the calls of this run, as anything that JSON can hold.
            metrics: its metrics, likewise.
            error: what went wrong, likewise.

        Returns:
            False if the database does not work for now: the end is kept, and written when it does.
        """
        self._endings[answer.id] = Ending(
            message=answer.id,
            run=answer.run or "",
            outcome=outcome,
            text=text,
            thinking=thinking,
            tool_calls=msgspec.to_builtins(list(tool_calls)),
            metrics=msgspec.to_builtins(metrics),
            error=msgspec.to_builtins(error),
        )
        self._growing.pop(answer.id, None)
        self._dirty.discard(answer.id)
        self._something.set()
        return await self.flush()

    async def flush(self) -> bool:
        """Writes everything now; returns whether that worked. If not, it is retried in the background."""
        async with self._writing:
            endings = list(self._endings.values())
            growing = [(message, self._growing[message]) for message in self._dirty]
            if not endings and not growing:
                return True
            self._dirty.clear()
            try:
                await self._store.write([growth.piece(message) for message, growth in growing], endings)
            except BaseException as error:
                # Whether a cancelled transaction was committed is unknown; writing the same piece again is harmless.
                self._dirty.update(message for message, growth in growing if self._growing.get(message) is growth)
                self._something.set()
                if not isinstance(error, Exception):
                    raise
                self._failed(error)
                return False
            for _, growth in growing:
                growth.wrote()
            for ending in endings:
                if self._endings[ending.message] is ending:
                    del self._endings[ending.message]
            return True

    async def close(self) -> None:
        """Writes what is left, and stops the task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if not await self.flush():
            count = len(self._endings.keys() | self._growing.keys())
            self._store.report(StoreError(f"the last words of {count} answers could not be kept"))

    async def _work(self) -> None:
        pause = self._every
        while True:
            await self._something.wait()
            await asyncio.sleep(pause)
            self._something.clear()
            pause = self._every if await self.flush() else min(2 * pause, _SLOWEST)

    def _failed(self, error: Exception) -> None:
        """Logs an unexpected error, once; the store reports errors of the database itself."""
        if not isinstance(error, StoreError) and str(error) != self._logged:
            self._logged = str(error)
            _log.error("cannot store the text of answers", exc_info=error)
