"""The steps a fake server's script is made of.

A script is a sequence of steps. Each function here makes one; `FakeServer.script` takes them in the order in which the
server executes them:

    server.script(think("Hm."), say("Hel", "lo"), done("stop", eval_count=2))

Steps know no protocol: the same `say` becomes an NDJSON line on a `FakeOllama` and an SSE event on a `FakeOpenAI`.
A script that does not say how it ends gets `done()` for its ending.
"""

from __future__ import annotations

import json as _json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

__all__ = [
    "Step",
    "bad_chunk_size",
    "blank_lines",
    "bom",
    "check",
    "chunk",
    "close_delimited",
    "cut",
    "delay",
    "done",
    "error",
    "error_as",
    "fin",
    "giant_line",
    "gzip",
    "half_close",
    "half_line",
    "head",
    "header_flood",
    "hold",
    "html",
    "interim",
    "ping",
    "prompt_progress",
    "queue",
    "raw",
    "redirect",
    "rst",
    "say",
    "slow_load",
    "split",
    "stall",
    "status",
    "think",
    "together",
    "tool_call",
    "tool_fragment",
    "unframed",
    "wait_for",
    "whole",
]

Framing = Literal["chunked", "close", "length", "none"]
ErrorForm = Literal["event", "object", "code", "detail", "field", "bare"]


class Step:
    """What every step is; made by the functions of this module."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Say(Step):
    """Text of the answer, or of the thinking, one chunk a string."""

    texts: tuple[str, ...]
    thinking: bool = False
    every: float = 0.0
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolCall(Step):
    """A whole tool call; an OpenAI wire sends its arguments in `fragments` pieces."""

    name: str
    arguments: Mapping[str, Any] | str
    id: str | None = None
    index: int | None = None
    fragments: int = 2


@dataclass(frozen=True, slots=True)
class ToolFragment(Step):
    """One piece of a tool call, as OpenAI wires send them."""

    index: int | None
    arguments: str
    name: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk(Step):
    """A JSON value of the test's own, framed as the wire frames its chunks."""

    value: Any


@dataclass(frozen=True, slots=True)
class Done(Step):
    """The final record."""

    reason: str | None = "stop"
    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    marker: bool = True
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Error(Step):
    """An error in the stream."""

    message: Any
    fields: Mapping[str, Any] = field(default_factory=dict)
    form: ErrorForm | None = None


@dataclass(frozen=True, slots=True)
class Progress(Step):
    """How far the prompt is evaluated (llama.cpp)."""

    processed: int
    total: int
    cache: int = 0


@dataclass(frozen=True, slots=True)
class Ping(Step):
    """An SSE comment."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class HalfLine(Step):
    """The first half of the bytes that `say(text)` would send."""

    text: str


@dataclass(frozen=True, slots=True)
class GiantLine(Step):
    """A chunk with `size` bytes of text."""

    size: int
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Raw(Step):
    """Bytes of the body, or, if not `framed`, of the connection."""

    data: bytes
    framed: bool = True
    place: Literal["here", "before head", "after head"] = "here"


@dataclass(frozen=True, slots=True)
class Replay(Step):
    """A whole answer, built beforehand, head and framing included: each piece is one send."""

    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Head(Step):
    """What the response head shall be."""

    status: int = 200
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    framing: Framing | None = None
    http: str = "1.1"
    now: bool = False


@dataclass(frozen=True, slots=True)
class Status(Step):
    """A whole response that is no stream."""

    code: int
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Delay(Step):
    """A pause."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Gate(Step):
    """A wait for the test: for `count` releases of a name, or, if `lasting`, until it has been opened once."""

    name: str
    phase: Literal["holding", "queued", "loading"] = "holding"
    count: int = 1
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Stall(Step):
    """Silence until the client leaves."""


@dataclass(frozen=True, slots=True)
class End(Step):
    """A way to end the connection."""

    how: Literal["fin", "cut", "rst", "half_close"]


@dataclass(frozen=True, slots=True)
class Split(Step):
    """From here on the body goes out in pieces."""

    sizes: tuple[int, ...] = ()
    every: int | None = None


@dataclass(frozen=True, slots=True)
class Gzip(Step):
    """From here on the body is compressed."""

    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Whole(Step):
    """The answer is one JSON document, whatever the request asked for."""

    indent: int | None = None


@dataclass(frozen=True, slots=True)
class Together(Step):
    """Steps whose bytes share one send and one HTTP chunk."""

    steps: tuple[Step, ...]


# What the model says


