"""Readers that leave: the model is let go at once, or kept for who comes back, as the policy says (C1, C2)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from tests.web.asgi_servers import SERVERS, STREAMS, Served, serving
from tests.web.reader import PATIENCE, Reader, text

from tailrace.testing import Record, hold, say, slow_load, stall

AT_ONCE = 0.5  # seconds; the issue asks for it


@pytest.fixture(scope="module", params=SERVERS)
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    """An application under each server."""
    with serving(request.param) as served:
        yield served


def leaves(reader: Reader, how: str, record: Record) -> float:
    """Closes a reader's connection; returns how many seconds later the model server lost its own."""
    left = time.monotonic()
    reader.leave(how)
    assert record.wait_until_left(PATIENCE)
    assert record.left_at is not None
    return record.left_at - left


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("path", STREAMS)
def test_c1_leaves_before_the_first_token(served: Served, path: str, how: str) -> None:
    """A browser that goes while the model loads, and says nothing yet, frees it within half a second."""
    reader, record = served.ask(slow_load(), path=path)
    reader.until(b": tailrace\n")

    assert leaves(reader, how, record) < AT_ONCE
    assert record.phase == "loading"


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("path", STREAMS)
def test_c2_leaves_in_the_middle(served: Served, path: str, how: str) -> None:
    """A browser that goes between two tokens frees the model as soon, though none is due."""
    reader, record = served.ask(say("one"), stall(), path=path)
    reader.until(b"one")

    assert leaves(reader, how, record) < AT_ONCE
    assert record.phase == "stalling"


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_c2_leaves_while_tokens_rush(served: Served, how: str) -> None:
    """A browser that goes while tokens come as fast as they can frees the model, and no server logs an exception."""
    reader, record = served.ask(*[say(*["word "] * 50) for _ in range(200)], stall())
    reader.until(b"word")
    reader.leave(how)

    assert record.wait_until_left(PATIENCE)


@pytest.mark.parametrize("path", ["/continue", "/linger"])
def test_c2_comes_back(served: Served, path: str) -> None:
    """Where the policy keeps the run, who comes back gets exactly the rest, and the model is not asked again."""
    reader, record = served.ask(say("Hel", "lo"), hold(), say(", ", "world"), path=path)
    seen = [reader.next(), reader.next()]
    reader.leave("rst")
    asked = len(served.upstream.requests)
    with served.read(reader.run, seen[-1].id) as again:
        again.until(b": tailrace\n")
        served.upstream.release()
        rest = again.all()

    assert (text(seen), text(rest)) == ("Hello", ", world")
    assert record.wait_until_ended(PATIENCE)
    assert (record.completed, len(served.upstream.requests)) == (True, asked)


def test_c2_finishes_without_readers(served: Served) -> None:
    """A run that continues without readers is there, whole, for who comes later; nothing more is a 204."""
    reader, record = served.ask(hold(), say("Hello"), path="/continue")
    reader.until(b": tailrace\n")
    reader.leave()
    served.upstream.release()
    assert record.wait_until_ended(PATIENCE)
    with served.read(reader.run) as later:
        events = later.all()
    with served.read(reader.run, events[-1].id) as again:
        assert (again.status, again.body()) == (204, b"")

    assert text(events) == "Hello"


def test_c2_a_run_that_was_left(served: Served) -> None:
    """Where the policy cancels, who comes back is told that the run was abandoned, and why."""
    reader, record = served.ask(say("one"), stall())
    reader.until(b"one")
    leaves(reader, "fin", record)
    with served.read(reader.run) as again:
        events = again.all()

    assert text(events) == "one"
    assert json.loads(events[-1].data)["outcome"] == "abandoned"
    assert json.loads(events[-1].data)["reason"] == "no reader for 0 s"


def test_the_request_says_how_long(served: Served) -> None:
    """A request's own ``linger`` goes before the policy of the route, both ways."""
    body = {"message": "hi", "model": "m"}
    reader, record = served.ask(say("one"), hold(), say("two"), body={**body, "linger": 100})
    reader.until(b"one")
    reader.leave()
    served.upstream.release()
    assert record.wait_until_ended(PATIENCE)
    with served.read(reader.run) as again:
        assert text(again.all()) == "onetwo"

    reader, record = served.ask(say("one"), stall(), path="/continue", body={**body, "linger": 0})
    reader.until(b"one")
    assert leaves(reader, "fin", record) < AT_ONCE


def test_one_of_two_leaves(served: Served) -> None:
    """As long as one reader is there, another's leaving changes nothing, whatever the policy."""
    reader, record = served.ask(say("one"), hold(), say("two"))
    first = reader.next()
    with served.read(reader.run) as other:
        other.until(b"one")
        reader.leave("rst")
        with served.read(reader.run, first.id) as third:
            third.until(b": tailrace\n")
            served.upstream.release()
            assert text(third.all()) == "two"
        assert text(other.all()) == "onetwo"

    assert record.wait_until_ended(PATIENCE)
    assert record.completed


def test_stop(served: Served) -> None:
    """A stop is another thing than leaving: it answers when the model is let go, and the reader is told."""
    reader, record = served.ask(say("one"), stall(), path="/linger")
    with reader:
        reader.until(b"one")
        with Reader(served.server.url, reader.run, method="DELETE") as stop:
            told = stop.json
        assert record.wait_until_left(PATIENCE)
        events = reader.all()
    with Reader(served.server.url, reader.run, method="DELETE") as stop:
        again = stop.json

    assert (told["id"], told["outcome"]) == (reader.run.rpartition("/")[2], "cancelled")
    assert 0 <= told["seconds"] < PATIENCE
    assert again["outcome"] == "cancelled"
    assert [event.type for event in events] == ["message", "ended", "message"]
    assert events[-1].data == b"[DONE]"
