"""Conversations: their settings, and the tree of their messages."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import msgspec
import pytest
from tests.gateway.conversations.turns import begun, ending, message, turn

from tailrace.errors import RequestError, StoreError
from tailrace.events import Outcome
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.values import FILE, Message, sent
from tailrace.gateway.errors import ConflictError, MissingError


async def test_a_conversation_keeps_its_settings(store: Store) -> None:
    """What a conversation is made with comes back, and what is changed is changed, and nothing else."""
    made = await store.create(title="T", model="m", system="Be brief.", options={"seed": 1}, think="high")

    assert made == await store.get(made.id)
    assert (
        *(made.title, made.model, made.system, made.options, made.think),
        *(made.leaf, made.messages),
    ) == ("T", "m", "Be brief.", {"seed": 1}, "high", None, [])

    changed = await store.update(made.id, title="U", system=None, think=False)
    assert (*(changed.title, changed.model, changed.system, changed.options, changed.think),) == (
        "U",
        "m",
        None,
        {"seed": 1},
        False,
    )
    assert made.updated < changed.updated
    assert made.created == changed.created


async def test_the_fields_have_the_names_of_the_interface(store: Store) -> None:
    """As JSON a conversation and its messages have the fields that docs/gateway.md names."""
    conversation, _ = await begun(store)
    whole = msgspec.json.decode(msgspec.json.encode(await store.get(conversation)))

    conversation_fields = "id title model system options think created updated leaf owner messages"
    message_fields = "id parent role content thinking tool_calls model created run state outcome error metrics base"
    assert set(conversation_fields.split()) == set(whole)
    assert {*message_fields.split(), "base_thinking"} == set(whole["messages"][0])


async def test_a_turn_is_a_question_and_its_answer(store: Store) -> None:
    """A turn adds both at once; the answer is running, is the leaf, and knows its run."""
    conversation = (await store.create()).id
    question, answer = await store.begin_turn(conversation, "Why?", None, model="m", run="r1")

    whole = await store.get(conversation)
    assert [question, answer] == whole.messages == whole.branch()
    assert answer.id == whole.leaf
    assert (
        *(question.role, question.parent, question.content),
        *(question.state, question.run),
    ) == ("user", None, "Why?", "complete", None)
    assert ("assistant", question.id, "", "running", "r1", "m") == (
        *(answer.role, answer.parent, answer.content),
        *(answer.state, answer.run, answer.model),
    )


async def test_branches(store: Store) -> None:
    """Asking again and editing a question begin branches; siblings stand in the order of their creation."""
    conversation = (await store.create()).id
    first = await turn(store, conversation, "one", "1")
    second = await turn(store, conversation, "two", "2", first.id)
    edited = await turn(store, conversation, "two, edited", "2b", first.id)
    question = (await message(store, conversation, second)).parent
    assert question is not None
    again = await store.begin_answer(conversation, question, model="other", run="r")

    whole = await store.get(conversation)
    assert [each.content for each in whole.branch()] == ["one", "1", "two", ""]
    assert [each.content for each in await store.branch(conversation, second.id)] == ["one", "1", "two", "2"]
    assert [each.content for each in whole.branch(edited.id)] == ["one", "1", "two, edited", "2b"]
    assert [second.id, again.id] == [each.id for each in whole.messages if each.parent == question]
    assert [each.content for each in whole.messages if each.parent == first.id] == ["two", "two, edited"]

    shown = await store.update(conversation, leaf=edited.id)
    assert (edited.id, whole.updated) == (shown.leaf, shown.updated)


async def test_a_first_question_can_be_edited(store: Store) -> None:
    """A second root is a branch like any other."""
    conversation = (await store.create()).id
    await turn(store, conversation, "one", "1")
    await turn(store, conversation, "uno", "I")

    whole = await store.get(conversation)
    assert [each.content for each in whole.branch()] == ["uno", "I"]
    assert [each.content for each in whole.messages if each.parent is None] == ["one", "uno"]


async def test_an_end_takes_the_place_of_the_pieces(store: Store) -> None:
    """An ended answer has all of its run's text once, its calls, figures and error, and no run any more."""
    conversation, answer = await begun(store)
    call = {"function": {"name": "now", "arguments": {}}}
    end = ending(
        answer,
        Outcome.TRUNCATED,
        "Because",
        thinking="Hm.",
        tool_calls=[call],
        metrics={"output_tokens": 1},
        error={"kind": "TruncatedError", "message": "closed"},
    )
    await store.write([], [end])

    kept = await message(store, conversation, answer)
    assert ("Because", "Hm.", [call]) == (kept.content, kept.thinking, kept.tool_calls)
    assert (kept.state, kept.outcome, kept.run, kept.base) == ("interrupted", "truncated", None, "")
    assert ({"output_tokens": 1}, end.error) == (kept.metrics, kept.error)


