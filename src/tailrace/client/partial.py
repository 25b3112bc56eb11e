"""Partial values: incomplete JSON parsed while it streams, with jiter, so seldom that the cost stays linear."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from tailrace.errors import ProtocolError, TailraceError
from tailrace.events import Ended, Event, TextDelta, ToolCall, ToolCallDelta

__all__ = ["Calls", "PartialCall", "PartialJSON", "Values"]

_SMALL = 2048  # characters up to which each piece is worth a look
_GROWTH = 16  # a longer text is parsed anew when it has grown by this part of itself


class PartialJSON:
    """JSON that comes in pieces, and its value until now.

    A short text is parsed with each piece; a longer one when it has grown by a sixteenth, so that the whole costs no
    more than some passes over the text, however small the pieces are.

    Attributes:
        value: what the text says until now, strings that have not ended included; None before it says anything.
        work: characters parsed, for tests of the cost.
    """

    def __init__(self) -> None:
        self.value: Any = None
        self.work = 0
        self._parts: list[str] = []
        self._size = 0
        self._due = 0

    def feed(self, text: str) -> bool:
        """Takes more text; returns True if `value` was brought up to date."""
        self._parts.append(text)
        self._size += len(text)
        if self._size < self._due:
            return False
        self._due = self._size + 1 if self._size < _SMALL else self._size + self._size // _GROWTH
        return self._parse()

    def finish(self) -> Any:
        """Returns the value of the whole text.

        Raises:
            ProtocolError: it is not JSON.
        """
        text = self._text()
        try:
            self.value = msgspec.json.decode(text)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProtocolError(f"the answer is not JSON: {error}") from error
        return self.value

    def _text(self) -> str:
        self._parts[:] = ["".join(self._parts)]
        return self._parts[0]

    def _parse(self) -> bool:
        from_json = _jiter()
        text = self._text()
        self.work += len(text)
        try:
            value = from_json(text.encode("utf-8", "replace"), partial_mode="trailing-strings")
        except ValueError:
            return False  # white space, or no JSON: `finish` tells
        changed = bool(value != self.value)
        self.value = value
        return changed


def _jiter() -> Any:
    try:
        from jiter import from_json
    except ModuleNotFoundError as error:
        hint = "pip install 'tailrace[structure]'"
        raise TailraceError("live partial values need jiter, which is not installed", hint=hint) from error
    return from_json


class Values:
    """The value of an answer in JSON, as it grows."""

    def __init__(self) -> None:
        self._growing = PartialJSON()
        self._shown: Any = None

    def feed(self, events: Sequence[Event]) -> Iterator[Any]:
        """Yields the value until now, if these events changed it, and with the end of an answer the whole.

        Raises:
            ProtocolError: the whole is not JSON.
        """
        text = "".join(event.text for event in events if type(event) is TextDelta)
        if text and self._growing.feed(text):
            self._shown = self._growing.value
            yield self._shown
        last = events[-1]
        if type(last) is Ended and last.outcome.finished:
            whole = self._growing.finish()
            if whole != self._shown or whole is None:
                yield whole


class PartialCall(msgspec.Struct, kw_only=True):
    """A tool call as it comes.

    Attributes:
        name: the function.
        arguments: what has come of them.
        index: tells it from the other calls of the answer.
        id: pairs it with its result.
        complete: whether that is all.
    """

    name: str
    arguments: Any = None
    index: int = 0
    id: str | None = None
    complete: bool = False


class Calls:
    """The tool calls of an answer, as their arguments come."""

    def __init__(self) -> None:
        self._growing: dict[int, PartialJSON] = {}
        self._begun: dict[int, PartialCall] = {}

    def feed(self, events: Sequence[Event]) -> Iterator[PartialCall]:
        """Yields each call that these events begin or go on with, and each whole one."""
        for event in events:
            if isinstance(event, ToolCallDelta):
                before = self._begun.get(event.index, PartialCall(name=""))
                growing = self._growing.setdefault(event.index, PartialJSON())
                grown = growing.feed(event.text) if event.text else False
                call = PartialCall(
                    name=event.name or before.name,
                    arguments=growing.value,
                    index=event.index,
                    id=event.id or before.id,
                )
                if grown or event.name:
                    yield call
                self._begun[event.index] = call
            elif isinstance(event, ToolCall):
                index = event.index or 0
                yield PartialCall(name=event.name, arguments=event.arguments, index=index, id=event.id, complete=True)
