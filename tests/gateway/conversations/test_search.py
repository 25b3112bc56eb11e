"""Lists, search, titles and snippets."""

from __future__ import annotations

import asyncio
import threading

import aiosqlite
import pytest
from tests.gateway.conversations.turns import turn

from tailrace.errors import RequestError
from tailrace.gateway.conversations import database
from tailrace.gateway.conversations.store import Store
from tailrace.gateway.conversations.texts import snippet, title_of
from tailrace.render.layout import text_width


async def test_lists_are_paged(store: Store) -> None:
    """The conversation changed last is first; pages by the last one's time show each conversation once."""
    made = [(await store.create(title=str(number))).id for number in range(7)]
    await store.update(made[2], title="changed")
    expected = [made[2], *(each for each in reversed(made) if each != made[2])]

    seen: list[str] = []
    before = None
    while page := await store.page(limit=3, before=before):
        assert len(page) <= 3
        seen += [each.id for each in page]
        before = page[-1].updated
    assert expected == seen
    assert {""} == {each.snippet for each in await store.page()}
    assert len(await store.page(limit=0)) == 1


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("柳树", "chinese"),
        ("，有", "chinese"),
        ("100%", "percent"),
        ("0%", "percent"),
        ("a_b", "underscore"),
        ("/", "slash"),
        ("\\", "backslash"),
        ("BROWN fox", "english"),
        ("ÜBER", "german"),
        ("über", "german"),
        ("привет", "russian"),
        ("title of", "english"),
        ("%", "percent"),
        ("_", "underscore"),
        ("no such words", ""),
        ("\0", ""),
    ],
)
async def test_search(store: Store, q: str, found: str) -> None:
    """What is asked for is found where it stands, in any language and case; no sign has a meaning of its own."""
    texts = {
        "chinese": "春天，有柳树和燕子",
        "percent": "It is 100% sure",
        "underscore": "the name a_b is",
        "decoy": "axb 1000",
        "slash": "either/or",
        "backslash": "C:\\",
        "english": "The quick brown Fox",
        "german": "Über allen Gipfeln",
        "russian": "ПРИВЕТ",
    }
    ids = {}
    for name, text in texts.items():
        conversation = (await store.create(title="Title of this" if name == "english" else name)).id
        ids[conversation] = name
        await turn(store, conversation, "Say something", text)

    assert [found] * bool(found) == [ids[each.id] for each in await store.page(q)]
    questions = await store.page("say SOMETHING")
    assert len(texts) == len(questions)


async def test_a_snippet_shows_the_newest_place(store: Store) -> None:
    """With a search comes the text around what was found: in the newest message, or the title if in none."""
    conversation = (await store.create(title="About willows")).id
    first = await turn(store, conversation, "old willow", "nothing")
    await turn(store, conversation, "more?", f"{'x ' * 100}\n\na Willow\tby the water {'y ' * 100}", first.id)

    (one,) = await store.page("willow")
    assert one.snippet.startswith("…x x")
    assert "x a Willow by the water y" in one.snippet
    assert one.snippet.endswith("y…")
    (one,) = await store.page("willows")
    assert one.snippet == "About willows"


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [("short", "HOR", "short"), ("春" * 200, "天", "春" * 70 + "…"), ("a" * 100 + "b", "b", "…" + "a" * 30 + "b")],
)
def test_snippets(text: str, wanted: str, expected: str) -> None:
    """A snippet is cut on both sides, and marked where it is."""
    assert expected == snippet(text, wanted)


async def test_a_search_has_bounds(store: Store) -> None:
    """A search text is bounded, and one of the longest length works."""
    await store.create(title="%" * 1000)

    assert len(await store.page("%" * 1000)) == 1
    with pytest.raises(RequestError, match="longer than 1000"):
        await store.page("%" * 1001)


async def test_c21_a_list_is_bounded_in_bytes(store: Store) -> None:
    """Titles and names from a time without limits are cut, and nothing else of a conversation is read for a list."""
    await store.create(title="t" * 3_000_000, model="m" * 3_000_000, system="s" * 3_000_000, options={"o": "o" * 1000})
    (one,) = await store.page()
    (found,) = await store.page("tt")

    assert (one.title, one.model) == ("t" * 1000, "m" * 1000)
    assert (found.title, found.snippet) == ("t" * 1000, "t" * 72 + "…")


