"""Toolbox: Python functions that a model may call, and what comes of its calls."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from tailrace.client.tools import tool_from_function
from tailrace.errors import RequestError, ToolError
from tailrace.events import ToolCall
from tailrace.types import plain

__all__ = ["OnToolError", "Stop", "Toolbox"]

OnToolError = Literal["model", "raise"]


class Stop:
    """Tells a tool loop to end; settable from any thread. What runs is not waited for."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._wakers: list[Callable[[], object]] = []

    def set(self) -> None:
        """Ends the loop."""
        self.event.set()
        for wake in list(self._wakers):
            wake()

    def add(self, wake: Callable[[], object]) -> None:
        """Has `wake` called when the loop is to end."""
        self._wakers.append(wake)


class Toolbox:
    """Functions by name.

    Args:
        functions: with annotations and a docstring, see `tailrace.tool_from_function`; synchronous ones, or coroutine
            functions for asynchronous conversations. A call's arguments are converted to the annotations where that
            loses nothing (``"30"`` to 30, an object to a dataclass or a model of pydantic's); where it would, the call
            fails, and says why.
        on_error: what becomes of a call that fails: ``"model"``: the model is told, and may try again; ``"raise"``: a
            `ToolError`, caused by the function's own exception.

    Raises:
        RequestError: two have one name, or one is no function.
    """

    def __init__(self, functions: Sequence[Callable[..., Any]], *, on_error: OnToolError = "model") -> None:
        if on_error not in ("model", "raise"):
            raise RequestError(f"on_error is 'model' or 'raise', not {on_error!r}")
        self.on_error = on_error
        self.schemas = [tool_from_function(function) for function in functions]
        self._functions: dict[str, Callable[..., Any]] = {}
        for function in functions:
            if function.__name__ in self._functions:
                raise RequestError(f"two tools are called {function.__name__}")
            self._functions[function.__name__] = function

    def __bool__(self) -> bool:
        return bool(self._functions)

    def run(self, call: ToolCall, stop: Stop) -> str | None:
        """Returns what a call gives, as text for the model; None if it was stopped meanwhile.

        The function runs on a thread of its own, so that a stop need not wait for it. It is not ended by force; what it
        gives later is dropped.

        Raises:
            ToolError: it failed, and that is to be raised.
        """
        result: list[Any] = []
        done = threading.Event()
        stop.add(done.set)

        def work() -> None:
            try:
                result.append(self._called(call))
            except BaseException as error:
                result.append(_Failed(error))
            done.set()

        threading.Thread(target=work, name=f"tailrace tool {call.name}", daemon=True).start()
        done.wait()
        if not result:
            return None
        return self._told(call, result[0])

    async def run_async(self, call: ToolCall, stop: Stop) -> str | None:
        """Does what `run` does, for asyncio: a coroutine function is awaited, and cancelled by a stop.

        Raises:
            ToolError: it failed, and that is to be raised.
        """
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._awaited(call))
        stop.add(lambda: loop.call_soon_threadsafe(task.cancel))
        try:
            result = await task
        except asyncio.CancelledError:
            if not stop.event.is_set():
                task.cancel()
                raise
            return None
        return self._told(call, result)

    async def _awaited(self, call: ToolCall) -> Any:
        try:
            function, placed, named = self._prepared(call)
            if inspect.iscoroutinefunction(function):
                return await function(*placed, **named)
            return await asyncio.to_thread(function, *placed, **named)
        except Exception as error:
            return _Failed(error)

    def _called(self, call: ToolCall) -> Any:
        function, placed, named = self._prepared(call)
        if inspect.iscoroutinefunction(function):
            return asyncio.run(function(*placed, **named))
        return function(*placed, **named)

    def _prepared(self, call: ToolCall) -> tuple[Callable[..., Any], list[Any], dict[str, Any]]:
        """Returns the function of a call, and the arguments as its annotations say."""
        from tailrace.conversation.arguments import ArgumentError, bound

        function = self._functions.get(call.name)
        if function is None:
            raise LookupError(f"there is no tool called {call.name!r}; there are: {', '.join(self._functions)}")
        if call.invalid is not None:
            raise ValueError(f"the arguments are not a JSON object: {call.invalid}")
        try:
            return function, *bound(function, call.arguments)
        except ArgumentError as error:
            raise ValueError(f"{call.name}: {error}") from error

    def _told(self, call: ToolCall, result: Any) -> str:
        if not isinstance(result, _Failed):
            return _text(result)
        error = result.error
        if self.on_error == "raise" or not isinstance(error, Exception):
            raise ToolError(f"the tool {call.name} failed: {type(error).__name__}: {error}", call=call) from error
        return f"error: {type(error).__name__}: {error}"


class _Failed:
    """What a function raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _text(result: Any) -> str:
    """Returns what a function gave, as the model is told it."""
    if isinstance(result, str):
        return result
    if isinstance(result, Mapping) or not isinstance(result, (int, float)):
        try:
            return msgspec.json.encode(plain(result)).decode()
        except (TypeError, ValueError, RecursionError):
            pass
    return str(result)
