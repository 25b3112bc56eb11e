"""P22: several servers on one database. The answers of one that lives are left to it, and those of one that has died
are taken over at once.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.conversations.children import Child
from tests.gateway.conversations.turns import begun, ending, message, piece
from tests.gateway.serving import serving
from tests.web.reader import PATIENCE

from tailrace.events import Outcome
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.errors import ConflictError
from tailrace.testing import FakeOllama, hold, say, stall

_ANSWERING = """
import asyncio, sys
from pathlib import Path
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.values import Piece

async def main():
    store = Store(Path(sys.argv[1]))
    made = await store.create()
    _, answer = await store.begin_turn(made.id, "q", None, model="m", run="r")
    await store.write([Piece(answer.id, "r", 0, "half", "")])
    print(made.id, answer.id, flush=True)
    input()

asyncio.run(main())
"""


def _locks(path: Path) -> list[Path]:
    return list(path.parent.glob(f"{path.name}-writer-*"))


async def test_p22_the_answers_of_a_living_store_are_left_to_it(path: Path, store: Store) -> None:
    """Another store sees that they are being written, does not go on with them, and sees their end."""
    conversation, answer = await begun(store)
    await store.write([piece(answer, 0, "half")])
    async with Store(path, patience=60) as other:
        assert await other.recover() == 0
        seen = await message(other, conversation, answer)
        assert (seen.state, seen.content) == ("running", "half")
        with pytest.raises(ConflictError, match="still being written") as caught:
            await other.begin_continue(conversation, answer.id, model="m", run="again")
        assert caught.value.hint
        await store.write([], [ending(answer, Outcome.COMPLETE, "half and half")])
        seen = await message(other, conversation, answer)
        assert (seen.state, seen.content) == ("complete", "half and half")


async def test_p22_a_process_that_lives_and_is_killed(path: Path, store: Store) -> None:
    """While it lives its answer is its own; killed, whoever looks next has it as interrupted, and can go on with it."""
    child = Child(_ANSWERING, path)
    conversation, answer = child.hear().split()
    assert await store.recover() == 0
    assert (await message(store, conversation, answer)).state == "running"

    child.kill()
    assert [await store.take_over("conv_0"), await store.take_over(conversation)] == [0, 1]
    seen = await message(store, conversation, answer)
    assert (seen.state, seen.outcome, seen.content) == ("interrupted", "owner_lost", "half")
    assert len(_locks(path)) == 1
    going = await store.begin_continue(conversation, answer, model="m", run="again")
    assert (going.state, going.base) == ("running", "half")


async def test_p22_a_store_that_is_closed_leaves_nothing(path: Path) -> None:
    """Its lock is a file of its own, for its user only, which goes with it."""
    async with Store(path) as store:
        conversation, answer = await begun(store)
        (lock,) = _locks(path)
        assert lock.stat().st_mode & 0o777 == 0o600
        assert sorted(each.name for each in path.parent.glob(f"{lock.name}*")) == [lock.name]
    assert _locks(path) == []
    async with Store(path) as store:
        assert await store.recover() == 1
        assert (await message(store, conversation, answer)).state == "interrupted"


async def test_p22_a_lock_that_somebody_removed_is_made_again(path: Path, store: Store) -> None:
    """By the next change, with the same name."""
    conversation, answer = await begun(store)
    (lock,) = _locks(path)
    lock.unlink()
    await store.write([piece(answer, 0, "half")])

    assert _locks(path) == [lock]
    async with Store(path) as other:
        assert await other.recover() == 0
        assert (await message(other, conversation, answer)).state == "running"


async def test_p22_what_others_left_is_tidied_up(path: Path, store: Store) -> None:
    """Locks of stores that are gone are removed; those of stores that live stay, and so does what is no lock."""
    await store.create()
    async with Store(path) as living:
        await living.create()
        here = set(_locks(path))
        path.with_name(f"{path.name}-writer-{'0' * 16}").touch()
        assert len(_locks(path)) == 3
        await store.recover()
        assert set(_locks(path)) == here


async def test_p22_a_database_of_a_version_without_locks(path: Path) -> None:
    """Is brought up to date, and what seems to go on in it is interrupted: nobody can be writing it."""
    async with Store(path) as store:
        conversation, answer = await begun(store)
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("ALTER TABLE messages DROP COLUMN writer")
        old.execute("UPDATE tailrace_version SET number = 1")
        old.commit()
    async with Store(path) as store:
        assert await store.recover() == 1
        assert (await message(store, conversation, answer)).state == "interrupted"
        _, other = await begun(store)
        assert await store.recover() == 0
        assert other.state == "running"


def test_p22_two_gateways_on_one_data_folder(tmp_path: Path) -> None:
    """The second shows the first one's answer as it grows, and does not go on with it; after a kill it does."""

    def last(gateway: Any) -> Any:
        return gateway.call("GET", talk).json["messages"][-1]

    with (
        FakeOllama(models=["m"]) as upstream,
        serving("--on-leave", "continue", upstream=upstream, data=tmp_path) as second,
    ):
        with serving("--on-leave", "continue", upstream=upstream, data=tmp_path) as first:
            talk = first.call("POST", "/conversations", {"model": "m"}).headers["location"]
            upstream.script(say("Hel"), hold(), say("lo"), path="/api/chat")
            turn = first.call("POST", f"{talk}/turns", {"content": "hi"}).json
            while not last(first)["content"]:
                pass
            second.call("GET", "/conversations")
            assert (last(second)["state"], last(second)["content"]) == ("running", "Hel")
            refused = second.call("POST", f"{talk}/turns", {"continue": turn["answer"]["id"]})
            assert (refused.status, "still being written" in refused.json["detail"]) == (409, True)
            assert refused.json["hint"]
            upstream.release()
            assert first.ended(f"/runs/{turn['run']['id']}")["reply"]["text"] == "Hello"
            while last(second)["state"] == "running":
                pass
            assert (last(second)["state"], last(second)["content"]) == ("complete", "Hello")

            upstream.script(say("One"), stall(), path="/api/chat")
            more = {"content": "more", "parent": turn["answer"]["id"]}
            answer = first.call("POST", f"{talk}/turns", more).json["answer"]["id"]
            while not last(first)["content"]:
                pass
            assert last(second)["state"] == "running"
            first.server.process.send_signal(signal.SIGKILL)
            first.server.process.wait(PATIENCE)
        assert (last(second)["state"], last(second)["content"]) == ("interrupted", "One")
        upstream.script(say(" two"), path="/api/chat")
        going = second.call("POST", f"{talk}/turns", {"continue": answer})
        assert going.status == 201
        second.ended(f"/runs/{going.json['run']['id']}")
        while last(second)["state"] == "running":
            pass
        assert (last(second)["state"], last(second)["content"]) == ("complete", "One two")
