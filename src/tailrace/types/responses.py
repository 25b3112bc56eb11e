"""Answers to chat, generate and embeddings, and progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tailrace.types.messages import Message, MessageToolCall
from tailrace.types.record import Record

__all__ = [
    "ChatResponse",
    "EmbedResponse",
    "EmbeddingsResponse",
    "GenerateResponse",
    "Logprob",
    "ProgressResponse",
    "StatusResponse",
    "SystemOneAnswer",
    "SystemOneResponse",
    "SystemOneUsage",
    "TokenLogprob",
]


class TokenLogprob(Record):
    """A token and the logarithm of its probability; `bytes` are those of its text, where the server tells them."""

    token: str
    logprob: float
    bytes: Sequence[int] | None = None


class Logprob(TokenLogprob):
    """A token of the answer, and the most probable ones at its place."""

    top_logprobs: Sequence[TokenLogprob] | None = None


class ChatResponse(Record, gc=False, omit_defaults=True):
    """A chunk of a chat stream, or a whole answer."""

    message: Message
    model: str | None = None
    created_at: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    logprobs: Sequence[Logprob] | None = None


class GenerateResponse(Record, gc=False, omit_defaults=True):
    """A chunk of a generate stream, or a whole answer."""

    response: str | None = None
    model: str | None = None
    created_at: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    thinking: str | None = None
    context: Sequence[int] | None = None
    logprobs: Sequence[Logprob] | None = None
    tool_calls: Sequence[MessageToolCall] | None = None
    image: str | None = None
    completed: int | None = None
    total: int | None = None


class EmbedResponse(Record, kw_only=True):
    """Embeddings of the inputs, one list of floats each."""

    embeddings: Sequence[Sequence[float]] = ()
    model: str | None = None
    created_at: str | None = None
    done: bool | None = None
    done_reason: str | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class EmbeddingsResponse(Record):
    """The embedding of one prompt (the older endpoint)."""

    embedding: Sequence[float] = ()


class StatusResponse(Record):
    """``success`` or what went wrong."""

    status: str | None = None


class ProgressResponse(Record):
    """A line of progress of pull, push or create; sizes in bytes."""

    status: str | None = None
    completed: int | None = None
    total: int | None = None
    digest: str | None = None


class SystemOneAnswer(Record):
    """One answer of System One; which members are set depends on the question's type."""

    type: str | None = None
    choice: str | None = None
    noul: float | None = None
    score: float | None = None
    legend: Mapping[str, str] | None = None
    probabilities: Mapping[str, float] | None = None
    confidence: float | None = None


class SystemOneUsage(Record):
    """Tokens that System One counted."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class SystemOneResponse(Record):
    """Answers of a System One model, by the names of the questions."""

    model: str | None = None
    answers: Mapping[str, SystemOneAnswer] = {}
    usage: SystemOneUsage | None = None
