"""Lists, search, titles and snippets."""

from __future__ import annotations

import pytest
from tests.gateway.conversations.turns import turn

from tailrace.errors import RequestError
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
