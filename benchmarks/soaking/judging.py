"""Judging: was what the gateway told of a run the truth? Compared with what the fake models did."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.soaking.plans import FATES, WORD
from benchmarks.soaking.visits import PROTOCOLS, Seen

__all__ = ["Attempt", "judge"]

_FINISHED = {"complete", "length"}


@dataclass
class Attempt:
    """What a fake model did about a question.

    Attributes:
        ended: False while it still answers.
        completed: True if it did all that the plan says.
        left: how the gateway left before that; None if it did not.
        killed: True if the model died over it.
    """

    ended: bool = False
    completed: bool = False
    left: str | None = None
    killed: bool = False


def judge(seen: Seen, attempts: list[Attempt], *, disturbed: bool, linger: float) -> list[str]:
    """Returns what was not true of a visit; empty if all was.

    Args:
        seen: what the visit saw.
        attempts: what all models did about its question.
        disturbed: True if a model was down for a part of the time.
        linger: seconds for which a run goes on without readers.
    """
    wrong = list(seen.odd)
    if seen.run is None:
        # Nobody knows the run: its client left before the head, or was told why there is none.
        if not seen.left and seen.status < 400:
            wrong.append("there is no run")
        return wrong
    outcome = seen.run["outcome"]
    died = disturbed or any(attempt.killed for attempt in attempts)
    allowed = _allowed(seen, died, linger)
    if outcome not in allowed:
        wrong.append(f"ended as {outcome}, not as {' or '.join(sorted(allowed))}")
    wrong += _text(seen, outcome)
    wrong += _told(seen, outcome)
    wrong += _kept(seen, outcome)
    if outcome in _FINISHED and not died and not any(attempt.completed or attempt.left for attempt in attempts):
        wrong.append(f"ended as {outcome}, but no model said all of it")
    if any(not attempt.ended and not attempt.killed for attempt in attempts):
        wrong.append("a model still answers")
    return wrong


def _allowed(seen: Seen, died: bool, linger: float) -> set[str]:
    """The outcomes that are true."""
    plan, fate = seen.plan, FATES[seen.plan.fate]
    allowed = {plan.expected}
    if died:
        allowed |= {"truncated", "failed"}
    if fate.busy:
        allowed.add("timed_out")
    if seen.stopped:
        allowed.add("cancelled")
    if seen.left:
        allowed |= {"abandoned"} if PROTOCOLS[seen.protocol].lingers else {"abandoned", "cancelled"}
    if seen.away > 0.75 * linger:  # on a busy machine it comes back too late
        allowed.add("abandoned")
    return allowed


def _text(seen: Seen, outcome: str) -> list[str]:
    """The reply is what was said, from its beginning, and all of it if it is complete."""
    said = seen.plan.said
    reply = WORD.findall(seen.run["reply"]["text"])
    if reply != said[: len(reply)]:
        return [f"the reply is another than what was said: {reply[:100]}"]
    if outcome in _FINISHED and reply != said:
        return [f"ended as {outcome} after {len(reply)} of {len(said)} words"]
    return []


def _told(seen: Seen, outcome: str) -> list[str]:
    """Readers were told the reply, each word once, and the ending that it had."""
    wrong = []
    hearing, said = seen.hearing, seen.plan.said
    words = hearing.words
    if words != said[: len(words)]:
        wrong.append(f"a reader was told another thing than what was said: {words[:200]}")
    if not seen.told or seen.status >= 400:
        return wrong
    if words != WORD.findall(seen.run["reply"]["text"]):
        wrong.append(f"a reader was told {len(words)} words of the reply's, which are others")
    if hearing.wire in {"plain", "runs", "html"}:
        true = hearing.ended == outcome
    else:
        true = hearing.ended == outcome or (outcome not in _FINISHED and hearing.ended in {"", "not finished"})
    if not true:
        wrong.append(f"a reader was told {hearing.ended or 'no ending'!r} of what ended as {outcome}")
    return wrong


def _kept(seen: Seen, outcome: str) -> list[str]:
    """The conversation keeps the reply and its ending."""
    message = seen.message
    if message is None:
        return ["the conversation has no answer"] if seen.protocol == "a turn" and seen.status < 400 else []
    if message["outcome"] != outcome or message["state"] == "running":
        return [f"the conversation keeps {message['state']}, {message['outcome']} of what ended as {outcome}"]
    if message["content"] != seen.run["reply"]["text"]:
        return ["the conversation keeps another text than the run"]
    return []
