"""Faults of the disk and of the file (S8, S9): a run never ends of them, each is told once, and nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.gateway.conversations.children import Child
from tests.gateway.conversations.turns import begun, content, finished, locked, message, turn

from tailrace.errors import StoreError
from tailrace.events import Outcome
from tailrace.gateway.conversations import schema
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.writer import ConversationWriter


@contextlib.asynccontextmanager
async def impatient(path: Path, reports: list[StoreError]) -> AsyncIterator[Store]:
    """A store that waits for no lock."""
    async with Store(path, patience=0.01, report=reports.append) as store:
        yield store


# -- locked ----------------------------------------------------------------------------------------------------------


async def test_s9_locked_by_another_program(path: Path, reports: list[StoreError]) -> None:
    """While another program has the lock answers go on, and it is told once; then all is written, ends as well."""
    async with impatient(path, reports) as store, ConversationWriter(store, every=1e6) as writer:
        conversation, answer = await begun(store)
        other, ended = await begun(store)
        writer.add(answer, "before ")
        assert await writer.flush()
        with locked(path):
            for text in ("while ", "it ", "lasts "):
                writer.add(answer, text)
                assert not await writer.flush()
            assert not await writer.finish(ended, Outcome.LENGTH, "all of it")
            assert await content(store, conversation) == "before "
            with pytest.raises(StoreError) as caught:
                await store.create()
        writer.add(answer, "after")
        assert await writer.flush()

        assert await content(store, conversation) == "before while it lasts after"
        kept = await message(store, other, ended)
        assert (kept.content, kept.state, kept.outcome) == ("all of it", "complete", "length")
    assert [error.reason for error in reports] == ["locked"]
    assert str(path) in str(reports[0])
    assert reports[0].hint
    assert caught.value.reason == "locked"


async def test_s9_a_lock_that_is_let_go(path: Path, store: Store, reports: list[StoreError]) -> None:
    """A lock is waited for; the writer tries again by itself, as often as it must."""
    conversation, answer = await begun(store)
    failed, written = asyncio.Event(), asyncio.Event()

    def report(error: StoreError) -> None:
        reports.append(error)
        failed.set()

    async with Store(path, patience=0.001, report=report) as other, ConversationWriter(other, every=0.001) as writer:
        engine = other._database._engine
        assert engine is not None
        with locked(path):
            writer.add(answer, "kept")
            await asyncio.wait_for(failed.wait(), 60)
        sa.event.listen(engine.sync_engine, "commit", lambda _: written.set())
        await asyncio.wait_for(written.wait(), 60)
    assert await content(store, conversation) == "kept"
    assert [error.reason for error in reports] == ["locked"]


async def test_s9_many_wait_for_one_lock(path: Path, reports: list[StoreError]) -> None:
    """Of many who want to write to a locked database each gets the error, after one wait for all of them."""
    async with impatient(path, reports) as store:
        with locked(path):
            results = await asyncio.gather(*(store.create() for _ in range(50)), return_exceptions=True)
        assert [each.reason for each in results if isinstance(each, StoreError)] == ["locked"] * 50
        await store.create()
        assert len(await store.page()) == 1


async def test_s9_told_again_when_it_happens_again(path: Path, reports: list[StoreError]) -> None:
    """Each time that something goes wrong is told once: the first, and the next after all was well."""
    async with impatient(path, reports) as store, ConversationWriter(store, every=1e6) as writer:
        conversation, answer = await begun(store)
        for _ in range(2):
            with locked(path):
                writer.add(answer, "x")
                assert [await writer.flush(), await writer.flush()] == [False, False]
            assert await writer.flush()
        assert await content(store, conversation) == "xx"
    assert [error.reason for error in reports] == ["locked", "locked"]


async def test_s9_locked_until_the_end(path: Path, reports: list[StoreError]) -> None:
    """What could not be written until the writer was closed is counted, and told."""
    async with impatient(path, reports) as store:
        _, answer = await begun(store)
        _, other = await begun(store)
        async with ConversationWriter(store, every=1e6) as writer:
            writer.add(answer, "lost")
            with locked(path):
                assert not await finished(writer, other, "lost as well")
                await writer.close()
    first, last = reports
    assert first.reason == "locked"
    assert str(last) == "the last words of 2 answers could not be kept"


async def test_s9_locked_when_it_is_opened(path: Path, reports: list[StoreError]) -> None:
    """A database that is locked when it is to be opened is opened by the first use after that."""
    path.parent.mkdir()
    store = Store(path, patience=0.01, report=reports.append)
    with locked(path), pytest.raises(StoreError) as caught:
        await store.open()
    assert caught.value.reason == "locked"

    conversation, _ = await begun(store)
    assert [conversation] == [each.id for each in await store.page()]
    await store.close()


# -- no space --------------------------------------------------------------------------------------------------------

_FILLER = """
import asyncio, resource, sys
from pathlib import Path
from tailrace.events import Outcome
from tailrace.gateway.conversations.writer import ConversationWriter
from tailrace.gateway.conversations.store import Store

