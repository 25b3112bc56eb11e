"""Two words for one ending: the graver one counts."""

from __future__ import annotations

import pytest

from tailrace.events import Ended, Outcome
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.openai.decode import ChunkDecoder

OPENAI = b'data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":"%b"}]}\n\n'
TWO = [
    ("error", "stop", Outcome.FAILED, "error"),
    ("stop", "error", Outcome.FAILED, "error"),
    ("length", "stop", Outcome.LENGTH, "length"),
    ("stop", "length", Outcome.LENGTH, "length"),
    ("stop", "tool_calls", Outcome.COMPLETE, "tool_calls"),
]


@pytest.mark.parametrize(("first", "second", "outcome", "reason"), TWO)
def test_u35_on_openais_wire(first: str, second: str, outcome: Outcome, reason: str) -> None:
    """What always comes last in a stream does not make a success of a failure."""
    decoder = ChunkDecoder()
    events = decoder.feed(OPENAI % first.encode() + OPENAI % second.encode() + b"data: [DONE]\n\n")

    ended = events[-1]
    assert isinstance(ended, Ended)
    assert (outcome, reason) == (ended.outcome, ended.reason)


@pytest.mark.parametrize(("first", "second", "outcome", "reason"), TWO)
def test_u35_on_ollamas_wire(first: str, second: str, outcome: Outcome, reason: str) -> None:
    """Nor there, with or without a word on the last line."""
    lines = b'{"message":{"content":"Hi"},"done":false,"done_reason":"%b"}\n{"done":true,"done_reason":"%b"}\n'
    events = AnswerDecoder().feed(lines % (first.encode(), second.encode()))

    ended = events[-1]
    assert isinstance(ended, Ended)
    assert (outcome, reason) == (ended.outcome, ended.reason)


def test_u35_the_last_line_without_a_word() -> None:
    """A reason that came before counts."""
    events = AnswerDecoder().feed(b'{"message":{"content":"Hi"},"done_reason":"error"}\n{"done":true}\n')

    ended = events[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED
