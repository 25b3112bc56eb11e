"""The service of conversations: starts the answers of turns and has them stored."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from tailrace.errors import EvictedError, StoreError
from tailrace.events import Outcome, TextDelta, ThinkingDelta
from tailrace.gateway.access.middleware import Caller
from tailrace.gateway.context import STOPPING, GatewayContext
from tailrace.gateway.conversations.values import Conversation, Message, sent
from tailrace.protocols.event_json import fault_of
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest
from tailrace.run.reader import Reader
from tailrace.run.run import Run

if TYPE_CHECKING:
    from tailrace.gateway.conversations.store import Store
    from tailrace.gateway.conversations.writer import ConversationWriter

__all__ = ["Begun", "Conversations", "Turn"]

_log = logging.getLogger(__name__)
_ANEW = "pip install --force-reinstall sqlalchemy"  # what to do where it cannot be imported
_FIRST_LOOK = 2.0  # seconds that the database gets to show that it is there
_SETTLING = 1.0  # seconds that it gets to take the end of an answer before somebody asks for it
_LONGEST = 8 * 1024 * 1024  # characters of a conversation: all of it is read for each turn, and to show it
_MESSAGE = 1000  # as many are counted for a message, beside its text
_LAST_WORDS = 3.0  # seconds that it gets to take the ends of the answers when the gateway stops


class Turn(msgspec.Struct, kw_only=True, rename={"go_on": "continue"}):
    """What is to be answered: a question (`content`, below `parent`), one of the tree again, or an answer's rest.

    Attributes:
        go_on: ``continue`` in JSON: the answer to go on with, which did not finish.
    """

    content: str | None = None
    parent: str | None = None
    regenerate: str | None = None
    go_on: str | None = None
    model: str = ""
    system: str | None = None
    options: dict[str, Any] = {}
    think: bool | str | None = None


class Begun(NamedTuple):
    """What a turn started."""

    question: Message | None
    answer: Message
    run: Run


class Conversations:
    """The store and its writer. An async context manager, open while the gateway serves.

    SQLAlchemy takes longer to import than everything else at start. It is imported in the background, and requests that
    need the store wait for it.

    Args:
        context: what all requests share.

    Raises:
        RequestError: the database's URL is none.
        ModuleNotFoundError: the store's library is not installed.
    """

    def __init__(self, context: GatewayContext) -> None:
        self._context = context
        if find_spec("sqlalchemy") is None:
            raise ModuleNotFoundError("sqlalchemy is not installed", name="sqlalchemy")
        if isinstance(context.settings.database, str):  # only the library can tell whether a URL is one
            from tailrace.gateway.conversations.database import url_of

            url_of(context.settings.database)
        self._kept: tuple[Store, ConversationWriter] | None = None
        self._writers: dict[asyncio.Task[None], Run] = {}
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._turned: weakref.WeakKeyDictionary[Run, tuple[Message | None, Message]] = weakref.WeakKeyDictionary()

    async def __aenter__(self) -> Self:
        self._opening = asyncio.create_task(self._open())
        return self

    async def opened(self) -> tuple[Store, ConversationWriter]:
        """Returns the store and its writer, once they are there.

        Raises:
            StoreError: the store's library cannot be imported.
            ProblemError: the gateway has stopped.
        """
        await asyncio.wait({self._opening})  # it continues if this request is cancelled
        if self._opening.cancelled():
            raise ProblemError(503, STOPPING)
        if (error := self._opening.exception()) is not None:
            raise StoreError(f"the store's library cannot be imported: {error}", hint=_ANEW) from error
        return self._opening.result()

    async def _open(self) -> tuple[Store, ConversationWriter]:
        loader = ThreadPoolExecutor(
            1, "tailrace-store"
        )  # an executor of its own: the shutdown would wait for the loop's default one
        try:
            store_of, writer_of = await asyncio.get_running_loop().run_in_executor(loader, _load)
        except Exception as error:
            _log.error("the store's library cannot be imported: %s (%s)", error, _ANEW)
            raise
        finally:
            loader.shutdown(wait=False)
        if gc.get_freeze_count():  # our server has the collector pass over what is loaded; this is more of it
            gc.freeze()
        store = store_of(self._context.settings.database)
        writer = writer_of(store)
        self._kept = store, writer
        self._recovering = asyncio.create_task(self._recover(store))
        # A missing database does not keep the gateway from serving; requests that need it get the error.
        await asyncio.wait({self._recovering}, timeout=_FIRST_LOOK)
        await writer.__aenter__()
        return store, writer

    async def _recover(self, store: Store) -> None:
        with contextlib.suppress(StoreError):  # reported by the store, and the first change that it takes does it
            await store.recover()

    async def __aexit__(self, *_: object) -> None:
        self._opening.cancel()
        await asyncio.gather(self._opening, return_exceptions=True)
        if self._kept is None:
            return
        store, writer = self._kept
        self._recovering.cancel()
        try:
            async with asyncio.timeout(_LAST_WORDS):
                if self._writers:
                    await asyncio.wait(self._writers)
                await writer.close()
                await store.close()
        except TimeoutError:
            store.report(StoreError("the database did not store the last text in time"))

    # -- turns ---------------------------------------------------------------------------------------------------

    async def turn(self, id: str, turn: Turn, caller: Caller, key: str, body: bytes) -> tuple[Begun, bool]:
        """Starts an answer and has it stored; returns it, and False if the key had started it already."""
        store, writer = await self.opened()
        async with self._lock(id):  # so that a repeated request finds what the first one started
            await self.settle()  # so that an answer that was just stopped can be continued at once
            await store.take_over(id)
            conversation = await store.get(id)
            _check_room(conversation, turn)
            self._check_unwritten(turn.go_on)
            asked, begin = self._meaning(store, conversation, turn)
            begun: list[tuple[Message | None, Message]] = []

            async def beginning(run: str) -> None:
                begun.append(await begin(asked.model, run))

            linger = self._context.linger
            run, new = await self._context.start(asked, caller, linger=linger, key=key, body=body, begin=beginning)
            if new:
                self._turned[run] = question, answer = begun[0]
                kept = (question.content if question is not None else "", answer.content, answer.base)
                self._context.runs.weigh(run, sum(map(len, kept)))
                self._write_down(run, begun[0][1], writer)
            if run not in self._turned:
                raise ProblemError(422, "this Idempotency-Key was used for another request")
        return Begun(*self._turned[run], run), new

    async def delete(self, id: str, caller: Caller) -> None:
        """Deletes a conversation, and stops its runs."""
        store, _ = await self.opened()
        async with self._lock(id):  # so that no turn begins meanwhile
            for run in await store.delete(id):
                with contextlib.suppress(ProblemError):
                    self._context.runs.get(run, caller.owner).cancel()

    def _check_unwritten(self, answer: str | None) -> None:
        """Makes sure that no run of ours writes an answer, whatever the database says of it.

        Raises:
            ProblemError: 409.
        """
        for run in self._writers.values():
            if answer is not None and self._turned[run][1].id == answer and run.ended is None:
                text = f"{answer} is no interrupted answer: it is still being written"
                raise ProblemError(409, text, hint="wait for its end, or stop it")

    def _lock(self, id: str) -> asyncio.Lock:
        return self._locks.setdefault(id, asyncio.Lock())

    def before(self, run: Run) -> str:
        """Returns the text that the answer had before this run."""
        turned = self._turned.get(run)
        return turned[1].base if turned is not None else ""

    def _meaning(
        self, store: Store, conversation: Conversation, turn: Turn
    ) -> tuple[RunRequest, Callable[[str, str], Awaitable[tuple[Message | None, Message]]]]:
        """Returns the request for the model, and the function that stores the turn before it is sent."""
        id = conversation.id
        if sum(each is not None for each in (turn.content, turn.regenerate, turn.go_on)) != 1:
            raise ProblemError(400, "a turn has one of content, regenerate and continue")
        begin: Callable[[str, str], Awaitable[tuple[Message | None, Message]]]
        if turn.content is not None:
            content = turn.content
            if not content.strip():
                raise ProblemError(400, "there is no message")
            messages = sent(self._branch(conversation, turn.parent)) if turn.parent is not None else []
            messages.append({"role": "user", "content": content})

            async def begin(model: str, run: str) -> tuple[Message | None, Message]:
                return await store.begin_turn(id, content, turn.parent, model=model, run=run)

        elif turn.regenerate is not None:
            question = turn.regenerate
            messages = sent(self._branch(conversation, question))

            async def begin(model: str, run: str) -> tuple[Message | None, Message]:
                return None, await store.begin_answer(id, question, model=model, run=run)

        else:
            assert turn.go_on is not None
            answer = turn.go_on
            here = self._branch(conversation, answer)
            anything = bool(here[-1].content or here[-1].thinking or here[-1].tool_calls)
            messages = sent(here if anything else here[:-1])  # before its first word, the question is asked again

            async def begin(model: str, run: str) -> tuple[Message | None, Message]:
                return None, await store.begin_continue(id, answer, model=model, run=run)

        system = turn.system if turn.system is not None else conversation.system
        asked = RunRequest(
            messages=messages,
            model=turn.model or conversation.model or "",
            system=system or None,
            options={**conversation.options, **turn.options} or None,
            think=turn.think if turn.think is not None else conversation.think,
            go_on=turn.go_on is not None and messages[-1]["role"] == "assistant",
        )
        return asked, begin

    def _branch(self, conversation: Conversation, message: str) -> list[Message]:
        branch = conversation.branch(message)
        if not branch or branch[-1].id != message:
            raise ProblemError(404, f"there is no message {message}")
        return branch

    # -- what runs say -------------------------------------------------------------------------------------------

    def _write_down(self, run: Run, answer: Message, writer: ConversationWriter) -> None:
        task = asyncio.get_running_loop().create_task(
            self._follow(run, answer, writer), name=f"tailrace keeps {run.id}"
        )
        self._writers[task] = run
        task.add_done_callback(self._writers.pop)

    async def settle(self) -> None:
        """Waits until what has ended is written down, for a moment if the database does not work."""
        if ended := [task for task, run in self._writers.items() if run.ended is not None]:
            await asyncio.wait(ended, timeout=_SETTLING)

    async def catch_up(self, id: str) -> None:
        """Writes down all that has come until now, also of answers under way; ends those of a server that has died.

        Args:
            id: the conversation that is about to be read.
        """
        await self.settle()
        store, writer = await self.opened()
        await writer.flush()
        with contextlib.suppress(StoreError):  # of reading it the error is told
            await store.take_over(id)

    async def _follow(self, run: Run, answer: Message, writer: ConversationWriter) -> None:
        reader = Reader(run)
        try:
            while events := await reader.read_async():
                text = "".join(event.text for event in events if type(event) is TextDelta)
                thinking = "".join(event.text for event in events if type(event) is ThinkingDelta)
                if text or thinking:
                    writer.add(answer, text, thinking)
        except EvictedError:  # the log moved on faster than we read; the end has all of it
            while run.ended is None:
                await run.log.changed.wait_async(lambda: run.ended is not None, 1.0)
        ended, reply = run.ended, run.reply()
        assert ended is not None
        # That we stop is no fault of the answer's: like one that we died under, it can be continued.
        stopped = ended.reason == STOPPING
        await writer.finish(
            answer,
            Outcome.OWNER_LOST if stopped else ended.outcome,
            reply.text,
            thinking=reply.thinking,
            tool_calls=reply.tool_calls,
            metrics=reply.metrics,
            error=fault_of(ended) if ended.fault is not None else None,
        )


def _check_room(conversation: Conversation, turn: Turn) -> None:
    """Makes sure that a turn has room in its conversation.

    Raises:
        ProblemError: 413.
    """
    size = sum(len(each.content) + len(each.thinking) + _MESSAGE for each in conversation.messages)
    if size + len(turn.content or "") > _LONGEST:
        raise ProblemError(413, f"a conversation has {_LONGEST:,} characters at most", hint="begin another one")


def _load() -> tuple[type[Store], type[ConversationWriter]]:
    from tailrace.gateway.conversations.store import Store
    from tailrace.gateway.conversations.writer import ConversationWriter

    return Store, ConversationWriter
