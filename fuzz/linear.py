"""Does it stay linear? Inputs that are nasty by their kind, twice as large each time: the time may double as well.

Times are of this process alone, the least of several. Nothing of it is a test: machines are busy.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable

from fuzz.targets import TARGETS
from tailrace.protocols.ollama.decode import AnswerDecoder
from tailrace.protocols.ollama.progress import ProgressDecoder
from tailrace.protocols.openai.decode import ChunkDecoder
from tailrace.protocols.sse import SSEDecoder

__all__ = ["NASTY", "run"]

_TIMES = 3
_ENOUGH = 0.005  # seconds that the smallest input takes
_DOUBLINGS = 3
_WORST = 24.0  # times, for an input eight times as large; 8 is linear, and 64 quadratic
_LARGEST = 12 * 1024 * 1024  # bytes

Make = Callable[[int], bytes]


def _fed(make: Callable[[], object], size: int) -> Callable[[bytes], None]:
    """Feeds pieces of so many bytes; 0: all at once."""

    def feed(data: bytes) -> None:
        decoder: object = make()
        for at in range(0, len(data), size or len(data) or 1):
            decoder.feed(data[at : at + (size or len(data))])  # type: ignore[attr-defined]
        decoder.eof()  # type: ignore[attr-defined]

    return feed


_LINE = b'{"message":{"content":"a"},"done":false}\n'
_CHUNK = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
_FRAGMENT = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}}]}\n\n'

NASTY: dict[str, tuple[Callable[[bytes], None], Make]] = {
    "ollama: lines at once": (_fed(AnswerDecoder, 0), lambda n: _LINE * n),
    "ollama: lines, 7 bytes a read": (_fed(AnswerDecoder, 7), lambda n: _LINE * n),
    "ollama: one line, 64 bytes a read": (_fed(AnswerDecoder, 64), lambda n: b'{"response":"%b"}' % (b"x" * 64 * n)),
    "ollama: a line that never ends": (_fed(AnswerDecoder, 64), lambda n: b"x" * 64 * n),
    "ollama: values without line ends": (_fed(AnswerDecoder, 0), lambda n: _LINE.rstrip() * n),
    "ollama: blank lines": (_fed(AnswerDecoder, 1000), lambda n: b"\n" * 20 * n),
    "ollama: a document": (_fed(AnswerDecoder, 64), lambda n: b'{"x":[\n' + b"1,\n" * 20 * n + b"1]}"),
    "ollama: what is unknown": (_fed(AnswerDecoder, 64), lambda n: b'{"x":1}\n' * n),
    "ollama: blanks, no line end": (_fed(AnswerDecoder, 1000), lambda n: b" " * 200 * n),
    "ollama: halves of characters": (_fed(AnswerDecoder, 0), lambda n: b'{"response":"\\ud83d"}\n' * n),
    "ollama: bad bytes": (_fed(AnswerDecoder, 0), lambda n: b'{"response":"\xff"}\n' * n),
    "ollama: after the end": (_fed(AnswerDecoder, 0), lambda n: b'{"done":true}\n' + _LINE * n),
    "ollama: escapes": (_fed(AnswerDecoder, 0), lambda n: b'{"response":"%b"}\n' % (b"\\u0041\\\\" * 20 * n)),
    "ollama: an error in errors": (_fed(AnswerDecoder, 0), lambda n: b'{"error":"%b"}\n' % (b'{\\"error\\":' * 50 * n)),
    "ollama: a wide record": (_fed(AnswerDecoder, 0), lambda n: b'{"x":[%b1]}\n' % (b"1," * 100 * n)),
    "progress: lines": (_fed(ProgressDecoder, 50), lambda n: b'{"status":"a"}\n' * n),
    "openai: chunks at once": (_fed(ChunkDecoder, 0), lambda n: _CHUNK * n),
    "openai: chunks, 7 bytes a read": (_fed(ChunkDecoder, 7), lambda n: _CHUNK * n),
    "openai: a whole answer, 64 bytes a read": (_fed(ChunkDecoder, 64), lambda n: b'{"x":"%b"}' % (b"x" * 64 * n)),
    "openai: blanks first, 64 bytes a read": (_fed(ChunkDecoder, 64), lambda n: b" \r\n\n" * 16 * n),
    "openai: pieces of a call": (_fed(ChunkDecoder, 0), lambda n: _FRAGMENT * n + b"data: [DONE]\n\n"),
    "openai: many calls": (
        _fed(ChunkDecoder, 0),
        lambda n: b"".join(_FRAGMENT.replace(b":0,", b":%d," % at) for at in range(n)) + b"data: [DONE]\n\n",
    ),
    "openai: calls without an index": (_fed(ChunkDecoder, 0), lambda n: _FRAGMENT.replace(b'"index":0,', b"") * n),
    "openai: calls with an id each": (
        _fed(ChunkDecoder, 0),
        lambda n: b"".join(
            _FRAGMENT.replace(b'"function":{', b'"id":%d,"function":{"name":"f",' % at) for at in range(n)
        ),
    ),
    "openai: a name with each piece": (
        _fed(ChunkDecoder, 0),
        lambda n: _FRAGMENT.replace(b'"function":{', b'"function":{"name":"f",') * n,
    ),
    "openai: what is unknown": (_fed(ChunkDecoder, 100), lambda n: b": x\n" + b"what?\n" * n),
    "openai: events of no kind": (_fed(ChunkDecoder, 100), lambda n: b'data: {"x":1}\n\n' * n),
    "events: data fields of one event": (_fed(SSEDecoder, 0), lambda n: b"data: a\n" * n + b"\n"),
    "events: one field, 64 bytes a read": (_fed(SSEDecoder, 64), lambda n: b"data: " + b"x" * 64 * n + b"\n\n"),
    "events: CRs, one byte a read": (_fed(SSEDecoder, 1), lambda n: b"\r\n" * n),
    "events: comments": (_fed(SSEDecoder, 100), lambda n: b": x\n" * n),
    "http: headers": (TARGETS["http"], lambda n: b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * min(n, 10_000) + b"\r\n"),
    "http: chunks": (
        TARGETS["http"],
        lambda n: b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * n + b"0\r\n\r\n",
    ),
    "ask_ollama: messages": (
        TARGETS["ask_ollama"],
        lambda n: b'{"model":"m","messages":[%b{"role":"user"}]}' % (b'{"role":"user","content":"a"},' * n),
    ),
    "ask_ollama: a duration": (
        TARGETS["ask_ollama"],
        lambda n: b'{"model":"m","messages":[{"role":"user"}],"keep_alive":"%bx"}' % (b"1h.5s" * n),
    ),
    "ask_ollama: digits of a duration": (
        TARGETS["ask_ollama"],
        lambda n: b'{"model":"m","messages":[{"role":"user"}],"keep_alive":"%bx"}' % (b"1" * 100 * n),
    ),
    "ask_openai: calls and answers": (
        TARGETS["ask_openai"],
        lambda n: (
            b'{"model":"m","messages":[%b{"role":"user"}]}' % (b'{"role":"tool","tool_call_id":"c","content":"a"},' * n)
        ),
    ),
    "ask_openai: a long url": (
        TARGETS["ask_openai"],
        lambda n: (
            b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":"data:%b"}]}]}'
            % (b";a" * 50 * n)
        ),
    ),
    "ask_ai: parts": (
        TARGETS["ask_ai"],
        lambda n: (
            b'{"id":"c","messages":[{"role":"assistant","parts":[%b{"type":"text"}]}]}'
            % (b'{"type":"tool-f","state":"output-denied"},{"type":"text","text":"a"},' * n)
        ),
    ),
    "ask_ai: calls of one step": (
        TARGETS["ask_ai"],
        lambda n: (
            b'{"id":"c","messages":[{"role":"assistant","parts":[%b{"type":"text"}]}]}'
            % (b'{"type":"tool-f","state":"output-denied"},' * n)
        ),
    ),
    "ask_ai: a step before its first call": (
        TARGETS["ask_ai"],
        lambda n: (
            b'{"id":"c","messages":[{"role":"assistant","parts":[%b{"type":"text"}]}]}'
            % (b'{"type":"text","text":"a"},' * n)
        ),
    ),
    "ask_runs: references": (
        TARGETS["ask_runs"],
        lambda n: (
            b'{"message":"a","model":"m","format":{%b"a":1}}'
            % b"".join(b'"k%d":{"$ref":"#/k%d"},' % (at, at + 1) for at in range(n))
        ),
    ),
    "ask_runs: a pattern": (
        TARGETS["ask_runs"],
        lambda n: b'{"message":"a","model":"m","format":{"pattern":"%b"}}' % (b"[(" * n),
    ),
    "ask_runs: many patterns": (
        TARGETS["ask_runs"],
        lambda n: b'{"message":"a","model":"m","format":{"x":[%b{}]}}' % (b'{"pattern":"[[[[[[[[[["},' * n),
    ),
}
"""By name: what takes an input, and what makes one of a size."""


def run() -> bool:
    """Prints a line each: the time of the largest input, and what each doubling cost; True if all are linear."""
    good = True
    for name, (take, make) in NASTY.items():
        size, times = 16, []
        while _seconds(take, make(size)) < _ENOUGH and len(make(size)) < _LARGEST // 2**_DOUBLINGS:
            size *= 2
        times = [_seconds(take, make(size << doubling)) for doubling in range(_DOUBLINGS + 1)]
        ratios = [after / max(before, 1e-9) for before, after in itertools.pairwise(times)]
        bad = times[-1] > _WORST * max(times[0], 1e-4)
        good = good and not bad
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(
            f"{name}: {len(make(size << _DOUBLINGS)):,} bytes in {times[-1]:.3f} s, times {shown}{' NOT LINEAR' * bad}"
        )
    return good


def _seconds(take: Callable[[bytes], None], data: bytes) -> float:
    least = float("inf")
    for _ in range(_TIMES):
        gc.collect()
        start = time.process_time()
        take(data)
        least = min(least, time.process_time() - start)
    return least
