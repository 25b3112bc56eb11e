"""Encoding of answers: the interface of an encoder, and the plain one for endpoints that report progress."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from tailrace.testing import steps

__all__ = ["NO_FIELDS", "Encoder", "JSONLines", "dump"]

NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


class Encoder(Protocol):
    """How one kind of answer is written. One encoder lives as long as one answer and may keep count of it."""

    content_type: str
    stream: bool
    early_head: bool
    headers: tuple[tuple[str, str], ...]
    indent: int | None

    def say(self, text: str, *, thinking: bool, fields: Mapping[str, Any] = NO_FIELDS) -> bytes:
        """Encode a piece of text, with further members of its chunk."""

    def tool_call(self, step: steps.ToolCall) -> list[bytes]:
        """Encode a tool call."""

    def tool_fragment(self, step: steps.ToolFragment) -> bytes:
        """Encode a piece of a tool call."""

    def chunk(self, value: Any) -> bytes:
        """Encode a JSON value of the test's own."""

    def progress(self, step: steps.Progress) -> bytes:
        """Encode progress of the prompt's evaluation."""

    def ping(self, step: steps.Ping) -> bytes:
        """Encode a comment."""

    def error(self, step: steps.Error) -> list[bytes]:
        """Encode an error."""

    def done(self, step: steps.Done) -> list[bytes]:
        """Encode the final record; without a stream, the whole answer."""

    def end(self) -> bytes:
        """Encode what a server sends that lost its final record; only asked without a stream."""


class JSONLines:
    """Plain NDJSON, for endpoints that report progress; without a stream only the last line counts."""

    content_type = "application/x-ndjson"
    early_head = False
    headers: tuple[tuple[str, str], ...] = ()
    indent: int | None = None

    def __init__(self, *, stream: bool = True) -> None:
        self.stream = stream
        self._last: Any = {}
        if not stream:
            self.content_type = "application/json; charset=utf-8"

    def say(self, text: str, *, thinking: bool, fields: Mapping[str, Any] = NO_FIELDS) -> bytes:
        """Refuse: there is no text here."""
        raise _unknown("say() and think()", "chunk({...})")

    def tool_call(self, step: steps.ToolCall) -> list[bytes]:
        """Refuse."""
        raise _unknown("tool_call()", "chunk({...})")

    def tool_fragment(self, step: steps.ToolFragment) -> bytes:
        """Refuse."""
        raise _unknown("tool_fragment()", "chunk({...})")

    def progress(self, step: steps.Progress) -> bytes:
        """Refuse."""
        raise _unknown("prompt_progress()", "chunk({...})")

    def ping(self, step: steps.Ping) -> bytes:
        """Refuse."""
        raise _unknown("ping()", "raw(b'...')")

    def chunk(self, value: Any) -> bytes:
        """Encode a line."""
        self._last = value
        return dump(value) + b"\n" if self.stream else b""

    def error(self, step: steps.Error) -> list[bytes]:
        """Encode an error line."""
        value = {"error": step.message, **step.fields}
        return [dump(value) + b"\n" if self.stream else dump(value, self.indent)]

    def done(self, step: steps.Done) -> list[bytes]:
        """End: nothing in a stream, else the last line."""
        return [] if self.stream else [dump(self._last, self.indent)]

    def end(self) -> bytes:
        """Encode the last line."""
        return dump(self._last, self.indent)


def _unknown(what: str, instead: str) -> TypeError:
    return TypeError(f"{what} mean nothing on this endpoint; use {instead}")


def dump(value: Any, indent: int | None = None) -> bytes:
    """Encode JSON as model servers do: compact, characters as they are; only lone surrogates are escaped."""
    separators = (",", ":") if indent is None else (",", ": ")
    try:
        return json.dumps(value, separators=separators, ensure_ascii=False, indent=indent).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=separators, indent=indent).encode()
