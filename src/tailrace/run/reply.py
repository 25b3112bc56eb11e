"""Reply: a folded log."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from tailrace.events import Ended, Event, Fault, Outcome, TextDelta, ThinkingDelta, ToolCall, Usage
from tailrace.run.metrics import Metrics
from tailrace.types import Message, MessageToolCall, ToolCallFunction

__all__ = ["Reply", "calls_of", "fold"]


class Reply(msgspec.Struct, kw_only=True):
    """The answer of a run and how it ended; of a running one, what there is so far.

    Attributes:
        text: the answer.
        thinking: the reasoning, if the model gave any.
        tool_calls: complete calls, in order.
        outcome: how it ended; None while it runs.
        reason: the server's word for the ending (``stop``, ``length``, …), or the phase of a time-out.
        fault: what went wrong; None if nothing did.
        warnings: irregularities in the server's answer that did no harm.
        usage: the server's counts; None if it sent none.
        metrics: times and counts.
        logprobs: as the server sent them, if requested; else None.
        context: token ids of Ollama's generate; else None.
        image: the image that a model for images made, in base64; else None.
    """

    run_id: str = ""
    model: str = ""
    text: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = []
    outcome: Outcome | None = None
    reason: str = ""
    fault: Fault | None = None
    warnings: tuple[str, ...] = ()
    usage: Usage | None = None
    metrics: Metrics = Metrics()
    logprobs: list[Any] | None = None
    context: list[int] | None = None
    image: str | None = None

    @property
    def finished(self) -> bool:
        """True if the model said all it wanted or was allowed to say."""
        return self.outcome is not None and self.outcome.finished

    @property
    def interrupted(self) -> bool:
        """True if it ended early, for whatever reason."""
        return self.outcome is not None and not self.outcome.finished

    @property
    def message(self) -> Message:
        """The reply as a message for the history."""
        calls = calls_of(self.tool_calls) or None
        return Message("assistant", self.text, thinking=self.thinking or None, tool_calls=calls)


def calls_of(calls: Iterable[ToolCall]) -> list[MessageToolCall]:
    """Returns tool calls as a message holds them."""
    return [MessageToolCall(ToolCallFunction(call.name, call.arguments, call.index), call.id) for call in calls]


def fold(events: Iterable[Event], reply: Reply) -> Reply:
    """Adds `events` to `reply` and returns it, in time linear in their number; its lists are replaced, not changed."""
    text: list[str] = []
    thinking: list[str] = []
    logprobs: list[Any] = []
    calls: list[ToolCall] = []
    for event in events:
        kind = type(event)
        if kind is TextDelta:
            text.append(event.text)  # type: ignore[union-attr]
            if event.logprobs:  # type: ignore[union-attr]
                logprobs += event.logprobs  # type: ignore[union-attr]
        elif kind is ThinkingDelta:
            thinking.append(event.text)  # type: ignore[union-attr]
        elif isinstance(event, ToolCall):
            calls.append(event)
        elif isinstance(event, Ended):
            reply.outcome = event.outcome
            reply.reason = event.reason
            reply.fault = event.fault
            reply.warnings = event.warnings
            reply.usage = event.usage
            reply.context = event.context
            reply.image = event.image
    reply.text += "".join(text)
    reply.thinking += "".join(thinking)
    if logprobs:
        reply.logprobs = [*(reply.logprobs or ()), *logprobs]
    if calls:
        reply.tool_calls = [*reply.tool_calls, *calls]
    return reply
