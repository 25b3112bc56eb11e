"""Timeouts: what a client may give, and which limit comes next."""

from __future__ import annotations

import types
from typing import Any

import pytest

from tailrace.run.state import State
from tailrace.run.timeouts import Timeouts

NONE = Timeouts(connect=None, first_token=None, idle=None, total=None, answer=None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Timeouts(idle=1), Timeouts(idle=1)),
        (None, NONE),
        (5, Timeouts(connect=5, first_token=5, idle=5, answer=5)),
        (0.5, Timeouts(connect=0.5, first_token=0.5, idle=0.5, answer=0.5)),
        (types.SimpleNamespace(connect=2, read=7), Timeouts(connect=2, first_token=7, idle=7, answer=7)),
    ],
    ids=["ours", "none", "whole", "fraction", "httpx"],
)
def test_what_a_client_may_give(given: Any, expected: Timeouts) -> None:
    """Our own limits, none, seconds for every phase, or what httpx has for it."""
    assert Timeouts.of(given) == expected


@pytest.mark.parametrize("given", ["5", object(), types.SimpleNamespace(connect=2)], ids=["text", "object", "half"])
def test_what_is_none(given: Any) -> None:
    """Anything else is refused, and the error says what would do."""
    with pytest.raises(TypeError, match=r"seconds, None or tailrace\.Timeouts"):
        Timeouts.of(given)


ALL = Timeouts(connect=10, first_token=60, idle=5, total=100)


@pytest.mark.parametrize(
    ("timeouts", "state", "due"),
    [
        (ALL, State.NEW, (60.0, "first_token")),
        (ALL, State.QUEUED, (60.0, "first_token")),
        (ALL, State.CONNECTING, (30.0, "connect")),
        (ALL, State.WAITING, (60.0, "first_token")),
        (ALL, State.STREAMING, (45.0, "idle")),
        (Timeouts(connect=None, first_token=None, idle=None, total=100), State.CONNECTING, (100.0, "total")),
        (Timeouts(connect=None, first_token=None, idle=None, total=100), State.STREAMING, (100.0, "total")),
        (Timeouts(connect=10, first_token=None, idle=None), State.WAITING, None),
        (NONE, State.CONNECTING, None),
        (NONE, State.STREAMING, None),
    ],
)
def test_the_next_limit(timeouts: Timeouts, state: State, due: tuple[float, str] | None) -> None:
    """The limit that is reached first, of a run that started at 0, was in its state at 20, and had content at 40."""
    assert timeouts.due(state, 0.0, 20.0, 40.0) == due
