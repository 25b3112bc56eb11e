"""Encodes a run for Ollama's clients: the lines of `/api/chat` and `/api/generate`, or one object.

The members and their order are those of ollama/ollama, ``api/types.go``; counts that are zero are left out, as there. A
failure is a line ``{"error": …}`` and nothing after it, and so is a cancel by somebody else: a stream that merely stops
is never a success. What a run waits for is not sent: this protocol sends nothing before the first content, and its
clients know no comments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from tailrace.events import Ended, Event, Outcome, Progress, TextDelta, ThinkingDelta, ToolCall, Usage
from tailrace.protocols.event_json import call_id, ending_text, json_bytes, text_json

__all__ = ["Lines", "OllamaWire", "ProgressWire", "Said", "error_json", "stamp", "whole"]

Clock = Callable[[], int]
"""Nanoseconds since the epoch."""

_SECOND = 1_000_000_000
_CALLED = ("tool_calls", "function_call")  # other servers' word for a stop that Ollama calls a stop


def stamp(now: int) -> str:
    """Returns a time, in nanoseconds since the epoch, as Ollama writes it: RFC 3339, UTC, nanoseconds."""
    seconds, rest = divmod(now, _SECOND)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def error_json(message: str) -> bytes:
    """Returns an error as the protocol's JSON."""
    return json_bytes({"error": message})


def _call_of(name: str, arguments: dict[str, Any], index: int, id: str) -> dict[str, Any]:
    """Returns a tool call as the protocol has it: the arguments are an object."""
    return {"id": id, "function": {"index": index, "name": name, "arguments": arguments}}


def _logprobs(tokens: Iterable[Any] | None) -> list[dict[str, Any]]:
    """Returns a server's list of tokens as this protocol has it, whichever server that was."""
    return [_token(token) for token in tokens or () if isinstance(token, dict)]


