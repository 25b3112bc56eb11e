"""What a reader was told on each wire: the words, in their order, and how it is said to have ended."""

from __future__ import annotations

import json
import re
from typing import Any

from benchmarks.soaking.plans import WORD
from tailrace.protocols.lines import LineSplitter
from tailrace.protocols.sse import ServerSentEvent, SSEDecoder

__all__ = ["Hearing"]


class Hearing:
    """Takes what a reader reads, over one connection or several.

    Args:
        wire: `plain`, `runs`, `html`, `ollama`, `openai` or `ai`.

    Attributes:
        ended: the outcome as the wire tells it; `not finished` where it does not tell more; empty until then.
        last: the id of the last event, to come back with.
    """

    def __init__(self, wire: str) -> None:
        self.wire = wire
        self.ended = ""
        self.last = ""
        self._texts: list[str] = []
        self._tail = ""
        self.connect()

    def connect(self, *, anew: bool = False) -> None:
        """What comes next comes on another connection.

        Args:
            anew: it tells everything from the start.
        """
        self._events = SSEDecoder()
        self._lines = LineSplitter()
        if anew:
            self._texts.clear()

    @property
    def words(self) -> list[str]:
        """The words until now."""
        return WORD.findall("".join(self._texts) + self._tail)

    def feed(self, data: bytes) -> None:
        """Takes a piece of a body."""
        if self.wire == "ollama":
            for line in self._lines.feed(data):
                self.line(json.loads(line))
            return
        for event in self._events.feed(data):
            self.last = event.id or self.last
            getattr(self, f"_{self.wire}")(event)

    def line(self, said: Any) -> None:
        """Takes a line of Ollama's, or a whole answer."""
        self._texts.append((said.get("message") or {}).get("content") or "")
        if said.get("done"):
            self.ended = "length" if said.get("done_reason") == "length" else "complete"
        elif "error" in said:
            self.ended = "not finished"

    def choice(self, said: Any, part: str) -> None:
        """Takes a chunk of OpenAI's, or a whole answer."""
        if "error" in said:
            self.ended = "not finished"
        for choice in said.get("choices") or ():
            self._texts.append((choice.get(part) or {}).get("content") or "")
            if reason := choice.get("finish_reason"):
                self.ended = "length" if reason == "length" else "complete"

    def _openai(self, event: ServerSentEvent) -> None:
        if event.data != b"[DONE]":
            self.choice(json.loads(event.data), "delta")

    def _plain(self, event: ServerSentEvent) -> None:
        if event.data == b"[DONE]":
            return
        said = json.loads(event.data)
        if event.type == "message":
            self._texts.append(said["content"])
        elif event.type == "ended":
            self.ended = said["outcome"]
        elif event.type == "reset":
            self._texts.clear()

    def _runs(self, event: ServerSentEvent) -> None:
        said = json.loads(event.data)
        if event.type == "text_delta":
            self._texts.append(said["text"])
        elif event.type == "ended":
            self.ended = said["outcome"]
        elif event.type == "reset":
            self._texts.clear()

    def _html(self, event: ServerSentEvent) -> None:
        if event.type == "block":
            self._texts.append(_bare(event.text))
            self._tail = ""
        elif event.type == "tail":
            self._tail = _bare(event.text)
        elif event.type == "reset":
            self._texts.clear()
            self._tail = ""
        elif event.type == "ended":
            self.ended = json.loads(event.data)["outcome"]

    def _ai(self, event: ServerSentEvent) -> None:
        if event.data == b"[DONE]":
            return
        said = json.loads(event.data)
        if said["type"] == "text-delta":
            self._texts.append(said["delta"])
        elif said["type"] == "finish":
            reason = (said.get("messageMetadata") or {}).get("finishReason")
            self.ended = "length" if reason == "length" else "complete"
        elif said["type"] in {"error", "abort"}:
            self.ended = "not finished"


def _bare(html: str) -> str:
    """The text of HTML, as far as words matter."""
    return re.sub(r"<[^>]*>", " ", html)
