"""Limits of one request, checked before it is sent to a model server.

Invalid requests are left to the model server to refuse. Checked here is what would cost other users: unbounded memory,
an unbounded answer, a grammar that takes minutes to build.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

from tailrace.protocols.problems import ProblemError
from tailrace.protocols.runs.requests import RunRequest, check_name
from tailrace.types import ChatRequest, GenerateRequest

__all__ = ["Limits", "check", "check_options", "check_size", "check_word"]

_MOST = {"num_batch": 65_536, "num_thread": 1024, "draft_num_predict": 1024}  # options beyond which is no sense
_ALTERNATIVES = 20
_STOPS = 64
_IMAGES = 1000  # of a message
_OPTIONS_BYTES = 64 * 1024
_WORD = 100  # characters of a setting that is one word, such as how to think
_TOOLS = 256
_SCHEMA_BYTES = 64 * 1024
_SCHEMA_DEPTH = 32
_SCHEMA_VALUES = 5_000
_REPEATS = 10_000
_REPEATING = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_PATTERN = 500  # characters, and as many with all repetitions written out; twice as long takes four times as long
_AT_ONCE = {"enum": 1000, "properties": 500}
_REFERRING = ("$ref", "$dynamicRef", "$recursiveRef")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What one request may ask for.

    Attributes:
        messages: how many messages a conversation may have.
        context: the longest context, in tokens; None: any.
        tokens: the longest answer, in tokens; None: any. A request that asks for a longer one, or does not say, gets
            this one.
    """

    messages: int = 10_000
    context: int | None = 131_072
    tokens: int | None = None


def check(asked: RunRequest | ChatRequest | GenerateRequest, limits: Limits) -> None:
    """Holds a request to the limits; its answer is shortened, anything else is refused.

    Raises:
        ProblemError: 400: what is too much.
    """
    check_name(asked.model)
    for name in ("think", "keep_alive"):
        check_word(name, getattr(asked, name))
    if isinstance(asked, GenerateRequest):
        _check_images(asked.images)
    else:
        _check_messages(asked.messages or [], limits)
    alternatives = asked.top_logprobs
    if alternatives is not None and not 0 <= alternatives <= _ALTERNATIVES:
        raise ProblemError(400, f"top_logprobs is a number from 0 to {_ALTERNATIVES}")
    check_options(asked.options, limits)
    if limits.tokens is not None:
        asked.options = _shortened(asked.options, limits.tokens)
    if isinstance(asked.format, str) and len(asked.format) > _SCHEMA_BYTES:
        raise ProblemError(400, f"format is larger than {_SCHEMA_BYTES:,} bytes")
    if isinstance(asked.format, dict):
        _check_schema(asked.format, "format")
    tools = None if isinstance(asked, GenerateRequest) else asked.tools
    if len(tools or ()) > _TOOLS:
        raise ProblemError(400, f"{len(tools or ())} tools are more than {_TOOLS}")
    for number, tool in enumerate(tools or ()):
        _check_schema(tool, f"tools[{number}]")
    for body in (asked.extra_body, getattr(asked, "openai_body", None)):
        if body:
            _check_extra(body, limits)


# Members of a request that are looked at elsewhere, or are what is said to the model.
_CONTENTS = ("messages", "prompt", "suffix", "tools", "input")
# What servers call the most tokens of an answer.
_LENGTHS = ("max_tokens", "max_completion_tokens", "max_new_tokens", "max_length", "n_predict", "num_predict")
_OURS = ("model", "stream")
_CHOICES = 16


def _check_extra(body: dict[str, Any], limits: Limits) -> None:
    """Holds members that go on as they are to the same limits, whatever they are to the server."""
    for name in _OURS:
        body.pop(name, None)
    for name in ("n", "best_of"):
        if _number(body.get(name)) > _CHOICES:
            raise ProblemError(400, f"{name} is {_CHOICES} at most")
    if limits.tokens is not None:
        for name in _LENGTHS:
            if name in body and not _bounded(body[name], limits.tokens):
                body[name] = limits.tokens
    for name, value in body.items():
        if name not in _CONTENTS and isinstance(value, (dict, list)):
            _check_schema({name: value}, name)


def _check_messages(messages: list[dict[str, Any]], limits: Limits) -> None:
    if len(messages) > limits.messages:
        raise _too_much(f"{len(messages):,} messages", limits.messages, "--max-messages")
    for message in messages:
        _check_images(message.get("images"))


def _check_images(images: object) -> None:
    if isinstance(images, list) and len(images) > _IMAGES:
        raise ProblemError(400, f"{len(images):,} images of a message are more than {_IMAGES:,}")


def check_options(options: dict[str, Any] | None, limits: Limits) -> None:
    """Holds options to the limits.

    Raises:
        ProblemError: 400: what is too much.
    """
    if not options:
        return
    check_size(options)
    context = _number(options.get("num_ctx"))
    if limits.context is not None and context > limits.context:
        raise _too_much(f"a context of {context:,.0f} tokens", limits.context, "--max-context")
    for name, most in _MOST.items():
        if _number(options.get(name)) > most:
            raise ProblemError(400, f"{name} is {most:,} at most")
    stop = options.get("stop")
    if isinstance(stop, list) and len(stop) > _STOPS:
        raise ProblemError(400, f"{len(stop):,} stop words are more than {_STOPS}")


