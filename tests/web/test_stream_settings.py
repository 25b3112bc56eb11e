"""How runs are read out: what leaving means, and when readers come back."""

from __future__ import annotations

import math

import pytest

from tailrace.protocols.sse import SSEDecoder
from tailrace.web.stream_settings import linger_of, opening


def retry(readers: int) -> int:
    """The time to come back that a stream begins with, in ms."""
    decoder = SSEDecoder()
    assert decoder.feed(opening(readers)) == []
    assert decoder.retry is not None
    return decoder.retry


def test_policies() -> None:
    """Each policy is the seconds for which a run goes on without readers; None is to its end."""
    told: dict[str | float, float | None] = {
        "cancel": 0.0,
        "continue": None,
        "linger=30": 30.0,
        "linger=0.5": 0.5,
        "7": 7.0,
        30: 30.0,
        0: 0.0,
    }

    assert {policy: linger_of(policy) for policy in told} == told


@pytest.mark.parametrize(
    "bad", ["", "stay", "linger=", "linger=x", "linger=-1", "nan", "inf", -1, math.nan, math.inf, "linger"]
)
def test_no_policies(bad: str | float) -> None:
    """What is none is refused, and told what there is."""
    with pytest.raises(ValueError, match="on_leave is 'cancel', 'continue', 'linger=SECONDS' or seconds, not"):
        linger_of(bad)


def test_c14_a_crowd_does_not_come_back_at_once() -> None:
    """A single reader comes back soon; a crowd is spread over seconds, and never told less than half a second."""
    assert retry(1) == 500
    crowd = {retry(5000) for _ in range(500)}
    assert min(crowd) >= 500
    assert max(crowd) <= 2500
    assert len(crowd) > 100