def say(*texts: str, every: float = 0.0, **fields: Any) -> Step:
    """Send text of the answer, one chunk a string.

    Args:
        *texts: The fragments. An empty string makes an empty chunk, as models do send them.
        every: Seconds between two chunks. For demonstrations; tests had better use `hold`.
        **fields: Further members of each chunk, or others in the place of its own: `say("a", context="x")`.
    """
    return Say(_strings("say", texts), every=every, fields=fields)


def think(*texts: str, every: float = 0.0) -> Step:
    """Send text of the model's thinking, one chunk a string. See `say`."""
    return Say(_strings("think", texts), thinking=True, every=every)


def tool_call(
    name: str,
    arguments: Mapping[str, Any] | str | None = None,
    *,
    id: str | None = None,
    index: int | None = None,
    fragments: int = 2,
) -> ToolCall:
    """Call a tool.

    Args:
        name: The function's name.
        arguments: Its arguments. A string is sent as it is, so that a test can send arguments that are no JSON.
        id: The call's id; made up in the style of the server if not given.
        index: Its index; counted up if not given.
        fragments: In how many pieces an OpenAI wire sends the arguments. Ollama's own wire always sends a whole call.
    """
    if fragments < 1:
        raise ValueError(f"tool_call(fragments={fragments}): a call has at least one fragment")
    return ToolCall(name, {} if arguments is None else arguments, id, index, fragments)


def tool_fragment(index: int | None, arguments: str = "", *, name: str | None = None, id: str | None = None) -> Step:
    """Send one piece of a tool call, which lets a test interleave two calls. OpenAI wires only.

    Args:
        index: Which call it belongs to; None leaves it out, as some servers do.
        arguments: A piece of the arguments.
        name: The function's name, by the book only with the first piece.
        id: The call's id, by the book only with the first piece.
    """
    return ToolFragment(index, arguments, name, id)


def chunk(value: Any) -> Step:
    """Send a JSON value of your own, framed as the wire frames its chunks (a line, or an SSE event)."""
    try:
        _json.dumps(value)
    except (TypeError, ValueError) as exc:
        raise TypeError(f"chunk() takes a JSON value ({exc}); for other bytes use raw(b'...')") from exc
    return Chunk(value)


def done(
    reason: str | None = "stop",
    *,
    text: str = "",
    thinking: str = "",
    tool_calls: Iterable[ToolCall] = (),
    marker: bool = True,
    **metrics: Any,
) -> Step:
    """Send the final record, `done: true` or the finish chunk with `[DONE]`.

    Args:
        reason: `done_reason` or `finish_reason`; None leaves it out.
        text: Text the final record still carries. Some models flush their last words there.
        thinking: The same for thinking.
        tool_calls: Calls the final record carries, made by `tool_call`.
        marker: False leaves out what makes it final: `done: true`, or `[DONE]`.
        **metrics: Fields of Ollama's final record (`eval_count=7`, `load_duration=...`); None drops one. On an OpenAI
            wire the two counts become `usage`.
    """
    return Done(reason, text, thinking, tuple(tool_calls), marker, metrics)


def error(message: Any, **fields: Any) -> Step:
    """Send an error in the stream: an error line, or an error event.

    For an error *before* the stream, with a status of its own, use `status`. A request that did not ask for a stream
    gets a 500.

    Args:
        message: The text; any other JSON value is sent as it is.
        **fields: Further keys beside the message.
    """
    return Error(message, fields)


def error_as(form: ErrorForm, message: Any, /, **fields: Any) -> Step:
    """Send an error in the stream as one or another server of OpenAI's protocol says it. OpenAI wires only.

    Args:
        form: `event` is an event of the type `error`; `object` vLLM's older `{"object": "error", ...}`; `code`
            FastChat's `{"text": ..., "error_code": ...}`; `detail` FastAPI's `{"detail": ...}`; `field` llama-server's
            older field `error: {...}`; `bare` a line of JSON that is no event at all.
        message: The text; any other JSON value is sent as it is.
        **fields: Further keys beside the message.
    """
    if form not in get_args(ErrorForm):
        raise ValueError(f"error_as({form!r}): there are {', '.join(get_args(ErrorForm))}")
    return Error(message, fields, form)


def prompt_progress(processed: int, total: int, *, cache: int = 0) -> Step:
    """Say how much of the prompt is evaluated. Sent by llama.cpp, and only if the request has `return_progress`."""
    return Progress(processed, total, cache)


def ping(text: str = "") -> Step:
    """Send an SSE comment, as servers do to keep a silent connection alive. OpenAI wires only."""
    return Ping(text)


# Bytes


def raw(data: bytes) -> Step:
    """Send bytes of the body as they are (the HTTP framing is still right)."""
    return Raw(_bytes("raw", data))


