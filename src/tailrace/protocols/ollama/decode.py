"""Decodes Ollama's answers: NDJSON of `/api/chat` and `/api/generate`, or one JSON document.

Read from ollama/ollama, ``api/types.go`` and ``server/routes.go``. What matters most: the last line may lack its LF;
content may come on the ``done`` line; an error is a line ``{"error": …}``; and a stream that ends without
``done: true`` is not a success, although its HTTP status is 200.
"""

from __future__ import annotations

import msgspec

from tailrace.events import Ended, Event, Outcome, Usage
from tailrace.protocols import faults
from tailrace.protocols.decoder_base import AnswerDecoderBase
from tailrace.protocols.error_words import error_in
from tailrace.protocols.lines import MAX_LINE, LineSplitter
from tailrace.protocols.ollama.records import (
    Line,
    ReportedLine,
    ToldError,
    UnknownError,
    content_of,
    context_of,
    image_of,
    look_at,
    report_of,
    steps_of,
    tokens_of,
    usage_of,
)
from tailrace.protocols.reasons import ended_for, graver, reason_of

__all__ = ["AnswerDecoder"]

_decode = msgspec.json.Decoder(Line).decode
_decode_reported = msgspec.json.Decoder(ReportedLine).decode
_DELTAS = frozenset(("content", "response", "thinking"))
_PIECE = 16_384  # bytes decoded at a time: what is only made on the way to events then stays in the processor's cache


