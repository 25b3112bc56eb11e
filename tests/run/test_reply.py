"""A reply is a folded log."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from tailrace.events import Event, TextDelta, ThinkingDelta, ToolCall
from tailrace.run.reply import Reply, fold


def text(number: int) -> Event:
    return TextDelta("x", logprobs=[{"token": "x", "logprob": -float(number)}])


def thought(_number: int) -> Event:
    return ThinkingDelta("x")


def call(number: int) -> Event:
    return ToolCall("f", {"n": number}, index=number)


def test_what_was_there_stays_and_its_lists_are_not_changed() -> None:
    """A second fold adds to the first; whoever holds the lists of before keeps what they were."""
    reply = fold([text(0), call(0)], Reply())
    logprobs, calls = reply.logprobs, reply.tool_calls
    fold([text(1), thought(1), call(1)], reply)

    assert (reply.text, reply.thinking) == ("xx", "x")
    assert [each["logprob"] for each in reply.logprobs or ()] == [0.0, -1.0]
    assert [each.index for each in reply.tool_calls] == [0, 1]
    assert (len(logprobs or ()), len(calls)) == (1, 1)


@pytest.mark.parametrize("make", [text, thought, call])
def test_folding_is_linear(make: Callable[[int], Event]) -> None:
    """Twice as many events take twice as many steps, logprobs and calls included: lists are not copied for each."""

    def bytes_copied(count: int) -> int:
        events = [make(number) for number in range(count)]
        copied = 0

        class Watched(Reply):
            def __setattr__(self, name: str, value: Any) -> None:
                nonlocal copied
                copied += sys.getsizeof(value)
                super().__setattr__(name, value)

        fold(events, Watched())
        return copied

    assert bytes_copied(4000) < 5 * bytes_copied(1000)
