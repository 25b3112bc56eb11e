"""The tables, and the steps from one version of them to the next.

Messages are a tree by `parent`; their `number` is the order in which they were made. The text of an answer
in progress is added as rows of `pieces`, whose cost depends on the new text only (else a row of a megabyte would be
rewritten a few times a second); they are joined into `content` when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from tailrace.gateway.conversations.texts import from_json, storable, to_json

__all__ = ["MIGRATIONS", "conversations", "messages", "metadata", "pieces", "version"]


class _Text(sa.types.TypeDecorator[str]):
    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else storable(value)


class _Json(sa.types.TypeDecorator[Any]):
    """JSON as text: the same in every database, and in the order it came in."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else to_json(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Any:
        return None if value is None else from_json(value)


_Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up only what it calls INTEGER

metadata = sa.MetaData()

version = sa.Table("tailrace_version", metadata, sa.Column("number", sa.Integer, nullable=False))

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", _Text, primary_key=True),
    sa.Column("owner", _Text, nullable=False, index=True),
    sa.Column("created", _Text, nullable=False),
    sa.Column("updated", _Text, nullable=False, index=True),
    sa.Column("leaf", _Text),
    sa.Column("title", _Text, nullable=False),
    sa.Column("model", _Text),
    sa.Column("think", _Json),
    sa.Column("options", _Json, nullable=False),
    sa.Column("system", _Text),
)

messages = sa.Table(
    "messages",
    metadata,
    sa.Column("number", _Number, primary_key=True, autoincrement=True),
    sa.Column("id", _Text, nullable=False, unique=True),
    sa.Column("conversation", sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("parent", _Text),  # no foreign key: a chain of a thousand would be deleted by a recursion as deep
    sa.Column("created", _Text, nullable=False),
    sa.Column("role", _Text, nullable=False),
    sa.Column("state", _Text, nullable=False),
    sa.Column("outcome", _Text),
    sa.Column("model", _Text),
    sa.Column("run", _Text),  # the last one that wrote it
    sa.Column("writer", _Text),  # the store that this run was of; see `presence`
    sa.Column("metrics", _Json),
    sa.Column("error", _Json),
    sa.Column("tool_calls", _Json),
    sa.Column("content", _Text, nullable=False),
    sa.Column("thinking", _Text, nullable=False),
    sa.Column("base", _Json),  # what it had before its last run: [content, thinking, tool_calls]
    sa.Index("messages_of", "conversation", "number"),
)
sa.Index(
    "messages_running",
    messages.c.state,
    sqlite_where=messages.c.state == "running",
    postgresql_where=messages.c.state == "running",
)

pieces = sa.Table(
    "pieces",
    metadata,
    sa.Column("message", sa.ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("text", _Text, nullable=False),
    sa.Column("thinking", _Text, nullable=False),
)


def _add_writer(connection: sa.Connection) -> None:
    connection.execute(sa.text("ALTER TABLE messages ADD COLUMN writer TEXT"))


# Step n leads from version n + 1 to n + 2. A new database has the tables above at once and goes no steps.
MIGRATIONS: list[Callable[[sa.Connection], object]] = [_add_writer]
