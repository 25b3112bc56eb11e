"""Events: the values in a run's log, and the outcomes a run can have.

A run's log is some `Queued`, `Loading` and `Prefill` (what it waits for), then `TextDelta`, `ThinkingDelta`,
`ToolCallDelta` and `ToolCall` (what the model says), and exactly one `Ended`, which is last. As JSON each event is an
object whose ``type`` is the event's name in snake_case. A pull, push or create is a run as well: its content is
`Progress`.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

__all__ = [
    "Ended",
    "Event",
    "Fault",
    "Loading",
    "Outcome",
    "Prefill",
    "Progress",
    "Queued",
    "TextDelta",
    "ThinkingDelta",
    "ToolCall",
    "ToolCallDelta",
    "Usage",
]


class Outcome(enum.StrEnum):
    """How a run ended. There is no other way, and every run ends in exactly one."""

    COMPLETE = "complete"
    """The model finished."""
    LENGTH = "length"
    """The model was cut by the token limit or a full context."""
    CANCELLED = "cancelled"
    """Somebody on our side stopped it."""
    ABANDONED = "abandoned"
    """No reader for the linger time."""
    TIMED_OUT = "timed_out"
    """A phase took longer than its limit; `Ended.reason` names the phase."""
    TRUNCATED = "truncated"
    """The server closed without its final record."""
    OWNER_LOST = "owner_lost"
    """The process or loop that talked to the model is gone."""
    FAILED = "failed"
    """Anything else; `Ended.fault` says what."""

    @property
    def finished(self) -> bool:
        """True if the model said all it wanted or was allowed to say."""
        return self in (Outcome.COMPLETE, Outcome.LENGTH)


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the server counted. Tokens are exact; durations are nanoseconds, as on Ollama's wire; 0 means not told."""

    prompt_tokens: int = 0
    output_tokens: int = 0
    total_duration: int = 0
    load_duration: int = 0
    prompt_duration: int = 0
    output_duration: int = 0


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong, as data: `kind` names a class of `tailrace.errors`."""

    kind: str
    message: str
    status_code: int = -1
    hint: str = ""


class Queued(msgspec.Struct, frozen=True, tag="queued", omit_defaults=True):
    """The run waits for its turn.

    Attributes:
        position: place in the queue, 1 is next; None where the server does not tell.
        retry_in: seconds until we ask a busy server again; None if it keeps the place for us.
    """

    position: int | None = None
    retry_in: float | None = None


class Loading(msgspec.Struct, frozen=True, tag="loading", omit_defaults=True):
    """The server loads the model."""

    model: str = ""


class Prefill(msgspec.Struct, frozen=True, tag="prefill", omit_defaults=True):
    """The model reads the prompt: `processed` of `total` tokens; None where the server does not tell."""

    processed: int | None = None
    total: int | None = None


class Progress(msgspec.Struct, frozen=True, tag="progress", omit_defaults=True):
    """A line of progress of pull, push or create, sizes in bytes; of an image that is being made, in steps."""

    status: str | None = None
    digest: str | None = None
    total: int | None = None
    completed: int | None = None


class TextDelta(msgspec.Struct, frozen=True, gc=False, tag="text_delta", omit_defaults=True):
    """A piece of the answer. `logprobs` is the server's own list, if it was asked for."""

    text: str
    logprobs: list[Any] | None = None


class ThinkingDelta(msgspec.Struct, frozen=True, gc=False, tag="thinking_delta", omit_defaults=True):
    """A piece of the model's reasoning."""

    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False, tag="tool_call_delta", omit_defaults=True):
    """A piece of a tool call, from servers that send them in pieces; the whole follows as `ToolCall`.

    Attributes:
        text: a piece of the arguments, which are JSON.
        index: tells the calls of one answer apart.
        name: the function, with the first piece.
        id: the call's id, with the first piece.
    """

    text: str
    index: int = 0
    name: str = ""
    id: str | None = None


class ToolCall(msgspec.Struct, frozen=True, tag="tool_call", omit_defaults=True):
    """A complete tool call.

    Attributes:
        arguments: the parsed arguments; empty if they were not a JSON object.
        invalid: the arguments as the model wrote them, when they were not a JSON object.
    """

    name: str
    arguments: dict[str, Any] = {}
    id: str | None = None
    index: int | None = None
    invalid: str | None = None


class Ended(msgspec.Struct, frozen=True, tag="ended", omit_defaults=True):
    """The one ending of a run, and the last event of its log.

    Attributes:
        reason: the server's word for it (``stop``, ``length``, ``load`` …), or the phase of a time-out.
        usage: the server's counts; None if the run ended before the server told them.
        warnings: what was odd but did no harm, one sentence each.
        context: the token ids that Ollama's generate returns; None otherwise.
        image: the image that a model for images made, in base64; None otherwise.
    """

    outcome: Outcome
    reason: str = ""
    fault: Fault | None = None
    usage: Usage | None = None
    warnings: tuple[str, ...] = ()
    context: list[int] | None = None
    image: str | None = None


Event = Queued | Loading | Prefill | Progress | TextDelta | ThinkingDelta | ToolCallDelta | ToolCall | Ended
