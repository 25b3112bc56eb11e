"""The soak's judge knows the truth from what is not: what a model did, against what the gateway told of it."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from benchmarks.soaking.hearing import Hearing
from benchmarks.soaking.judging import Attempt, judge
from benchmarks.soaking.plans import FATES, WORD, Plan, plan_of, planned
from benchmarks.soaking.sampling import Sample, slope
from benchmarks.soaking.visits import MANNERS, PROTOCOLS, Seen

PLAN = Plan("q1", "whole", 3, 0.0)
SAID = "q1:0 q1:1 q1:2 "
ALL = Attempt(ended=True, completed=True)


def seen(outcome: str = "complete", text: str = SAID, told: str = SAID, ended: str = "complete", **more: Any) -> Seen:
    """A reader of `/runs` who read to the end."""
    hearing = Hearing("runs")
    data = f"event: text_delta\ndata: {json.dumps({'text': told})}\n\n"
    hearing.feed(f"{data}event: ended\ndata: {json.dumps({'outcome': ended})}\n\n".encode())
    run = {"outcome": outcome, "reply": {"text": text}}
    given: dict[str, Any] = {"protocol": "runs", "manner": "read", "status": 201, "told": True, "run": run}
    return Seen(plan=PLAN, hearing=hearing, **(given | more))


def wrong(seen: Seen, *attempts: Attempt, disturbed: bool = False) -> str:
    """What the judge says of it."""
    return "; ".join(judge(seen, list(attempts or (ALL,)), disturbed=disturbed, linger=2.0))


def test_the_truth_is_true() -> None:
    """What is told as it was is not complained of."""
    assert not wrong(seen())


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        (seen("length", ended="length"), "ended as length, not as complete"),
        (seen(text="q1:0 q1:1 "), "ended as complete after 2 of 3 words"),
        (seen(text="q2:0 "), "another than what was said"),
        (seen(told="q1:0 q1:2 "), "told another thing"),
        (seen(told="q1:0 q1:0 q1:1 q1:2 "), "told another thing"),
        (seen(told="q1:0 "), "told 1 words of the reply's"),
        (seen(ended="cancelled"), "told 'cancelled' of what ended as complete"),
        (seen("truncated", ended="truncated"), "ended as truncated, not as complete"),
        (seen("abandoned", ended="abandoned"), "ended as abandoned, not as complete"),
        (seen(run=None), "there is no run"),
        (seen(odd=["broken: x"]), "broken: x"),
        (seen(protocol="a turn"), "the conversation has no answer"),
        (
            seen(protocol="a turn", message={"outcome": "failed", "state": "failed", "content": SAID}),
            "keeps failed, failed of what ended as complete",
        ),
    ],
)
def test_a_lie_is_noticed(lie: Seen, complaint: str) -> None:
    """What is not as it was is named."""
    assert complaint in wrong(lie)


def test_an_answer_that_no_model_gave_is_noticed() -> None:
    """A complete answer needs a model that said all of it."""
    assert "no model said all of it" in wrong(seen(), Attempt(ended=True))


def test_a_model_that_goes_on_is_noticed() -> None:
    """When a run has ended, no model may still work for it; one that was killed does not."""
    assert "a model still answers" in wrong(seen(), ALL, Attempt())
    assert not wrong(seen(), ALL, Attempt(killed=True))


def test_what_excuses_another_ending() -> None:
    """A stop, a leaving, a death of the model: each excuses the ending that it leads to, and no other."""
    stopped = seen("cancelled", ended="cancelled", stopped=True)
    left = seen("abandoned", ended="", told="q1:0 ", text="q1:0 ")
    left.left, left.told = True, False
    died = seen("truncated", "q1:0 ", "q1:0 ", "truncated")

    assert not wrong(stopped)
    assert not wrong(left)
    assert not wrong(died, Attempt(killed=True))
    assert not wrong(died, disturbed=True)
    assert wrong(seen("failed", ended="failed", stopped=True))


@pytest.mark.parametrize("fate", FATES)
def test_a_plan_travels_in_its_question(fate: str) -> None:
    """The model finds the plan in the last question that has one, and can play it."""
    plan = Plan("q7", fate, 12, 0.05, 9)
    body = {"messages": [{"role": "user", "content": plan.question}, {"role": "assistant", "content": "q7:0"}]}

    assert plan_of(body) == plan
    assert plan.steps()
    assert plan_of({"messages": [{"role": "user", "content": "hi"}]}) is None


def test_chance_is_seeded() -> None:
    """One seed plans the same each time."""
    assert planned("q1", random.Random("a")) == planned("q1", random.Random("a"))
    assert len({planned("q1", random.Random(f"{number}")).fate for number in range(500)}) == len(FATES)


@pytest.mark.parametrize(
    ("wire", "data", "ended"),
    [
        ("plain", b'data: {"content":"q1:0 "}\n\nevent: ended\ndata: {"outcome":"failed"}\n\n', "failed"),
        ("html", b"event: tail\ndata: <p>q1\n\nevent: tail\ndata: <p>q1:0</p>\n\n", ""),
        ("ollama", b'{"message":{"content":"q1:0 "}}\n{"done":true,"done_reason":"length"}\n', "length"),
        ("ollama", b'{"message":{"content":"q1:0 "}}\n{"error":"x"}\n', "not finished"),
        ("openai", b'data: {"choices":[{"delta":{"content":"q1:0"},"finish_reason":"stop"}]}\n\n', "complete"),
        ("ai", b'data: {"type":"text-delta","delta":"q1:0"}\n\ndata: {"type":"abort"}\n\n', "not finished"),
    ],
)
def test_what_was_told_on_each_wire(wire: str, data: bytes, ended: str) -> None:
    """Words and ending are found on every wire."""
    hearing = Hearing(wire)
    hearing.feed(data)

    assert (hearing.words, hearing.ended) == (["q1:0"], ended)


def test_all_that_comes_is_told_apart() -> None:
    """Each protocol has a wire that is understood, and each manner a weight."""
    assert {each.wire for each in PROTOCOLS.values()} == {"plain", "runs", "html", "ollama", "openai", "ai"}
    assert min(MANNERS.values()) > 0
    assert WORD.findall(PLAN.question) == []


def test_the_slope_of_memory() -> None:
    """It is what memory grows by in an hour."""
    nothing: dict[str, Any] = dict.fromkeys(
        ("untrimmed", "files", "sockets", "threads", "tasks", "running", "kept", "readers", "queue", "log_bytes"), 0
    )
    flat = [Sample(at=60.0 * minute, memory=10_000, cpu=0.0, **nothing) for minute in range(9)]
    grows = [msgspec.structs.replace(each, memory=int(each.memory + each.at)) for each in flat]

    assert [round(slope(each), 6) for each in (flat, grows)] == [0, 3600]
    assert slope(flat[:2]) == 0
