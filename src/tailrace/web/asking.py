"""What a web request asks for: the bodies of ``POST /chat/stream`` and ``POST /runs``, checked before it is sent on."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from tailrace.client.aio import AsyncClient
from tailrace.client.requests import chat_request, generate_request
from tailrace.client.streams import AsyncChatStream, ChatStream
from tailrace.client.sync import Client
from tailrace.types import ChatRequest, GenerateRequest
from tailrace.web.problems import ProblemError

__all__ = ["Asked", "DefaultModel", "chat", "chat_sync", "parse", "parse_json", "request_of"]

_REMEMBERED = 10.0  # seconds that the upstream's default model is not asked for again


class Asked(msgspec.Struct, kw_only=True):
    """A request for an answer.

    Attributes:
        message: one message of the user's; or
        messages: a conversation, in Ollama's form; or
        prompt: a text to complete.
        model: the model's name; empty: the upstream's default.
        system: a system prompt, put before the messages.
        linger: seconds that the run goes on without readers; None: to its end. Only where the server lets it be asked.
        logprobs: tell the probabilities of tokens, with `top_logprobs` alternatives to each.
        suffix: text after the gap that a completion fills.
        raw: complete the prompt as it is, without the model's template.
    """

    message: str | None = None
    messages: list[dict[str, Any]] | None = None
    prompt: str | None = None
    model: str = ""
    system: str | None = None
    options: dict[str, Any] | None = None
    think: bool | str | None = None
    format: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    keep_alive: float | str | None = None
    linger: float | msgspec.UnsetType | None = msgspec.UNSET
    logprobs: bool | None = None
    top_logprobs: int | None = None
    suffix: str | None = None
    raw: bool | None = None

    def conversation(self) -> list[dict[str, Any]]:
        """Returns the messages, the system prompt first.

        Raises:
            ProblemError: there are none.
        """
        messages = [_sent(message) for message in self.messages or ()]
        if self.message:
            messages.append({"role": "user", "content": self.message})
        if not messages:
            raise ProblemError(400, "there is no message", hint='send {"message": "…"} or {"messages": […]}')
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return messages


def _sent(message: dict[str, Any]) -> dict[str, Any]:
    """Returns a message whose images are data: a name would be that of a file here, which is none of the sender's."""
    images = message.get("images")
    if not images:
        return message
    try:
        return {**message, "images": [base64.b64decode(image, validate=True) for image in images]}
    except (TypeError, ValueError) as error:
        raise ProblemError(400, "the images of a message are a list of base64 texts") from error


def parse_json(body: bytes, kind: type[Any]) -> Any:
    """Returns a body as a value of `kind`.

    Raises:
        ProblemError: it is no JSON, or not of that form; it says where.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ProblemError(400, f"the body is not as it should be: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProblemError(400, f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise ProblemError(400, "the body is nested too deeply") from error


def parse(body: bytes, query: Mapping[str, str]) -> Asked:
    """Returns what a request asks for: by its body, and by ``?message=`` (``model``, ``system``) as the tutorial does.

    Raises:
        ProblemError: it asks for nothing, or what it asks for is not of the right form.
    """
    asked: Asked = parse_json(body, Asked) if body.strip() else Asked()
    for name in ("message", "model", "system"):
        if query.get(name) and not getattr(asked, name):
            setattr(asked, name, query[name])
    linger = asked.linger
    if linger is not msgspec.UNSET and linger is not None and not 0 <= linger < 1e6:
        raise ProblemError(400, "linger is seconds, 0 or more, or null")
    return asked


def _rest(asked: Asked) -> dict[str, Any]:
    return {
        "options": asked.options,
        "think": asked.think,
        "format": asked.format,
        "keep_alive": asked.keep_alive,
        "logprobs": asked.logprobs,
        "top_logprobs": asked.top_logprobs,
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


def request_of(asked: Asked) -> ChatRequest | GenerateRequest:
    """Returns what is sent to an upstream.

    Raises:
        ProblemError, RequestError: the request is none.
    """
    if asked.prompt is not None:
        given = {name: getattr(asked, name) for name in ("prompt", "system", "suffix", "raw")}
        return generate_request(asked.model, True, None, context=None, **given, **_rest(asked))
    return chat_request(asked.model, asked.conversation(), asked.tools, True, **_rest(asked))


async def chat(client: AsyncClient, asked: Asked, default: DefaultModel) -> AsyncChatStream:
    """Returns the stream of an answer; nothing is sent before it is started.

    Raises:
        ProblemError, TailraceError: the request is none, or the upstream cannot tell its default model.
    """
    messages = asked.conversation()
    model = asked.model or default.known or default.remember(await client.default_model())
    stream: AsyncChatStream = await client.chat(model, messages, stream=True, tools=asked.tools, **_rest(asked))
    return stream


def chat_sync(client: Client, asked: Asked, default: DefaultModel) -> ChatStream:
    """Does what `chat` does, for synchronous servers."""
    messages = asked.conversation()
    model = asked.model or default.known or default.remember(client.default_model())
    stream: ChatStream = client.chat(model, messages, stream=True, tools=asked.tools, **_rest(asked))
    return stream
