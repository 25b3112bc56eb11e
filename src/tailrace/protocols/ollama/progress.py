"""Decodes the progress of Ollama's pull, push and create: NDJSON, or one JSON document."""

from __future__ import annotations

from typing import Any

import msgspec

from tailrace.events import Ended, Event, Outcome, Progress
from tailrace.protocols import faults
from tailrace.protocols.error_words import error_in
from tailrace.protocols.lines import MAX_LINE, LineSplitter

__all__ = ["ProgressDecoder"]


class _Progress(msgspec.Struct):
    status: str | None = None
    digest: Any = None
    total: Any = None
    completed: Any = None
    error: Any = None


class ProgressDecoder:
    """Decodes the progress lines of pull, push and create, streamed or whole.

    Args:
        max_line: bytes that a line may have, a document of several lines, or all blank lines.
        whole: no stream was asked for: one record is an answer, whatever its status is.

    Attributes:
        ended: True once the ending came out: complete after ``success``, else failed or truncated.
    """

    def __init__(self, max_line: int = MAX_LINE, *, whole: bool = False) -> None:
        self.ended = False
        self._lines = LineSplitter(max_line)
        self._limit = max_line
        self._whole = whole
        self._seen = 0
        self._status = ""
        self._blank = 0
        self._document: bytearray | None = None  # JSON over several lines

    def feed(self, data: bytes) -> list[Event]:
        """Takes bytes as they came; returns the events they finish."""
        events: list[Event] = []
        if self._document is not None:
            self._extend(data, events)
            return events
        offset = self._lines.taken
        lines = self._lines.feed(data)
        for index, line in enumerate(lines):
            if self.ended:
                break
            try:
                self._on_line(line, events)
            except faults.CutError as error:
                if not self._seen:
                    self._document = bytearray()
                    self._extend(b"\n".join((*lines[index:], self._lines.eof())), events)
                    break
                self._end(self._bad(error, line, offset), events)
            except ValueError as error:
                self._end(self._bad(error, line, offset), events)
            offset += len(line) + 1
        if self._lines.overflow and not self.ended:
            self._end(faults.too_long(self._limit), events)
        return events

    @property
    def settling(self) -> bool:
        """True while what came may be all, though nothing says that it is."""
        return not self.ended and (self._lines.held > 0 or self._document is not None)

    def settle(self) -> list[Event]:
        """The server says nothing more: returns the rest and the ending if that is success, else nothing."""
        rest = bytes(self._document) if self._document is not None else self._lines.peek()
        try:
            done = msgspec.json.decode(rest, type=_Progress).status == "success"
        except (ValueError, RecursionError):
            done = False
        return self.eof() if done else []

    def eof(self) -> list[Event]:
        """The server closed: returns the rest, and an ending if none had come."""
        events: list[Event] = []
        if self.ended:
            return events
        rest = self._lines.eof() if self._document is None else bytes(self._document)
        if rest.strip():
            try:
                self._on_line(rest, events, " \t\r\n")
            except faults.CutError:
                what = "the last line is cut in half" if self._document is None else "its JSON is cut in half"
                self._end(faults.truncated('"success"', what), events)
            except ValueError as error:
                self._end(self._bad(error, rest, self._lines.taken if self._document is None else 0), events)
        if not self.ended:
            if self._whole and self._seen == 1:
                self._end(Ended(Outcome.COMPLETE, reason=self._status), events)
            else:
                self._end(faults.truncated('"success"'), events)
        return events

    def _extend(self, data: bytes, events: list[Event]) -> None:
        if self._document is None or self.ended:
            return
        self._document += data
        if len(self._document) > self._limit:
            self._end(faults.too_long(self._limit), events)

    def _on_line(self, line: bytes, events: list[Event], blanks: str = " \t\r") -> None:
        if not line or line.isspace():
            self._blank += len(line) + 1
            if self._blank > self._limit:
                self._end(faults.too_much(self._limit), events)
            return
        values, _ = faults.loads(line, blanks=blanks)
        for value in values:
            found = error_in(value)
            if found is not None:
                self._end(faults.from_error(*found), events)
                break
            record = msgspec.convert(value, _Progress)
            self._seen += 1
            self._status = record.status or ""
            digest = record.digest if isinstance(record.digest, str) else None
            total, completed = faults.figure(record.total), faults.figure(record.completed)
            events.append(Progress(record.status, digest, total, completed))
            if record.status == "success":
                self._end(Ended(Outcome.COMPLETE, reason="success"), events)
                break

    def _bad(self, error: Exception, line: bytes, offset: int) -> Ended:
        return faults.bad_data(f"not a line of progress ({error})", line, f"at byte {offset}")

    def _end(self, ended: Ended, events: list[Event]) -> None:
        self.ended = True
        events.append(ended)
