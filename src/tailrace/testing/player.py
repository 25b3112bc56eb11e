"""Playing a script: writes its steps to a connection, and holds at its gates."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator

from tailrace.testing import steps
from tailrace.testing.encoding import Encoder
from tailrace.testing.records import Record
from tailrace.testing.response import Response

__all__ = ["Gates", "play"]

_BLOCK = 64 * 1024
_MARK = "@giant@"


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


async def play(
    script: Iterable[steps.Step], response: Response, encoder: Encoder, record: Record, gates: Gates
) -> None:
    """Do the steps of a script, one after the other, and end the response."""
    response.content_type = encoder.content_type
    response.headers += encoder.headers
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
        case steps.Whole(indent):
            encoder.stream, encoder.early_head, encoder.indent = False, False, indent
            response.framing, response.content_type = "length", "application/json; charset=utf-8"
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
    return isinstance(
        step, steps.Head | steps.Status | steps.Whole | steps.Gzip | steps.Split | steps.Replay | steps.End
    ) or (isinstance(step, steps.Raw) and not step.framed)


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
            return (encoder.say(text, thinking=thinking, fields=step.fields) for text in texts)
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
            start = max(line.rfind(b"data: "), 0)  # an SSE wire may have put its role chunk in front
            return [line[: (start + len(line)) // 2]]
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
