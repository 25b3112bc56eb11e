"""Requests of Ollama's API: their bodies, and the checks that need no model.

Fields are those of ollama/ollama, ``api/types.go``; statuses and texts of errors those of its ``server/routes.go``. The
embedded engine and the gateway answer alike because both decode requests here.
"""

from __future__ import annotations

import base64
import re
from typing import Any, TypeVar

import msgspec

from tailrace.types.content import ContentError, flattened, sent_image

__all__ = [
    "Call",
    "ChatBody",
    "CopyBody",
    "EmbedBody",
    "Function",
    "GenerateBody",
    "Message",
    "NamedBody",
    "OllamaAPIError",
    "RunBody",
    "base64_of",
    "check_run",
    "decode",
    "keep_alive",
    "options",
    "read",
]


class OllamaAPIError(Exception):
    """An error answer: a status and Ollama's ``{"error": text}``."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Function(msgspec.Struct):
    """The function of a tool call."""

    name: str
    arguments: dict[str, Any] = {}


class Call(msgspec.Struct):
    """A tool call in a message that is fed back."""

    function: Function
    id: str = ""


class Message(msgspec.Struct):
    """A message as Ollama takes it."""

    role: str
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class NamedBody(msgspec.Struct):
    """What show, pull and delete take; `name` is the older word for `model`."""

    model: str = ""
    name: str = ""
    stream: bool | None = None

    def called(self) -> str:
        """Returns the model's name."""
        return self.model or self.name


class CopyBody(msgspec.Struct):
    """What copy takes."""

    source: str = ""
    destination: str = ""


class RunBody(msgspec.Struct, kw_only=True):
    """What chat and generate have in common."""

    model: str = ""
    stream: bool | None = None
    format: Any = None
    options: dict[str, Any] | None = None
    keep_alive: Any = None
    think: bool | str | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    truncate: bool | None = None
    shift: bool | None = None


class ChatBody(RunBody, kw_only=True):
    """The body of ``/api/chat``."""

    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None


class GenerateBody(RunBody, kw_only=True):
    """The body of ``/api/generate``."""

    prompt: str | None = None
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    context: list[int] | None = None
    raw: bool | None = None
    images: list[str] | None = None


class EmbedBody(msgspec.Struct, kw_only=True):
    """The body of ``/api/embed`` and of the older ``/api/embeddings``."""

    model: str = ""
    input: str | list[str] | None = None
    prompt: str | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    options: dict[str, Any] | None = None
    keep_alive: Any = None


Body = TypeVar("Body")


def decode(body: bytes, kind: type[Body]) -> Body:
    """Decodes a request body; unknown fields are ignored, wrong types are not.

    Raises:
        OllamaAPIError: 400, with the place of the mistake.
    """
    return read(body, kind)[0]


def read(body: bytes, kind: type[Body]) -> tuple[Body, dict[str, Any]]:
    """Decodes a request body, as `kind` and as it is, with the fields that this version does not know.

    Raises:
        OllamaAPIError: 400, with the place of the mistake.
    """
    if not body.strip():
        raise OllamaAPIError(400, "missing request body")
    try:
        given = _flattened(msgspec.json.decode(body))
        made = msgspec.convert(given, kind)
    except ContentError as error:
        raise OllamaAPIError(400, str(error)) from None
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise OllamaAPIError(400, str(error)) from None
    return made, given


def _flattened(given: Any) -> Any:
    """Returns a body whose messages have a text as content and objects as arguments: Ollama itself takes no others."""
    messages = given.get("messages") if isinstance(given, dict) else None
    if not isinstance(messages, list):
        return given
    made = [
        flattened(message, f"messages[{number}]", sent_image)
        if isinstance(message, dict) and (isinstance(message.get("content"), (list, dict)) or message.get("tool_calls"))
        else message
        for number, message in enumerate(messages)
    ]
    return {**given, "messages": made}


# ---- options and keep_alive ----

