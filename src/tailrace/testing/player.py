"""Playing a script: steps into bytes on a connection."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from email.utils import formatdate
from typing import Any, Protocol

from tailrace.testing import http1, steps
from tailrace.testing.http1 import Connection
from tailrace.testing.records import Record

__all__ = ["Encoder", "Gates", "JSONLines", "Response", "dump", "play"]

_BLOCK = 64 * 1024
_MARK = "@giant@"


class Encoder(Protocol):
    """How one kind of answer is written. One encoder lives as long as one answer and may keep count of it."""

    content_type: str
    stream: bool
    early_head: bool

    def say(self, text: str, *, thinking: bool) -> bytes:
        """Encode a piece of text."""

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

    def __init__(self, *, stream: bool = True) -> None:
        self.stream = stream
        self._last: Any = {}
        if not stream:
            self.content_type = "application/json; charset=utf-8"

    def say(self, text: str, *, thinking: bool) -> bytes:
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
        return [dump(value) + b"\n" if self.stream else dump(value)]

    def done(self, step: steps.Done) -> list[bytes]:
        """End: nothing in a stream, else the last line."""
        return [] if self.stream else [dump(self._last)]

    def end(self) -> bytes:
        """Encode the last line."""
        return dump(self._last)


def _unknown(what: str, instead: str) -> TypeError:
    return TypeError(f"{what} mean nothing on this endpoint; use {instead}")


def dump(value: Any) -> bytes:
    """Encode JSON as model servers do: compact, characters as they are; only lone surrogates are escaped."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


class Gates:
    """What scripts wait for and tests open. Lives on the server's loop."""

    def __init__(self) -> None:
        self._kept: Counter[str] = Counter()
        self._open: set[str] = set()
        self._waiters: deque[asyncio.Future[None]] = deque()

    def release(self, name: str, count: int) -> None:
        """Let `count` waits for a name go on, now or later."""
        self._kept[name] += count
        self._wake()

    def open(self, name: str) -> None:
        """Let all waits for a name go on, for ever."""
        self._open.add(name)
        self._wake()

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, gate: steps.Gate) -> None:
        """Wait at a gate."""
        for _ in range(gate.count):
            while gate.name not in self._open and not self._kept[gate.name]:
                waiter = asyncio.get_running_loop().create_future()
                self._waiters.append(waiter)
                await waiter
            if gate.name not in self._open:
                self._kept[gate.name] -= 1


