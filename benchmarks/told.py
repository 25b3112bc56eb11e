"""What readers were told, made out of what came on their sockets, and counted against what there was to tell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.common import quantile
from tailrace.protocols.lines import LineSplitter
from tailrace.protocols.sse import SSEDecoder

__all__ = ["Came", "Tally", "Told", "pieces", "tally"]

Came = list[tuple[float, bytes]]
"""Times (monotonic, seconds), and what came then."""


class Told:
    """What one reader was told.

    Args:
        came: what came on its connection, with its head.
        path: where it had asked, which tells the wire.

    Attributes:
        tokens: the texts of the answer's events, in order.
        ids: the numbers of all events.
        delays: seconds from a token's making to its coming.
        whole: True if the stream ended as it should, with an ending and [DONE].
        refused: what was said instead of an answer; empty if there was one.
    """

    def __init__(self, came: Came, path: str) -> None:
        self.tokens: list[str] = []
        self.ids: list[int] = []
        self.delays: list[float] = []
        self.whole = False
        try:
            read = pieces(came)
        except RuntimeError as refused:
            self.refused = str(refused)
            return
        self.refused = ""
        if path.startswith("/api/"):
            self._lines(read)
        elif path.startswith("/runs/"):
            self._events(read, _text, closed=False)
        else:
            self._events(read, _openai if path.startswith("/v1/") else _content, closed=True)
            if path == "/chat/stream" and not any(self.ids):  # the tutorial's Flask code says no [DONE]
                self.whole = came[-1][1].endswith(b"0\r\n\r\n")

    def _events(self, read: Came, text_of: Callable[[bytes], str], *, closed: bool) -> None:
        """Events, with or without a [DONE] behind the ending."""
        ended = False
        decoder = SSEDecoder()
        for came, data in read:
            for event in decoder.feed(data):
                self.ids.append(int(event.id.partition("-")[0] or 0))
                if event.type == "ended":
                    ended = True
                    self.whole = not closed
                elif event.data == b"[DONE]":
                    self.whole = ended or not event.id  # peers have no ending of ours
                elif text := text_of(event.data):
                    self._token(text, came)

    def _lines(self, read: Came) -> None:
        """A proxy passes on the model server's own lines."""
        lines = LineSplitter()
        for came, data in read:
            for line in lines.feed(data):
                chunk = json.loads(line)
                if chunk["done"]:
                    self.whole = True
                else:
                    self._token(chunk["message"]["content"], came)

    def _token(self, text: str, came: float) -> None:
        self.tokens.append(text)
        self.delays.append(came - float(text.rpartition(":")[2]))


def _content(data: bytes) -> str:
    return json.loads(data).get("content") or ""


def _text(data: bytes) -> str:
    return json.loads(data).get("text") or ""


def _openai(data: bytes) -> str:
    return next((choice["delta"].get("content") or "" for choice in json.loads(data).get("choices", ())), "")


def pieces(came: Came) -> Came:
    """Returns the pieces of a body as they were framed, each with the time when it was complete.

    Raises:
        RuntimeError: the request was refused, or there was no answer.
    """
    read: Came = []
    rest, framed, headed = b"", False, False
    for when, data in came:
        rest += data
        if not headed:
            head, empty, after = rest.partition(b"\r\n\r\n")
            if not empty:
                continue
            if not re.match(rb"HTTP/1\.1 20[01] ", head):
                raise RuntimeError(f"refused: {rest[:300]!r}")
            headed, framed, rest = True, b"transfer-encoding: chunked" in head.lower(), after
        if not framed:
            read.append((when, rest))
            rest = b""
            continue
        start = 0
        while (stop := rest.find(b"\r\n", start)) > 0:
            end = stop + 2 + int(rest[start:stop], 16)
            if len(rest) < end + 2:
                break
            if end > stop + 2:
                read.append((when, rest[stop + 2 : end]))
            start = end + 2
        rest = rest[start:]
    if not headed:
        raise RuntimeError(f"no answer: {rest!r}")
    return read


@dataclass
class Tally:
    """What many readers were told, counted.

    Attributes:
        expected: the tokens that there were to tell.
        received: how many different ones of them came, each to its own reader.
        doubled: how many came again.
        strange: how many were not the reader's own, or came out of order.
        complete: readers that got every token, once, in order, and the ending.
        refused: readers that got no answer.
        delays: of all that came, in seconds, sorted.
    """

    expected: int
    received: int = 0
    doubled: int = 0
    strange: int = 0
    complete: int = 0
    refused: int = 0
    delays: list[float] = field(default_factory=list)

    @property
    def missing(self) -> int:
        """Tokens that never came."""
        return self.expected - self.received

    def figures(self) -> dict[str, float]:
        """The counts, and how late tokens came, in milliseconds."""
        lags = {"lag_p50_ms": 0.5, "lag_p99_ms": 0.99, "lag_max_ms": 1.0}
        late = {name: 1000 * quantile(self.delays, q) for name, q in lags.items()} if self.delays else {}
        counts = ("expected", "received", "missing", "doubled", "strange", "complete", "refused")
        return {**{name: getattr(self, name) for name in counts}, **late}


def tally(told: Sequence[Told], questions: Sequence[str], tokens: int) -> Tally:
    """Counts.

    Args:
        told: of each reader.
        questions: what each was to hear the answer to.
        tokens: of an answer.
    """
    counted = Tally(len(told) * tokens)
    for question, one in zip(questions, told, strict=True):
        wanted = {f"{question}:{number}": number for number in range(tokens)}
        seen: set[int] = set()
        last = -1
        named = [text.rpartition(":")[0] for text in one.tokens]
        for name in named:
            number = wanted.get(name, -1)
            if number in seen:
                counted.doubled += 1
            elif number <= last:
                counted.strange += 1
            if number >= 0:
                seen.add(number)
            last = max(last, number)
        counted.received += len(seen)
        counted.complete += one.whole and named == list(wanted)
        counted.refused += bool(one.refused)
        counted.delays += one.delays
    counted.delays.sort()
    return counted