async def test_an_interrupted_answer_goes_on(store: Store) -> None:
    """A continued answer keeps what it had as its base, and in front of what comes; writing its end twice is once."""
    conversation, answer = await begun(store)
    calls = [{"n": 1}, {"n": 2}]
    first = ending(answer, Outcome.CANCELLED, "Be", thinking="H", tool_calls=calls[:1])
    await store.write([], [first])

    going = await store.begin_continue(conversation, answer.id, model="m2", run="r2")
    assert (
        *(going.content, going.base, going.base_thinking),
        *(going.state, going.run, going.model, going.outcome),
    ) == ("Be", "Be", "H", "running", "r2", "m2", None)
    last = ending(going, Outcome.COMPLETE, "cause", thinking="m", tool_calls=calls[1:])
    await store.write([], [last])
    await store.write([], [last])

    done = await message(store, conversation, answer)
    assert ("Because", "Hm", calls, "complete", "") == (
        *(done.content, done.thinking, done.tool_calls),
        *(done.state, done.base),
    )


@pytest.mark.parametrize(
    ("outcome", "text", "state"),
    [
        (Outcome.COMPLETE, "", "complete"),
        (Outcome.LENGTH, "text", "complete"),
        (Outcome.FAILED, "text", "interrupted"),
        (Outcome.FAILED, "", "failed"),
        (Outcome.TIMED_OUT, "", "failed"),
        (Outcome.CANCELLED, "", "interrupted"),
        (Outcome.OWNER_LOST, "", "interrupted"),
    ],
)
async def test_the_state_follows_from_the_outcome(store: Store, outcome: Outcome, text: str, state: str) -> None:
    """Failed is what an error left without anything; what was stopped, or has something, can be continued."""
    conversation, answer = await begun(store)
    await store.write([], [ending(answer, outcome, text)])

    assert state == (await message(store, conversation, answer)).state


async def test_a_failed_turn_dangles_nowhere(store: Store) -> None:
    """A turn that came to nothing is kept as failed and can be answered again; later turns send a model none of it."""
    conversation = (await store.create()).id
    first = await turn(store, conversation, "one", "1")
    question, answer = await store.begin_turn(conversation, "two", first.id, model="m", run="r")
    await store.write([], [ending(answer, Outcome.FAILED, "", error={"message": "refused"})])
    third = await turn(store, conversation, "three", "3", answer.id)

    branch = await store.branch(conversation, third.id)
    assert [each.state for each in branch] == ["complete", "complete", "complete", "failed", "complete", "complete"]
    assert [(each["role"], each["content"]) for each in sent(branch)] == [
        ("user", "one"),
        ("assistant", "1"),
        ("user", "three"),
        ("assistant", "3"),
    ]

    await store.begin_answer(conversation, question.id, model="m", run="r")
    assert [each["content"] for each in sent(await store.branch(conversation, question.id))] == ["one", "1", "two"]


async def test_what_does_not_fit_is_refused(store: Store) -> None:
    """What is not there is missing, what a state does not allow a conflict; and nothing is changed by either."""
    conversation, answer = await begun(store)
    other, _ = await begun(store)
    before = await store.get(conversation)
    question = before.messages[0].id

    for unknown in ("conv_0", "\0", "\ud83d"):
        with pytest.raises(MissingError, match="no conversation"):
            await store.get(unknown)
        with pytest.raises(MissingError, match="no conversation"):
            await store.update(unknown, title="x")
        with pytest.raises(MissingError, match="no conversation"):
            await store.begin_turn(unknown, "q", None, model="m", run="r")
        with pytest.raises(MissingError, match="no conversation"):
            await store.delete(unknown)
        with pytest.raises(MissingError, match="no message"):
            await store.branch(conversation, unknown)
    with pytest.raises(MissingError, match="no message"):
        await store.update(other, title="x", leaf=answer.id)
    with pytest.raises(MissingError, match="no message"):
        await store.begin_turn(other, "q", answer.id, model="m", run="r")
    with pytest.raises(RequestError, match="a question follows an answer"):
        await store.begin_turn(conversation, "q", question, model="m", run="r")
    with pytest.raises(ConflictError, match="still being written"):
        await store.begin_turn(conversation, "q", answer.id, model="m", run="r")
    with pytest.raises(RequestError, match="only a question"):
        await store.begin_answer(conversation, answer.id, model="m", run="r")
    for which in (answer.id, question):
        with pytest.raises(ConflictError, match="no interrupted answer"):
            await store.begin_continue(conversation, which, model="m", run="r")

    assert before == await store.get(conversation)
    assert "" != (await store.get(other)).title != "x"


