"""The state of a run: every transition is a row of `TABLE`, and there are no others.

Rules: all changes of state go through `advance`. Cancel and time-outs lead from every state to ENDED; nothing leads out
of ENDED. A signal without a row is a bug in tailrace, never the network's fault: decoders return events in any order,
and `SIGNALS` maps each to a signal that its states allow.
"""

from __future__ import annotations

import enum

from tailrace import events

__all__ = ["SIGNALS", "TABLE", "Signal", "State", "advance"]


class State(enum.Enum):
    """Where a run is."""

    NEW = "new"
    QUEUED = "queued"
    CONNECTING = "connecting"
    WAITING = "waiting"
    STREAMING = "streaming"
    ENDED = "ended"


class Signal(enum.Enum):
    """What moves a run."""

    QUEUE = "queued"
    CONNECT = "connecting"
    SENT = "request sent"
    WORK = "loading or reading the prompt"
    CONTENT = "first content"
    END = "ended"


SIGNALS: dict[type[object], Signal] = {
    events.Queued: Signal.QUEUE,
    events.Loading: Signal.WORK,
    events.Prefill: Signal.WORK,
    events.Progress: Signal.CONTENT,
    events.TextDelta: Signal.CONTENT,
    events.ThinkingDelta: Signal.CONTENT,
    events.ToolCallDelta: Signal.CONTENT,
    events.ToolCall: Signal.CONTENT,
    events.Ended: Signal.END,
}

_BEFORE_CONTENT = {
    Signal.QUEUE: State.QUEUED,
    Signal.CONNECT: State.CONNECTING,
    Signal.SENT: State.WAITING,
    Signal.WORK: State.WAITING,
    Signal.CONTENT: State.STREAMING,
    Signal.END: State.ENDED,
}

TABLE: dict[State, dict[Signal, State]] = {
    # The embedded engine reports loading before there is anything to connect to, so NEW allows it too.
    State.NEW: {**_BEFORE_CONTENT},
    # A request to a busy server is retried: QUEUED leads back to CONNECTING.
    State.QUEUED: {**_BEFORE_CONTENT},
    State.CONNECTING: {**_BEFORE_CONTENT},
    State.WAITING: {**_BEFORE_CONTENT},
    # Progress reports that come late do not undo the first token.
    State.STREAMING: {
        Signal.QUEUE: State.STREAMING,
        Signal.WORK: State.STREAMING,
        Signal.SENT: State.STREAMING,
        Signal.CONTENT: State.STREAMING,
        Signal.END: State.ENDED,
    },
    State.ENDED: {},
}


def advance(state: State, signal: Signal) -> State:
    """Returns the next state.

    Raises:
        RuntimeError: the table has no such row; a bug in tailrace.
    """
    try:
        return TABLE[state][signal]
    except KeyError:
        raise RuntimeError(f"bug in tailrace: {signal.name} in state {state.name}") from None