def unframed(data: bytes) -> Step:
    """Send bytes on the connection as they are, outside HTTP's framing.

    As the first step it stands in for the whole response head, and nothing after it is framed.
    """
    return Raw(_bytes("unframed", data), framed=False)


def blank_lines(count: int = 1, ending: bytes = b"\n") -> Step:
    """Send empty lines."""
    return Raw(ending * count)


def bom() -> Step:
    """Send a UTF-8 byte order mark."""
    return Raw(b"\xef\xbb\xbf")


def half_line(text: str = "cut in half") -> Step:
    """Send the first half of what `say(text)` would send. Follow it with `fin()`."""
    return HalfLine(text)


def giant_line(size: int, *, ended: bool = True) -> Step:
    """Send one chunk with `size` bytes of text. It is made as it is sent: a gigabyte costs no memory here.

    Args:
        size: Bytes of text.
        ended: False leaves the line open: no closing quote, no newline.
    """
    return GiantLine(size, ended)


def bad_chunk_size(text: bytes = b"zz") -> Step:
    """Send something that is no chunk size where HTTP expects one."""
    return Raw(text + b"\r\n", framed=False, place="after head")


def split(sizes: Sequence[int] = (), *, every: int | None = None) -> Step:
    """From here on send the body in pieces, each its own HTTP chunk and its own send.

    So cuts fall inside lines and inside characters.

    Args:
        sizes: The sizes of the first pieces, in bytes.
        every: The size of all pieces after these; None sends the rest whole.
    """
    if any(size < 1 for size in (*sizes, 1 if every is None else every)):
        raise ValueError("split(): a piece has at least one byte")
    if not sizes and every is None:
        raise ValueError("split() needs sizes: split([3, 1, 4]) or split(every=1)")
    return Split(tuple(sizes), every)


def together(*steps: Step) -> Step:
    """Send what these steps send in one HTTP chunk and one send, as a busy network does."""
    for step in steps:
        if not isinstance(
            step, Say | ToolCall | ToolFragment | Chunk | Done | Error | Progress | Ping | Raw | HalfLine
        ):
            raise ValueError(f"together() takes steps that send bytes at once, not {step!r}; put it before or after")
    return Together(steps)


def gzip(*, truncated: bool = False) -> Step:
    """Compress the body from here on. Put it first.

    A bomb is `gzip(), giant_line(1 << 30)`; a lie is `head(headers={"Content-Encoding": "gzip"})`.

    Args:
        truncated: Leave out the end of the compressed data, while HTTP's framing still ends well.
    """
    return Gzip(truncated)


# Heads and responses that are no stream


def whole(indent: int | None = None) -> Step:
    """Answer with one JSON document, whatever the request asked for. Put it first.

    Args:
        indent: Write it over several lines, as pretty printers do.
    """
    return Whole(indent)


def head(
    *,
    status: int = 200,
    content_type: str | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    framing: Framing | None = None,
    http: str = "1.1",
    now: bool = False,
) -> Step:
    """Choose the response head; it leaves with the first bytes of the body, as Ollama does it, unless `now`.

    Args:
        status: The status.
        content_type: Instead of the right one.
        headers: Further headers.
        framing: `chunked`; `close` (the body ends with the connection); `none` (the same, and nobody says so).
        http: The version to claim.
        now: Send the head at once.
    """
    return Head(status, content_type, _pairs(headers), framing, http, now)


def close_delimited() -> Step:
    """Answer as HTTP/1.0: no length, no chunks, the body ends when the connection does."""
    return Head(framing="close", http="1.0")


def header_flood(count: int = 1000, size: int = 100) -> Step:
    """Send a response head with `count` headers of `size` bytes each."""
    return Head(headers=tuple((f"X-Flood-{n}", "x" * size) for n in range(count)))


def interim(code: int = 100, reason: str = "Continue") -> Step:
    """Send an interim response (100, 103) ahead of the real one."""
    return Raw(f"HTTP/1.1 {code} {reason}\r\n\r\n".encode(), framed=False, place="before head")


def status(
    code: int,
    body: Any = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    *,
    content_type: str | None = None,
) -> Step:
    """Answer with a status instead of a stream.

    Args:
        code: The status.
        body: Text or bytes are sent as they are; any other value as JSON; None is no body.
        headers: Further headers, for example `{"Retry-After": "1"}`.
        content_type: Instead of the one that fits the body.
    """
    if not 100 <= code <= 999:
        raise ValueError(f"status({code}): an HTTP status has three digits")
    if body is None:
        return Status(code, b"", content_type, _pairs(headers))
    if isinstance(body, bytes):
        return Status(code, body, content_type or "application/octet-stream", _pairs(headers))
    if isinstance(body, str):
        return Status(code, body.encode(), content_type or "text/plain; charset=utf-8", _pairs(headers))
    data = _json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return Status(code, data, content_type or "application/json; charset=utf-8", _pairs(headers))


