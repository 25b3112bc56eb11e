"""The database: opens it, runs transactions, and maps its errors to ours.

If it cannot be opened, that is retried at each use, so that the cause can be removed while the gateway runs. A corrupt
SQLite file is renamed, never deleted, and a new one is created.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tailrace.errors import RequestError, StoreError
from tailrace.gateway.conversations import schema
from tailrace.gateway.conversations.presence import AdvisoryLocks, FileLocks, Presence, new_id
from tailrace.transport.connect import OUT_OF_FILES, files_left

__all__ = ["Database", "url_of"]

T = TypeVar("T")

_log = logging.getLogger(__name__)
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_AGAIN = 0.05  # seconds between two attempts to stop a statement
_CONNECTIONS = 4  # each has a thread, with SQLite
_READERS = _CONNECTIONS - 1  # at once: who writes is never to wait for a connection, however many read
_BRINGING_UP = 0x7461696C72616365  # a lock of PostgreSQL's that is held while the tables are made
_FILES = ("", "-wal", "-shm")  # what belongs to a SQLite database

# By SQLite's primary result code: what it is, what to say of it, and what to do.
_FAULTS = {
    5: ("locked", "another program holds the lock", "close the program that has the file open"),
    6: ("locked", "another program holds the lock", "close the program that has the file open"),
    8: ("readonly", "it cannot be written", "make the file and its folder writable, or choose a folder with --data"),
    10: ("failed", "the disk reports an error", "see that the disk works and has space"),
    11: ("corrupt", "the file is damaged", ""),
    13: ("full", "the disk is full", "make space"),
    14: ("readonly", "it cannot be opened", "make the file and its folder writable, or choose a folder with --data"),
    26: ("corrupt", "the file is no database", ""),
}
_CANNOT_OPEN = 14
_FILES_HINT = "allow more open files with `ulimit -n`"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_FOR = 300.0  # seconds without finding the disk full after which that is news again
_REOPENED = {"readonly", "failed", "unreachable", "corrupt"}  # after these no connection is trusted any more


class Database:
    """A database with our tables.

    Args:
        place: a SQLite file, or a URL as SQLAlchemy's; ``postgresql://…`` gets its asynchronous driver.
        patience: seconds to wait for a lock that somebody else has.
        report: takes what goes wrong, once until a transaction has been written again (that the disk is full not again
            within minutes); and a file that was set aside.

    Attributes:
        writer: the id of this store among those that write to the database; see `presence`.

    Raises:
        RequestError: the URL is none.
    """

    def __init__(self, place: str | Path, *, patience: float, report: Callable[[StoreError], object]) -> None:
        self.url = URL.create(_DRIVERS["sqlite"], database=str(place)) if isinstance(place, Path) else url_of(place)
        self.path = Path(self.url.database or "").absolute() if _is_file(self.url) else None
        self.writer = new_id()
        self._presence: Presence = FileLocks(self.path, self.writer) if self.path else AdvisoryLocks(self.writer)
        self._patience = patience
        self._report = report
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()
        # SQLite has one writer; a queue of our own is fair, where retries of many could starve one.
        self._writing = asyncio.Lock()
        self._reading = asyncio.Semaphore(_READERS)
        self._wrong = ""  # what is wrong for now, and has been reported
        self._full_at = -_FULL_FOR  # when the disk was last found full
        self._refused = 0  # how often a lock of somebody else's was waited for in vain
        self._file: tuple[int, int] | None = None  # the file's device and inode, as it was opened

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return str(self.path) if self.path else self.url.render_as_string(hide_password=True)

    async def open(self) -> AsyncEngine:
        """Opens it, if it is not open; makes the tables, or brings them up to date.

        Raises:
            StoreError: it cannot be opened.
        """
        async with self._opening:
            if self._engine is None:
                try:
                    self._engine = await self._opened_or_begun_anew()
                except StoreError as error:
                    self._failed(error)
                    raise
            return self._engine

    async def close(self) -> None:
        """Closes it; the next use would open it again."""
        async with self._opening:
            engine, self._engine = self._engine, None
            await self._presence.leave()
            if engine is not None:
                await engine.dispose()

    def position(self, text: sa.ColumnElement[str], part: sa.ColumnElement[str]) -> sa.ColumnElement[int]:
        """Returns where a part of a text begins, counted from 1; 0: nowhere."""
        name = "strpos" if self.url.get_backend_name() == "postgresql" else "instr"
        return sa.Function(name, text, part, type_=sa.Integer())

    async def gone(self, connection: AsyncConnection, writers: Iterable[str]) -> set[str]:
        """Returns those of other stores on this database that are not there any more.

        Args:
            connection: of the caller's transaction.
            writers: their ids.
        """
        return await self._presence.gone(connection, writers)

    async def tidy(self) -> None:
        """Removes what stores that are gone have left beside the database."""
        with self._told():
            await self._presence.tidy()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that reads: all of it sees one state.

        Raises:
            StoreError: it cannot be read.
        """
        async with self._reading, self._transaction(writes=False) as connection:
            yield connection

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Does what may take long in a transaction that reads; it stops when this is cancelled.

        SQLite, on its thread, would go on to the end of a statement for nobody, and a connection would be taken by it.

        Raises:
            StoreError: it cannot be read.
        """
        driver: Any = None

        async def reading() -> T:
            nonlocal driver
            async with self.reading() as connection:
                driver = (await connection.get_raw_connection()).driver_connection
                return await work(connection)

        task = asyncio.ensure_future(reading())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            while not task.done():
                if self.path is not None and driver is not None:
                    with contextlib.suppress(ValueError, sqlite3.ProgrammingError):  # it is closed by now
                        await driver.interrupt()  # of no effect before the statement is begun
                await asyncio.wait({task}, timeout=_AGAIN)
            if not task.cancelled():
                task.exception()  # of which nobody has to know any more
            raise

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that writes: all of it is done, or nothing.

        Raises:
            StoreError: it cannot be written.
        """
        before = self._refused
        async with self._writing:
            if self._refused != before:  # a waiter behind one whose wait failed has waited as long
                raise self._fault(5)
            try:
                async with self._transaction(writes=True) as connection:
                    yield connection
            except StoreError as error:
                self._refused += error.reason == "locked"
                raise
            if self._wrong:
                self._wrong = ""
                _log.info("%s works again", self.place)

    @contextlib.asynccontextmanager
    async def _transaction(self, *, writes: bool) -> AsyncIterator[AsyncConnection]:
        engine = await self.open()
        try:
            with self._told():
                if writes:
                    await self._presence.take(engine)  # nothing of ours is to be there without our lock
                async with engine.connect() as connection:
                    await connection.execution_options(tailrace_writes=writes)
                    async with connection.begin():
                        yield connection
        except StoreError as error:
            await self._after(error, engine)
            raise

    async def _after(self, error: StoreError, engine: AsyncEngine) -> None:
        """Tells a fault, and lets go of a database that is not to be trusted, so that the next use opens it anew."""
        if error.reason in _REOPENED:
            async with self._opening:
                if self._engine is engine:
                    self._engine = None
                    if self.path is None:
                        await self._presence.leave()  # its session is one of this engine's
                    await engine.dispose()
                    if error.reason == "corrupt" and self._set_aside():
                        return
        self._failed(error)

    def _failed(self, error: StoreError) -> None:
        known = error.reason == self._wrong
        self._wrong = error.reason
        if error.reason == "full":
            # On a full disk small transactions still succeed, in between those that do not.
            known = known or time.monotonic() - self._full_at < _FULL_FOR
            self._full_at = time.monotonic()
        if not known:
            self._report(error)

    # -- opening -----------------------------------------------------------------------------------------------------

    async def _opened_or_begun_anew(self) -> AsyncEngine:
        try:
            return await self._opened()
        except StoreError as error:
            if error.reason != "corrupt" or not self._set_aside():
                raise
        return await self._opened()

    async def _opened(self) -> AsyncEngine:
        with self._told():
            if self.path is not None:
                self._file = _make(self.path)
            # On a thread, since the driver is imported.
            engine = await asyncio.to_thread(create_async_engine, self.url, **self._settings())
            if self.path is not None:
                self._prepare(engine)
            try:
                async with engine.connect() as connection:
                    await connection.execution_options(tailrace_writes=True)
                    async with connection.begin():
                        await connection.run_sync(self._bring_up)
            except BaseException:
                await engine.dispose()
                raise
            return engine

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"pool_size": _CONNECTIONS, "max_overflow": 0}
        if self.path is not None:
            # Transactions are begun by us, see `_prepare`: the driver of Python 3.11 would begin none for a SELECT. And
            # no statement is kept: with each, the driver keeps what it wrote last, a long answer on every connection.
            arguments = {"isolation_level": None, "timeout": self._patience, "cached_statements": 0}
            return settings | {"connect_args": arguments}
        return settings | {"pool_pre_ping": True, "pool_size": _CONNECTIONS + 1}  # one holds the lock

    def _prepare(self, engine: AsyncEngine) -> None:
        milliseconds = int(self._patience * 1000)
        pragmas = (f"busy_timeout={milliseconds}", "journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON")

        @sa.event.listens_for(engine.sync_engine, "connect")
        def set_up(connection: Any, _: object) -> None:
            try:
                connection.create_function("lower", 1, _lower, deterministic=True)
                cursor = connection.cursor()
                for pragma in pragmas:
                    cursor.execute(f"PRAGMA {pragma}")
                cursor.close()
            except BaseException:
                connection.close()  # SQLAlchemy before 2.0.53 would leave it open, and a broken file's log beside it
                raise

        @sa.event.listens_for(engine.sync_engine, "begin")
        def begin(connection: sa.Connection) -> None:
            # A transaction that reads first and then writes could not wait for another writer.
            writes = connection.get_execution_options().get("tailrace_writes")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    def _bring_up(self, connection: sa.Connection) -> None:
        newest = 1 + len(schema.MIGRATIONS)
        if connection.dialect.name == "postgresql":  # SQLite has one that writes at a time anyway
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.literal(_BRINGING_UP, sa.BigInteger))))
        names = set(sa.inspect(connection).get_table_names())
        if schema.version.name not in names:
            if names & set(schema.metadata.tables) or (names and self.path is not None):
                hint = "choose another place with --data or --database"
                raise StoreError(f"{self.place} belongs to another program", reason="foreign", hint=hint)
            schema.metadata.create_all(connection)
            connection.execute(schema.version.insert().values(number=newest))
            return
        here = connection.execute(sa.select(schema.version.c.number)).scalar_one()
        if here > newest:
            hint = "update tailrace, or choose another place with --data"
            raise StoreError(f"{self.place} was made by a later version of tailrace", reason="newer", hint=hint)
        for step in schema.MIGRATIONS[here - 1 :]:
            step(connection)
        connection.execute(schema.version.update().values(number=newest))

    def _set_aside(self) -> bool:
        """Renames a broken file; returns whether there was one, and it is out of the way."""
        path = self.path
        if path is None:
            return False
        try:
            if _identity(path) != self._file:  # another process was quicker, and this is its new one
                return True
            aside = _free(path.with_name(time.strftime(f"{path.name}.corrupt-%Y%m%d-%H%M%S")))
            for suffix in _FILES:
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
        except OSError:
            return False
        hint = f"what can be saved of it: sqlite3 {aside.name} .recover"
        text = f"{path} is damaged; it is kept as {aside.name}, and a new one is begun"
        self._report(StoreError(text, reason="corrupt", hint=hint))
        return True

    # -- faults ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise self._error(error) from error
        except ModuleNotFoundError as error:
            raise StoreError(f"{error.name} is not installed", hint=f"pip install {error.name}") from error
        except OSError as error:
            text = f"{self.place}: {error.strerror or error}"
            if self.path is None:
                raise StoreError(text, reason="unreachable") from error
            if error.errno in OUT_OF_FILES:
                raise StoreError(text, reason="failed", hint=_FILES_HINT) from error
            reason, _, hint = _FAULTS[13 if error.errno in _FULL else _CANNOT_OPEN]
            raise StoreError(text, reason=reason, hint=hint) from error

    def _error(self, error: SQLAlchemyError) -> StoreError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        if code == _CANNOT_OPEN and not files_left():
            return StoreError(f"{self.place}: too many open files", reason="failed", hint=_FILES_HINT)
        if code in _FAULTS:
            return self._fault(code)
        lost = self.path is None and isinstance(error, (InterfaceError, OperationalError))
        text = next(iter(str(cause).splitlines()), type(cause).__name__)
        return StoreError(f"{self.place}: {text}", reason="unreachable" if lost else "failed")

    def _fault(self, code: int) -> StoreError:
        reason, text, hint = _FAULTS[code]
        return StoreError(f"{self.place}: {text}", reason=reason, hint=hint)


def url_of(text: str) -> URL:
    """Returns the URL of a database, with its asynchronous driver.

    Raises:
        RequestError: it is none.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise RequestError("the database is no URL", hint="for example sqlite:///conversations.db") from error
    if url.get_backend_name() == "sqlite" and not _is_file(url):
        raise RequestError("conversations need a file", hint="for example sqlite:///conversations.db")
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _is_file(url: URL) -> bool:
    place = url.database or ":memory:"
    return url.get_backend_name() == "sqlite" and not place.startswith((":memory:", "file:"))


def _make(path: Path) -> tuple[int, int]:
    """Makes the file, for its owner only, if it is not there; what SQLite puts beside it gets the same rights."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    return _identity(path)


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _free(path: Path) -> Path:
    """Returns a path that is not taken, by a number if need be."""
    names = (path, *(path.with_name(f"{path.name}-{number}") for number in range(2, 1000)))
    return next(name for name in names if not name.exists())


def _lower(text: str | None) -> str | None:
    """SQLite's own knows the letters of English only."""
    return None if text is None else text.lower()
