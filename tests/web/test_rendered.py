"""A run as HTML: every reader gets the same page as one who reads the whole text, wherever it was cut off."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.render.documents import CHINESE, ENGLISH

from tailrace.errors import EvictedError
from tailrace.events import Ended, Event, Outcome, TextDelta, ThinkingDelta, ToolCall
from tailrace.protocols.sse import ServerSentEvent, SSEDecoder
from tailrace.render.html import HtmlStream
from tailrace.run.bounded_log import BoundedLog
from tailrace.run.exchange import Exchange, Report
from tailrace.run.run import Run
from tailrace.web import rendered as module
from tailrace.web.rendered import prepared, rendered

TEXT = ENGLISH + "\n\n" + CHINESE


class Page:
    """What a front end makes of the events: it appends blocks, replaces the tail, and forgets at a reset."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.tail = ""
        self.others: list[tuple[str, str]] = []
        self.last = ""

    def take(self, events: Sequence[ServerSentEvent]) -> None:
        for event in events:
            self.last = event.id
            if event.type == "reset":
                self.blocks, self.tail, self.others = [], "", []
            elif event.type == "block":
                self.blocks.append(event.text)
            elif event.type == "tail":
                self.tail = event.text
            else:
                self.others.append((event.type, event.id))

    @property
    def html(self) -> str:
        return "".join(self.blocks) + self.tail


def run_of(limit: int = 1 << 24) -> Run:
    """A run whose log the test writes."""

    async def never(_report: Report) -> Exchange:
        raise AssertionError("nobody opens it")

    return Run(never, model="m", log=BoundedLog(limit))


def whole(text: str) -> str:
    """The HTML of a text that came at once."""
    stream = HtmlStream()
    return "".join([*stream.feed(text), *stream.finish()])


def events_of(cuts: Sequence[int]) -> list[Event]:
    """The text in pieces, and events of other kinds in between."""
    events: list[Event] = [ThinkingDelta("Hm.")]
    at = 0
    for number, size in enumerate(cuts):
        if number % 5 == 4:
            events.append(ToolCall("add", {"a": number}))
        events.append(TextDelta(TEXT[at : at + size]))
        at += size
    return [*events, TextDelta(TEXT[at:]), Ended(Outcome.COMPLETE, reason="stop")]


@settings(deadline=None)
@given(
    cuts=st.lists(st.integers(0, 200), min_size=1, max_size=40),
    steps=st.lists(st.tuples(st.integers(1, 4), st.integers(0, 1), st.none() | st.integers(0, 6)), max_size=60),
    before=st.sampled_from(["", "A text\n\nthat was *cut", "x"]),
)
def test_page_is_that_of_the_whole_text_wherever_readers_are_cut(
    cuts: list[int], steps: list[tuple[int, int, int | None]], before: str
) -> None:
    """Two readers take when they like and are cut after any event; both come to the whole text's HTML."""
    run = run_of()
    events = events_of(cuts)
    pages = [Page(), Page()]
    sources = [rendered(run, 0, before), rendered(run, 0, before)]
    waiting = list(events)
    for count, who, cut in [*steps, (len(events), 0, None), (1, 1, None)]:
        if new := waiting[:count]:
            run.log.append(new)
            del waiting[:count]
        taken = SSEDecoder().feed(sources[who].take())
        pages[who].take(taken if cut is None else taken[:cut])
        if cut is not None:
            sources[who] = rendered(run, int(pages[who].last.partition("-")[0] or 0), before)
    for page, source in zip(pages, sources, strict=True):
        while data := source.take():
            page.take(SSEDecoder().feed(data))
        assert whole(before + TEXT) == page.html
        kinds = [(n, type(e)) for n, e in enumerate(events, 1) if type(e) is not TextDelta]
        assert [n for n, _ in kinds] == [int(id.partition("-")[0]) for _, id in page.others]
        assert page.others[-1][0] == "ended"


def test_last_tail_comes_before_the_ending() -> None:
    """Who has the ending has everything: its id is the last, and the tail of the text's end was before it."""
    run = run_of()
    run.log.append([TextDelta("One\n\ntwo")])
    source = rendered(run, 0)
    source.take()
    run.log.append([Ended(Outcome.COMPLETE)])
    events = SSEDecoder().feed(source.take())

    assert events[-1].type == "ended"
    assert source.at_end


def test_unchanged_tail_is_not_sent_again() -> None:
    """What is no text makes no tail."""
    run = run_of()
    run.log.append([TextDelta("One")])
    source = rendered(run, 0)
    first = SSEDecoder().feed(source.take())
    run.log.append([ThinkingDelta("Hm.")])

    assert [event.type for event in first] == ["tail"]
    assert [event.type for event in SSEDecoder().feed(source.take())] == ["thinking_delta"]
    assert source.take() == b""
    assert not source.ready()


def test_cursor_ahead_begins_with_a_reset_and_the_text_before() -> None:
    """A cursor of a log that was lost: forget all, and the text that the run goes on from comes again too."""
    run = run_of()
    run.log.append([TextDelta("three")])
    page = Page()
    page.blocks = ["<p>of a log that was lost</p>"]
    page.take(SSEDecoder().feed(rendered(run, 99, "one\n\ntwo\n\n").take()))

    assert whole("one\n\ntwo\n\nthree") == page.html


def test_readers_share_one_rendering_and_the_last_one_takes_it_along() -> None:
    """Two readers cost one rendering, which is gone with them."""
    run = run_of()
    run.log.append([TextDelta(TEXT)])
    one, two = rendered(run, 0), rendered(run, 0)

    assert one.feed is two.feed
    assert [run.id] == [id for id in module._renderings if id == run.id]
    del one, two
    gc.collect()
    assert run.id not in module._renderings


def test_long_text_is_rendered_a_bit_at_a_time() -> None:
    """While a long text is rendered for a reader who comes late, others have their turns."""
    run = run_of()
    run.log.append([TextDelta(TEXT * 5), TextDelta("end")])

    async def come() -> tuple[int, bytes]:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        async with prepared(run):
            source = rendered(run, 0)
        task.cancel()
        return turns, b"".join(iter(source.take, b""))

    turns, data = asyncio.run(come())
    page = Page()
    page.take(SSEDecoder().feed(data))
    stream = HtmlStream()

    assert turns >= len(TEXT) * 5 // 1000
    assert "".join(stream.feed(TEXT * 5 + "end")) + stream.tail == page.html


def test_reader_of_a_trimmed_log_goes_on_and_one_too_late_is_told() -> None:
    """The oldest events are folded away: a reader behind them goes on exactly, one before them is told."""
    run = run_of(limit=32 * 1024)
    first = [TextDelta(f"{number} *word*\n\n") for number in range(1000)]
    for event in first:
        run.log.append([event])
    assert run.log.first > 1
    after = run.log.first + 5
    seen = HtmlStream()
    blocks = seen.feed("".join(event.text for event in first[:after]))
    page = Page()
    page.blocks = list(blocks)
    source = rendered(run, after)
    for number in range(1000, 1100):
        run.log.append([TextDelta(f"{number} *word*\n\n")])
        page.take(SSEDecoder().feed(source.take()))
    run.log.append([Ended(Outcome.COMPLETE)])
    page.take(SSEDecoder().feed(source.take()))

    assert whole("".join(f"{number} *word*\n\n" for number in range(1100))) == page.html
    with pytest.raises(EvictedError):
        rendered(run, 1)
    with pytest.raises(EvictedError):
        rendered(run, 0)
