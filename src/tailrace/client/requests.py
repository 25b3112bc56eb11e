"""Requests: converts arguments of callers to plain JSON types, and checks them before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from enum import Enum
from os import PathLike
from types import NoneType
from typing import Any, Literal, get_origin

import msgspec

from tailrace.errors import RequestError
from tailrace.types import ChatRequest, GenerateRequest, Image, Message, Tool, plain
from tailrace.types.content import ContentError, flattened

__all__ = [
    "Format",
    "KeepAlive",
    "Messages",
    "Tools",
    "chat_request",
    "format_of",
    "generate_request",
    "images_of",
    "keep_alive_of",
    "messages_of",
    "model_of",
    "options_of",
    "without_none",
]


Messages = Sequence[Mapping[str, Any] | Message] | Iterable[Any] | Message | str
"""A conversation: messages, one of them, or what a user says."""

Tools = Sequence[Mapping[str, Any] | Tool | Callable[..., Any]] | Iterable[Any] | Tool | Callable[..., Any]
"""Tools: functions, records or dicts, or one of them."""

Format = Mapping[str, Any] | Literal["", "json"] | type[Any] | Any | None
"""The form of an answer: ``"json"``, a JSON Schema, or a class that has one."""

KeepAlive = float | str | timedelta | None
"""How long a model stays loaded."""


def chat_request(model: str, messages: Any, tools: Any, stream: bool, **rest: Any) -> ChatRequest:
    """Returns the request of a chat.

    Raises:
        RequestError: no model, or something in it has no form that could be sent.
    """
    return ChatRequest(
        model=model_of(model), messages=messages_of(messages), tools=_tools(tools), stream=stream, **_common(rest)
    )


def _tools(tools: Any) -> list[dict[str, Any]]:
    if tools is None:
        return []
    from tailrace.client.tools import tools_of

    return tools_of(tools)


def generate_request(model: str, stream: bool, images: Any, **rest: Any) -> GenerateRequest:
    """Returns the request of a completion.

    Raises:
        RequestError: no model, or something in it has no form that could be sent.
    """
    for name in ("prompt", "suffix", "system", "template"):
        if not isinstance(rest.get(name), (str, NoneType)):
            raise RequestError(f"{name} is a text, not {type(rest[name]).__name__}{_instead_of(name)}")
    return GenerateRequest(
        model=model_of(model),
        stream=stream,
        images=images_of(images) or None,
        context=_context(rest.pop("context")),
        **_common(rest),
    )


def _instead_of(name: str) -> str:
    return "; a conversation goes to chat(messages=…)" if name == "prompt" else ""


def _context(context: Any) -> list[int] | None:
    """Returns token ids; a tensor or an array of them will do."""
    tokens = _json(context, "context is a list of token ids")
    if tokens is not None and not (isinstance(tokens, list) and all(type(token) is int for token in tokens)):
        raise RequestError("context is a list of token ids, as `context` of an earlier answer")
    return tokens


# -- messages --------------------------------------------------------------------------------------------------------

_EXAMPLE = "[{'role': 'user', 'content': '…'}]"


def messages_of(messages: Any) -> list[dict[str, Any]]:
    """Returns messages as JSON types, in Ollama's form; images are read here.

    A text alone is a message of the user's, and a message alone is a list of one.

    Raises:
        RequestError: one of them is none.
    """
    if messages is None:
        return []
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if isinstance(messages, (Message, Mapping)) or _is_message(messages):
        return [_message(messages, "messages")]
    if isinstance(messages, (bytes, bytearray)) or not hasattr(messages, "__iter__"):
        raise RequestError(f"messages is a list of messages, such as {_EXAMPLE}, not {type(messages).__name__}")
    return [_message(message, f"messages[{number}]") for number, message in enumerate(messages)]


def _is_message(value: Any) -> bool:
    """Returns whether it is another library's message, or of a dataclass of the caller's."""
    return not isinstance(value, (list, tuple)) and hasattr(value, "role") and hasattr(value, "content")


def _message(message: Any, place: str) -> dict[str, Any]:
    if isinstance(message, Message):
        given = {name: getattr(message, name) for name in message.keys()}  # noqa: SIM118
    elif isinstance(message, Mapping):
        given = {str(name): value for name, value in message.items() if value is not None}
    elif hasattr(message, "model_dump"):
        given = message.model_dump(exclude_none=True)
    elif _is_message(message) and not isinstance(message, type):
        given = {name: getattr(message, name, None) for name in Message.__struct_fields__}
        given = without_none(given)
    else:
        raise RequestError(f"{place}: a message is a dict or a Message, not {type(message).__name__}")
    if isinstance(given.get("role"), Enum):
        given["role"] = given["role"].value
    if not isinstance(given.get("role"), str):
        raise RequestError(f"{place}: a message needs a role: {_short(given)}")
    calls = given.get("tool_calls")
    if isinstance(calls, Iterable) and not isinstance(calls, (str, Mapping)):
        given["tool_calls"] = _json(calls, f"{place}.tool_calls is a list of calls")
    try:
        given = flattened(given, place, lambda image, _: image)
    except ContentError as error:
        raise RequestError(str(error)) from None
    if given.get("images") is not None:
        given["images"] = images_of(given["images"], f"{place}.images")
    result = _json(given, f"{place}: a message holds JSON types")
    assert isinstance(result, dict)
    return result


def images_of(images: Any, place: str = "images") -> list[str]:
    """Returns images as base64; one alone is a list of one.

    Raises:
        RequestError: one of them is none.
    """
    if images is None:
        return []
    single = isinstance(images, (str, bytes, bytearray, memoryview, PathLike)) or not hasattr(images, "__iter__")
    if single or hasattr(images, "read") or hasattr(images, "value"):  # an `Image`, ours or ollama-python's
        return [_image(images, place)]
    return [_image(image, f"{place}[{number}]") for number, image in enumerate(images)]


def _image(image: Any, place: str) -> str:
    value = image.value if hasattr(image, "value") else image
    try:
        return Image(value).base64()
    except RequestError as error:
        raise RequestError(f"{place}: {error}", hint=error.hint) from error.__cause__


# -- the rest --------------------------------------------------------------------------------------------------------


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
        rest["options"] = options_of(options)
    rest["format"] = format_of(rest.get("format"))
    rest["keep_alive"] = keep_alive_of(rest.get("keep_alive"))
    think = rest.get("think")
    if not isinstance(think, (bool, str, NoneType)):
        raise RequestError(f"think is True, False or how hard ('low', 'medium', 'high'), not {type(think).__name__}")
    for name in ("top_logprobs", "width", "height", "steps"):
        if rest.get(name) is not None:
            rest[name] = _whole(name, rest[name])
    if rest.get("extra_body") is not None:
        rest["extra_body"] = _extra(rest["extra_body"])
    return without_none(rest)


def _extra(given: Any) -> dict[str, Any] | None:
    taken = "extra_body is a dict of members of the request"
    if not isinstance(given, Mapping):
        raise RequestError(f"{taken}, not {type(given).__name__}")
    return {str(name): value for name, value in _json(given, taken).items()} or None


def options_of(options: Any) -> dict[str, Any]:
    """Returns the options of a model as JSON types; ``stop`` may be one text.

    Raises:
        RequestError: they are none.
    """
    given = _json(options, "options is a dict or Options")
    if not isinstance(given, dict):
        raise RequestError(f"options is a dict or Options, not {type(options).__name__}")
    if isinstance(given.get("stop"), str):
        given["stop"] = [given["stop"]]
    return given


def format_of(format: Any) -> Any:
    """Returns the format of an answer: ``"json"``, or a JSON Schema: as a dict, or that of a class.

    Raises:
        RequestError: it is none of them.
    """
    if format is None or format in ("", "json"):
        return format
    taken = "format is 'json', a JSON Schema, or a class that has one (of pydantic's, a dataclass, a typed dict)"
    if isinstance(format, str):
        schema = _parsed(format)
    elif isinstance(format, Mapping):
        schema = _json(format, taken)
    elif not isinstance(format, type) and callable(getattr(format, "json_schema", None)):  # a TypeAdapter of pydantic's
        schema = format.json_schema()
    elif callable(getattr(format, "model_json_schema", None)):
        schema = format.model_json_schema()
    else:
        from tailrace.client.schemas import schema_of

        schema = schema_of(format) if isinstance(format, type) or get_origin(format) is not None else None
    if not isinstance(schema, dict) or (not schema and not isinstance(format, Mapping)):
        raise RequestError(f"{taken}, not {_short(format)}")
    return schema


def _parsed(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def keep_alive_of(value: Any) -> float | str | None:
    """Returns how long a model stays loaded, as it is sent.

    Raises:
        RequestError: it is no time.
    """
    given = _json(value, "keep_alive is seconds, a text such as '5m', or a timedelta")
    if isinstance(given, bool) or not isinstance(given, (int, float, str, NoneType)):
        raise RequestError(f"keep_alive is seconds, a text such as '5m', or a timedelta, not {type(value).__name__}")
    return given


def _whole(name: str, value: Any) -> int:
    given = _json(value, f"{name} is a whole number")
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int):
        raise RequestError(f"{name} is a whole number, not {_short(value)}")
    return given


def _json(value: Any, taken: str) -> Any:
    try:
        return plain(value)
    except TypeError as error:
        raise RequestError(f"{taken}; something in it has no form in JSON: {error}") from error


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is set."""
    return {name: value for name, value in values.items() if value is not None}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