async def main():
    reports = []
    path = Path(sys.argv[1])
    store = Store(path, report=reports.append)
    made = await store.create()
    _, answer = await store.begin_turn(made.id, "q", None, model="m", run="r")
    _, other = await store.begin_turn(made.id, "q", None, model="m", run="r2")
    async with ConversationWriter(store, every=1e6) as writer:
        writer.add(answer, "before ")
        print(await writer.flush())
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
        writer.add(answer, "x" * 1_000_000)
        print(await writer.flush(), await writer.flush())
        print(await writer.finish(other, Outcome.COMPLETE, "y" * 1_000_000))
        print(len((await store.get(made.id)).messages[1].content))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        writer.add(answer, " after")
        print(await writer.flush())
    whole = await store.get(made.id)
    print(whole.messages[1].content == "before " + "x" * 1_000_000 + " after")
    print(whole.messages[3].content == "y" * 1_000_000, whole.messages[3].state)
    print(len(reports), reports[0].reason in ("full", "failed"), bool(reports[0].hint))
    await store.close()

asyncio.run(main())
"""


def test_s9_no_space_for_the_file(path: Path) -> None:
    """A file that may not grow is told once; reading goes on, and once there is space all is written."""
    said, code = Child(_FILLER, path).end()

    expected = ["True", "False False", "False", "7", "True", "True", "True complete", "1 True True"]
    assert (expected, 0) == (said.splitlines(), code)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk; the test beside it limits the file instead")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_s9_a_full_disk(small_disk: Path, reports: list[StoreError]) -> None:
    """A full disk is told once, with what to do; nothing begins, what runs goes on, and with space all is written."""
    async with (
        Store(small_disk / "c.db", report=reports.append) as store,
        ConversationWriter(store, every=1e6) as writer,
    ):
        conversation, answer = await begun(store)
        writer.add(answer, "before ")
        assert await writer.flush()
        filler = small_disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        writer.add(answer, "x" * 300_000)
        assert [await writer.flush(), await writer.flush()] == [False, False]
        with pytest.raises(StoreError) as caught:
            await store.begin_turn(conversation, "z" * 300_000, None, model="m", run="r")
        filler.unlink()
        writer.add(answer, " after")
        assert await writer.flush()

        assert await content(store, conversation) == "before " + "x" * 300_000 + " after"
    assert [(error.reason, error.hint) for error in reports] == [("full", "make space")]
    assert caught.value.reason == "full"


async def test_s9_a_disk_on_which_only_small_changes_fit(small_disk: Path, reports: list[StoreError]) -> None:
    """That it is full is said once, and not each time that a large change fails after a small one."""
    store = Store(small_disk / "c.db", report=reports.append)
    conversation = (await store.create()).id
    for number in range(3):
        with pytest.raises(StoreError, match="the disk is full"):
            await store.update(conversation, system="x" * 1_500_000)
        await store.update(conversation, title=f"small {number}")

    assert [error.reason for error in reports] == ["full"]
    await store.close()


async def test_s9_no_space_to_begin(small_disk: Path, reports: list[StoreError]) -> None:
    """On a disk that is full from the start the store says so, and works once there is space."""
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    store = Store(small_disk / "data" / "c.db", report=reports.append)
    with pytest.raises(StoreError) as caught:
        await store.open()
    assert caught.value.hint
    filler.unlink()
    await begun(store)
    assert len(await store.page()) == 1
    await store.close()


# -- no right to write -----------------------------------------------------------------------------------------------

_WEAK = """
import asyncio, sys
from pathlib import Path
from tailrace.errors import StoreError
from tailrace.gateway.conversations.writer import ConversationWriter
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.values import Message

