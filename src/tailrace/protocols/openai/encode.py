"""OpenAI's wire, the other way: a run as the chunks of `/v1/chat/completions` and `/v1/completions`, or as one object.

Facts are from `wire.md` C1 and C2 of the design notes. Reasoning goes out as ``reasoning_content`` and under no second
name: clients that read both names show it twice. A failure is an error event and no ``[DONE]``, and so is a stop that
came from elsewhere: a stream that merely stops is never a success. Counts are the server's own, or absent.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from tailrace.events import Ended, Event, Outcome, TextDelta, ThinkingDelta, ToolCall, ToolCallDelta, Usage
from tailrace.protocols.event_json import call_id, counts_of, ending_text, json_bytes, text_json, waiting_comment

__all__ = ["Answer", "ChatWire", "CompletionWire", "Said", "error_json", "whole_chat", "whole_completion"]

_DONE = b"data: [DONE]\n\n"
_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What all chunks of an answer say.

    Attributes:
        run: the run's id; the answer's is made of it.
        created: when it was started, in seconds since the epoch.
        model: the model's name, as the request has it.
        functions: the request had ``functions``, which are older than tools, and a call is told in their form.
    """

    run: str
    created: int
    model: str
    functions: bool = False

    def head(self, prefix: str, kind: str) -> dict[str, Any]:
        """Returns the members that every chunk begins with, or the whole answer."""
        id = f"{prefix}-{self.run.removeprefix('run_')}"
        return {"id": id, "object": kind, "created": self.created, "model": self.model}

    def reason(self, outcome: Outcome | None, reason: str, called: bool) -> str:
        """Returns why a chat ended, in this protocol's word."""
        told = _reason(outcome, reason, called=called)
        return "function_call" if told == "tool_calls" and self.functions else told

    def call(self, call: ToolCall, number: int) -> dict[str, Any]:
        """Returns a tool call, number `number` of the answer."""
        arguments = call.invalid if call.invalid is not None else json_bytes(call.arguments).decode()
        return self.called(call.id, call.name, arguments, number)

    def called(self, id: str | None, name: str, arguments: str, number: int) -> dict[str, Any]:
        """Returns a tool call, or its first piece; an id that the server did not give is made up."""
        return {
            "id": id or call_id(self.run, number),
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }


def error_json(message: str, status: int, *, param: str | None = None, code: str | None = None) -> bytes:
    """Returns an error as the protocol's JSON.

    Args:
        message: what happened.
        status: the HTTP status, or the one it would have had; it says what kind of error this is.
        param: the member of the request that is wrong.
        code: what is wrong, in a word.
    """
    kind = _KINDS.get(status) or ("invalid_request_error" if 400 <= status < 499 else "api_error")
    return json_bytes({"error": {"message": message, "type": kind, "param": param, "code": code}})


class _Frame:
    """The bytes around what a chunk of an answer says."""

    def __init__(self, head: dict[str, Any], usage: bool) -> None:
        self._usage = usage
        self._open = b"data: " + json_bytes(head)[:-1]
        self._close = b',"usage":null}\n\n' if usage else b"}\n\n"
        self.before = self._open + b',"choices":[{"index":0,'
        self.after = b',"logprobs":null,"finish_reason":null}]' + self._close

    def chunk(self, said: bytes, logprobs: bytes = b"null", reason: str = "") -> bytes:
        """Returns a chunk; `said` is the member of its choice that holds what it says."""
        told = b'"%b"' % reason.encode() if reason else b"null"
        return b'%b%b,"logprobs":%b,"finish_reason":%b}]%b' % (self.before, said, logprobs, told, self._close)

    def end(self, usage: Usage | None, spoken: bool) -> bytes:
        """Returns what comes after the last chunk of a whole answer."""
        counts = _counts(usage, spoken) if self._usage else None
        if counts is None:
            return _DONE
        return b'%b,"choices":[],"usage":%b}\n\n%b' % (self._open, json_bytes(counts), _DONE)


