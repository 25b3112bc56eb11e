"""The states of a run: the whole table, and walks through it."""

from __future__ import annotations

import typing

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailrace import events
from tailrace.run.state import SIGNALS, TABLE, Signal, State, advance

BEFORE = {
    Signal.QUEUE: State.QUEUED,
    Signal.CONNECT: State.CONNECTING,
    Signal.SENT: State.WAITING,
    Signal.WORK: State.WAITING,
    Signal.CONTENT: State.STREAMING,
    Signal.END: State.ENDED,
}
STREAMING = {
    Signal.QUEUE: State.STREAMING,
    Signal.CONNECT: None,
    Signal.SENT: State.STREAMING,
    Signal.WORK: State.STREAMING,
    Signal.CONTENT: State.STREAMING,
    Signal.END: State.ENDED,
}
EXPECTED: dict[State, dict[Signal, State | None]] = {
    State.NEW: {**BEFORE},
    State.QUEUED: {**BEFORE},
    State.CONNECTING: {**BEFORE},
    State.WAITING: {**BEFORE},
    State.STREAMING: {**STREAMING},
    State.ENDED: dict.fromkeys(Signal),
}
PAIRS = [(state, signal) for state in State for signal in Signal]


@pytest.mark.parametrize(("state", "signal"), PAIRS, ids=lambda value: value.name)
def test_every_pair(state: State, signal: Signal) -> None:
    """Each signal in each state leads where the design says, or is a bug of ours that says so."""
    expected = EXPECTED[state][signal]
    if expected is None:
        with pytest.raises(RuntimeError, match=f"bug in tailrace: {signal.name} in state {state.name}"):
            advance(state, signal)
    else:
        assert advance(state, signal) is expected


def test_the_table_is_whole() -> None:
    """Every state has its row, and a row holds nothing but signals and states."""
    assert set(TABLE) == set(State)
    assert {signal for row in TABLE.values() for signal in row} == set(Signal)
    assert {state for row in TABLE.values() for state in row.values()} == set(State) - {State.NEW}


def test_nothing_leads_out_of_the_end() -> None:
    """ENDED has no row to leave by, and every other state can end at once."""
    assert TABLE[State.ENDED] == {}
    assert {state for state in State if TABLE[state].get(Signal.END) is State.ENDED} == set(State) - {State.ENDED}


def test_every_event_has_a_signal() -> None:
    """Every class of events has its signal, and so has nothing else."""
    assert set(SIGNALS) == set(typing.get_args(events.Event))
    defined = {
        value for value in vars(events).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)
    }
    assert {kind for kind in defined if kind.__struct_config__.tag is not None} == set(SIGNALS)


@pytest.mark.parametrize("state", [state for state in State if state is not State.ENDED], ids=lambda state: state.name)
def test_a_decoder_may_hand_out_events_in_any_order(state: State) -> None:
    """What a server says can come in any state before the end: no event of it is ever a bug."""
    assert {signal for signal in SIGNALS.values() if signal not in TABLE[state]} == set()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.sampled_from(Signal), max_size=30))
def test_random_walks(signals: list[Signal]) -> None:
    """Along any walk content is never undone, and the end is final."""
    state, streamed = State.NEW, False
    for signal in signals:
        if signal not in TABLE[state]:
            with pytest.raises(RuntimeError):
                advance(state, signal)
            continue
        state = advance(state, signal)
        streamed = streamed or signal is Signal.CONTENT
        assert state in ((State.STREAMING, State.ENDED) if streamed else set(State) - {State.NEW, State.STREAMING})
        assert (state is State.ENDED) is (signal is Signal.END)