async def test_only_one_of_many_goes_on_with_an_answer(store: Store) -> None:
    """An answer that ten want to continue at once is continued by one."""
    conversation, answer = await begun(store)
    await store.write([], [ending(answer, Outcome.CANCELLED, "Be")])

    tries = [store.begin_continue(conversation, answer.id, model="m", run=f"r{number}") for number in range(10)]
    results = await asyncio.gather(*tries, return_exceptions=True)

    assert sum(isinstance(each, ConflictError) for each in results) == 9
    won = [each for each in results if isinstance(each, Message)]
    assert [each.run for each in won] == [(await message(store, conversation, answer)).run]


async def test_deleting(store: Store) -> None:
    """A deleted conversation is gone with its messages, however deep; the runs that were writing to it are told."""
    conversation = (await store.create()).id
    parent = None
    for number in range(20):
        parent = (await turn(store, conversation, f"q{number}", "a", parent)).id
    _, answer = await store.begin_turn(conversation, "last", parent, model="m", run="r-last")
    await store.begin_answer(conversation, answer.parent or "", model="m", run="r-again")
    kept, _ = await begun(store)

    assert {"r-last", "r-again"} == set(await store.delete(conversation))
    assert [kept] == [each.id for each in await store.page()]
    with pytest.raises(MissingError):
        await store.get(conversation)
    assert await store.page("q7") == []


async def test_texts_that_a_database_may_not_hold(store: Store) -> None:
    """NUL and halves of surrogate pairs become U+FFFD, wherever they stand; all else stays as it is."""
    odd, kept = "a\0b\ud83dc\ud83d\ude00\u2028\r\n\x85", "a\ufffdb\ufffdc😀\u2028\r\n\x85"
    conversation = (await store.create(title=odd, options={"stop": ["\ud83d"]})).id
    answer = await turn(store, conversation, odd, odd)

    whole = await store.get(conversation)
    assert (kept, {"stop": ["\ufffd"]}) == (whole.title, whole.options)
    assert [kept, kept] == [each.content for each in whole.branch(answer.id)]


async def test_everything_is_there_after_closing(path: Path) -> None:
    """What was kept is there when the store is opened again, or was closed and is merely used again."""
    async with Store(path) as store:
        conversation = (await store.create()).id
        await turn(store, conversation, "one", "1")
        before = await store.get(conversation)
        await store.close()
        assert before == await store.get(conversation)
    async with Store(f"sqlite:///{path}") as store:
        assert before == await store.get(conversation)


async def test_only_its_owner_can_read_it(store: Store, path: Path) -> None:
    """The folder is the owner's alone, and so is each of the files."""
    await store.create()

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    names = {path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-writer-{store._database.writer}"}
    assert dict.fromkeys(names, 0o600) == {
        file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()
    }


async def test_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place conversations are in tailrace's data folder."""
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "home ?#%20"))
    async with Store() as store:
        await store.create()

    assert (tmp_path / "home ?#%20" / FILE).exists()


@pytest.mark.parametrize("place", ["", "no url", "sqlite://", "sqlite:///:memory:", "nonsense://x:y:z/"])
def test_a_place_that_is_none(place: str) -> None:
    """What is no URL, or no place that lasts, is refused at once."""
    with pytest.raises(RequestError):
        Store(place)


async def test_s8_a_server_that_is_not_there() -> None:
    """A database server that does not answer, or has no driver here, is a typed error that tells no password."""
    store = Store("postgresql://me:secret@127.0.0.1:1/none", report=lambda error: None)

    with pytest.raises(StoreError) as caught:
        await store.open()
    assert "secret" not in f"{caught.value} {caught.value.hint}"
    await store.close()


async def test_conversations_have_owners(store: Store) -> None:
    """What is somebody else's is not there; without an owner asked for, all are listed."""
    of_a, of_b = await store.create(owner="a"), await store.create(owner="b")

    assert [each.id for each in await store.page(owner="a")] == [of_a.id]
    assert {each.id for each in await store.page()} == {of_a.id, of_b.id}
    await store.check(of_a.id, "a")
    for id, owner in ((of_a.id, "b"), (of_a.id, ""), ("conv_none", "a")):
        with pytest.raises(MissingError):
            await store.check(id, owner)


async def test_what_is_cancelled_comes_to_its_end(store: Store) -> None:
    """Whoever leaves in the midst of a transaction, and however often he is cancelled, holds nobody up."""
    conversation = (await store.create()).id
    for turns in range(40):
        calls = [
            asyncio.create_task(store.create()),
            asyncio.create_task(store.get(conversation)),
            asyncio.create_task(store.update(conversation, title=str(turns))),
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in calls * 2:
            call.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*calls, return_exceptions=True)
    await store.create()

    assert (await store.get(conversation)).title == "39"
    assert len(await store.page(limit=100)) == 41  # the very first ones had not begun


async def test_closing_waits_for_what_is_under_way(path: Path) -> None:
    """Of a caller that was cancelled, too."""
    async with Store(path) as store:
        await store.open()
        call = asyncio.create_task(store.create())
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    async with Store(path) as store:
        assert len(await store.page()) == 1
