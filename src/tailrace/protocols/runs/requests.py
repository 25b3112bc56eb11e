"""The bodies of ``POST /chat/stream`` and ``POST /runs``, checked before they are sent to a model server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tailrace.protocols.problems import ProblemError
from tailrace.types.content import ContentError, flattened, sent_image

if TYPE_CHECKING:
    from tailrace.types import ChatRequest, GenerateRequest

__all__ = ["LONGEST_NAME", "RunRequest", "check_name", "parse", "parse_json", "size_of"]

LONGEST_NAME = 512
"""Characters of a model's name: it is told again in lists, figures and errors, for as long as a run is kept."""


class RunRequest(msgspec.Struct, kw_only=True, rename={"go_on": "continue"}):
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
        go_on: ``continue`` in JSON: the last message is the beginning of an answer, from whose end the model goes on.
        extra_body: members that go on to the model server as they are, for what only that one knows.
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
    go_on: bool = False
    extra_body: dict[str, Any] | None = None

    def conversation(self) -> list[dict[str, Any]]:
        """Returns the messages, the system prompt first.

        Raises:
            ProblemError: there are none.
        """
        messages = [_sent(message, number) for number, message in enumerate(self.messages or ())]
        if self.message:
            messages.append({"role": "user", "content": self.message})
        if not messages:
            raise ProblemError(400, "there is no message", hint='send {"message": "…"} or {"messages": […]}')
        if self.system:
            messages.insert(0, {"role": "system", "content": self.system})
        return messages


def _sent(message: dict[str, Any], number: int) -> dict[str, Any]:
    """Returns a message whose images are data: a name would be that of a file here, which is none of the sender's."""
    try:
        message = flattened(message, f"messages[{number}]", sent_image)
    except ContentError as error:
        raise ProblemError(400, str(error)) from error
    images = message.get("images")
    if not images:
        return message
    try:
        if not isinstance(images, list):
            raise TypeError
        return {**message, "images": [base64.b64decode("".join(image.split()), validate=True) for image in images]}
    except (AttributeError, TypeError, ValueError) as error:
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


def parse(body: bytes, query: Mapping[str, str]) -> RunRequest:
    """Returns what a request asks for: by its body, and by ``?message=`` (``model``, ``system``) as the tutorial does.

    Raises:
        ProblemError: it asks for nothing, or what it asks for is not of the right form.
    """
    asked: RunRequest = parse_json(body, RunRequest) if body.strip() else RunRequest()
    for name in ("message", "model", "system"):
        if query.get(name) and not getattr(asked, name):
            setattr(asked, name, query[name])
    check_name(asked.model)
    linger = asked.linger
    if linger is not msgspec.UNSET and linger is not None and not 0 <= linger < 1e6:
        raise ProblemError(400, "linger is seconds, 0 or more, or null")
    return asked


def check_name(model: str) -> None:
    """Makes sure that a model's name is not too long.

    Raises:
        ProblemError: 400.
    """
    if len(model) > LONGEST_NAME:
        raise ProblemError(400, f"the model's name has {len(model):,} characters, and {LONGEST_NAME} at most are one")


def size_of(asked: RunRequest | ChatRequest | GenerateRequest) -> int:
    """Returns about how many bytes a request has: its texts and images, which are kept while its run goes on."""
    texts = (getattr(asked, name, None) for name in ("message", "prompt", "suffix", "system", "images"))
    messages = getattr(asked, "messages", None) or ()
    return sum(map(_length, texts)) + sum(_length(part) for message in messages for part in message.values())


def _length(part: object) -> int:
    if isinstance(part, (str, bytes)):
        return len(part)
    return sum(len(each) for each in part if isinstance(each, (str, bytes))) if isinstance(part, list) else 0