class Response:
    """One response: its head, its framing, and the mischief asked for."""

    def __init__(self, connection: Connection, record: Record, started: Callable[[], None]) -> None:
        self._connection = connection
        self._record = record
        self._on_start = started
        self.status = 200
        self.content_type = ""
        self.headers: list[tuple[str, str]] = []
        self.http = "1.1"
        self.framing: steps.Framing = "close" if record.version == "1.0" else "chunked"
        self.started = False
        self.closes = record.version == "1.0" or (record.header("connection") or "").lower() == "close"
        self.wrote = False
        self._whole = bytearray()
        self._gathered: bytearray | None = None
        self._sizes: deque[int] = deque()
        self._every: int | None = None
        self._gzip: Any = None
        self._truncated = False

    # The head

    def set_head(self, step: steps.Head) -> None:
        """Take over what a step says of the head."""
        self.status = step.status
        self.content_type = step.content_type or self.content_type
        self.headers += step.headers
        self.http = step.http
        if step.framing is not None:
            self.framing = step.framing
        elif step.now and self.framing == "length":
            self.framing = "chunked"  # the length is not known yet

    def _head(self, length: int | None = None) -> bytes:
        self.started = True
        self._on_start()
        self.closes = self.closes or self.framing in {"close", "none"}
        headers = [("Content-Type", self.content_type)] if self.content_type else []
        headers += [("Date", formatdate(usegmt=True)), *self.headers]
        if self._gzip is not None:
            headers.append(("Content-Encoding", "gzip"))
        if length is not None:
            headers.append(("Content-Length", str(length)))
        elif self.framing == "chunked":
            headers.append(("Transfer-Encoding", "chunked"))
        if self.closes and self.framing != "none":
            headers.append(("Connection", "close"))
        return http1.head(self.status, headers, self.http)

    async def send_head(self) -> None:
        """Send the head now, if it has not gone."""
        if not self.started:
            await self._emit(self._head())

    # The body

    async def body(self, data: bytes) -> None:
        """Send bytes of the body."""
        self.wrote = True
        if self._gathered is not None:
            self._gathered += data
            return
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        if not data:
            return
        if self.framing == "length":
            self._whole += data
            return
        if not self._sizes and self._every is None:
            # One send for the head and the first bytes: so does a server that flushes after its first line.
            await self._emit((b"" if self.started else self._head()) + self._framed(data))
            return
        await self.send_head()
        await self._pieces(data)

    async def _pieces(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            size = self._sizes.popleft() if self._sizes else self._every or len(view)
            if size > len(view) and self._every is None:
                self._sizes.appendleft(size - len(view))
            await self._emit(self._framed(view[:size]))
            view = view[size:]
            await asyncio.sleep(0)  # let the reader on the other thread see this piece by itself

    def _framed(self, data: bytes | memoryview) -> bytes:
        return http1.frame(data) if self.framing == "chunked" else bytes(data)

    async def _emit(self, data: bytes | memoryview) -> None:
        await self._connection.send(data)
        self._record._sent_bytes(len(data))

    def split(self, step: steps.Split) -> None:
        """Cut the body from here on."""
        self._sizes = deque(step.sizes)
        self._every = step.every

    def compress(self, step: steps.Gzip) -> None:
        """Compress the body from here on."""
        self._gzip = zlib.compressobj(wbits=31)
        self._truncated = step.truncated

    def gather(self) -> None:
        """Keep the body back until `scatter`."""
        self._gathered = bytearray()

    async def scatter(self) -> None:
        """Send what was kept back, at once."""
        data, self._gathered = bytes(self._gathered or b""), None
        await self.body(data)

    async def unframed(self, step: steps.Raw) -> None:
        """Send bytes outside HTTP's framing."""
        if step.place == "after head":
            await self.send_head()
        elif step.place == "here" and not self.started:
            self.started = self.wrote = self.closes = True
            self.framing = "none"
            self._on_start()
        await self._emit(step.data)

    async def replay(self, pieces: Sequence[bytes]) -> None:
        """Send prebuilt bytes, head and all, as fast as the socket takes them."""
        self.started = self.wrote = True
        self._on_start()
        send = self._connection.send
        for count, piece in enumerate(pieces):
            await send(piece)
            if count % 64 == 63:
                await asyncio.sleep(0)  # a send that never blocks would starve the other connections
        self._record._sent_bytes(sum(map(len, pieces)))

    # The ending

    async def simple(self, step: steps.Status) -> None:
        """Send a response that is no stream."""
        self.status, self.content_type = step.code, step.content_type or ""
        self.headers += step.headers
        length = None if step.code in {204, 304} or step.code < 200 else len(step.body)
        self.framing = "length"
        body = b"" if self._record.method == "HEAD" else step.body
        await self._emit(self._head(length) + body)

    async def finish(self) -> None:
        """End the body as HTTP wants it."""
        if self._gzip is not None and not self._truncated:
            rest = self._gzip.flush()
            self._gzip = None if self.started else self._gzip
            if self.framing == "length":
                self._whole += rest
            else:
                await self._emit((b"" if self.started else self._head()) + self._framed(rest))
        if self.framing == "length":
            if not self.started:
                await self._emit(self._head(len(self._whole)) + self._whole)
            return
        await self.send_head()
        if self.framing == "chunked":
            await self._emit(b"0\r\n\r\n")

    async def end(self, step: steps.End) -> None:
        """End the connection."""
        if step.how == "fin":
            await self.finish()
            return
        self.closes = True
        if step.how == "rst":
            await self._connection.close(reset=True)
        elif step.how == "cut":
            await self._promise_more()
        else:
            await self.send_head()
            self._record._enter("half_closed")
            self._connection.shut_down()
            await self._for_ever()

    async def _promise_more(self) -> None:
        """Announce more bytes than come."""
        if self.framing == "length" and not self.started:
            await self._emit(self._head(len(self._whole) + 64) + self._whole)
        else:
            await self.send_head()
            if self.framing == "chunked":
                await self._emit(b'40\r\n{"')

    async def _for_ever(self) -> None:
        # Whoever waits here is cancelled when the client leaves or the server stops.
        await asyncio.get_running_loop().create_future()

    async def stall(self) -> None:
        """Say nothing more."""
        self._record._enter("stalling")
        await self._for_ever()


async def play(
    script: Iterable[steps.Step], response: Response, encoder: Encoder, record: Record, gates: Gates
) -> None:
    """Do the steps of a script, one after the other, and end the response."""
    response.content_type = response.content_type or encoder.content_type
    if not encoder.stream:
        response.framing = "length"
    script = tuple(script)
    for step in script:
        await _do(step, response, encoder, record, gates)
        record._step_done()
    if not (script and isinstance(script[-1], steps.End | steps.Status | steps.Replay)):
        await _fill(response, encoder)
        await response.finish()


async def _fill(response: Response, encoder: Encoder) -> None:
    """Give a request without a stream what its script left of an answer."""
    if not encoder.stream and not response.wrote:
        await response.body(encoder.end())


async def _do(step: steps.Step, response: Response, encoder: Encoder, record: Record, gates: Gates) -> None:
    if encoder.early_head and not _goes_before_head(step):
        await response.send_head()
    match step:
        case steps.Delay(seconds):
            record._enter("delaying")
            await asyncio.sleep(seconds)
        case steps.Gate():
            record._enter(step.phase)
            await gates.wait(step)
        case steps.Stall():
            await response.stall()
        case steps.Head():
            response.set_head(step)
            if step.now:
                await response.send_head()
        case steps.Split():
            response.split(step)
        case steps.Gzip():
            response.compress(step)
        case steps.Status():
            await response.simple(step)
        case steps.End():
            if step.how != "rst":
                await _fill(response, encoder)
            await response.end(step)
        case steps.Replay():
            record._enter("streaming")
            await response.replay(step.pieces)
        case steps.Raw() if not step.framed:
            await response.unframed(step)
        case steps.Together():
            response.gather()
            for inner in step.steps:
                await _do(inner, response, encoder, record, gates)
            await response.scatter()
        case _:
            await _content(step, response, encoder, record)


def _goes_before_head(step: steps.Step) -> bool:
    if isinstance(step, steps.Gate):
        return step.phase != "holding"
    return isinstance(step, steps.Head | steps.Status | steps.Gzip | steps.Split | steps.Replay | steps.End) or (
        isinstance(step, steps.Raw) and not step.framed
    )


async def _content(step: steps.Step, response: Response, encoder: Encoder, record: Record) -> None:
    if encoder.stream:
        record._enter("streaming")
    if isinstance(step, steps.Error) and not encoder.stream and not response.started:
        response.status = 500
    every = step.every if isinstance(step, steps.Say) else 0.0
    for count, data in enumerate(_encoded(step, encoder)):
        if count and every:
            await asyncio.sleep(every)
        if data:
            await response.body(data)


def _encoded(step: steps.Step, encoder: Encoder) -> Iterable[bytes]:
    match step:
        case steps.Say(texts, thinking):
            return (encoder.say(text, thinking=thinking) for text in texts)
        case steps.ToolCall():
            return encoder.tool_call(step)
        case steps.ToolFragment():
            return [encoder.tool_fragment(step)]
        case steps.Chunk(value):
            return [encoder.chunk(value)]
        case steps.Progress():
            return [encoder.progress(step)]
        case steps.Ping():
            return [encoder.ping(step)]
        case steps.Error():
            return encoder.error(step)
        case steps.Done():
            return encoder.done(step)
        case steps.Raw(data):
            return [data]
        case steps.HalfLine(text):
            line = encoder.say(text, thinking=False)
            return [line[: len(line) // 2]]
        case steps.GiantLine():
            return _giant(step, encoder)
        case _:
            raise TypeError(f"cannot play {step!r}")


def _giant(step: steps.GiantLine, encoder: Encoder) -> Iterator[bytes]:
    if not encoder.stream:
        yield encoder.say("x" * step.size, thinking=False)
        return
    before, _, after = encoder.say(_MARK, thinking=False).rpartition(_MARK.encode())
    yield before
    block = b"x" * _BLOCK
    whole, rest = divmod(step.size, _BLOCK)
    for _ in range(whole):
        yield block
    yield block[:rest]
    if step.ended:
        yield after
