"""The writer of answers under way: what it writes, when, in how many transactions, and what it does when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.gateway.conversations.turns import begun, content, finished, message, piece, transactions, turn

from tailrace.errors import StoreError
from tailrace.events import Fault, Outcome
from tailrace.gateway.conversations.schema import pieces
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.values import Ending, Piece
from tailrace.gateway.conversations.writer import ConversationWriter
from tailrace.run.metrics import Metrics


async def rows(store: Store) -> int:
    """How many pieces are in the database."""
    async with store._database.reading() as connection:
        return (await connection.execute(sa.select(sa.func.count()).select_from(pieces))).scalar_one()


async def test_many_runs_are_one_transaction(store: Store, writer: ConversationWriter) -> None:
    """All that came of a hundred runs is written in one transaction, a piece for each run; then there is nothing."""
    answers = [await begun(store) for _ in range(100)]
    for text in ("wo", "rd ", "词"):
        for _, answer in answers:
            writer.add(answer, text, "hm")

    with transactions(store) as seen:
        assert await writer.flush()
        assert await writer.flush()
    assert seen == ["begin", "commit"]
    assert await rows(store) == 100
    assert {("word 词", "hmhmhm")} == {
        (kept.content, kept.thinking) for kept in [await message(store, *answer) for answer in answers]
    }


async def test_the_ends_of_many_runs_share_transactions(store: Store, writer: ConversationWriter) -> None:
    """A hundred answers that end at once need a transaction or two, and leave no pieces behind."""
    answers = [await begun(store) for _ in range(100)]
    for _, answer in answers:
        writer.add(answer, "part")
    await writer.flush()

    with transactions(store) as seen:
        assert all(await asyncio.gather(*(finished(writer, answer, f"{answer.id} whole") for _, answer in answers)))
    assert seen.count("begin") <= 2
    assert await rows(store) == 0
    for conversation, answer in answers:
        kept = await message(store, conversation, answer)
        assert (f"{answer.id} whole", "complete") == (kept.content, kept.state)


async def test_it_writes_by_itself(store: Store) -> None:
    """What comes is written without being asked for, all that came meanwhile at once; else nothing is."""
    conversation, answer = await begun(store)
    written = asyncio.Event()
    engine = store._database._engine
    assert engine is not None
    sa.event.listen(engine.sync_engine, "commit", lambda _: written.set())

    async with ConversationWriter(store, every=0.001) as writer:
        for text in ("one", "two", "three"):
            writer.add(answer, text)
        with transactions(store) as seen:
            await asyncio.wait_for(written.wait(), 60)
            assert await writer.flush()
        assert seen == ["begin", "commit"]
        assert await content(store, conversation) == "onetwothree"


async def test_a_long_answer_costs_what_is_new(store: Store, writer: ConversationWriter) -> None:
    """Each flush writes a row with what is new, and touches none that is there; the end folds them into one text."""
    conversation, answer = await begun(store)
    for number in range(50):
        writer.add(answer, f"{number},")
        await writer.flush()
        assert number + 1 == await rows(store)

    text = "".join(f"{number}," for number in range(50))
    assert text == await content(store, conversation)
    await finished(writer, answer, text)
    assert (0, text) == (await rows(store), await content(store, conversation))


async def test_what_comes_while_it_writes_is_not_lost(store: Store, writer: ConversationWriter) -> None:
    """Text that comes in the middle of a transaction is written by the next one, in its place."""
    conversation, answer = await begun(store)
    for number in range(30):
        writer.add(answer, f"<{number}")
        flushing = asyncio.create_task(writer.flush())
        for _ in range(number):
            await asyncio.sleep(0)
        writer.add(answer, f"{number}>")
        assert await flushing
    assert await writer.flush()

    assert "".join(f"<{number}{number}>" for number in range(30)) == await content(store, conversation)


async def test_an_end_in_the_middle_of_a_flush(store: Store, writer: ConversationWriter) -> None:
    """An answer that ends while its pieces are being written has its whole text, and no piece after it."""
    for steps in range(30):
        conversation, answer = await begun(store)
        writer.add(answer, "part")
        flushing = asyncio.create_task(writer.flush())
        for _ in range(steps):
            await asyncio.sleep(0)
        assert await finished(writer, answer, "part and whole")
        await flushing
        assert await content(store, conversation) == "part and whole"
    assert await writer.flush()
    assert await rows(store) == 0


async def test_a_flush_that_is_cancelled(store: Store, writer: ConversationWriter) -> None:
    """Whoever is cancelled while flushing, and wherever: each text is there once, and the store works."""
    conversation, answer = await begun(store)
    for steps in range(60):
        writer.add(answer, f"{steps},")
        flushing = asyncio.create_task(writer.flush())
        for _ in range(steps):
            await asyncio.sleep(0)
        flushing.cancel()
        await asyncio.gather(flushing, return_exceptions=True)
    assert await writer.flush()

    assert "".join(f"{steps}," for steps in range(60)) == await content(store, conversation)


async def test_a_turn_that_is_cancelled(store: Store) -> None:
    """A turn whose caller is cancelled, wherever, is there as a whole or not at all; and the store works."""
    conversation = (await store.create()).id
    for steps in range(60):
        turning = asyncio.create_task(store.begin_turn(conversation, "Why?", None, model="m", run="r"))
        for _ in range(steps):
            await asyncio.sleep(0)
        turning.cancel()
        await asyncio.gather(turning, return_exceptions=True)

    whole = await store.get(conversation)
    questions = {each.id for each in whole.messages if each.role == "user"}
    assert questions == {each.parent for each in whole.messages if each.role == "assistant"}
    await turn(store, conversation, "And now?", "Now.")


async def test_s6_a_reply_that_is_lost(
    store: Store, writer: ConversationWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a transaction was done but its caller is told that it was not, all is written again, and is there once."""
    conversation, answer = await begun(store)
    write = store.write

    async def lost(pieces: Sequence[Piece], endings: Sequence[Ending] = ()) -> None:
        await write(pieces, endings)
        raise StoreError("the connection is gone", reason="unreachable")

    for text in ("one ", "two "):
        writer.add(answer, text)
        monkeypatch.setattr(store, "write", lost)
        assert not await writer.flush()
        monkeypatch.setattr(store, "write", write)
        writer.add(answer, "more ")
        assert await writer.flush()
    assert await content(store, conversation) == "one more two more "

    monkeypatch.setattr(store, "write", lost)
    assert not await writer.finish(answer, Outcome.CANCELLED, "one more two more three")
    monkeypatch.setattr(store, "write", write)
    going = await store.begin_continue(conversation, answer.id, model="m", run="r2")
    await store.write([piece(going, 0, " four")])
    assert await writer.flush()  # of the run before
    await store.write([piece(answer, 0, "late"), piece(going, 1, " five")])
    assert await content(store, conversation) == "one more two more three four five"


