"""From what a web request asks for to what a client or an upstream is asked."""

from __future__ import annotations

import time
from typing import Any

from tailrace.client.aio import AsyncClient
from tailrace.client.continuing import continue_request
from tailrace.client.requests import chat_request, generate_request
from tailrace.client.streams import AsyncChatStream, ChatStream
from tailrace.client.sync import Client
from tailrace.protocols.openai.requests import OpenAIRunRequest
from tailrace.protocols.runs.requests import RunRequest
from tailrace.types import ChatRequest, GenerateRequest

__all__ = ["DefaultModel", "chat", "chat_sync", "request_of"]

_REMEMBERED = 10.0  # seconds that the upstream's default model is not asked for again


def _rest(asked: RunRequest) -> dict[str, Any]:
    return {
        "options": asked.options,
        "think": asked.think,
        "format": asked.format,
        "keep_alive": asked.keep_alive,
        "logprobs": asked.logprobs,
        "top_logprobs": asked.top_logprobs,
        "extra_body": asked.extra_body,
    }


class DefaultModel:
    """The model that is meant when none is named: the one that is loaded, else the first that the upstream lists.

    TAILRACE_MODEL, if set, is it. The upstream is not asked more often than every ten seconds.
    """

    def __init__(self) -> None:
        self._name = ""
        self._until = 0.0

    @property
    def known(self) -> str:
        """The name, if it is known and fresh; else empty."""
        return self._name if time.monotonic() < self._until else ""

    def remember(self, name: str) -> str:
        """Keeps a name for a while, and returns it."""
        self._name, self._until = name, time.monotonic() + _REMEMBERED
        return name


def request_of(asked: RunRequest) -> ChatRequest | GenerateRequest:
    """Returns what is sent to an upstream.

    Raises:
        ProblemError, RequestError: the request is none.
    """
    if asked.prompt is not None:
        given = {name: getattr(asked, name) for name in ("prompt", "system", "suffix", "raw")}
        request: ChatRequest | GenerateRequest = generate_request(
            asked.model, True, None, context=None, **given, **_rest(asked)
        )
    else:
        request = chat_request(asked.model, asked.conversation(), asked.tools, True, **_rest(asked))
    if isinstance(asked, OpenAIRunRequest):
        request.openai_body, request.openai_only = asked.openai_body, asked.openai_only
    if asked.go_on and isinstance(request, ChatRequest):
        return continue_request(request)
    return request


async def chat(client: AsyncClient, asked: RunRequest, default: DefaultModel) -> AsyncChatStream:
    """Returns the stream of an answer; nothing is sent before it is started.

    Raises:
        ProblemError, TailraceError: the request is none, or the upstream cannot tell its default model.
    """
    messages = asked.conversation()
    model = asked.model or default.known or default.remember(await client.default_model())
    ask: Any = client.continue_chat if asked.go_on else client.chat
    stream: AsyncChatStream = await ask(model, messages, stream=True, tools=asked.tools, **_rest(asked))
    return stream


def chat_sync(client: Client, asked: RunRequest, default: DefaultModel) -> ChatStream:
    """Does what `chat` does, for synchronous servers."""
    messages = asked.conversation()
    model = asked.model or default.known or default.remember(client.default_model())
    ask: Any = client.continue_chat if asked.go_on else client.chat
    stream: ChatStream = ask(model, messages, stream=True, tools=asked.tools, **_rest(asked))
    return stream
