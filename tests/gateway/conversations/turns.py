"""Turns as the tests make them, without a model."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tailrace.events import Outcome
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.values import Ending, Message, Piece
from tailrace.gateway.conversations.writer import ConversationWriter


async def turn(store: Store, conversation: str, question: str, answer: str, parent: str | None = None) -> Message:
    """Has a question answered; returns the answer's message as it was begun."""
    _, begun = await store.begin_turn(conversation, question, parent, model="m", run="run")
    await store.write([], [ending(begun, Outcome.COMPLETE, answer)])
    return begun


def ending(answer: Message, outcome: Outcome, text: str = "", **more: Any) -> Ending:
    """Returns the end of an answer that was begun."""
    assert answer.run is not None
    return Ending(message=answer.id, run=answer.run, outcome=outcome, text=text, **more)


def piece(answer: Message, number: int, text: str, thinking: str = "") -> Piece:
    """Returns a piece of an answer that was begun."""
    assert answer.run is not None
    return Piece(answer.id, answer.run, number, text, thinking)


async def begun(store: Store, question: str = "Why?") -> tuple[str, Message]:
    """Begins an answer in a new conversation; returns the conversation's id, and the answer."""
    conversation = (await store.create()).id
    _, answer = await store.begin_turn(conversation, question, None, model="m", run="run")
    return conversation, answer


async def message(store: Store, conversation: str, message: Message | str) -> Message:
    """Returns a message as it is kept."""
    return (await store.branch(conversation, message if isinstance(message, str) else message.id))[-1]


async def content(store: Store, conversation: str) -> str:
    """Returns the content of the last message of a conversation."""
    return (await store.get(conversation)).branch()[-1].content


@contextlib.contextmanager
def transactions(store: Store) -> Iterator[list[str]]:
    """Collects the beginnings and ends of transactions."""
    engine = store._database._engine
    assert engine is not None
    seen: list[str] = []
    listeners = {name: lambda *_, name=name: seen.append(name) for name in ("begin", "commit", "rollback")}
    for name, listener in listeners.items():
        sa.event.listen(engine.sync_engine, name, listener)
    yield seen
    for name, listener in listeners.items():
        sa.event.remove(engine.sync_engine, name, listener)


async def finished(writer: ConversationWriter, answer: Message, text: str) -> bool:
    """Ends an answer that is complete."""
    return await writer.finish(answer, Outcome.COMPLETE, text)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program has the lock."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
