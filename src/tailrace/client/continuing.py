"""Continuing an answer that did not finish: the request for its rest, and what a stream keeps to make it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tailrace.errors import RequestError
from tailrace.events import Outcome
from tailrace.run.run import Run
from tailrace.types import ChatRequest, ContinueRequest

__all__ = ["Continuation", "continue_request"]

_CALLED = "make its calls, append their results as messages of the role 'tool', and ask chat() to go on"


class Continuation:
    """What a stream needs to be continued.

    Args:
        request: what was asked.
        start: makes a run of a request.
    """

    def __init__(self, request: ChatRequest, start: Callable[[ChatRequest], tuple[Run, Continuation]]) -> None:
        self._request = request
        self._start = start

    def begin(self) -> tuple[Run, Continuation]:
        """Returns the run that goes on from the last message of the request, not started, and how to continue it.

        Raises:
            RequestError: the messages do not end with an answer that can be continued.
        """
        return self._start(continue_request(self._request))

    def of(self, run: Run) -> tuple[Run, Continuation]:
        """Returns the run that goes on from the end of `run`, not started, and how to continue that one.

        Raises:
            RequestError: there is nothing to continue.
        """
        if run.ended is None:
            raise RequestError("the answer is not over yet", hint="cancel() it first, or read it to its end")
        reply = run.reply()
        if reply.outcome is Outcome.COMPLETE:
            raise RequestError("the answer is complete: there is nothing to continue")
        if reply.tool_calls:
            raise RequestError("the answer ended with calls of tools", hint=_CALLED)
        messages = list(self._request.messages or ())
        last = messages.pop() if isinstance(self._request, ContinueRequest) else {"role": "assistant"}
        for name, said in (("content", reply.text), ("thinking", reply.thinking)):
            if text := (last.get(name) or "") + said:
                last = {**last, name: text}
        return self._start(_continuing(self._request, [*messages, last]))


def _continuing(request: ChatRequest, messages: list[dict[str, Any]]) -> ContinueRequest:
    names = (name for name in ChatRequest.__struct_fields__ if name != "messages")
    return ContinueRequest(messages=messages, **{name: getattr(request, name) for name in names})


def continue_request(request: ChatRequest) -> ContinueRequest:
    """Returns the request for the rest of the answer that a chat's messages end with.

    Raises:
        RequestError: they do not end with one that can be continued.
    """
    *before, last = request.messages or [{}]
    if last.get("role") != "assistant":
        raise RequestError(
            "messages does not end with the answer to continue",
            hint="append it: {'role': 'assistant', 'content': what came of it}",
        )
    if last.get("tool_calls"):
        raise RequestError("messages ends with calls of tools, which are not continued", hint=_CALLED)
    if not isinstance(last.get("content") or "", str):
        raise RequestError("the content of the answer to continue is a text")
    return _continuing(
        request, [*before, {name: last[name] for name in ("role", "content", "thinking") if last.get(name)}]
    )