async def main():
    reports = []
    store = Store(Path(sys.argv[1]), report=reports.append)
    for call in (store.open, store.page, store.create):
        try:
            await call()
        except StoreError as error:
            print(error.reason, bool(error.hint), flush=True)
    async with ConversationWriter(store, every=1e6) as writer:
        writer.add(Message(id="msg_0", parent=None, role="assistant", content="", created="", run="r"), "text")
        print(await writer.flush(), await writer.flush(), [error.reason for error in reports], flush=True)
        input()
        print(await writer.flush(), flush=True)
    await store.create()
    print(len(await store.page()), flush=True)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("there", [False, True])
def test_s9_a_folder_that_cannot_be_written(tmp_path: Path, there: bool) -> None:
    """In a read-only home, with a database or without, all calls say what to do; made writable, it works at once."""
    home = tmp_path / "home"
    home.mkdir()
    path = home / "c.db"
    if there:
        asyncio.run(_make(path))
        path.chmod(0o444)
    home.chmod(0o555)
    child = Child(_WEAK, path, weak=True)

    assert [child.hear() for _ in range(3)] == ["readonly True"] * 3
    assert child.hear() == "False False ['readonly']"
    home.chmod(0o777)
    if there:
        path.chmod(0o666)
    child.say("go on")
    assert child.end() == ("True\n" + ("2" if there else "1"), 0)


async def _make(path: Path) -> None:
    async with Store(path) as store:
        await store.create()


