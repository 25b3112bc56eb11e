"""Cut off anywhere and back again: the text that is read is the text that was made, nothing lost, nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.web.cutting import Cut, CuttingProxy, ResumingReader, after_blocks, after_bytes
from tests.web.inside import inside
from tests.web.reader import PATIENCE, Reader, text

from tailrace import AsyncClient
from tailrace.testing import FakeOllama, error, hold, say, think
from tailrace.web.fastapi import chat_router

PIECES = ["Hel", "lo, ", "水", "👩‍👩‍👧", "\r\n\r\n", "data: x\n\n", "\u2028", "end"]
ANSWER = "".join(PIECES)
BLOCKS = len(PIECES) + 4  # what a whole reading has: the opening, the thinking, the pieces, the ending and [DONE]


class Place:
    """A server of runs, and the model server behind it."""

    def __init__(self, url: str, upstream: FakeOllama) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.upstream = upstream

    def start(self) -> str:
        """Starts a run that its reader leaves at once; returns its path."""
        with Reader(self.url, "/chat/stream", {"message": "hi", "model": "m"}) as reader:
            return reader.run


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """A server whose runs go on for as long as a test may take."""
    app = FastAPI()
    with FakeOllama(models=["m"]) as upstream, inside(app) as url:
        app.include_router(chat_router(AsyncClient(upstream.url), on_leave=10 * PATIENCE))
        yield Place(url, upstream)


@pytest.fixture(scope="module")
def ended(place: Place) -> str:
    """The path of a run that has ended."""
    place.upstream.script(think("Hm."), say(*PIECES))
    with Reader(place.url, "/chat/stream", {"message": "hi", "model": "m"}) as reader:
        assert text(reader.all()) == ANSWER
    return reader.run


def read_through(place: Place, run: str, cuts: list[Cut]) -> ResumingReader:
    """Reads a run through a proxy that cuts; returns the reader."""
    with CuttingProxy(place.port, cuts) as proxy:
        reader = ResumingReader(proxy.url, run)
        reader.read()
    return reader


def exact(reader: ResumingReader) -> None:
    """Nothing is missing, nothing came twice: neither text nor a number, but for [DONE], which shares the ending's."""
    assert reader.text == ANSWER
    assert reader.texts == PIECES
    assert reader.outcome == "complete"
    assert reader.numbers[: len(PIECES) + 2] == list(range(1, len(PIECES) + 3))
    assert reader.numbers[len(PIECES) + 2 :] in ([], [len(PIECES) + 2])


@pytest.mark.parametrize("blocks", range(BLOCKS + 1))
def test_cut_once_after_each_event(place: Place, ended: str, blocks: int) -> None:
    """A run that has ended, cut off after any of its events, is read exactly."""
    reader = read_through(place, ended, [after_blocks(blocks)])

    exact(reader)
    assert reader.connections == 2


def test_cut_after_every_event(place: Place, ended: str) -> None:
    """Cut off after each single event, a reader still gets on, event by event."""
    reader = read_through(place, ended, [after_blocks(2)] * 2 * BLOCKS)

    exact(reader)
    assert reader.connections == BLOCKS - 1  # one for each event, but for [DONE]; the last gets a 204


@pytest.mark.parametrize("blocks", range(1, BLOCKS + 1))
def test_cut_while_it_is_made(place: Place, blocks: int) -> None:
    """A run that goes on, cut off after any of its events, is read exactly, though the next piece is not made yet."""
    steps = [step for piece in PIECES for step in (hold("next"), say(piece))]
    place.upstream.script(think("Hm."), *steps)
    run = place.start()
    with CuttingProxy(place.port, [after_blocks(blocks)]) as proxy:
        reader = ResumingReader(proxy.url, run, lambda _: place.upstream.release("next"))
        reader.read()

    exact(reader)
    assert reader.connections == 2


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 2000), max_size=12))
def test_cut_at_any_bytes(place: Place, ended: str, cuts: list[int]) -> None:
    """Cut off at any bytes, as often as you like, a reader gets it exactly: half an event counts as none."""
    exact(read_through(place, ended, [after_bytes(cut) for cut in cuts]))


def test_a_failure_is_read_on_too(place: Place) -> None:
    """A reader cut off between the error and the ending comes back for the ending."""
    place.upstream.script(say("half"), error("out of memory"))
    with Reader(place.url, "/chat/stream", {"message": "hi", "model": "m"}) as whole:
        whole.body()
    for blocks in range(6):
        reader = read_through(place, whole.run, [after_blocks(blocks)])
        assert (reader.text, reader.outcome) == ("half", "failed")


def test_c11_a_hundred_readers_of_one_run(place: Place) -> None:
    """A hundred readers that come before a run is made, while it is, and after, all read it exactly."""
    place.upstream.script(think("Hm."), *[step for piece in PIECES for step in (hold("next"), say(piece))])
    asked = len(place.upstream.requests)
    run = place.start()
    readers = [ResumingReader(place.url, run) for _ in range(100)]
    threads = [threading.Thread(target=reader.read) for reader in readers]
    for place_, thread in enumerate(threads[:90]):
        thread.start()
        if place_ % 10 == 9:
            place.upstream.release("next")
    for thread in threads[:90]:
        thread.join(PATIENCE)
    for thread in threads[90:]:
        thread.start()
        thread.join(PATIENCE)

    for reader in readers:
        exact(reader)
    assert len(place.upstream.requests) == asked + 1