async def test_what_is_deleted_harms_nobody(store: Store, writer: ConversationWriter) -> None:
    """What still comes for a deleted conversation is dropped; what came for others beside it is written."""
    gone, answer = await begun(store)
    kept, other = await begun(store)
    writer.add(answer, "nowhere")
    writer.add(other, "here")
    await store.delete(gone)

    assert await writer.flush()
    assert await content(store, kept) == "here"
    assert await finished(writer, answer, "nowhere at all")
    assert await rows(store) == 1


async def test_an_end_takes_what_a_run_has(store: Store, writer: ConversationWriter) -> None:
    """Figures and faults are taken as the values that runs have, and come back as JSON."""
    conversation, answer = await begun(store)
    fault = Fault("TruncatedError", "closed", hint="again")
    await writer.finish(answer, Outcome.TRUNCATED, "Be\ud83d", metrics=Metrics(output_tokens=2), error=fault)

    kept = await message(store, conversation, answer)
    assert (kept.content, kept.metrics) == ("Be\ufffd", {"output_tokens": 2})
    assert kept.error == {"kind": "TruncatedError", "message": "closed", "hint": "again"}


async def test_closing_writes_what_is_left(path: Path, store: Store) -> None:
    """A writer that is closed has written all that came."""
    conversation, answer = await begun(store)
    async with ConversationWriter(store, every=1e6) as writer:
        writer.add(answer, "the last words")

    assert await content(store, conversation) == "the last words"


async def test_something_unforeseen(
    store: Store, writer: ConversationWriter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even an error that nobody thought of comes out of the writer; it is logged, once, and tried again."""
    conversation, answer = await begun(store)

    async def broken(pieces: object, endings: object = ()) -> None:
        raise ZeroDivisionError("never seen")

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", broken)
        writer.add(answer, "kept")
        assert [await writer.flush(), await finished(writer, answer, "kept on")] == [False, False]
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["never seen"]
    assert await writer.flush()
    assert await content(store, conversation) == "kept on"


async def test_a_hundred_tasks(store: Store, writer: ConversationWriter) -> None:
    """A hundred tasks ask, answer, read, search and flush at once on one store, and nothing is lost or mixed up."""
    shared = (await store.create()).id

    async def one(number: int) -> None:
        own = (await store.create()).id
        parent = None
        for step in range(3):
            _, answer = await store.begin_turn(own, f"q{number}.{step}", parent, model="m", run=f"r{number}.{step}")
            for count in range(4):
                writer.add(answer, f"{number}.{step}.{count} ")
                await asyncio.sleep(0)
            assert await writer.flush()
            text = "".join(f"{number}.{step}.{count} " for count in range(4))
            assert text == (await message(store, own, answer)).content
            assert await finished(writer, answer, text + "done")
            parent = answer.id
        await turn(store, shared, f"shared {number}", str(number))
        assert [f"q{number}.2"] == [each.snippet for each in await store.page(f"q{number}.2")]
        assert ["q" if each.role == "user" else "a" for each in (await store.get(own)).branch()] == ["q", "a"] * 3

    await asyncio.gather(*map(one, range(100)))
    whole = await store.get(shared)
    assert {f"shared {number}" for number in range(100)} == {m.content for m in whole.messages if m.role == "user"}
    assert len(whole.messages) == 200
    assert len(await store.page(limit=500)) == 101


async def test_two_stores_on_one_file(path: Path) -> None:
    """Two servers on one file wait for each other, and each sees what the other wrote."""
    async with Store(path, patience=60) as one, Store(path, patience=60) as other:
        made = await asyncio.gather(*(begun(store) for store in (one, other) * 20))

        assert {conversation for conversation, _ in made} == {each.id for each in await one.page()}
        assert await one.page() == await other.page()
