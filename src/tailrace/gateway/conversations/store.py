"""The store: conversations and their messages.

Every method is one transaction. It raises `MissingError` for what does not exist, `ConflictError` for what the state of
a message does not allow, and `StoreError` while the database itself fails; the next call tries again. A transaction
that has begun comes to its end also when its caller is cancelled; only a list or a search is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import functools
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa
from msgspec import UNSET, UnsetType
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.backends.embedded.models import data_dir
from tailrace.conversation.export import document, markdown
from tailrace.errors import RequestError, StoreError
from tailrace.events import Outcome
from tailrace.gateway.conversations import answers, rows
from tailrace.gateway.conversations.database import Database
from tailrace.gateway.conversations.schema import conversations, messages
from tailrace.gateway.conversations.texts import snippet, title_of
from tailrace.gateway.conversations.values import (
    FILE,
    Conversation,
    Ending,
    Message,
    Piece,
    Summary,
    id_of_conversation,
    id_of_message,
    plain,
    said,
)
from tailrace.gateway.errors import ConflictError

__all__ = ["Store"]

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)
_LONGEST_QUERY = 1000  # characters
_MOST = 500  # conversations of one page
_SHOWN = 1000  # characters of a title or a model's name in a list, of a database whose were not bounded
_MICROSECOND = datetime.timedelta(microseconds=1)


def _to_log(error: StoreError) -> None:
    _log.warning("%s%s", error, f" ({error.hint})" if error.hint else "")


def _to_its_end(
    method: Callable[Concatenate[Store, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """Has a method's transaction go on when its caller is cancelled, as by a client that leaves.

    SQLAlchemy would close the connection in its midst. With aiosqlite a second cancel then leaves a task behind that
    holds the connection, and the database's lock with it, until the garbage collector finds it: for a minute, maybe.
    """

    @functools.wraps(method)
    async def run(self: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.get_running_loop().create_task(method(self, *args, **kwargs))
        self._going.add(task)
        task.add_done_callback(self._going.discard)
        return await asyncio.shield(task)

    return run


class Store:
    """Conversations, kept in a database.

    Args:
        place: a file, or the URL of a database (``postgresql://…``); by default `FILE` in tailrace's data folder.
        patience: seconds to wait for a lock that another program has.
        report: takes what goes wrong with the database, and a damaged file that was set aside; once each, until the
            database works again, however many calls raise it. By default it is logged.

    Raises:
        RequestError: the URL is none.
    """

    def __init__(
        self,
        place: str | Path | None = None,
        *,
        patience: float = 5.0,
        report: Callable[[StoreError], object] = _to_log,
    ) -> None:
        self.report = report
        self._database = Database(data_dir() / FILE if place is None else place, patience=patience, report=report)
        self._going: set[asyncio.Task[Any]] = set()
        self._stale = False  # answers of a process that is gone look as if they were being written
        self._recovered = 0
        self._last = datetime.datetime.min.replace(tzinfo=datetime.UTC)

    async def open(self) -> None:
        """Opens the database, which every other method does as well if it is not open.

        Raises:
            StoreError: it cannot be opened, for now. A damaged file is no error: it is set aside, reported, and a new
                one begun.
        """
        await self._database.open()

    async def close(self) -> None:
        """Closes the database, once what is under way has come to its end."""
        while self._going:
            await asyncio.wait(self._going)
        await self._database.close()

    async def __aenter__(self) -> Store:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- conversations -----------------------------------------------------------------------------------------------

    @_to_its_end
    async def create(
        self,
        *,
        title: str = "",
        model: str | None = None,
        system: str | None = None,
        options: dict[str, Any] | None = None,
        think: bool | str | None = None,
        owner: str = "",
    ) -> Conversation:
        """Begins a conversation. Without a title it gets one by its first question."""
        time = self._time()
        made = Conversation(
            id=id_of_conversation(),
            title=title,
            model=model,
            system=system,
            options=options or {},
            think=think,
            created=time,
            updated=time,
            leaf=None,
            owner=owner,
        )
        columns = {name: getattr(made, name) for name in conversations.c.keys()}  # noqa: SIM118
        async with self._writing() as connection:
            await connection.execute(conversations.insert().values(columns))
        return made

    @_to_its_end
    async def check(self, conversation: str, owner: str) -> None:
        """Makes sure that a conversation is this owner's.

        Raises:
            MissingError: there is none of that id, or it belongs to another owner.
        """
        query = sa.select(conversations.c.owner).where(conversations.c.id == conversation)
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).first()
        if row is None or row.owner != owner:
            raise rows.no_conversation(conversation)

    @_to_its_end
    async def get(self, conversation: str) -> Conversation:
        """Returns a conversation with all its messages.

        Raises:
            MissingError: there is none of that id.
        """
        async with self._database.reading() as connection:
            return await rows.whole(connection, conversation)

    @_to_its_end
    async def update(
        self,
        conversation: str,
        *,
        title: str | UnsetType = UNSET,
        model: str | UnsetType | None = UNSET,
        system: str | UnsetType | None = UNSET,
        options: dict[str, Any] | UnsetType = UNSET,
        think: bool | str | UnsetType | None = UNSET,
        leaf: str | UnsetType = UNSET,
    ) -> Conversation:
        """Changes what is given, and returns the conversation. To show another branch is no change of its time.

        Raises:
            MissingError: there is none of that id, or no message of the id given as its leaf.
        """
        given = {"title": title, "model": model, "system": system, "options": options, "think": think}
        values = {name: value for name, value in given.items() if value is not UNSET}
        if values:
            values["updated"] = self._time()
        async with self._writing() as connection:
            if isinstance(leaf, str):
                values["leaf"] = (await rows.message(connection, conversation, leaf)).id
            if values:
                await connection.execute(rows.the(conversation).values(values))
            return await rows.whole(connection, conversation)

    @_to_its_end
    async def delete(self, conversation: str) -> list[str]:
        """Deletes a conversation; returns the ids of the runs that were writing to it.

        Raises:
            MissingError: there is none of that id.
        """
        running = sa.select(messages.c.run).where(
            messages.c.conversation == conversation, messages.c.state == "running"
        )
        async with self._writing() as connection:
            runs = (await connection.execute(running)).scalars().all()
            gone = await connection.execute(conversations.delete().where(conversations.c.id == conversation))
            if not gone.rowcount:
                raise rows.no_conversation(conversation)
        return [*runs]

    async def page(
        self, q: str = "", *, limit: int = 50, before: str | None = None, owner: str | None = None
    ) -> list[Summary]:
        """Returns conversations, the one changed last first.

        Args:
            q: only those with this in their title or in a message, whatever its case. An answer under way is searched
                when it has ended.
            limit: at most so many.
            owner: only this one's; None: everybody's.
            before: only those changed before this time: the `updated` of the last one of the page before.

        Raises:
            RequestError: `q` is too long.
        """
        if len(q) > _LONGEST_QUERY:
            raise RequestError(f"q is longer than {_LONGEST_QUERY} characters")
        of = conversations.c
        cut = [sa.func.substr(column, 1, _SHOWN).label(column.name) for column in (of.title, of.model)]
        query = sa.select(of.id, of.created, of.updated, *cut).order_by(of.updated.desc())
        query = query.limit(max(1, min(limit, _MOST)))
        if owner is not None:
            query = query.where(of.owner == owner)
        if before is not None:
            query = query.where(of.updated < before)
        if q:
            query = query.where(rows.contains(of.title, q, self._database) | rows.spoken(q, self._database))

        async def read(connection: AsyncConnection) -> tuple[Sequence[sa.Row[Any]], dict[str, str]]:
            listed = (await connection.execute(query)).all()
            ids = [row.id for row in listed]
            return listed, await rows.found(connection, ids, q, self._database) if q else {}

        listed, found = await self._database.read(read)
        return [
            Summary(
                id=row.id,
                title=row.title,
                model=row.model,
                created=row.created,
                updated=row.updated,
                snippet=snippet(found.get(row.id, row.title), q) if q else "",
            )
            for row in listed
        ]

    # -- turns -------------------------------------------------------------------------------------------------------

    @_to_its_end
    async def begin_turn(
        self, conversation: str, content: str, parent: str | None, *, model: str, run: str
    ) -> tuple[Message, Message]:
        """Adds a question and the answer that a run begins to write; the conversation goes on from there.

        Args:
            conversation: its id.
            content: the question.
            parent: the answer that it follows; None for a first question. To edit a question, its own parent.
            model: the model that answers.
            run: the id of the run.

        Returns:
            the question and the answer.

        Raises:
            MissingError: there is no such conversation, or no such parent in it.
            ConflictError: the parent is still being written.
            RequestError: the parent is a question.
        """
        time = self._time()
        async with self._writing() as connection:
            if parent is not None:
                before = await rows.message(connection, conversation, parent)
                if before.role != "assistant":
                    raise RequestError(f"{parent} is a question: a question follows an answer")
                if before.state == "running":
                    raise ConflictError(f"{parent} is still being written")
            title = await rows.title(connection, conversation)
            question = Message(id=id_of_message(), parent=parent, role="user", content=content, created=time)
            answer = rows.new_answer(question.id, model, run, time)
            await rows.add(connection, conversation, self._database.writer, question, answer)
            values = {"leaf": answer.id, "updated": time, "title": title or title_of(content)}
            await connection.execute(rows.the(conversation).values(values))
        return question, answer

    @_to_its_end
    async def begin_answer(self, conversation: str, question: str, *, model: str, run: str) -> Message:
        """Adds another answer to a question, which a run begins to write; the conversation goes on from there.

        Raises:
            MissingError: there is no such conversation, or no such question in it.
            RequestError: it is an answer.
        """
        time = self._time()
        async with self._writing() as connection:
            if (await rows.message(connection, conversation, question)).role != "user":
                raise RequestError(f"{question} is an answer: only a question can be answered again")
            answer = rows.new_answer(question, model, run, time)
            await rows.add(connection, conversation, self._database.writer, answer)
            await connection.execute(rows.the(conversation).values(leaf=answer.id, updated=time))
        return answer

    @_to_its_end
    async def begin_continue(self, conversation: str, answer: str, *, model: str, run: str) -> Message:
        """Has a run go on with an answer that did not finish; what it has stays in front of what comes.

        Raises:
            MissingError: there is no such conversation, or no such answer in it.
            ConflictError: it is complete, has failed without a word, or is being written, maybe by another server.
        """
        async with self._writing() as connection:
            here = await rows.message(connection, conversation, answer)
            if here.state == "running":
                text = f"{answer} is no interrupted answer: it is still being written"
                raise ConflictError(text, hint="wait for its end, or stop it")
            cut = here.state == "complete" and here.outcome == Outcome.LENGTH.value
            if here.role != "assistant" or not (cut or here.state == "interrupted"):
                raise ConflictError(f"{answer} is no interrupted answer ({here.state})")
            base = (here.content, here.thinking, here.tool_calls)
            values: dict[str, Any] = {"state": "running", "run": run, "model": model, "base": base}
            values |= {"outcome": None, "error": None, "metrics": None, "writer": self._database.writer}
            await connection.execute(messages.update().where(messages.c.id == answer).values(values))
            await connection.execute(rows.the(conversation).values(leaf=answer, updated=self._time()))
            return await rows.message(connection, conversation, answer)

    async def branch(self, conversation: str, message: str) -> list[Message]:
        """Returns the messages from the first to `message`; `values.sent` makes of them what a model is sent.

        Raises:
            MissingError: there is no such conversation, or no such message in it.
        """
        found = (await self.get(conversation)).branch(message)
        if not found:
            raise rows.no_message(message)
        return found

    @_to_its_end
    async def write(self, pieces: Sequence[Piece], endings: Sequence[Ending] = ()) -> None:
        """Writes what came of answers, and their ends, in one transaction; see `ConversationWriter`, which calls it.

        What belongs to a deleted conversation, or to an answer with which another run goes on, is dropped. To write the
        same again does no harm.
        """
        async with self._writing() as connection:
            await answers.append(connection, pieces)
            if endings:
                await answers.end(connection, endings)

    @_to_its_end
    async def recover(self) -> int:
        """Ends the answers that a process which is gone was writing as interrupted, with the outcome ``owner_lost``.

        Those of other servers on the same database that are alive are left to them; see `presence`.

        Returns:
            how many there were.

        Raises:
            StoreError: the database does not work for now; the first change that it takes does this before.
        """
        self._stale = True
        async with self._writing():
            found = self._recovered
        await self._database.tidy()
        return found

    @_to_its_end
    async def take_over(self, conversation: str) -> int:
        """Does as `recover` if an answer of this conversation is being written by a process that is gone.

        A server may have died since this one began.

        Returns:
            how many answers were ended, in all conversations.
        """
        async with self._database.reading() as connection:
            others = await answers.writers(connection, messages.c.conversation == conversation)
            gone = await self._database.gone(connection, others)
        return await self.recover() if gone else 0

    # -- documents ---------------------------------------------------------------------------------------------------

    async def export_markdown(self, conversation: str) -> str:
        """Returns the branch one sees as Markdown.

        Raises:
            MissingError: there is none of that id.
        """
        whole = await self.get(conversation)
        return markdown(whole.title or whole.model or "", whole.system, map(_marked, whole.branch()))

    async def export_json(self, conversation: str) -> bytes:
        """Returns the whole tree as JSON; `tailrace.StreamingChat.load` and ``/load`` of the terminal read it.

        Raises:
            MissingError: there is none of that id.
        """
        whole = await self.get(conversation)
        places = {message.id: place for place, message in enumerate(whole.messages)}
        nodes = [(places.get(each.parent or ""), _marked(each)) for each in whole.messages]
        there = ("role", "content", "thinking", "tool_calls", "base", "base_thinking", "run", "parent")
        return document(
            whole.model or "",
            whole.system,
            map(_marked, said(whole.branch())),
            nodes,
            places.get(whole.leaf or ""),
            title=whole.title,
            options=whole.options,
            think=whole.think,
            created=whole.created,
            updated=whole.updated,
            details=[
                {name: getattr(each, name) for name in each.__struct_fields__ if name not in there}
                for each in whole.messages
            ],
        )

    @contextlib.asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        async with self._database.writing() as connection:
            if self._stale:
                self._recovered = await answers.interrupt(connection, self._database.gone)
            yield connection
        self._stale = False

    def _time(self) -> str:
        """Returns the time, later than any before: lists are paged by it."""
        self._last = max(datetime.datetime.now(datetime.UTC), self._last + _MICROSECOND)
        return self._last.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _marked(message: Message) -> dict[str, Any]:
    """Returns a message as a file has it: in Ollama's form, with our mark if it is not whole."""
    mark = {} if message.state == "complete" else {"interrupted": message.outcome or message.state}
    return plain(message) | mark