def html(body: str = "<html><body><h1>502 Bad Gateway</h1></body></html>", code: int = 502) -> Step:
    """Answer with a web page, as a proxy (502, 504) or a captive portal (200) does."""
    return status(code, body, content_type="text/html; charset=utf-8")


def redirect(code: int, location: str) -> Step:
    """Send the client elsewhere."""
    return status(code, None, {"Location": location})


# Waiting


def delay(seconds: float) -> Step:
    """Wait for a time. Tests had better use `hold`: it waits for exactly what the test waits for."""
    return Delay(seconds)


def hold(name: str = "hold") -> Step:
    """Wait until the test calls `server.release(name)`; each release lets one hold go on.

    A release that comes before the hold is kept for it.
    """
    return Gate(name)


def wait_for(name: str) -> Step:
    """Wait until the test has called `server.open(name)` once; from then on the gate stays open for everybody."""
    return Gate(name, lasting=True)


def slow_load(gate: str = "load") -> Step:
    """Load the model: silence (not even headers) until `server.release(gate)`; `/api/ps` lists it only then."""
    return Gate(gate, "loading")


def queue(places: int = 1, gate: str = "queue") -> Step:
    """Wait in the server's queue, in silence, until `server.release(gate)` came `places` times.

    For a real queue, where requests wait for one another, use `FakeOllama(parallel=1)`.
    """
    return Gate(gate, "queued", places)


def stall() -> Step:
    """Fall silent with the connection open, until the client leaves or the server stops."""
    return Stall()


# Ways to end


def fin() -> Step:
    """End the body well, as HTTP sees it, but without the final record."""
    return End("fin")


def cut() -> Step:
    """Close (FIN) in the middle of an HTTP chunk."""
    return End("cut")


def rst() -> Step:
    """Reset the connection."""
    return End("rst")


def half_close() -> Step:
    """Shut the sending side down in the middle of the body, and go on reading until the client leaves."""
    return End("half_close")


# Checking


def check(steps: Sequence[Any]) -> tuple[Step, ...]:
    """Return the steps as a script, with the ending it needs.

    Raises:
        TypeError: Something is not a step.
        ValueError: A step can never be reached.
    """
    script: list[Step] = []
    for place, step in enumerate(steps, 1):
        if isinstance(step, str):
            raise TypeError(f"step {place} is the string {step!r}; did you mean say({step!r})?")
        if isinstance(step, bytes):
            raise TypeError(f"step {place} is bytes; did you mean raw({step!r})?")
        if callable(step):
            name = getattr(step, "__name__", "step")
            raise TypeError(f"step {place} is the function {name} itself; call it: {name}()")
        if not isinstance(step, Step):
            raise TypeError(f"step {place} is {step!r}; a script is made of steps such as say('Hello'), done(), rst()")
        if script and _ends(script[-1]):
            raise ValueError(f"step {place} can never run: step {place - 1} already ends the connection or the answer")
        if isinstance(step, Status) and any(_sends(earlier) for earlier in script):
            raise ValueError(f"step {place}: a status goes ahead of everything else; in a stream use error('...')")
        script.append(step)
    if not any(_decides(step) for step in script):
        script.append(Done())
    return tuple(script)


def _ends(step: Step) -> bool:
    if isinstance(step, Together):
        return bool(step.steps) and _ends(step.steps[-1])
    return isinstance(step, End | Status | Stall | Replay)


def _sends(step: Step) -> bool:
    return isinstance(step, Say | ToolCall | ToolFragment | Chunk | Done | Error | HalfLine | GiantLine | Together)


def _decides(step: Step) -> bool:
    """Whether a step shows that the test means to say itself how the answer ends."""
    if isinstance(step, Together):
        return any(_decides(inner) for inner in step.steps)
    if isinstance(step, Raw):
        return step.place != "before head" and bool(step.data.strip(b"\r\n\xef\xbb\xbf"))
    return _ends(step) or isinstance(step, Done | Error | Chunk | HalfLine)


def _strings(name: str, texts: tuple[Any, ...]) -> tuple[str, ...]:
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{name}() takes strings, one a chunk: {name}('Hel', 'lo'), not {text!r}")
    return texts


def _bytes(name: str, data: Any) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"{name}() takes bytes, not {data!r}")
    return bytes(data)


def _pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(headers.items()) if isinstance(headers, Mapping) else tuple(headers)