def check_size(options: dict[str, Any]) -> None:
    """Makes sure that options are not larger than any would be.

    Raises:
        ProblemError: 400.
    """
    if len(msgspec.json.encode(options)) > _OPTIONS_BYTES:
        raise ProblemError(400, f"the options are larger than {_OPTIONS_BYTES:,} bytes")


def check_word(name: str, value: object) -> None:
    """Makes sure that a setting is no longer than a word.

    Raises:
        ProblemError: 400.
    """
    if isinstance(value, str) and len(value) > _WORD:
        raise ProblemError(400, f"{name} has {len(value):,} characters, and {_WORD} at most are one")


def _too_much(what: str, most: int, option: str) -> ProblemError:
    return ProblemError(400, f"{what} are more than this server's {most:,}", hint=f"{option} sets it")


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _shortened(options: dict[str, Any] | None, most: int) -> dict[str, Any]:
    if options and _bounded(options.get("num_predict"), most):
        return options
    return {**(options or {}), "num_predict": most}


def _bounded(given: Any, most: int) -> bool:
    return isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= most


# -- schemas -----------------------------------------------------------------------------------------------------------


def _check_schema(schema: dict[str, Any], where: str) -> None:
    """Refuses a schema that takes long to be made a grammar of, or that refers to somewhere else."""
    if len(msgspec.json.encode(schema)) > _SCHEMA_BYTES:
        raise ProblemError(400, f"{where} is larger than {_SCHEMA_BYTES:,} bytes")
    for value, depth in _values(schema):
        if depth > _SCHEMA_DEPTH:
            raise ProblemError(400, f"{where} is nested deeper than {_SCHEMA_DEPTH} levels")
        if isinstance(value, dict):
            _check_part(value, where)
    if _unfolded(schema, schema, {}) > _SCHEMA_VALUES:
        raise ProblemError(400, f"{where} has more than {_SCHEMA_VALUES:,} parts, with what it refers to")


def _check_part(part: dict[str, Any], where: str) -> None:
    for name in _REPEATING:
        if _number(part.get(name)) > _REPEATS:
            raise ProblemError(400, f"{name} in {where} is {_REPEATS:,} at most")
    for name in _REFERRING:
        target = part.get(name)
        if isinstance(target, str) and not target.startswith("#"):
            raise ProblemError(400, f"{where} refers to something outside of it, which is not fetched")
    for name, most in _AT_ONCE.items():
        if isinstance(value := part.get(name), (dict, list)) and len(value) > most:
            raise ProblemError(400, f"{name} in {where} has {most:,} entries at most")
    pattern = part.get("pattern")
    if isinstance(pattern, str) and (len(pattern) > _PATTERN or _written_out(pattern) > _PATTERN):
        raise ProblemError(400, f"a pattern in {where} is longer than {_PATTERN} characters, its repetitions counted")


_ATOM = re.compile(r"\\.|\[(?:\\.|[^\]])*\]|\{(\d*)(,?)(\d*)\}|.", re.DOTALL)


def _written_out(pattern: str) -> int:
    """Returns how long a pattern is with its repetitions written out, as a grammar has them."""
    lengths = [0]  # of the groups that are open
    last = 0  # of what a repetition would repeat
    for atom in _ATOM.finditer(pattern):
        if atom[0] == "(":
            lengths.append(0)
            last = 0
        elif atom[0] == ")" and len(lengths) > 1:
            last = max(1, lengths.pop())
            lengths[-1] += last
        elif atom[2] is not None:
            times = max(int(f"0{atom[1]}"[:9]), int(f"0{atom[3]}"[:9]), 1)
            lengths[-1] += last * (times - 1)
            last *= times
        elif atom[0] not in "?*+":
            last = 1
            lengths[-1] += 1
    return sum(lengths)


def _values(schema: Any) -> Iterator[tuple[Any, int]]:
    """Yields the values of a JSON value that hold others, and how deep they are; deep ones without recursion."""
    left: list[tuple[Any, int]] = [(schema, 1)]
    while left:
        value, depth = left.pop()
        if isinstance(value, (dict, list)):
            yield value, depth
            left += [(each, depth + 1) for each in _parts(value)]


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _unfolded(value: Any, root: dict[str, Any], known: dict[int, int]) -> int:
    """Returns how many parts a schema has where each reference counts as what it leads to.

    A few lines that refer to each other may stand for more alternatives than there are atoms, all of which the model
    server looks at before its first token: llama.cpp does not come back from it, and cannot be stopped there.
    """
    if not isinstance(value, (dict, list)):
        return 0
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = 1  # what refers to itself
    total = 1 + sum(_unfolded(each, root, known) for each in _parts(value))
    if isinstance(value, dict):
        for name in _REFERRING:
            total += _unfolded(_target(value.get(name), root), root, known)
    known[id(value)] = total
    return total


def _target(reference: Any, root: dict[str, Any]) -> Any:
    """Returns what a JSON pointer leads to; None if to nothing."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    value: Any = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name[:6]) < len(value):
            value = value[int(name[:6])]
        else:
            return None
    return value
