"""Presence: tells whether the store that writes an answer is still there, by a lock that it holds as long as it lives.

Each store has an id, and a lock of that name. The lock goes with its process, however that ends, so whoever comes next
can take over at once; and no clock is compared with another. SQLite: an empty file beside the database for each store,
locked by SQLite, whose locks work wherever its databases do. PostgreSQL: an advisory lock of a session of its own
(PostgreSQL 15, section 13.3.5), so a pooler in between has to keep sessions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["AdvisoryLocks", "FileLocks", "Presence", "new_id"]

_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_TRIES = 10  # to lock a new file, which somebody who tidies up may hold or have removed
_PAUSE = 0.01  # seconds before the second; as much longer before each further one


def new_id() -> str:
    """Returns an id for a store."""
    return secrets.token_hex(8)


class Presence(Protocol):
    """The presence of one store, and how it sees that of others."""

    async def take(self, engine: AsyncEngine) -> None:
        """Makes sure that the store's lock is held."""

    async def gone(self, connection: AsyncConnection, ids: Iterable[str]) -> set[str]:
        """Returns those of other stores that are not there any more.

        Args:
            connection: of the caller's transaction.
            ids: theirs.
        """

    async def tidy(self) -> None:
        """Removes what stores that are gone have left."""

    async def leave(self) -> None:
        """Lets the store's lock go."""


class FileLocks:
    """Presence by files beside a SQLite database.

    Args:
        path: the database's file.
        id: of the store.
    """

    def __init__(self, path: Path, id: str) -> None:
        self._path = path
        self._id = id
        self._held: sqlite3.Connection | None = None

    def _file(self, id: str) -> Path:
        return self._path.with_name(f"{self._path.name}-writer-{id}")

    async def take(self, engine: AsyncEngine) -> None:
        """Makes sure that the store's lock is held."""
        path = self._file(self._id)
        for number in range(_TRIES):
            if self._held is not None and path.exists():
                return
            self._let_go()
            await asyncio.sleep(number * _PAUSE)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            with contextlib.suppress(sqlite3.OperationalError):  # removed meanwhile by who tidies up
                self._held = _locked(path)
        raise OSError(f"{path.name} cannot be locked")

    async def gone(self, connection: AsyncConnection, ids: Iterable[str]) -> set[str]:
        """Returns those of other stores that are not there any more."""
        return {id for id in ids if id != self._id and self._is_gone(id)}

    def _is_gone(self, id: str) -> bool:
        if _ID.fullmatch(id) is None or not self._file(id).exists():
            return True
        try:
            found = _locked(self._file(id))
        except sqlite3.OperationalError:
            return not self._file(id).exists()  # of one that we may not open it is not known
        if found is not None:
            found.close()
        return found is not None

    async def tidy(self) -> None:
        """Removes the files of stores that are gone."""
        own = self._file(self._id)
        for path in own.parent.glob(f"{self._path.name}-writer-*"):
            if path == own:
                continue
            with contextlib.suppress(OSError, sqlite3.OperationalError):
                found = _locked(path)
                if found is not None:
                    _remove(path, found)

    async def leave(self) -> None:
        """Lets the store's lock go, and removes its file."""
        self._let_go()

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            with contextlib.suppress(OSError):
                _remove(self._file(self._id), held)


def _locked(path: Path) -> sqlite3.Connection | None:
    """Locks a file, until the connection that is returned is closed; None: another one has it.

    Raises:
        sqlite3.OperationalError: it is not there, or cannot be opened.
    """
    url = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(url, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=OFF")  # nothing is written to it, and no file is to lie beside it
        connection.execute("BEGIN EXCLUSIVE")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
            return None
        raise
    return connection


def _remove(path: Path, held: sqlite3.Connection) -> None:
    """Removes a file that is locked: before it is let go, else another one's of that name could be met."""
    if sys.platform == "win32":  # which removes no open file, nobody else's either
        held.close()
        path.unlink(missing_ok=True)
        return
    try:
        path.unlink(missing_ok=True)
    finally:
        held.close()


class AdvisoryLocks:
    """Presence by advisory locks of PostgreSQL.

    Args:
        id: of the store.
    """

    def __init__(self, id: str) -> None:
        self._id = id
        self._session: AsyncConnection | None = None
        self._driver: Any = None

    async def take(self, engine: AsyncEngine) -> None:
        """Makes sure that the store's lock is held; it goes with the session, as after a restart of the server."""
        if self._session is not None and not self._driver.is_closed():
            return
        await self.leave()
        session = await engine.connect()
        try:
            await session.execution_options(isolation_level="AUTOCOMMIT")
            await session.execute(sa.select(sa.func.pg_advisory_lock(_key(self._id))))
            self._driver = (await session.get_raw_connection()).driver_connection
        except BaseException:
            await session.close()
            raise
        self._session = session

    async def gone(self, connection: AsyncConnection, ids: Iterable[str]) -> set[str]:
        """Returns those of other stores that are not there any more."""
        found = set()
        for id in ids:
            if _ID.fullmatch(id) is None:
                found.add(id)
            elif id != self._id:  # a lock that we get was free; it goes with the caller's transaction
                free = await connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_key(id))))
                found |= {id} if free.scalar_one() else set()
        return found

    async def tidy(self) -> None:
        """There is nothing: locks leave nothing behind."""

    async def leave(self) -> None:
        """Lets the store's lock go, with its session."""
        session, self._session = self._session, None
        if session is not None:
            # The pool keeps no session with a lock; one that is broken already has none.
            with contextlib.suppress(sa.exc.SQLAlchemyError, OSError):
                await session.invalidate()
                await session.close()


def _key(id: str) -> sa.BindParameter[int]:
    """Returns the number that PostgreSQL knows a lock by."""
    return sa.literal(int.from_bytes(bytes.fromhex(id), "big", signed=True), sa.BigInteger)
