"""Exports: the same documents as the terminal's, and read by the same programs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from tests.gateway.conversations.turns import ending, turn

from tailrace import StreamingChat
from tailrace.conversation.export import markdown
from tailrace.events import Outcome
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.errors import MissingError
from tailrace.run.reply import Reply
from tailrace.terminal.repl.tree import Tree


async def both(store: Store) -> tuple[str, Tree]:
    """Returns one conversation as the gateway keeps it, and as the terminal does."""
    conversation = (await store.create(title="Why?", model="m", system="Be brief.")).id
    tree = Tree()
    replies = {
        "one": Reply(text="1\n\n```python\nx\n```", outcome=Outcome.COMPLETE),
        "two": Reply(text="二", thinking="Hm.\nHm.", outcome=Outcome.TRUNCATED),
    }
    first: str | None = None
    place: int | None = None
    for question, reply in replies.items():
        tree.keep(place, {"role": "user", "content": question}, reply)
        _, answer = await store.begin_turn(conversation, question, first, model="m", run="r")
        assert reply.outcome is not None
        end = ending(answer, reply.outcome, reply.text, thinking=reply.thinking)
        await store.write([], [end])
        first, place = first or answer.id, 1
    return conversation, tree


async def test_markdown_is_the_terminals(store: Store) -> None:
    """The branch one sees as Markdown is what ``/export`` writes, under the conversation's title."""
    conversation, tree = await both(store)
    assert markdown("Why?", "Be brief.", tree.messages()) == await store.export_markdown(conversation)

    whole = await store.get(conversation)
    await store.update(conversation, leaf=whole.messages[1].id)
    assert markdown("Why?", "Be brief.", tree.messages(1)) == await store.export_markdown(conversation)


async def test_json_is_the_terminals(store: Store, tmp_path: Path) -> None:
    """The tree as JSON is the terminal's file and more; the terminal and `StreamingChat` read it."""
    conversation, tree = await both(store)
    data = await store.export_json(conversation)
    ours, theirs = msgspec.json.decode(data), msgspec.json.decode(tree.encoded("m", "Be brief."))

    assert theirs == {name: value for name, value in ours.items() if name in theirs}
    assert ([each["state"] for each in ours["details"]], ours["title"]) == (["complete"] * 3 + ["interrupted"], "Why?")

    file = tmp_path / "export.json"
    file.write_bytes(data)
    read = Tree()
    assert read.restore(file) == ("m", "Be brief.")
    assert (tree.nodes, tree.at) == (read.nodes, read.at)
    assert [{"role": "system", "content": "Be brief."}, *tree.messages()] == StreamingChat.load(file).messages


async def test_json_holds_all_branches(store: Store, tmp_path: Path) -> None:
    """Every branch is in the file; a turn that failed is in the tree and not in what goes on to a model."""
    conversation = (await store.create(model="m")).id
    first = await turn(store, conversation, "one", "1")
    await turn(store, conversation, "one, edited", "1b")
    _, answer = await store.begin_turn(conversation, "two", first.id, model="m", run="r")
    await store.write([], [ending(answer, Outcome.FAILED, "")])
    file = tmp_path / "export.json"
    file.write_bytes(await store.export_json(conversation))

    tree = Tree()
    tree.restore(file)
    assert sorted(branch.question for branch in tree.branches()) == ["one, edited", "two"]
    assert [each["content"] for each in StreamingChat.load(file).messages] == ["one", "1"]


async def test_nothing_to_export(store: Store) -> None:
    """An empty conversation has documents too; one that is not there has none."""
    conversation = (await store.create()).id
    assert await store.export_markdown(conversation) == "# \n"
    assert msgspec.json.decode(await store.export_json(conversation))["tree"] == {"nodes": [], "at": None}

    with pytest.raises(MissingError):
        await store.export_markdown("conv_0")
    with pytest.raises(MissingError):
        await store.export_json("conv_0")
