"""Limits: what one request may ask for. What goes to a model server is bounded before it gets there.

Not what is wrong with a request, which the model server says itself; only what would cost others: memory without end,
an answer without end, a grammar that takes minutes to build.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tailrace.types import ChatRequest, GenerateRequest
from tailrace.web.asking import Asked
from tailrace.web.problems import ProblemError

__all__ = ["Limits", "check", "check_options"]

_MOST = {"num_batch": 65_536, "num_thread": 1024, "draft_num_predict": 1024}  # options beyond which is no sense
_ALTERNATIVES = 20
_STOPS = 64
_TOOLS = 256
_SCHEMA_BYTES = 64 * 1024
_SCHEMA_DEPTH = 32
_REPEATS = 10_000
_REPEATING = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
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


def check(asked: Asked | ChatRequest | GenerateRequest, limits: Limits) -> None:
    """Holds a request to the limits; its answer is shortened, anything else is refused.

    Raises:
        ProblemError: 400: what is too much.
    """
    messages = None if isinstance(asked, GenerateRequest) else asked.messages
    if len(messages or ()) > limits.messages:
        raise _too_much(f"{len(messages or ()):,} messages", limits.messages, "--max-messages")
    alternatives = asked.top_logprobs
    if alternatives is not None and not 0 <= alternatives <= _ALTERNATIVES:
        raise ProblemError(400, f"top_logprobs is a number from 0 to {_ALTERNATIVES}")
    check_options(asked.options, limits)
    if limits.tokens is not None:
        asked.options = _shortened(asked.options, limits.tokens)
    if isinstance(asked.format, dict):
        _check_schema(asked.format, "format")
    tools = None if isinstance(asked, GenerateRequest) else asked.tools
    if len(tools or ()) > _TOOLS:
        raise ProblemError(400, f"{len(tools or ())} tools are more than {_TOOLS}")
    for number, tool in enumerate(tools or ()):
        _check_schema(tool, f"tools[{number}]")


def check_options(options: dict[str, Any] | None, limits: Limits) -> None:
    """Holds options to the limits.

    Raises:
        ProblemError: 400: what is too much.
    """
    if not options:
        return
    context = _number(options.get("num_ctx"))
    if limits.context is not None and context > limits.context:
        raise _too_much(f"a context of {context:,.0f} tokens", limits.context, "--max-context")
    for name, most in _MOST.items():
        if _number(options.get(name)) > most:
            raise ProblemError(400, f"{name} is {most:,} at most")
    stop = options.get("stop")
    if isinstance(stop, list) and len(stop) > _STOPS:
        raise ProblemError(400, f"{len(stop):,} stop words are more than {_STOPS}")


def _too_much(what: str, most: int, option: str) -> ProblemError:
    return ProblemError(400, f"{what} are more than this server's {most:,}", hint=f"{option} sets it")


def _number(value: Any) -> float:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


def _shortened(options: dict[str, Any] | None, most: int) -> dict[str, Any]:
    given = (options or {}).get("num_predict")
    bounded = isinstance(given, int) and not isinstance(given, bool) and 0 <= given <= most
    return options if options and bounded else {**(options or {}), "num_predict": most}


def _check_schema(schema: dict[str, Any], where: str) -> None:
    """Refuses a schema that takes long to be made a grammar of, or that refers to somewhere else."""
    for value, depth in _values(schema):
        if depth > _SCHEMA_DEPTH:
            raise ProblemError(400, f"{where} is nested deeper than {_SCHEMA_DEPTH} levels")
        if not isinstance(value, dict):
            continue
        for name in _REPEATING:
            if _number(value.get(name)) > _REPEATS:
                raise ProblemError(400, f"{name} in {where} is {_REPEATS:,} at most")
        for name in _REFERRING:
            target = value.get(name)
            if isinstance(target, str) and not target.startswith("#"):
                raise ProblemError(400, f"{where} refers to something outside of it, which is not fetched")
    if len(msgspec.json.encode(schema)) > _SCHEMA_BYTES:
        raise ProblemError(400, f"{where} is larger than {_SCHEMA_BYTES:,} bytes")


def _values(schema: Any) -> Iterator[tuple[Any, int]]:
    """Yields the values of a JSON value that hold others, and how deep they are; deep ones without recursion."""
    left: list[tuple[Any, int]] = [(schema, 1)]
    while left:
        value, depth = left.pop()
        if isinstance(value, (dict, list)):
            yield value, depth
            left += [(each, depth + 1) for each in (value.values() if isinstance(value, dict) else value)]