async def test_s9_no_folder_can_be_there(tmp_path: Path) -> None:
    """A place below a file, or one that is a folder, is told with what to do."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "data" / "c.db", tmp_path):
        with pytest.raises(StoreError, match=r"cannot|directory") as caught:
            await Store(place).open()
        assert caught.value.reason == "readonly"
        assert caught.value.hint


# -- a damaged file --------------------------------------------------------------------------------------------------


async def filled(path: Path) -> str:
    """Makes a database of some size; returns a conversation."""
    async with Store(path) as store:
        conversation = (await store.create()).id
        for number in range(40):
            await turn(store, conversation, f"question {number}", f"{number} " * 1000)
        return conversation


@pytest.mark.parametrize("damage", ["text", "half", "head"])
async def test_s9_a_damaged_file_is_set_aside(path: Path, reports: list[StoreError], damage: str) -> None:
    """A broken file keeps its bytes under another name, which is told once, and a new one is begun."""
    await filled(path)
    data = path.read_bytes()
    broken = {
        "text": b"this is not a database at all\n" * 100,
        "half": data[: len(data) // 2 - 100],
        "head": bytes(5000) + data[5000:],
    }[damage]
    path.write_bytes(broken)

    async with Store(path, report=reports.append) as store:
        assert await store.page() == []
        conversation, _ = await begun(store)
        assert [conversation] == [each.id for each in await store.page()]
    (aside,) = path.parent.glob("*.corrupt-*")
    assert broken == aside.read_bytes()
    assert [error.reason for error in reports] == ["corrupt"]
    assert aside.name in str(reports[0])
    async with Store(path, report=reports.append) as store:
        assert [conversation] == [each.id for each in await store.page()]
    assert len(reports) == 1


async def test_s9_damage_found_later(path: Path, reports: list[StoreError]) -> None:
    """Damage that shows only when a page is read is the error of that call; the next one has a new file."""
    conversation = await filled(path)
    async with Store(path) as store:
        _, answer = await begun(store)
    data = bytearray(path.read_bytes())
    data[20 * 4096 : -4096] = b"\xff" * (len(data) - 21 * 4096)
    path.write_bytes(data)

    async with Store(path, report=reports.append) as store, ConversationWriter(store, every=1e6) as writer:
        with pytest.raises(StoreError) as caught:
            await store.get(conversation)
        assert caught.value.reason == "corrupt"
        assert await store.page() == []
        writer.add(answer, "of an answer in the broken file")
        assert await writer.flush()
    (aside,) = path.parent.glob("*.corrupt-*")
    assert [error.reason for error in reports] == ["corrupt"]
    assert bytes(data) == aside.read_bytes()


async def test_s9_two_damaged_files(path: Path, reports: list[StoreError]) -> None:
    """A second broken file does not take the place of the first, however soon it comes."""
    path.parent.mkdir()
    for number in range(3):
        path.write_bytes(b"broken %d " % number * 1000)
        async with Store(path, report=reports.append):
            pass
        path.unlink()

    contents = {file.read_bytes() for file in path.parent.glob("*.corrupt-*")}
    assert {b"broken %d " % number * 1000 for number in range(3)} == contents


async def test_s9_two_find_the_damage(path: Path, reports: list[StoreError]) -> None:
    """Who finds a file broken that another process has replaced meanwhile leaves the new one alone."""
    conversation = await filled(path)
    data = bytearray(path.read_bytes())
    data[20 * 4096 : -4096] = b"\xff" * (len(data) - 21 * 4096)
    path.write_bytes(data)
    async with Store(path, report=reports.append) as one, Store(path, report=reports.append) as other:
        with pytest.raises(StoreError):
            await one.get(conversation)
        made = (await one.create()).id
        with pytest.raises(StoreError):
            await other.get(conversation)
        assert [made] == [each.id for each in await other.page()]
    assert len([file for file in path.parent.glob("*.corrupt-*") if not file.name.endswith(("-wal", "-shm"))]) == 1
    assert len(reports) == 1


async def test_s9_damage_that_cannot_be_set_aside(
    path: Path, reports: list[StoreError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the broken file cannot be renamed each call says that it is broken, and it stays as it is."""
    path.parent.mkdir()
    path.write_bytes(b"broken " * 1000)

    def refuse(self: Path, target: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(Path, "rename", refuse)
    store = Store(path, report=reports.append)
    for call in (store.open, store.page):
        with pytest.raises(StoreError) as caught:
            await call()
        assert caught.value.reason == "corrupt"
    assert path.read_bytes() == b"broken " * 1000
    assert [error.reason for error in reports] == ["corrupt"]


# -- versions --------------------------------------------------------------------------------------------------------


async def test_s8_a_file_of_a_later_version(path: Path, reports: list[StoreError]) -> None:
    """A file that a later tailrace made is refused with what to do, and is not touched."""
    conversation = await filled(path)
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE tailrace_version SET number = 99")
        other.commit()
    before = path.read_bytes()

    store = Store(path, report=reports.append)
    for call in (store.open, store.page, store.create):
        with pytest.raises(StoreError, match="later version") as caught:
            await call()
        assert (caught.value.reason, "update tailrace" in caught.value.hint) == ("newer", True)
    assert before == path.read_bytes()
    assert [error.reason for error in reports] == ["newer"]

    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"UPDATE tailrace_version SET number = {1 + len(schema.MIGRATIONS)}")
        other.commit()
    assert conversation == (await store.get(conversation)).id
    await store.close()


async def test_s8_a_file_of_another_program(path: Path) -> None:
    """Another program's database is refused, and gets no tables of ours."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE photos (name TEXT)")
        other.commit()
        with pytest.raises(StoreError, match="another program") as caught:
            await Store(path).open()
        assert caught.value.reason == "foreign"
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("photos",)]


async def test_an_older_file_is_brought_up_to_date(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps to a newer version are taken once and all together; if one fails, the file is as it was."""
    conversation = await filled(path)
    add = sa.text("ALTER TABLE conversations ADD COLUMN colour TEXT")
    fill = sa.text("UPDATE conversations SET colour = 'blue'")
    known = schema.MIGRATIONS
    wrong = [*known, lambda c: c.execute(add), lambda c: c.execute(sa.text("nonsense"))]
    monkeypatch.setattr(schema, "MIGRATIONS", wrong)
    with pytest.raises(StoreError, match="nonsense"):
        await Store(path).open()
    assert _sql(path, "SELECT number FROM tailrace_version") == [(1 + len(known),)]

    monkeypatch.setattr(schema, "MIGRATIONS", [*known, lambda c: c.execute(add), lambda c: c.execute(fill)])
    for _ in range(2):
        async with Store(path) as store:
            await store.page()
    assert _sql(path, "SELECT number FROM tailrace_version") == [(3 + len(known),)]
    assert [(conversation, "blue")] == _sql(path, "SELECT id, colour FROM conversations")


def _sql(path: Path, statement: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as other:
        return other.execute(statement).fetchall()
