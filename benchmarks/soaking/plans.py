"""Plans: what a model is to say to a question, and how it is to end. A question carries its plan to the fake model."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tailrace import testing
from tailrace.testing import Step

__all__ = ["FATES", "WORD", "Fate", "Plan", "plan_of", "planned"]

_MARK = "soak "
WORD = re.compile(r"q\d+:\d+")
"""What answers are made of: the question's name, and the word's number."""


class Fate(msgspec.Struct, frozen=True):
    """How an answer goes.

    Attributes:
        outcome: how the run has to end, if nobody interferes.
        weight: how often it is chosen.
        ending: the steps of the fake model after its last word.
        first: the steps before its first one.
        says: False if the model says nothing at all.
        whole: False if it ends somewhere in the midst.
        busy: True if it is asked again for a while, which may take too long.
    """

    outcome: str
    weight: int
    ending: Callable[[], Sequence[Step]]
    first: Callable[[], Sequence[Step]] = lambda: ()
    says: bool = True
    whole: bool = False
    busy: bool = False


FATES = {
    "whole": Fate("complete", 40, lambda: [testing.done()], whole=True),
    "length": Fate("length", 6, lambda: [testing.done("length")], whole=True),
    "slow": Fate("complete", 4, lambda: [testing.done()], lambda: [testing.delay(1.5)], whole=True),
    "think": Fate("complete", 5, lambda: [testing.done()], lambda: [testing.think("hm ", "so ")], whole=True),
    "tool": Fate("complete", 4, lambda: [testing.tool_call("f", {"a": 1}), testing.done()], whole=True),
    "split": Fate("complete", 4, lambda: [testing.done()], lambda: [testing.split(every=7)], whole=True),
    "gzip": Fate("complete", 3, lambda: [testing.done()], lambda: [testing.gzip()], whole=True),
    "fin": Fate("truncated", 4, lambda: [testing.fin()]),
    "cut": Fate("truncated", 3, lambda: [testing.cut()]),
    "rst": Fate("truncated", 4, lambda: [testing.rst()]),
    "half_line": Fate("truncated", 3, lambda: [testing.half_line("never told"), testing.fin()]),
    "half_close": Fate("truncated", 2, lambda: [testing.half_close()]),
    "error": Fate("failed", 3, lambda: [testing.error("the sky fell")]),
    "no_json": Fate("failed", 3, lambda: [testing.raw(b"data: {no json\n\n"), testing.stall()]),
    "no_record": Fate("failed", 2, lambda: [testing.chunk([1, 2]), testing.stall()]),
    "bad_chunk": Fate("failed", 2, lambda: [testing.bad_chunk_size(), testing.stall()]),
    "stall": Fate("timed_out", 2, lambda: [testing.stall()]),
    "status_500": Fate("failed", 2, lambda: [testing.status(500, {"error": "no memory"})], says=False),
    "status_400": Fate("failed", 2, lambda: [testing.status(400, {"error": "not so"})], says=False),
    "status_503": Fate("failed", 1, lambda: [testing.status(503, {"error": "busy"})], says=False, busy=True),
    "web_page": Fate("failed", 2, lambda: [testing.html()], says=False),
    "header_flood": Fate("failed", 1, lambda: [testing.header_flood(), testing.fin()], says=False),
    "silence": Fate("timed_out", 1, lambda: [testing.stall()], says=False),
}


class Plan(msgspec.Struct, frozen=True):
    """What a model is to do about one question.

    Attributes:
        name: the question's own.
        fate: a key of `FATES`.
        words: how many words it says.
        every: seconds between two of them.
        pad: bytes that each word has besides.
    """

    name: str
    fate: str
    words: int
    every: float
    pad: int = 0

    @property
    def question(self) -> str:
        """The text that is asked."""
        return _MARK + msgspec.json.encode(self).decode()

    @property
    def expected(self) -> str:
        """How the run has to end, if nobody interferes."""
        return FATES[self.fate].outcome

    @property
    def said(self) -> list[str]:
        """The words."""
        return [f"{self.name}:{number}" for number in range(self.words if FATES[self.fate].says else 0)]

    def steps(self) -> list[Step]:
        """What the fake model does."""
        fate = FATES[self.fate]
        words = [f"{word}{'x' * self.pad}{_between(number)}" for number, word in enumerate(self.said)]
        return [*fate.first(), *([testing.say(*words, every=self.every)] if words else []), *fate.ending()]


def _between(number: int) -> str:
    """What follows a word: a line, a paragraph or a list item begins now and then, so that pages have blocks."""
    return "\n\n" if number % 9 == 8 else "\n- " if number % 9 == 4 else " "


def planned(name: str, chance: random.Random) -> Plan:
    """Chooses a plan."""
    fate = chance.choices(list(FATES), [each.weight for each in FATES.values()])[0]
    words = chance.choice((1, 5, 20, 40, 80))
    every = chance.choice((0.0, 0.02, 0.05))
    return Plan(name, fate, words, every if words > 1 else 0.0, chance.choice((0, 0, 0, 200)))


def plan_of(body: Any) -> Plan | None:
    """Finds the plan in the request that a model server got; None if it has none."""
    for message in reversed(body.get("messages") or ()):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str) and content.startswith(_MARK):
            return msgspec.json.decode(content.removeprefix(_MARK), type=Plan)
    return None
