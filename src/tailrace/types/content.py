"""Messages as people have them: content in parts, and a call's arguments as text. Ollama takes neither.

Parts are OpenAI's (openai/openai-python, ``types/chat``: ``text``, ``image_url``; ``types/responses``: ``input_text``,
``output_text``, ``input_image``), Anthropic's (``image`` with a ``source``), those of the Model Context Protocol
(``image`` with ``data``) and of Hugging Face's templates (``image`` with ``image``, ``url``, ``base64`` or ``path``).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

__all__ = ["ContentError", "arguments_of", "data_of_url", "flattened", "sent_image"]

_TEXT = ("text", "input_text", "output_text", "refusal")
_IMAGE = ("image", "image_url", "input_image", "file", "input_file")
_THINKING = ("thinking", "reasoning")
_HELD = ("image_url", "image", "source", "url", "base64", "data", "file", "file_data", "path")
_TAKEN = (
    "what is taken is {'type': 'text', 'text': …} "
    "and {'type': 'image_url', 'image_url': {'url': 'data:image/png;base64,…'}}"
)
_DATA_URL = re.compile(r"data:(?P<kind>[^,;]*)(?:;[^,;]+)*;base64,", re.IGNORECASE)


class ContentError(ValueError):
    """A message that is none; the text says where, and what is taken instead."""


def flattened(message: Mapping[str, Any], place: str, image: Callable[[Any, str], Any]) -> dict[str, Any]:
    """Returns a message whose content is a text, with its images beside it, and whose calls have objects as arguments.

    Args:
        message: a message, with Ollama's or OpenAI's members.
        place: where it is, for errors.
        image: makes of an image in a part, and its place, what goes among the message's images.

    Raises:
        ContentError: something in it cannot be sent.
    """
    out = dict(message)
    content = out.get("content")
    if content is not None and not isinstance(content, str):
        texts, images, thoughts = _split(content, f"{place}.content", image)
        out["content"] = "\n".join(texts)
        if images:
            out["images"] = [*(out.get("images") or ()), *images]
        if thoughts and not out.get("thinking"):
            out["thinking"] = "\n".join(thoughts)
    calls = out.get("tool_calls")
    if isinstance(calls, (list, tuple)):
        out["tool_calls"] = [_call(call, f"{place}.tool_calls[{number}]") for number, call in enumerate(calls)]
    return out


def _split(content: Any, place: str, image: Callable[[Any, str], Any]) -> tuple[list[str], list[Any], list[str]]:
    """Returns the texts, the images and the thoughts of a content in parts."""
    if isinstance(content, Mapping):
        content = [content]
    if not isinstance(content, Iterable) or isinstance(content, (bytes, bytearray)):
        raise ContentError(f"{place} is a text or a list of parts, not {type(content).__name__}; {_TAKEN}")
    texts: list[str] = []
    images: list[Any] = []
    thoughts: list[str] = []
    for number, given in enumerate(content):
        here = f"{place}[{number}]"
        part = _mapping_of(given, here)
        kind = part.get("type") or ("text" if "text" in part else "image" if _held(part) is not None else None)
        if kind in _TEXT:
            texts.append(_text(part, here, "text", "refusal"))
        elif kind in _THINKING:
            thoughts.append(_text(part, here, "thinking", "reasoning", "text"))
        elif kind in _IMAGE and _held(part) is not None:
            images.append(image(_held(part), here))
        else:
            raise ContentError(f"{here}: a part of the type {str(kind)[:40]!r} cannot be sent; {_TAKEN}")
    return texts, images, thoughts


def _mapping_of(part: Any, place: str) -> Mapping[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if hasattr(part, "model_dump"):
        part = part.model_dump(exclude_none=True)
    if not isinstance(part, Mapping):
        raise ContentError(f"{place}: a part is a dict, not {type(part).__name__}; {_TAKEN}")
    return part


def _text(part: Mapping[str, Any], place: str, *names: str) -> str:
    found = next((part[name] for name in names if part.get(name) is not None), "")
    if not isinstance(found, str):
        raise ContentError(f"{place}.{names[0]} is a text, not {type(found).__name__}")
    return found


def _held(part: Mapping[str, Any], depth: int = 3) -> Any:
    """Returns what a part holds as its image, out of the objects that it is wrapped in; None if it holds none."""
    kind = str(part.get("media_type") or part.get("mime_type") or part.get("mimeType") or "image/")
    found = next((part[name] for name in _HELD if part.get(name) is not None), None)
    if isinstance(found, Mapping):
        return _held(found, depth - 1) if depth else None
    named = _DATA_URL.match(found[:200]) if isinstance(found, str) else None
    return found if (named["kind"] if named else kind).startswith(("image/", "application/octet-stream")) else None


def data_of_url(text: str) -> str | None:
    """Returns the base64 of a data URL, None if it is none."""
    head = _DATA_URL.match(text[:200])
    return text[head.end() :] if head else None


def sent_image(value: Any, place: str) -> str:
    """Returns an image that somebody sent, as base64. It is data: neither an address nor the name of a file here.

    Raises:
        ContentError: it is not.
    """
    given = value if isinstance(value, str) else ""
    text = "".join((data_of_url(given) or given).split())
    try:
        if not base64.b64decode(text, validate=True):
            raise ValueError("empty")
    except ValueError:
        what = "an image comes as a data URL in base64; no address and no file is read from here"
        raise ContentError(f"{place}: {what}") from None
    return text


def _call(call: Any, place: str) -> Any:
    """Returns a call whose arguments are an object, as Ollama wants them; OpenAI's are the text of one."""
    if not isinstance(call, Mapping):
        return call
    function = call.get("function")
    if not isinstance(function, Mapping) or not isinstance(arguments := function.get("arguments"), str):
        return call
    return {**call, "function": {**function, "arguments": arguments_of(arguments, f"{place}.function")}}


def arguments_of(arguments: Any, place: str) -> Any:
    """Returns the arguments of a call, parsed if they are the JSON text of an object.

    Raises:
        ContentError: they are another text.
    """
    if not isinstance(arguments, str):
        return arguments
    try:
        parsed = msgspec.json.decode(arguments) if arguments.strip() else {}
    except (msgspec.MsgspecError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise ContentError(f"{place}.arguments is an object, or the JSON text of one")
    return parsed
