"""The benchmarks' readers count what they were told, and notice what is lost, doubled or another's."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from benchmarks.crowd import crowd
from benchmarks.told import Came, Told, pieces, tally

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(*data: bytes) -> Came:
    """An answer of these pieces, one a second."""
    framed = [b"%x\r\n%b\r\n" % (len(one), one) for one in (*data, b"")]
    return [(0.0, HEAD), *((float(second), one) for second, one in enumerate(framed, 1))]


def lines(*texts: str) -> Came:
    """An answer on Ollama's wire."""
    chunks: list[object] = [{"message": {"content": text}, "done": False} for text in texts]
    done = {"message": {"content": ""}, "done": True}
    return chunked(*(json.dumps(chunk).encode() + b"\n" for chunk in (*chunks, done)))


WIRES = {
    "/chat/stream": [
        b'id: 1-a\ndata: {"content":"q:0:0.5 "}\n\n',
        b"id: 2-a\nevent: ended\ndata: {}\n\n",
        b"data: [DONE]\n\n",
    ],
    "/runs/run_1/events": [
        b'id: 1-a\nevent: text_delta\ndata: {"text":"q:0:0.5 "}\n\n',
        b'id: 2-a\nevent: ended\ndata: {"outcome":"complete"}\n\n',
    ],
    "/v1/chat/completions": [
        b'data: {"choices":[{"delta":{"role":"assistant","content":"q:0:0.5 "}}]}\n\n',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
        b'data: {"choices":[]}\n\n',
        b"data: [DONE]\n\n",
    ],
    "/api/chat": [b'{"message":{"content":"q:0:0.5 "},"done":false}\n', b'{"message":{"content":""},"done":true}\n'],
}


@pytest.mark.parametrize("path", WIRES)
def test_each_wire_is_read(path: str) -> None:
    """On every wire the token is found, with its delay, and the ending; and no ending where it was cut off."""
    whole, cut = Told(chunked(*WIRES[path]), path), Told(chunked(*WIRES[path][:1]), path)

    assert ["q:0:0.5 "] == whole.tokens == cut.tokens
    assert whole.delays == [0.5]
    assert whole.whole
    assert not cut.whole


def test_what_goes_wrong_is_counted() -> None:
    """Missing, doubled, another's and disordered tokens each are counted as what they are, and a refusal too."""
    answers = {
        "right": lines("right:0:0", "right:1:0", "right:2:0"),
        "short": lines("short:0:0", "short:2:0"),
        "twice": lines("twice:0:0", "twice:1:0", "twice:1:0", "twice:2:0"),
        "mixed": lines("mixed:0:0", "right:1:0", "mixed:2:0"),
        "late": lines("late:1:0", "late:0:0", "late:2:0"),
        "refused": [(0.0, b"HTTP/1.1 503 No\r\n\r\n")],
        "silent": [],
    }
    counted = tally([Told(came, "/api/chat") for came in answers.values()], list(answers), 3)

    assert (counted.expected, counted.received, counted.missing) == (21, 13, 8)
    assert (counted.doubled, counted.strange) == (1, 2)
    assert (counted.complete, counted.refused) == (1, 2)


def test_pieces_are_framed_as_they_were() -> None:
    """A piece that came in two parts counts from when it was complete; two that came at once are two."""
    came: Came = [(1.0, HEAD + b"3\r\nab"), (2.0, b"c\r\n1\r\nd\r\n"), (3.0, b"0\r\n\r\n")]

    assert pieces(came) == [(2.0, b"abc"), (2.0, b"d")]


async def test_who_waits_too_long_leaves_with_what_came() -> None:
    """A server that stops in the middle costs the limit, and what it had said until then is told."""

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for _, data in lines("q:0:0")[:2]:
            writer.write(data)
        left.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    left: list[asyncio.Task[None] | None] = []
    async with await asyncio.start_server(half, "127.0.0.1", 0) as server:
        told = await crowd(server.sockets[0].getsockname()[1], ["q", "q"], "/api/chat", limit=0.3)
        await asyncio.gather(*filter(None, left))

    assert [one.tokens for one in told] == [["q:0:0"], ["q:0:0"]]
    assert not any(one.whole for one in told)


async def test_nobody_listens() -> None:
    """A server that does not let its readers in has told them nothing."""
    async with await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

    told = await crowd(port, ["q"], limit=5)

    assert [bool(one.refused) for one in told] == [True]
