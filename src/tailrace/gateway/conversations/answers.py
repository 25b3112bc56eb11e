"""Answers in progress, in the database: adding pieces and the ending. All within the caller's transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from tailrace.events import Outcome
from tailrace.gateway.conversations.schema import messages, pieces
from tailrace.gateway.conversations.values import Ending, Piece, state_of

__all__ = ["append", "end", "grown", "interrupt", "writers"]

_RUNNING = messages.c.state == "running"
_WRITER = sa.func.coalesce(messages.c.writer, "")  # empty: of a version that had none

# What a piece belongs to may have been deleted meanwhile, or another run goes on with it: then it goes nowhere.
_ITS_ANSWER = (messages.c.id == sa.bindparam("of"), messages.c.run == sa.bindparam("by"))
_REPLACED = pieces.delete().where(
    pieces.c.message.in_(sa.select(messages.c.id).where(*_ITS_ANSWER)),
    pieces.c.number >= sa.bindparam("at", type_=sa.Integer),
)
_APPENDED = pieces.insert().from_select(
    ["message", "number", "text", "thinking"],
    sa.select(
        messages.c.id,
        sa.bindparam("at", type_=sa.Integer),
        sa.bindparam("new_text", type_=pieces.c.text.type),
        sa.bindparam("new_thinking", type_=pieces.c.thinking.type),
    ).where(*_ITS_ANSWER),
)
_FOLDED = pieces.delete().where(pieces.c.message == sa.bindparam("of"))


def _update(*names: str, **fixed: Any) -> sa.Update:
    values = {name: sa.bindparam(f"new_{name}", type_=messages.c[name].type) for name in names}
    return messages.update().where(messages.c.id == sa.bindparam("of")).values(values | fixed)


_ENDED = _update("state", "outcome", "content", "thinking", "tool_calls", "metrics", "error")
_INTERRUPTED = _update("content", "thinking", state="interrupted", outcome=Outcome.OWNER_LOST.value)


async def append(connection: AsyncConnection, new: Sequence[Piece]) -> None:
    """Writes pieces; one that is there already is replaced, with all after it."""
    if new:
        where = [{"of": piece.message, "by": piece.run, "at": piece.number} for piece in new]
        what = [{"new_text": piece.text, "new_thinking": piece.thinking} for piece in new]
        await connection.execute(_REPLACED, where)
        await connection.execute(_APPENDED, [a | b for a, b in zip(where, what, strict=True)])


async def grown(connection: AsyncConnection, of: sa.ScalarSelect[Any] | Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns what pieces add to messages: text and thinking by the message's id."""
    query = sa.select(pieces).where(pieces.c.message.in_(of)).order_by(pieces.c.message, pieces.c.number)
    parts: dict[str, tuple[list[str], list[str]]] = {}
    for row in await connection.execute(query):
        text, thinking = parts.setdefault(row.message, ([], []))
        text.append(row.text)
        thinking.append(row.thinking)
    return {message: ("".join(text), "".join(thinking)) for message, (text, thinking) in parts.items()}


async def end(connection: AsyncConnection, endings: Sequence[Ending]) -> None:
    """Writes the ends of answers; what pieces there are gives way to the whole text."""
    columns = (messages.c.id, messages.c.run, messages.c.base)
    query = sa.select(*columns).where(messages.c.id.in_([ending.message for ending in endings])).with_for_update()
    before = {(row.id, row.run): row.base for row in await connection.execute(query)}
    keys = [(ending.message, ending.run) for ending in endings]
    rows = [_ended(ending, before[key]) for ending, key in zip(endings, keys, strict=True) if key in before]
    if rows:
        await connection.execute(_ENDED, rows)
        await connection.execute(_FOLDED, [{"of": row["of"]} for row in rows])


def _ended(ending: Ending, base: tuple[str, str, list[Any]] | None) -> dict[str, Any]:
    content, thinking, calls = base or ("", "", [])
    content, thinking, calls = content + ending.text, thinking + ending.thinking, [*calls, *ending.tool_calls]
    return {
        "of": ending.message,
        "new_state": state_of(ending.outcome, anything=bool(content or thinking or calls)),
        "new_outcome": ending.outcome.value,
        "new_content": content,
        "new_thinking": thinking,
        "new_tool_calls": calls or None,
        "new_metrics": ending.metrics,
        "new_error": ending.error,
    }


async def writers(connection: AsyncConnection, *where: sa.ColumnElement[bool]) -> set[str]:
    """Returns the stores whose runs write answers."""
    query = sa.select(_WRITER).where(_RUNNING, *where).distinct()
    return set((await connection.execute(query)).scalars())


async def interrupt(
    connection: AsyncConnection, gone: Callable[[AsyncConnection, set[str]], Awaitable[set[str]]]
) -> int:
    """Ends running answers as interrupted, with what has come of them; returns how many there were.

    Args:
        connection: of the caller's transaction.
        gone: returns those of some stores that are not there any more.
    """
    lost = await gone(connection, await writers(connection))
    if not lost:
        return 0
    columns = (messages.c.id, messages.c.content, messages.c.thinking)
    # Locked, so that one with which somebody else goes on meanwhile is not ended again.
    query = sa.select(*columns).where(_RUNNING, _WRITER.in_(lost)).with_for_update()
    running = (await connection.execute(query)).all()
    added = await grown(connection, [row.id for row in running])
    rows = []
    for row in running:
        text, thinking = added.get(row.id, ("", ""))
        rows.append({"of": row.id, "new_content": row.content + text, "new_thinking": row.thinking + thinking})
    if rows:
        await connection.execute(_INTERRUPTED, rows)
        await connection.execute(_FOLDED, [{"of": row["of"]} for row in rows])
    return len(rows)