_INTEGERS = frozenset(
    (
        *("num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "draft_num_predict"),
        *("num_keep", "seed", "num_predict", "top_k", "repeat_last_n"),
    )
)
_FLOATS = frozenset(
    ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
)


def options(given: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the options that are set, each of its type; names that are not known stay as they are.

    Raises:
        OllamaAPIError: 500, as Ollama answers a wrong type.
    """
    return {name: _option(name, value) for name, value in (given or {}).items() if value is not None}


def _option(name: str, value: Any) -> Any:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name in _INTEGERS:
        if not number or not abs(value) <= 2**53:  # NaN neither
            raise OllamaAPIError(500, f'option "{name}" must be of type integer')
        return int(value)
    if name in _FLOATS:
        if not number:
            raise OllamaAPIError(500, f'option "{name}" must be of type float32')
        return float(value)
    if name == "use_mmap" and not isinstance(value, bool):
        raise OllamaAPIError(500, 'option "use_mmap" must be of type boolean')
    if name == "stop":
        if not isinstance(value, list):
            raise OllamaAPIError(500, 'option "stop" must be of type array')
        if not all(isinstance(word, str) for word in value):
            raise OllamaAPIError(500, 'option "stop" must be of an array of strings')
    return value


_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# Each text is matched in one way only: where a number could be parted in two ways, a long one took hours to be refused.
_TERM = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(rf"[+-]?(?:0|(?:{_TERM.pattern})+)")


def keep_alive(value: object, default: float) -> float:
    """Returns seconds to keep the model after a request: a number, or Go's durations; negative is for ever.

    Raises:
        OllamaAPIError: 400, it is neither.
    """
    if value is None:
        return default
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and _DURATION.fullmatch(value):
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _TERM.findall(value))
        seconds = -seconds if value.startswith("-") else seconds
    elif isinstance(value, str):
        what = "missing unit in" if re.fullmatch(r"[+-]?[\d.]+", value) else "invalid"
        raise OllamaAPIError(400, f'time: {what} duration "{value[:40]}"')
    else:
        raise OllamaAPIError(400, "keep_alive must be a number of seconds or a duration such as 5m")
    return seconds if 0 <= seconds < 1e9 else float("inf")


# ---- runs ----

_LEVELS = ("low", "medium", "high", "max")


def check_run(body: RunBody) -> None:
    """Refuses what can be refused before the model is looked at.

    Raises:
        OllamaAPIError: 400, or 500 for a format that is none.
    """
    if body.top_logprobs is not None and not 0 <= body.top_logprobs <= 20:
        raise OllamaAPIError(400, "top_logprobs must be between 0 and 20")
    if isinstance(body.think, str) and body.think not in _LEVELS:
        raise OllamaAPIError(
            400, f'invalid think value: "{body.think[:40]}" (must be "high", "medium", "low", "max", true, or false)'
        )
    if body.format not in (None, "", "json") and not isinstance(body.format, dict):
        raise OllamaAPIError(
            500, f'invalid format: {_shown(body.format)!r}; expected "json" or a valid JSON Schema object'
        )
    if isinstance(body, GenerateBody) and body.raw and (body.template or body.system or body.context):
        raise OllamaAPIError(400, "raw mode does not support template, system, or context")


def _shown(value: object) -> str:
    """The beginning of a value, for an error; what is nested nearly too deeply to be read is too deep to be shown."""
    try:
        return str(value)[:40]
    except RecursionError:
        return "…"


def base64_of(images: list[str]) -> list[str]:
    """Returns images, which are base64 and nothing else: neither a ``data:`` URL nor the name of a file.

    Raises:
        OllamaAPIError: 400, one of them is not.
    """
    plain = [image.replace("\r", "").replace("\n", "") for image in images]
    for image in plain:
        try:
            base64.b64decode(image, validate=True)
        except ValueError:
            raise OllamaAPIError(400, "illegal base64 data in images") from None
    return plain