class ChatWire:
    """Encodes one run's events as ``chat.completion.chunk``. One instance serves one reader, from the first event on.

    Args:
        answer: what all chunks say.
        usage: whether the counts were asked for (``stream_options.include_usage``).
    """

    def __init__(self, answer: Answer, *, usage: bool = False) -> None:
        self._answer = answer
        self._frame = _Frame(answer.head("chatcmpl", "chat.completion.chunk"), usage)
        self._begun = False
        self._spoken = False
        self._calls = 0
        self._open: dict[int | None, int] = {}  # calls that come in pieces: the server's index to ours

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        """Returns the events as bytes; `after` is the number of the one before the first."""
        before, end, out = self._frame.before, self._frame.after, []
        for event in events:
            if type(event) is TextDelta and not event.logprobs and self._spoken:
                if event.text:
                    out.append(b'%b"delta":{"content":%b}%b' % (before, text_json(event.text), end))
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
        if isinstance(event, Ended):
            return self._ending(event)
        if isinstance(event, TextDelta) and (event.text or event.logprobs):
            return self._say(b'{"content":%b}' % text_json(event.text), json_bytes(_logprobs(event.logprobs)))
        if isinstance(event, ThinkingDelta) and event.text:
            return self._say(b'{"reasoning_content":%b}' % text_json(event.text))
        if isinstance(event, ToolCallDelta):
            return self._piece(event)
        if isinstance(event, ToolCall):
            if self._open.pop(event.index, None) is not None:
                return b""  # its pieces were all of it
            return self._call(self._answer.call(event, self._calls))
        return waiting_comment(event)

    def _piece(self, delta: ToolCallDelta) -> bytes:
        number = self._open.get(delta.index)
        if number is not None:
            return self._say(json_bytes(self._told(number, {"arguments": delta.text}))) if delta.text else b""
        if not delta.name:
            return b""  # its first piece did not say what is called: it comes when it is whole
        self._open[delta.index] = self._calls
        return self._call(self._answer.called(delta.id, delta.name, delta.text, self._calls))

    def _call(self, call: dict[str, Any]) -> bytes:
        self._calls += 1
        return self._say(json_bytes(self._told(self._calls - 1, call.pop("function"), **call)))

    def _told(self, number: int, function: dict[str, Any], **more: Any) -> dict[str, Any]:
        if self._answer.functions:
            return {"function_call": function}
        return {"tool_calls": [{"index": number, **more, "function": function}]}

    def _say(self, delta: bytes, logprobs: bytes = b"null") -> bytes:
        begin = self._begin()
        self._spoken = True
        return begin + self._frame.chunk(b'"delta":' + delta, logprobs)

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return self._frame.chunk(b'"delta":{"role":"assistant","content":""}')

    def _ending(self, ended: Ended) -> bytes:
        if not ended.outcome.finished:
            return _error(ended)
        last = self._frame.chunk(
            b'"delta":{}', reason=self._answer.reason(ended.outcome, ended.reason, bool(self._calls))
        )
        return self._begin() + last + self._frame.end(ended.usage, self._spoken)


class CompletionWire:
    """Encodes one run's events as ``text_completion``. One instance serves one reader, from the first event on.

    The protocol has no place for reasoning and tool calls here; a text that is completed as it is brings none.

    Args:
        answer: what all chunks say.
        usage: whether the counts were asked for.
    """

    def __init__(self, answer: Answer, *, usage: bool = False) -> None:
        self._frame = _Frame(answer.head("cmpl", "text_completion"), usage)
        self._spoken = 0  # characters

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
        if isinstance(event, Ended):
            if not event.outcome.finished:
                return _error(event)
            last = self._frame.chunk(b'"text":""', reason=_reason(event.outcome, event.reason, called=False))
            return last + self._frame.end(event.usage, self._spoken > 0)
        if isinstance(event, TextDelta):
            if not event.text and not event.logprobs:
                return b""
            logprobs = json_bytes(_old_logprobs(event.logprobs, self._spoken)) if event.logprobs else b"null"
            self._spoken += len(event.text)
            return self._frame.chunk(b'"text":' + text_json(event.text), logprobs)
        return waiting_comment(event)


