"""From a cursor to what a reader is to be sent: every row of the table in `docs/gateway.md`."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.run.spoken import COMPLETE, Spoken, spoken, until, until_ended
from tests.web.reader import text

from tailrace.events import ThinkingDelta, ToolCall
from tailrace.protocols.event_ids import tag_of
from tailrace.protocols.problems import ProblemError
from tailrace.protocols.sse import ServerSentEvent, SSEDecoder
from tailrace.run.bounded_log import BoundedLog
from tailrace.run.run import Run
from tailrace.web.cursors import cursors_of, reading
from tailrace.web.source import Source


async def three() -> tuple[Run, Spoken]:
    """A run that has said three pieces and goes on."""
    run, model = spoken()
    model.say("a", "b", "c")
    await until(run, 3)
    return run, model


def taken(source: Source | None) -> list[ServerSentEvent]:
    """What a reader is sent at once."""
    assert source is not None
    return SSEDecoder().feed(source.take())


def told(run: Run, *cursors: str) -> str:
    """The text that a reader with a cursor gets, with its reset if it has one."""
    events = taken(reading(run, cursors, wire="plain"))
    return "reset " * sum(event.type == "reset" for event in events) + text(events)


def refused(run: Run, *cursors: str) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        reading(run, cursors, wire="plain")
    return caught.value


async def test_from_the_start_and_from_a_cursor() -> None:
    """No cursor, an empty one and 0 are the start; an id or a number is what comes after it."""
    run, _ = await three()
    tag = tag_of(run.id)

    assert [told(run), told(run, ""), told(run, " "), told(run, "0"), told(run, f"0-{tag}")] == ["abc"] * 5
    assert [told(run, "1"), told(run, f"2-{tag}")] == ["bc", "c"]


async def test_at_the_end() -> None:
    """At the end of a run that goes on a reader waits; at the end of one that has ended there is nothing more."""
    run, model = await three()
    source = reading(run, ["3"], wire="plain")
    assert source is not None
    assert (source.take(), source.at_end) == (b"", False)
    model.say("d", COMPLETE)
    await until_ended(run)

    assert text(taken(source)) == "d"
    assert source.at_end
    assert told(run, "4") == ""
    assert [reading(run, ["5"], wire="plain"), reading(run, [f"5-{tag_of(run.id)}"], wire="runs")] == [None, None]


async def test_c9_ahead_of_the_log() -> None:
    """A cursor from the future begins with a reset, then all of it: never silence, whether or not the run has ended."""
    run, model = await three()
    assert told(run, "4") == told(run, "999999999999999") == "reset abc"
    model.say(COMPLETE)
    await until_ended(run)

    assert told(run, f"5-{tag_of(run.id)}") == "reset abc"
    events = taken(reading(run, ["5"], wire="runs"))
    assert (events[0].type, events[0].id, events[0].data) == ("reset", f"0-{tag_of(run.id)}", b'{"after":0}')


@pytest.mark.parametrize("bad", ["x", "-1", "1" + "0" * 30, "1-00000000", "1%0d%0a", "\xe9", "1\r\nid: 2", "1,2"])
async def test_c9_nonsense(bad: str) -> None:
    """What is no id of this run is a 400 that says what an id is."""
    run, _ = await three()
    error = refused(run, bad)

    assert error.status == 400
    assert "the id of an event" in str(error)


async def test_c9_several() -> None:
    """Several cursors are a 400, also if they agree."""
    run, _ = await three()

    assert [refused(run, "1", "2").status, refused(run, "1", "1").status] == [400, 400]


def test_which_cursors_count() -> None:
    """The header goes before the address, as an EventSource that comes back needs it; an empty one does not count."""
    assert cursors_of(["2"], ["1"]) == ["2"]
    assert cursors_of([], ["1"]) == cursors_of(["", " "], ["1"]) == ["1"]
    assert cursors_of([], []) == []
    assert cursors_of(["2", "3"], ["1"]) == ["2", "3"]


async def test_c10_evicted() -> None:
    """Of what is no longer kept there is a 410 with all that was said, and the id to go on from."""
    run, model = spoken(BoundedLog(20_000))
    model.say(ThinkingDelta("Hm."), ToolCall("f", {"a": 1}))
    for number in range(1000):
        model.say(f"{number} ")
    await until(run, 1002)
    tag = tag_of(run.id)
    problem: dict[str, Any] = msgspec.json.decode(refused(run, "1").body)
    model.say("more")
    await until(run, 1003)

    assert problem["status"] == 410
    assert problem["oldest"] == f"{run.log.first}-{tag}"
    assert problem["reply"]["text"] == "".join(f"{number} " for number in range(1000))
    assert (problem["reply"]["thinking"], problem["reply"]["tool_calls"]) == (
        "Hm.",
        [{"name": "f", "arguments": {"a": 1}}],
    )
    assert told(run, problem["after"]) == "more"
    for cursor in ("", "0", str(run.log.first - 2), "99999"):
        assert refused(run, cursor).status == 410
    assert told(run, str(run.log.first - 1)).endswith("999 more")