class AnswerDecoder(AnswerDecoderBase):
    """Decodes the answer of `/api/chat` or `/api/generate`, streamed or whole.

    Args:
        max_line: bytes that a line may have, a document of several lines, or all blank lines.
        whole: no stream was asked for: one record without ``done`` is an answer too.
        reports: the server is our own worker, which reports what a run waits for; anybody else's are not believed.

    Attributes:
        ended: True once the ending came out; what is fed later is only counted.
        surplus: lines after the ending.
    """

    __slots__ = (
        *("_blank", "_document", "_fresh", "_limit", "_lines", "_lone", "_mending", "_reason", "_record", "_reports"),
        "_whole",
    )

    def __init__(self, max_line: int = MAX_LINE, *, whole: bool = False, reports: bool = False) -> None:
        super().__init__()
        self._lines = LineSplitter(max_line)
        self._limit = max_line
        self._whole = whole
        self._reports = reports
        self._record: type[Line] = ReportedLine if reports else Line
        self._mending = False  # half a character waits for its second half
        self._reason: str | None = None  # a done_reason seen on a line without done
        self._fresh = True  # no record has come
        self._lone = False  # one has, without `done`, and nothing else
        self._document: bytearray | None = None  # JSON over several lines
        self._blank = 0  # bytes of blank lines

    def feed(self, data: bytes) -> list[Event]:
        """Takes bytes as they came; returns the events they finish, `Ended` last if they hold the ending."""
        events: list[Event] = []
        if len(data) <= _PIECE:
            self._feed(data, events)
        else:
            for start in range(0, len(data), _PIECE):
                self._feed(data[start : start + _PIECE], events)
        if self._lines.overflow and not self.ended:
            self._end(faults.too_long(self._limit), events)
        if self.ended and self.surplus:
            self._note_surplus(events, "lines")
        return events

    @property
    def settling(self) -> bool:
        """True while what came may be the whole answer, though nothing says that it is."""
        held = self._lines.held > 0 or self._document is not None
        return not self.ended and (held or self._reason is not None or (self._whole and self._lone))

    def settle(self) -> list[Event]:
        """The server says nothing more: returns the rest and the ending if the answer is whole, else nothing."""
        if self.ended:
            return []
        rest = bytes(self._document) if self._document is not None else self._lines.peek()
        if self._reason is None:
            return self.eof() if self._is_final(rest) or (self._whole and self._lone and not rest.strip()) else []
        events: list[Event] = []
        warning = f'the server fell silent after done_reason "{self._reason}", without done: true'
        self._end(ended_for(self._reason, warnings=(warning,)), events)
        return events

    def _is_final(self, rest: bytes) -> bool:
        """Returns whether a line without its end, or a document, is the final record."""
        try:
            record = _decode(rest)
        except (ValueError, RecursionError):
            return False
        answer = record.message is not None or record.response is not None
        return record.done is True or (self._whole and self._fresh and answer and record.done is None)

    def eof(self) -> list[Event]:
        """The server closed: returns the rest, and an ending if none had come."""
        events: list[Event] = []
        if self.ended:
            return events
        rest = self._lines.eof() if self._document is None else bytes(self._document)
        if rest.strip():
            self._rest(rest, events)
        if not self.ended:
            self._end(self._without_done(), events)
        return events

    def _without_done(self) -> Ended:
        """Returns the ending of an answer that lacks its final record."""
        if self._reason is not None:
            warning = f'the server sent done_reason "{self._reason}" but never done: true'
            return ended_for(self._reason, warnings=(warning,))
        if self._whole and self._lone:
            return Ended(Outcome.COMPLETE, usage=Usage())
        unknown = self._passed_over
        if unknown and self._fresh:
            return faults.bad_data("not a line of Ollama's protocol", unknown, "at the beginning")
        detail = f"it sent something unknown: {faults.shown(unknown)}" if unknown else ""
        return faults.truncated('"done": true', detail)

    def _rest(self, rest: bytes, events: list[Event]) -> None:
        """Takes what no line end ends: a whole last line may lack its LF, and a document is no line."""
        # Half a line does not parse and is never shown.
        offset = self._lines.taken if self._document is None else 0
        try:
            for record in self._records(rest, events, " \t\r" if self._document is None else " \t\r\n"):
                self._on_record(record, events)
        except faults.CutError:
            what = "the last line is cut in half" if self._document is None else "its JSON is cut in half"
            self._end(faults.truncated("its final record", what), events)
        except ValueError as error:
            self._end(self._bad(error, rest, offset), events)

    def _feed(self, data: bytes, events: list[Event]) -> None:
        if self._document is not None:
            self._extend(data, events)
            return
        block = self._lines.feed_block(data)
        if not self.ended and not self._mending:
            # All of them are tokens nearly always, but for an ending; and tokens cost least when decoded together.
            last = block.rfind(b"\n", 0, -1) + 1
            cut = len(block) if block.find(b'"done":true', last) < 0 else last
            tokens = tokens_of(block[:cut])
            if tokens is not None:
                events += tokens
                if cut:
                    self._fresh = self._lone = False
                block = block[cut:]
        if block:
            self._line_by_line(block, events)

    def _extend(self, data: bytes, events: list[Event]) -> None:
        if self._document is None or self.ended:
            return
        self._document += data
        if len(self._document) > self._limit:
            self._end(faults.too_long(self._limit), events)

    def _on_record(self, record: Line, events: list[Event]) -> None:
        if self.ended:
            self.surplus += 1
            return
        if record.error:
            self._end(faults.from_error(record.error, record.status_code), events)
            return
        if self._reports and isinstance(record, ReportedLine) and record.tailrace is not None:
            report_of(record.tailrace, events)
            return
        message = record.message
        if message is not None:
            content_of(message.thinking, message.content, record.logprobs, message.tool_calls, events)
        else:
            content_of(record.thinking, record.response, record.logprobs, record.tool_calls, events)
            if record.completed is not None or record.total is not None:
                steps_of(record, events)
        if self._fresh:
            self._lone, self._fresh = record.done is None, False
        elif self._lone:
            self._lone = False
        if record.done:
            reason = graver(self._reason, reason_of(record.done_reason)) or ""
            context, image = context_of(record.context), image_of(record)
            self._end(ended_for(reason, usage=usage_of(record), context=context, image=image), events)
        elif record.done_reason:
            self._reason = graver(self._reason, reason_of(record.done_reason))

    def _line_by_line(self, block: bytes, events: list[Event]) -> None:
        lines = block.split(b"\n")
        lines.pop()
        decode = _decode_reported if self._reports else _decode
        for index, line in enumerate(lines):
            if self.ended:
                self.surplus += sum(1 for rest in lines[index:] if rest.strip())
                break
            if not line or line.isspace():
                self._on_blank(line, events)
                continue
            try:
                record: Line = decode(line)
                if record.message is None and (
                    type(record.response) is not str or record.tool_calls or record.thinking
                ):
                    look_at(record, line)  # it is more than a completion's text
            except UnknownError:
                self._pass_over(line, events)
            except (ValueError, RecursionError):
                self._salvage(line, lines, index, events)
                if self._document is not None:
                    break
            else:
                if self._mending:
                    self._mend(record)
                self._on_record(record, events)

    def _on_blank(self, line: bytes, events: list[Event]) -> None:
        self._blank += len(line) + 1
        if self._blank > self._limit:
            self._end(faults.too_much(self._limit), events)

    def _salvage(self, line: bytes, lines: list[bytes], index: int, events: list[Event]) -> None:
        """A line that the fast decoder refused: mendable, the beginning of a document, or wrong."""
        tokens = tokens_of(line + b"\n") if not self._mending else None
        if tokens is not None:  # what is a token among tokens must be one by itself, whatever else it holds
            events += tokens
            self._fresh = self._lone = False
            return
        try:
            for record in self._records(line, events):
                self._on_record(record, events)
        except faults.CutError as error:
            if self._fresh:
                self._document = bytearray()
                self._extend(b"\n".join((*lines[index:], self._lines.eof())), events)
            else:
                self._end(self._bad(error, line, self._offset(lines, index)), events)
        except ValueError as error:
            self._end(self._bad(error, line, self._offset(lines, index)), events)

    def _offset(self, lines: list[bytes], index: int) -> int:
        return self._lines.taken - sum(len(later) + 1 for later in lines[index:])

    def _bad(self, error: Exception, line: bytes, offset: int) -> Ended:
        if isinstance(error, ToldError):
            return faults.from_error(error.error, error.code)
        return faults.bad_data(f"not a line of Ollama's protocol ({error})", line, f"at byte {offset}")

    def _records(self, line: bytes, events: list[Event], blanks: str = " \t\r") -> list[Line]:
        values, replaced = faults.loads(line, _DELTAS, 2, blanks)
        self._replaced += replaced
        records = []
        for value in values:
            try:
                record = msgspec.convert(value, self._record)
                if record.message is None:
                    look_at(record, line)
            except UnknownError:
                self._pass_over(line, events)
                continue
            except ValueError as error:
                found = error_in(value)
                if found is not None:
                    raise ToldError(*found) from error
                raise
            self._mend(record)
            records.append(record)
        return records

    def _mend(self, record: Line) -> None:
        """Halves of characters only get through the slow decoder, so only its records, and the next, need mending."""
        message = record.message
        if message is not None:
            if message.thinking:
                message.thinking = self._thinking.mend(message.thinking)
            if message.content:
                message.content = self._text.mend(message.content)
        else:
            if record.thinking:
                record.thinking = self._thinking.mend(record.thinking)
            if record.response:
                record.response = self._text.mend(record.response)
        self._mending = self._text.waiting or self._thinking.waiting