class Said(Protocol):
    """A run that came to its end, folded."""

    text: str
    thinking: str
    tool_calls: list[ToolCall]
    logprobs: list[Any] | None
    reason: str
    outcome: Outcome | None
    usage: Usage | None


def whole_chat(answer: Answer, said: Said) -> bytes:
    """Returns a run that came to its end as one ``chat.completion``."""
    message: dict[str, Any] = {"role": "assistant", "content": said.text, "refusal": None}
    if said.thinking:
        message["reasoning_content"] = said.thinking
    if said.tool_calls:
        message["content"] = said.text or None
        calls = [answer.call(call, number) for number, call in enumerate(said.tool_calls)]
        message |= {"function_call": calls[0]["function"]} if answer.functions else {"tool_calls": calls}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": _logprobs(said.logprobs),
        "finish_reason": answer.reason(said.outcome, said.reason, bool(said.tool_calls)),
    }
    return _whole(answer.head("chatcmpl", "chat.completion"), choice, said)


def whole_completion(answer: Answer, said: Said) -> bytes:
    """Returns a run that came to its end as one ``text_completion``."""
    choice = {
        "index": 0,
        "text": said.text,
        "logprobs": _old_logprobs(said.logprobs, 0),
        "finish_reason": _reason(said.outcome, said.reason, called=False),
    }
    return _whole(answer.head("cmpl", "text_completion"), choice, said)


def _whole(head: dict[str, Any], choice: dict[str, Any], said: Said) -> bytes:
    counts = _counts(said.usage, bool(said.text or said.thinking or said.tool_calls))
    body = {**head, "choices": [choice], **({"usage": counts} if counts is not None else {})}
    return json_bytes(body)


def _reason(outcome: Outcome | None, reason: str, *, called: bool) -> str:
    if outcome is Outcome.LENGTH:
        return "length"
    if reason == "content_filter":
        return reason
    return "tool_calls" if called else "stop"


def _counts(usage: Usage | None, spoken: bool) -> dict[str, int] | None:
    counts = counts_of(usage, spoken)
    if counts is None:
        return None
    prompt, output = counts
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def _error(ended: Ended) -> bytes:
    status = ended.fault.status_code if ended.fault is not None else 499
    return b"data: %b\n\n" % error_json(ending_text(ended), max(status, 0), code=ended.outcome.value)


def _logprobs(tokens: Sequence[Any] | None) -> dict[str, Any] | None:
    """Returns the server's list of tokens as this protocol has it, whichever server that was."""
    content = [{**_probable(token), "top_logprobs": _alternatives(token)} for token in _known(tokens)]
    return {"content": content, "refusal": None} if content else None


def _old_logprobs(tokens: Sequence[Any] | None, offset: int) -> dict[str, Any] | None:
    """Returns the same for completions, whose form is older: a list for each thing that is told of a token."""
    known = _known(tokens)
    if not known:
        return None
    texts = [token["token"] for token in known]
    starts = itertools.accumulate(map(len, texts), initial=offset)
    tops = [{each["token"]: each["logprob"] for each in _alternatives(token)} for token in known]
    return {
        "tokens": texts,
        "token_logprobs": [token["logprob"] for token in known],
        "top_logprobs": tops,
        "text_offset": list(itertools.islice(starts, len(texts))),
    }


def _known(tokens: Any) -> list[dict[str, Any]]:
    """Returns those tokens that tell a probability."""
    given = [token for token in tokens if isinstance(token, dict)] if isinstance(tokens, list) else []
    return [each for each in given if type(each.get("token")) is str and type(each.get("logprob")) in (int, float)]


def _alternatives(token: dict[str, Any]) -> list[dict[str, Any]]:
    return [_probable(other) for other in _known(token.get("top_logprobs"))]


def _probable(token: dict[str, Any]) -> dict[str, Any]:
    return {name: token.get(name) for name in ("token", "logprob", "bytes")}


_LAGGED = b"data: %b\n\n" % error_json("this reader was too slow and is let go", 0, code="lagged")