@pytest.mark.parametrize("place", [0, 50, 999, 1000, 1001, 5000, 1_999_990])
async def test_c21_a_snippet_of_a_long_message(store: Store, place: int) -> None:
    """Only the text around what was found is read, wherever in megabytes it stands."""
    text = "".join(("x" * place, "WILLOW", "y" * (2_000_000 - place)))
    await turn(store, (await store.create()).id, text, "nothing")
    (one,) = await store.page("willow")

    assert one.snippet == snippet(text, "willow")


async def test_c21_one_letter_as_often_as_may_be(store: Store) -> None:
    """The time of a search is that of reading, whatever is looked for: LIKE takes a thousand times as long."""
    await turn(store, (await store.create()).id, "a" * 4_000_000, "nothing")

    assert await store.page("a" * 999 + "b") == []


@pytest.mark.parametrize("closed", [False, True])
async def test_c21_a_search_stops_when_nobody_waits_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, closed: bool
) -> None:
    """SQLite is told to stop, where its connection is not closed by now, and the next search works."""
    stopped: list[str] = []
    interrupt = aiosqlite.Connection.interrupt

    async def told(connection: aiosqlite.Connection) -> None:
        stopped.append("stopped")
        goes_on.set()
        if closed:
            raise ValueError("no active connection")
        await interrupt(connection)

    monkeypatch.setattr(aiosqlite.Connection, "interrupt", told)
    await turn(store, (await store.create()).id, "a" * 4_000_000, "nothing")
    reading, goes_on = asyncio.Event(), threading.Event()
    lower = database._lower
    loop = asyncio.get_running_loop()

    def lowered(text: str | None) -> str | None:
        loop.call_soon_threadsafe(reading.set)
        goes_on.wait()
        return lower(text)

    monkeypatch.setattr(database, "_lower", lowered)
    await store.close()  # the function is the connection's
    search = asyncio.ensure_future(store.page("b"))
    try:
        await reading.wait()
        search.cancel()
        with pytest.raises(asyncio.CancelledError):
            await search
    finally:
        goes_on.set()

    assert stopped[:1] == ["stopped"]
    assert await store.page("nothing") != []


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("Why is the sky blue?", "Why is the sky blue?"),
        ("\n \n  Why\tis   it?  \nsecond line", "Why is it?"),
        ("", ""),
        (" \n ", ""),
        ("word " * 30, ("word " * 30)[:59].rstrip() + "…"),
        ("春" * 30, "春" * 30),
        ("春" * 31, "春" * 29 + "…"),
        ("x" * 200_000, "x" * 59 + "…"),
        ("\n" * 200_000 + "x\n" * 200_000, "x"),
    ],
)
def test_titles(question: str, title: str) -> None:
    """A title is the first line with something in it, cut at sixty columns of what it takes on a screen."""
    assert title == title_of(question)
    assert text_width(title) <= 60


async def test_a_title_is_made_once(store: Store) -> None:
    """The first question makes the title if there is none; a given one stays, and so does a made one."""
    given, made = (await store.create(title="Mine")).id, (await store.create()).id
    for conversation in (given, made):
        first = await turn(store, conversation, "first question", "a")
        await turn(store, conversation, "second question", "b", first.id)

    assert [each.title for each in await store.page()] == ["first question", "Mine"]


async def test_readers_never_keep_a_change_waiting(store: Store) -> None:
    """However many read at once, and however long: who writes has a connection."""
    await store.create()
    entered, leave = [], asyncio.Event()

    async def read() -> None:
        async with store._database.reading() as connection:
            entered.append(connection)
            await leave.wait()

    readers = [asyncio.create_task(read()) for _ in range(10)]
    while len(entered) < database._READERS:
        await asyncio.sleep(0)
    await store.create()
    leave.set()
    await asyncio.gather(*readers)

    assert len(await store.page()) == 2
