"""What outlives a process: kill -9 in the middle of answers; and what a process loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.gateway.conversations.children import SOURCE, Child
from tests.gateway.conversations.turns import begun, locked, message, piece, turn

from tailrace.errors import StoreError
from tailrace.gateway.conversations.store import Store

_WRITER = """
import asyncio, sys
from pathlib import Path
from tailrace.gateway.conversations.writer import ConversationWriter
from tailrace.gateway.conversations.store import Store

async def main():
    store = Store(Path(sys.argv[1]))
    answers = []
    for number in range(3):
        made = await store.create()
        _, answer = await store.begin_turn(made.id, f"q{number}", None, model="m", run=f"r{number}")
        answers.append(answer)
        print(made.id, answer.id, flush=True)
    async with ConversationWriter(store, every=1e6) as writer:
        number = 0
        while True:
            for answer in answers:
                writer.add(answer, f"{number} ", "hm ")
            await writer.flush()
            print(number, flush=True)
            number += 1

asyncio.run(main())
"""


@pytest.mark.parametrize("heard", [1, 40])
async def test_p2_kill_9_in_the_middle_of_answers(path: Path, heard: int) -> None:
    """What was flushed before a kill -9 is there; the answers are marked as interrupted, once, and can go on."""
    child = Child(_WRITER, path)
    answers = [child.hear().split() for _ in range(3)]
    for _ in range(heard):
        child.hear()
    said = child.kill().split()
    flushed = heard + len(said)

    async with Store(path, patience=60) as store:
        for conversation, answer in answers:
            before = await message(store, conversation, answer)
            numbers = before.content.split()
            assert [str(number) for number in range(len(numbers))] == numbers
            assert len(numbers) in (flushed, flushed + 1)  # it may have been killed before it could say so
            assert before.state == "running"
        assert [await store.recover(), await store.recover()] == [3, 0]
        for conversation, answer in answers:
            kept = await message(store, conversation, answer)
            assert (kept.state, kept.outcome, kept.run) == ("interrupted", "owner_lost", None)
            assert len(numbers) == len(kept.content.split()) == len(kept.thinking.split())
            going = await store.begin_continue(conversation, answer, model="m", run="again")
            assert kept.content == going.base


async def test_nothing_to_recover(store: Store) -> None:
    """Ended answers are left as they are."""
    conversation = (await store.create()).id
    await turn(store, conversation, "q", "a")
    before = await store.get(conversation)

    assert await store.recover() == 0
    assert before == await store.get(conversation)


async def test_s9_recovery_that_has_to_wait(path: Path) -> None:
    """When the database is locked at the start, answers of a process that is gone are ended by the first change."""
    async with Store(path, patience=0.01, report=lambda error: None) as store:
        conversation, answer = await begun(store)
        await store.write([piece(answer, 0, "half")])
    async with Store(path, patience=0.01, report=lambda error: None) as store:
        with locked(path), pytest.raises(StoreError):
            await store.recover()
        assert (await message(store, conversation, answer)).state == "running"
        other, ours = await begun(store)
        kept = await message(store, conversation, answer)
        assert (kept.content, kept.state, kept.outcome) == ("half", "interrupted", "owner_lost")
        await store.update(conversation, title="changed")
        assert (await message(store, other, ours)).state == "running"


@pytest.mark.parametrize("arguments", [["-c", "import tailrace, sys"], ["-m", "tailrace", "--help"]])
def test_only_the_gateway_loads_a_database(arguments: list[str]) -> None:
    """Neither importing tailrace nor its help loads SQLAlchemy."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments],
        env={"PYTHONPATH": str(SOURCE), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}

    assert "tailrace" in loaded
    assert loaded & {"sqlalchemy", "aiosqlite", "greenlet"} == set()
