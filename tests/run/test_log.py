"""The log: append-only, numbered, read by cursors on any thread; the bounded one forgets events, and never the text."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.run.spoken import COMPLETE

from tailrace.errors import EvictedError, LogFullError
from tailrace.events import Event, TextDelta, ThinkingDelta, ToolCall
from tailrace.run.bounded_log import BoundedLog, _cut, _Pack
from tailrace.run.log import MemoryLog
from tailrace.run.reply import Reply, fold

PATIENCE = 60.0
LARGE = 1 << 30

Make = Callable[[], MemoryLog]


@pytest.fixture(params=["memory", "bounded"])
def make(request: pytest.FixtureRequest) -> Make:
    """Each log; the bounded one with room for all."""
    return MemoryLog if request.param == "memory" else lambda: BoundedLog(LARGE)


# -- what every log does -----------------------------------------------------------------------------------------------


def test_numbers(make: Make) -> None:
    """Events are numbered from 1; a cursor gets what came after it, and nothing where there is nothing."""
    log = make()
    assert (log.first, log.end, log.sealed, list(log.read(0))) == (1, 0, False, [])
    log.append([TextDelta("a"), TextDelta("b")])
    log.append([TextDelta("c")])

    assert log.end == 3
    assert [list(log.read(after)) for after in (0, 2, 3)] == [
        [TextDelta("a"), TextDelta("b"), TextDelta("c")],
        [TextDelta("c")],
        [],
    ]


def test_the_ending_seals(make: Make) -> None:
    """The ending is the last event; to append after it is a bug, which is not hidden."""
    log = make()
    log.append([TextDelta("a")])
    log.append([COMPLETE])

    assert log.sealed
    with pytest.raises(RuntimeError, match="sealed"):
        log.append([TextDelta("b")])
    assert log.end == 2


def test_what_was_read_stays(make: Make) -> None:
    """What a reader was given does not change when more comes."""
    log = make()
    log.append([TextDelta("a")])
    read = log.read(0)
    log.append([TextDelta("b")])

    assert list(read) == [TextDelta("a")]


def test_folds(make: Make) -> None:
    """All that was said is one reply, and with it goes the number from which a reader can go on."""
    log = make()
    log.append([ThinkingDelta("Hm."), TextDelta("a"), ToolCall("f")])
    log.append([TextDelta("b")])
    so_far, last = log.so_far()
    log.append([TextDelta("c"), COMPLETE])
    reply = log.fold(Reply(run_id="run_1"))

    assert (so_far.text, so_far.thinking, so_far.tool_calls, so_far.outcome, last) == (
        "ab",
        "Hm.",
        [ToolCall("f")],
        None,
        4,
    )
    assert (reply.run_id, reply.text, reply.outcome) == ("run_1", "abc", COMPLETE.outcome)
    assert so_far.text + "".join(event.text for event in log.read(last) if type(event) is TextDelta) == reply.text


def test_times_of_what_came_together(make: Make) -> None:
    """What was appended together has one time, and reading across appends cuts it apart again."""
    log = make()
    log.append([TextDelta("a"), TextDelta("b")])
    log.append([TextDelta("c")])
    parts = log.parts(0, log.read(0))

    assert [list(events) for events, _ in parts] == [[TextDelta("a"), TextDelta("b")], [TextDelta("c")]]
    assert parts[0][1] <= parts[1][1]
    assert [list(events) for events, _ in log.parts(1, log.read(1))] == [[TextDelta("b")], [TextDelta("c")]]


def test_wakes(make: Make) -> None:
    """A reader on another thread is woken by what is appended."""
    log = make()
    seen: list[Event] = []

    def read() -> None:
        while not log.sealed or len(seen) < log.end:
            log.changed.wait(lambda: log.end > len(seen), PATIENCE)
            seen.extend(log.read(len(seen)))

    thread = threading.Thread(target=read)
    thread.start()
    log.append([TextDelta("a")])
    log.append([COMPLETE])
    thread.join(PATIENCE)

    assert seen == [TextDelta("a"), COMPLETE]


# -- what the bounded one does besides ---------------------------------------------------------------------------------


def test_oldest_events_go_first() -> None:
    """Over the limit the oldest events are folded away: a cursor before them is refused, the text is whole."""
    log = BoundedLog(20_000)
    for number in range(1000):
        log.append([TextDelta(f"{number} ")])

    assert log.end == 1000
    assert 1 < log.first <= 1000
    assert log.size <= 20_000
    assert [event.text for event in log.read(log.first - 1) if type(event) is TextDelta] == [
        f"{number} " for number in range(log.first - 1, 1000)
    ]
    for after in (0, 1, log.first - 2):
        with pytest.raises(EvictedError, match=f"up to number {log.first - 1} are no longer kept"):
            log.read(after)
    assert log.fold(Reply()).text == "".join(f"{number} " for number in range(1000))
    reply, last = log.so_far()
    assert (reply.text, last) == (log.fold(Reply()).text, 1000)


def test_an_answer_larger_than_the_limit() -> None:
    """An answer whose text alone is too large is refused, the last piece whole; the ending always fits."""
    log = BoundedLog(10_000)
    with pytest.raises(LogFullError, match="larger than the 10,000 bytes"):
        _say_on(log)
    said = log.fold(Reply()).text
    end = log.end
    log.append([COMPLETE])

    assert said == "x" * 500 * end
    assert (log.sealed, log.end) == (True, end + 1)


def _say_on(log: BoundedLog) -> None:
    for _ in range(100):
        log.append([TextDelta("x" * 500)])


def test_one_piece_larger_than_the_limit() -> None:
    """A piece that could never be kept is refused at once."""
    with pytest.raises(LogFullError):
        BoundedLog(10_000).append([TextDelta("x" * 20_000)])


def test_times_after_the_oldest_went() -> None:
    """What is still kept has its times still."""
    log = BoundedLog(20_000)
    for number in range(1000):
        log.append([TextDelta(f"{number} "), TextDelta("x")])
    for after in (log.first - 1, log.first, log.end - 3, log.end - 1):
        events = log.read(after)
        parts = log.parts(after, events)
        assert [event for part, _ in parts for event in part] == list(events)
        assert all(1 <= len(part) <= 2 for part, _ in parts)


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.text(max_size=60).map(TextDelta) | st.text(max_size=60).map(ThinkingDelta), min_size=1, max_size=9)
    ),
    st.integers(3000, 12_000),
)
def test_says_the_same_as_the_log_in_memory(batches: list[list[Event]], limit: int) -> None:
    """Whatever is appended, as long as it fits: numbers, text, and what is kept are those of a log without limit."""
    plain, bounded = MemoryLog(), BoundedLog(limit)
    for batch in batches:
        try:
            bounded.append(batch)
        except LogFullError:
            break
        plain.append(batch)
        assert bounded.size <= limit

    assert bounded.end == plain.end
    assert list(bounded.read(bounded.first - 1)) == list(plain.read(bounded.first - 1))
    assert bounded.fold(Reply()) == plain.fold(Reply())
    assert bounded.so_far() == plain.so_far()


def test_threads_that_read_while_it_folds() -> None:
    """Readers on other threads see numbers and events that belong together, or are told that they are too late."""
    log = BoundedLog(30_000)
    wrong: list[Any] = []

    def follow() -> None:
        after = 0
        while not (log.sealed and after >= log.end):
            log.changed.wait(lambda seen=after: log.end > seen or log.sealed, 1.0)  # type: ignore[misc]
            try:
                events = log.read(after)
            except EvictedError:
                reply, last = log.so_far()
                if reply.text != _text(last):
                    wrong.append(("a reply that is not its number's", last))
                after = last
                continue
            texts = [event.text for event in events if type(event) is TextDelta]
            if texts != [f"{after + place}," for place in range(1, len(texts) + 1)]:
                wrong.append(("events that are not their numbers'", after, texts[:3]))
            after += len(events)

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 3000):
        log.append([TextDelta(f"{number},")])
    log.append([COMPLETE])
    for thread in threads:
        thread.join(PATIENCE)

    assert wrong == []
    assert log.first > 1


def _text(last: int) -> str:
    return "".join(f"{number}," for number in range(1, min(last, 2999) + 1))


def test_fold_is_the_reply_of_the_events() -> None:
    """Folding by halves is folding at once, tool calls and probabilities included."""
    events: list[Event] = [
        ThinkingDelta("Hm."),
        TextDelta("a", [{"token": "a"}]),
        ToolCall("f"),
        TextDelta("b", [{"token": "b"}]),
    ]
    log = BoundedLog(1200)
    for _ in range(3):
        for event in events:
            log.append([event])

    assert log.first > 1
    assert log.fold(Reply()) == fold(events * 3, Reply())


# -- packing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TextDelta, ThinkingDelta])
def test_what_is_packed_reads_as_it_was(kind: type[TextDelta]) -> None:
    """Wherever one reads on, however much is wanted at once: the same events, and their times."""
    log = BoundedLog(LARGE)
    said: list[Event] = [kind(text) for text in ("a", "", "字", "\ud83d", "\ude00", "😀", "\n", "x" * 70_000) * 60]
    for event in said:
        log.append([event])
    size = log.size
    assert list(log.read(len(said))) == []
    for after in (0, 1, 63, 64, 65, 200, 463, 464, 479):
        assert list(log.read(after)) == said[after:]
        assert [list(log.read(after, most)) for most in (1, 64, 70, 1000)] == [
            said[after : after + most] for most in (1, 64, 70, 1000)
        ]
        assert [event for part, _ in log.parts(after, log.read(after)) for event in part] == said[after:]
    log.append(said)

    assert list(log.read(0)) == said * 2
    assert size < 160 * len(said) + sum(2 * len(event.text) for event in said)  # type: ignore[union-attr,misc]


def test_what_is_more_than_text_is_kept_as_it_is() -> None:
    """Calls, log probabilities and where thinking turns to text."""
    log = BoundedLog(LARGE)
    more: list[Event] = [TextDelta("b", [{"token": "b"}]), ToolCall("f", {"x": 1})]
    said: list[Event] = [*[ThinkingDelta("t")] * 100, *[TextDelta("a")] * 100, *more * 50, *[TextDelta("c")] * 100]
    for event in said:
        log.append([event])

    assert list(log.read(0)) == said
    assert log.fold(Reply()) == fold(said, Reply())
    assert log.so_far() == (fold(said, Reply()), len(said))


def test_thinking_and_text_in_turns() -> None:
    """Few of a kind are no pack of their own, which would take more than they do; many after them are."""
    log = BoundedLog(LARGE)
    said: list[Event] = [ThinkingDelta("t"), TextDelta("a")] * 40
    said += [*[TextDelta("b")] * 40, ThinkingDelta("u"), *[TextDelta("c")] * 100]
    for event in said:
        log.append([event])

    assert list(log.read(0)) == said
    assert [list(log.read(after, 3)) for after in range(len(said))] == [said[n : n + 3] for n in range(len(said))]
    assert 81 * 161 < log.size < 130 * 161
    assert log.so_far() == (fold(said, Reply()), len(said))


def test_packs_that_came_after_the_look() -> None:
    """A reader that knows of the first events gets those, though the owner has packed more of them meanwhile."""
    packs: list[tuple[int, _Pack | list[Event]]] = [
        (0, _Pack(TextDelta, ["a", "b"])),
        (2, [ToolCall("f", {}), ToolCall("g", {})]),
        (4, _Pack(ThinkingDelta, ["t"])),
    ]

    said = [[event for pack in _cut(packs, after, end) for event in pack] for after, end in ((0, 2), (1, 2), (0, 3))]

    assert said == [
        [TextDelta("a"), TextDelta("b")],
        [TextDelta("b")],
        [TextDelta("a"), TextDelta("b"), ToolCall("f", {})],
    ]


def test_a_packed_answer_takes_a_fraction() -> None:
    """More than four times as many tokens fit as would if they were kept one by one."""
    log = BoundedLog(1 << 20)
    count = 0
    while log.first == 1:
        log.append([TextDelta(" word")])
        count += 1

    assert count > 4 * (1 << 20) // 165
