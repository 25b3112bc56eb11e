"""Turns as the tests make them, without a model."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tailrace.events import Outcome
from tailrace.gateway.store.keeper import Keeper
from tailrace.gateway.store.store import Store
from tailrace.gateway.store.values import Ending, Message


async def turn(store: Store, conversation: str, question: str, answer: str, parent: str | None = None) -> Message:
    """Has a question answered; returns the answer's message as it was begun."""
    _, begun = await store.begin_turn(conversation, question, parent, model="m", run=f"run of {question}")
    await store.write([], [Ending(message=begun.id, outcome=Outcome.COMPLETE, text=answer)])
    return begun


async def begun(store: Store, question: str = "Why?") -> tuple[str, str]:
    """Begins an answer in a new conversation; returns both ids."""
    conversation = (await store.create()).id
    _, answer = await store.begin_turn(conversation, question, None, model="m", run="run")
    return conversation, answer.id


async def message(store: Store, conversation: str, message: str) -> Message:
    """Returns a message as it is kept."""
    return (await store.branch(conversation, message))[-1]


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


async def finished(keeper: Keeper, message: str, text: str) -> bool:
    """Ends an answer that is complete."""
    return await keeper.finish(message, Outcome.COMPLETE, text)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program has the lock."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
