"""Conversations and messages as rows. All within the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.gateway.conversations import answers
from tailrace.gateway.conversations.database import Database
from tailrace.gateway.conversations.schema import conversations, messages
from tailrace.gateway.conversations.values import Conversation, Message, id_of_message
from tailrace.gateway.errors import MissingError

__all__ = [
    "add",
    "contains",
    "found",
    "message",
    "new_answer",
    "no_conversation",
    "no_message",
    "spoken",
    "the",
    "title",
    "whole",
]

_AROUND = 1000  # characters before and behind what was found
_ID = 100  # characters of an id that is none, in an error


async def whole(connection: AsyncConnection, conversation: str) -> Conversation:
    """Returns a conversation with all its messages.

    Raises:
        MissingError: there is none of that id.
    """
    row = (await connection.execute(sa.select(conversations).where(conversations.c.id == conversation))).first()
    if row is None:
        raise no_conversation(conversation)
    of = messages.c.conversation == conversation
    rows = (await connection.execute(sa.select(messages).where(of).order_by(messages.c.number))).all()
    running = [each.id for each in rows if each.state == "running"]
    added = await answers.grown(connection, running) if running else {}
    return Conversation(**row._mapping, messages=[_of_row(each, *added.get(each.id, ("", ""))) for each in rows])


async def title(connection: AsyncConnection, conversation: str) -> str:
    """Returns the title of a conversation, locked until the transaction ends.

    Raises:
        MissingError: there is none of that id.
    """
    query = sa.select(conversations.c.title).where(conversations.c.id == conversation).with_for_update()
    row = (await connection.execute(query)).first()
    if row is None:
        raise no_conversation(conversation)
    return str(row.title)


async def message(connection: AsyncConnection, conversation: str, message: str) -> Message:
    """Returns a message, locked until the transaction ends.

    Raises:
        MissingError: there is none of that id in the conversation.
    """
    query = sa.select(messages).where(messages.c.id == message, messages.c.conversation == conversation)
    row = (await connection.execute(query.with_for_update())).first()
    if row is None:
        raise no_message(message)
    return _of_row(row)


def _of_row(row: sa.Row[Any], text: str = "", thinking: str = "") -> Message:
    running = row.state == "running"
    base = row.base if running and row.base else ("", "")
    return Message(
        id=row.id,
        parent=row.parent,
        role=row.role,
        content=row.content + text,
        thinking=row.thinking + thinking,
        tool_calls=row.tool_calls or [],
        model=row.model,
        created=row.created,
        run=row.run if running else None,
        state=row.state,
        outcome=row.outcome,
        error=row.error,
        metrics=row.metrics,
        base=base[0],
        base_thinking=base[1],
    )


def new_answer(question: str, model: str, run: str, time: str) -> Message:
    """Returns an answer that a run begins to write."""
    return Message(
        id=id_of_message(),
        parent=question,
        role="assistant",
        content="",
        model=model,
        created=time,
        run=run,
        state="running",
    )


async def add(connection: AsyncConnection, conversation: str, writer: str, *new: Message) -> None:
    """Writes new messages, in the order of their creation.

    Args:
        connection: of the caller's transaction.
        conversation: what they belong to.
        writer: the store that writes an answer among them.
        new: the messages.
    """
    for each in new:  # one by one: their numbers are their order
        names = ("id", "parent", "role", "content", "thinking", "model", "created", "run", "state")
        values = {name: getattr(each, name) for name in names}
        more = {"conversation": conversation, "writer": writer if each.run is not None else None}
        await connection.execute(messages.insert().values(values | more))


def contains(column: sa.ColumnElement[str], q: str, database: Database) -> sa.ColumnElement[bool]:
    """Says whether a text has `q` in it, whatever its case.

    Not by LIKE, whose time is the product of both lengths: with four megabytes of one letter, many seconds.
    """
    return database.position(sa.func.lower(column), sa.func.lower(sa.literal(q, column.type))) > 0


def spoken(q: str, database: Database) -> sa.ColumnElement[bool]:
    """Says whether a message of a conversation has `q` in it."""
    of = messages.c.conversation == conversations.c.id
    return sa.select(messages.c.id).where(of, contains(messages.c.content, q, database)).exists()


async def found(connection: AsyncConnection, of: Sequence[str], q: str, database: Database) -> dict[str, str]:
    """Returns the text around the place where `q` is found, in the newest message of each conversation."""
    content = messages.c.content
    newest = sa.select(sa.func.max(messages.c.number)).where(
        messages.c.conversation.in_(of), contains(content, q, database)
    )
    at = database.position(sa.func.lower(content), sa.func.lower(sa.literal(q, content.type)))
    # A letter may be as many as three in lower case, so that the place is about there.
    around = sa.func.substr(content, sa.case((at > _AROUND, at - _AROUND), else_=1), 2 * _AROUND + len(q))
    query = sa.select(messages.c.conversation, around.label("text")).where(
        messages.c.number.in_(newest.group_by(messages.c.conversation))
    )
    return {row.conversation: row.text for row in await connection.execute(query)}


def the(conversation: str) -> sa.Update:
    """Returns the change of a conversation, without its values yet."""
    return conversations.update().where(conversations.c.id == conversation)


def no_conversation(conversation: str) -> MissingError:
    """Returns the error."""
    return MissingError(f"no conversation {conversation[:_ID]}")


def no_message(message: str) -> MissingError:
    """Returns the error."""
    return MissingError(f"no message {message[:_ID]} in this conversation")