def _token(token: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {name: token[name] for name in ("token", "logprob", "bytes") if token.get(name) is not None}
    if token.get("top_logprobs"):
        out["top_logprobs"] = _logprobs(token["top_logprobs"])
    return out


class Lines:
    """The records of one answer.

    Args:
        model: the model's name, as the request has it.
        chat: of `/api/chat`; else of `/api/generate`.
        clock: tells the time that a record carries.
    """

    def __init__(self, model: str, *, chat: bool, clock: Clock) -> None:
        self.model = model
        self.chat = chat
        self._clock = clock
        self._second = -1
        self._prefix = b""
        self._open = b'{"model":%b,"created_at":"' % text_json(model)
        self._text = b'Z","message":{"role":"assistant","content":' if chat else b'Z","response":'
        self._close = b'},"done":false}\n' if chat else b',"done":false}\n'

    def text(self, text: str) -> bytes:
        """Returns a piece of the answer as a line: what nearly every line is."""
        seconds, rest = divmod(self._clock(), _SECOND)
        if seconds != self._second:
            self._second, self._prefix = seconds, self._open + stamp(seconds * _SECOND)[:-10].encode()
        return b"%b%09d%b%b%b" % (self._prefix, rest, self._text, text_json(text), self._close)

    def part(
        self, text: str = "", thinking: str = "", *, calls: Sequence[Any] = (), logprobs: Sequence[Any] = ()
    ) -> dict[str, Any]:
        """Returns a piece of the answer as a record."""
        record = {**self._said(text, thinking, calls if self.chat else ()), "done": False}
        return {**record, **_filled(tool_calls=() if self.chat else calls, logprobs=logprobs)}

    def last(
        self,
        reason: str,
        usage: Usage | None = None,
        *,
        text: str = "",
        thinking: str = "",
        calls: Sequence[Any] = (),
        logprobs: Sequence[Any] = (),
        context: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Returns the last record, or the only one of an answer that is not streamed.

        Args:
            reason: the protocol's word for the ending; empty where the server told none.
            usage: the server's counts.
            text: what it still says; all of it in the only record.
            thinking: likewise.
            calls: likewise.
            logprobs: likewise.
            context: token ids, which `/api/generate` has.
        """
        record = {**self._said(text, thinking, calls if self.chat else ()), "done": True}
        record |= _filled(done_reason=reason)
        if self.chat:
            return record | _filled(logprobs=logprobs) | _figures(usage)
        return record | _filled(context=context) | _figures(usage) | _filled(tool_calls=calls, logprobs=logprobs)

    def _said(self, text: str, thinking: str, calls: Sequence[Any]) -> dict[str, Any]:
        head = {"model": self.model, "created_at": stamp(self._clock())}
        if self.chat:
            return {
                **head,
                "message": {"role": "assistant", "content": text, **_filled(thinking=thinking, tool_calls=calls)},
            }
        return {**head, "response": text, **_filled(thinking=thinking)}


def _filled(**members: Any) -> dict[str, Any]:
    """Returns the members that hold something."""
    return {name: value for name, value in members.items() if value}


def _figures(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    return _filled(
        total_duration=usage.total_duration,
        load_duration=usage.load_duration,
        prompt_eval_count=usage.prompt_tokens,
        prompt_eval_duration=usage.prompt_duration,
        eval_count=usage.output_tokens,
        eval_duration=usage.output_duration,
    )


class OllamaWire:
    """Encodes one run's events. One instance serves one reader, from the first event on.

    Args:
        lines: of the answer.
        run: the run's id, of which the ids of tool calls are made that the server gave none.
        timed: returns the server's counts with times of ours where it told none.
    """

    def __init__(self, lines: Lines, run: str, timed: Callable[[Usage | None], Usage | None]) -> None:
        self._lines = lines
        self._run = run
        self._timed = timed
        self._count = 0
        self._calls: list[Any] = []  # those that `/api/generate` has on its last line only

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        """Returns the events as bytes; `after` is the number of the one before the first."""
        text, out = self._lines.text, []
        for event in events:
            if type(event) is TextDelta and not event.logprobs:
                if event.text:
                    out.append(text(event.text))
            else:
                out.append(self._event(event))
        return b"".join(out)

    def reset(self) -> bytes:
        """Returns nothing: its readers begin at the start."""
        return b""

    def lagged(self) -> bytes:
        """Returns the error that tells a reader that it was too slow and is let go."""
        return _LAGGED

    def _event(self, event: Event) -> bytes:
        lines = self._lines
        if isinstance(event, Ended):
            return self._ending(event)
        if isinstance(event, TextDelta):
            return _line(lines.part(event.text, logprobs=_logprobs(event.logprobs)))
        if isinstance(event, ThinkingDelta) and event.text:
            return _line(lines.part(thinking=event.text))
        if isinstance(event, ToolCall):
            return self._call(event)
        return b""

    def _call(self, event: ToolCall) -> bytes:
        if event.invalid is not None:
            return self._lines.text(_as_text(event))
        made = _call_of(event.name, event.arguments, self._count, event.id or call_id(self._run, self._count))
        self._count += 1
        if self._lines.chat:
            return _line(self._lines.part(calls=[made]))
        self._calls.append(made)
        return b""

    def _ending(self, ended: Ended) -> bytes:
        if not ended.outcome.finished:
            return _failed(ended)
        reason = _reason(ended.outcome, ended.reason)
        return _line(self._lines.last(reason, self._timed(ended.usage), calls=self._calls, context=ended.context))


class Said(Protocol):
    """A run that came to its end, folded."""

    text: str
    thinking: str
    tool_calls: list[ToolCall]
    logprobs: list[Any] | None
    context: list[int] | None
    reason: str
    outcome: Outcome | None


def whole(lines: Lines, run: str, said: Said, usage: Usage | None) -> bytes:
    """Returns a run that came to its end as one object, which no line end follows.

    Args:
        lines: of the answer.
        run: the run's id.
        said: what it said.
        usage: the server's counts, with times of ours where it told none.
    """
    good = [each for each in said.tool_calls if each.invalid is None]
    bad = [_as_text(each) for each in said.tool_calls if each.invalid is not None]
    calls = [
        _call_of(each.name, each.arguments, number, each.id or call_id(run, number)) for number, each in enumerate(good)
    ]
    record = lines.last(
        _reason(said.outcome, said.reason),
        usage,
        text="".join((said.text, *bad)),
        thinking=said.thinking,
        calls=calls,
        logprobs=_logprobs(said.logprobs),
        context=said.context,
    )
    return json_bytes(record)


def _as_text(event: ToolCall) -> str:
    """Half a call is no call, and here is no place for one; it stays visible as text."""
    return f"{event.name}({event.invalid}"


def _reason(outcome: Outcome | None, reason: str) -> str:
    if outcome is Outcome.LENGTH:
        return "length"
    return "stop" if reason in _CALLED else reason


class ProgressWire:
    """Encodes the progress of a pull, push or create. Its last line is the server's own ``success``."""

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        """Returns the events as bytes; `after` is the number of the one before the first."""
        return b"".join(map(self._event, events))

    def reset(self) -> bytes:
        """Returns nothing: its readers begin at the start."""
        return b""

    def lagged(self) -> bytes:
        """Returns the error that tells a reader that it was too slow and is let go."""
        return _LAGGED

    def _event(self, event: Event) -> bytes:
        if isinstance(event, Progress):
            sizes = _filled(digest=event.digest, total=event.total, completed=event.completed)
            return _line({"status": event.status or "", **sizes})
        if isinstance(event, Ended) and not event.outcome.finished:
            return _failed(event)
        return b""


def _line(record: dict[str, Any]) -> bytes:
    return json_bytes(record) + b"\n"


def _failed(ended: Ended) -> bytes:
    return error_json(ending_text(ended) or ended.outcome.value) + b"\n"  # an empty error is none to clients


_LAGGED = error_json("this reader was too slow and is let go") + b"\n"
