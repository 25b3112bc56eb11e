"""Tool calls of OpenAI's wire: fragments put together, in whatever way servers tell the calls of an answer apart.

By the book a call has an ``index``, and its ``id`` and name come with its first fragment. There are servers that send
no index, the same index for two calls, a new id with each fragment (older vLLM), or the name again and again.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.events import ToolCall, ToolCallDelta
from tailrace.protocols import faults
from tailrace.protocols.arguments import arguments_of

__all__ = ["Calls", "Fragment", "Function", "older_form"]


class Function(msgspec.Struct):
    """A function, or what a fragment tells of it."""

    name: str | None = None
    arguments: Any = None  # a string by the book; some servers send the object


class Fragment(msgspec.Struct):
    """A piece of a call, or a whole one."""

    index: Any = None
    id: Any = None
    function: Function | None = None


def older_form(function_call: Any) -> list[Fragment]:
    """Returns the ``function_call`` of a delta, which was there before ``tool_calls``, as a fragment of a call."""
    try:
        function = msgspec.convert(function_call, Function)
    except ValueError:
        return []
    return [Fragment(function=function)] if function.name or function.arguments else []


class Calls:
    """The calls of an answer while their fragments come."""

    __slots__ = ("_at", "_calls", "_last", "_next")

    def __init__(self) -> None:
        self._calls: dict[int, _OpenCall] = {}  # by the index that we tell
        self._at: dict[int, _OpenCall] = {}  # the last one of each index that the server told
        self._last: _OpenCall | None = None
        self._next = 0  # an index that no call has

    def add(self, fragment: Fragment, *, whole: bool = False) -> ToolCallDelta:
        """Adds a fragment to its call; returns it with that call's index.

        Args:
            fragment: the fragment.
            whole: it is a call of its own, unless an index says something else.
        """
        told = faults.figure(fragment.index)
        function = fragment.function or _NONE
        id = str(fragment.id) if fragment.id not in (None, "") else None
        text = _text(function.arguments)
        call = self._last if told is None else self._at.get(told)
        if call is None or (whole and told is None) or call.is_over(id, function.name, text, fragment.function is None):
            call = self._open(told)
        self._last = call
        name = "" if call.name else function.name or ""
        fresh = id if call.id is None else None
        call.name, call.id = call.name or function.name, call.id or id
        if text:
            call.parts.append(text)
        # Half of a character here is half of one in the whole too, which is mended when the call is complete.
        return ToolCallDelta(str(faults.whole(text)), call.index, name, fresh)

    def _open(self, told: int | None) -> _OpenCall:
        index = told if told is not None and told not in self._calls else self._next
        self._next = max(self._next, index + 1)
        call = self._calls[index] = _OpenCall(index)
        if told is not None:
            self._at[told] = call
        return call

    def close(self) -> list[ToolCall]:
        """Returns all calls, complete, in the order of their index: fragments may interleave."""
        calls = [self._calls[index].close() for index in sorted(self._calls)]
        self._calls.clear()
        self._at.clear()
        self._last, self._next = None, 0
        return calls


_NONE = Function()
_LOOKS = 100  # times that the arguments of one call are looked at; each costs as much as they are long


class _OpenCall:
    """A tool call whose arguments are still coming."""

    __slots__ = ("_looks", "id", "index", "name", "parts")

    def __init__(self, index: int) -> None:
        self._looks = 0
        self.index = index
        self.id: str | None = None
        self.name: str | None = None
        self.parts: list[str] = []

    def is_over(self, id: str | None, name: str | None, text: str, bare: bool) -> bool:
        """Returns whether a fragment with this id and name begins another call.

        Args:
            text: the fragment's piece of the arguments.
            bare: it has no function at all.
        """
        if id is not None and self.id is not None:
            if id == self.id:
                return False
            return bool(name) or bare or bool(text.strip() and self._has_all())
        return bool(name and self.name) and self._has_all()

    def _has_all(self) -> bool:
        """Returns whether the arguments are whole; a server that makes us look each time is not believed for ever."""
        self._looks += 1
        return self._looks <= _LOOKS and bool(self.parts) and arguments_of("".join(self.parts))[1] is None

    def close(self) -> ToolCall:
        arguments, invalid = arguments_of("".join(self.parts))
        return ToolCall(self.name or "", arguments, self.id, self.index, invalid)


def _text(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else msgspec.json.encode(arguments).decode()
