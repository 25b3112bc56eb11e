"""Bodies of requests, and the options of models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from tailrace.types.record import Record

__all__ = ["ChatRequest", "ContinueRequest", "GenerateRequest", "Options"]


class Options(Record, kw_only=True, omit_defaults=True):
    """Model options by Ollama's names; a plain dict does as well, and keeps names this class does not know."""

    _refuses_unknown: ClassVar[bool] = True

    num_ctx: int | None = None
    num_batch: int | None = None
    num_gpu: int | None = None
    main_gpu: int | None = None
    use_mmap: bool | None = None
    num_thread: int | None = None
    draft_num_predict: int | None = None
    num_keep: int | None = None
    seed: int | None = None
    num_predict: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    repeat_last_n: int | None = None
    repeat_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: Sequence[str] | None = None
    # Names that older clients send; current servers ignore them.
    numa: bool | None = None
    low_vram: bool | None = None
    f16_kv: bool | None = None
    logits_all: bool | None = None
    vocab_only: bool | None = None
    use_mlock: bool | None = None
    embedding_only: bool | None = None
    tfs_z: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    penalize_newline: bool | None = None


class ChatRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of `/api/chat`; already plain JSON types.

    Attributes:
        extra_body: members that are sent beside these, whatever the server; they count where both say something.
        openai_body: the same, for servers of OpenAI's protocol alone: what only that protocol has a place for.
        openai_only: why no other server can be asked; empty: any can.
    """

    model: str
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    stream: bool | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    format: Any = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    extra_body: dict[str, Any] | None = None
    openai_body: dict[str, Any] | None = None
    openai_only: str = ""


class ContinueRequest(ChatRequest):
    """A chat whose last message is the beginning of an answer, from whose end the model is to go on."""


class GenerateRequest(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The body of `/api/generate`; already plain JSON types.

    Attributes:
        extra_body: members that are sent beside these, whatever the server; they count where both say something.
        openai_body: the same, for servers of OpenAI's protocol alone: what only that protocol has a place for.
        openai_only: why no other server can be asked; empty: any can.
    """

    model: str
    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    stream: bool | None = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    raw: bool | None = None
    format: Any = None
    images: list[str] | None = None
    options: dict[str, Any] | None = None
    keep_alive: float | str | None = None
    truncate: bool | None = None
    shift: bool | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    extra_body: dict[str, Any] | None = None
    openai_body: dict[str, Any] | None = None
    openai_only: str = ""
