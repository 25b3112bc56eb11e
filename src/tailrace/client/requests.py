"""Requests: converts arguments of callers to plain JSON types, and checks them before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tailrace.client.tools import tools_of
from tailrace.errors import RequestError
from tailrace.types import ChatRequest, GenerateRequest, Image, Message, plain

__all__ = ["chat_request", "generate_request", "messages_of", "model_of", "without_none"]


def chat_request(
    model: str, messages: Sequence[Any] | None, tools: Sequence[Any] | None, stream: bool, **rest: Any
) -> ChatRequest:
    """Returns the request of a chat.

    Raises:
        RequestError: no model, or something in it has no form that could be sent.
    """
    return ChatRequest(
        model=model_of(model), messages=messages_of(messages), tools=tools_of(tools), stream=stream, **_common(rest)
    )


def generate_request(model: str, stream: bool, images: Sequence[Any] | None, **rest: Any) -> GenerateRequest:
    """Returns the request of a completion.

    Raises:
        RequestError: no model, or something in it has no form that could be sent.
    """
    context = rest.pop("context")
    return GenerateRequest(
        model=model_of(model),
        stream=stream,
        images=[_image(image) for image in images] if images else None,
        context=list(context) if context is not None else None,
        **_common(rest),
    )


def messages_of(messages: Sequence[Any] | None) -> list[dict[str, Any]]:
    """Returns messages as JSON types; images are read here."""
    if isinstance(messages, (str, bytes, Mapping)):
        raise RequestError("messages is a list of messages, such as [{'role': 'user', 'content': '…'}]")
    return [_message(message) for message in messages or ()]


def _message(message: Any) -> dict[str, Any]:
    if isinstance(message, Message):
        given = {name: getattr(message, name) for name in message.keys()}  # noqa: SIM118
    elif isinstance(message, Mapping):
        given = {str(name): value for name, value in message.items() if value is not None}
    elif hasattr(message, "model_dump"):
        given = message.model_dump(exclude_none=True)
    else:
        raise RequestError(f"a message is a dict or a Message, not {type(message).__name__}")
    if not isinstance(given.get("role"), str):
        raise RequestError(f"a message needs a role: {_short(given)}")
    if given.get("images"):
        given["images"] = [_image(image) for image in given["images"]]
    try:
        result = plain(given)
    except TypeError as error:
        raise RequestError(f"a message holds something that is not JSON: {error}") from error
    assert isinstance(result, dict)
    return result


def _image(image: Any) -> str:
    value = image.value if hasattr(image, "value") else image
    return Image(value).base64()


def model_of(model: Any) -> str:
    """Returns the name of a model.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(model, str) or not model:
        raise RequestError(
            "no model is named", hint="name one, for example model='qwen3:0.6b'; list() shows what is there"
        )
    return model


def _common(rest: dict[str, Any]) -> dict[str, Any]:
    """Options, format and the like as JSON types; what is not set is left out."""
    options = rest.get("options")
    if options is not None:
        converted = plain(options)
        if not isinstance(converted, dict):
            raise RequestError(f"options is a dict or Options, not {type(options).__name__}")
        rest["options"] = converted
    format = rest.get("format")
    if format is not None and not isinstance(format, str):
        rest["format"] = plain(format)
    return without_none(rest)


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is set."""
    return {name: value for name, value in values.items() if value is not None}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
