"""Server-sent events: decoder and encoder, after the WHATWG HTML standard, section 9.2.6.

Each rule of that section ("Interpreting an event stream") is a test. The decoder keeps the last event id, with which a
reader resumes. `encode` is the only place where an event is put together from parts that could hold a line end.
"""

from __future__ import annotations

import msgspec

from tailrace.protocols.lines import MAX_LINE, LineSplitter

__all__ = ["PING", "STRAY", "SSEDecoder", "ServerSentEvent", "comment", "encode", "retry"]

PING = b": ping\n\n"

STRAY = "\0stray"
"""The type of what is no event but a line beside them; it is no type that we would send."""

_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b"error:")

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(msgspec.Struct, gc=False):
    """One dispatched event.

    Attributes:
        data: the data as bytes: decoders of JSON want bytes. `text` is the decoded form.
        type: the event type; ``message`` unless the server named one.
        id: the last event id at the time of dispatch.
    """

    data: bytes
    type: str = "message"
    id: str = ""

    @property
    def text(self) -> str:
        """The data as text; invalid UTF-8 becomes U+FFFD, as the standard asks."""
        return self.data.decode("utf-8", "replace")


class SSEDecoder:
    """Decodes an event stream.

    Args:
        max_line: bytes that a line, the data of an event, or all that belongs to no event may have.
        lenient: take what servers write beside the standard when they fail: a field ``error`` is an event of that type,
            which needs no data, and a line that is no field is an event of the type `STRAY`.

    Attributes:
        last_event_id: what a reconnect sends as ``Last-Event-ID``.
        retry: reconnection time in ms, once the server named one.
        overflow: True once a limit was passed.
    """

    def __init__(self, max_line: int = MAX_LINE, *, lenient: bool = False) -> None:
        self.last_event_id = ""
        self._lenient = lenient
        self._skipped = 0  # bytes of lines that belong to no event
        self.retry: int | None = None
        self._lines = LineSplitter(max_line)
        self._limit = max_line
        self._after_cr = False
        self._start = b""  # the first bytes, until it is clear whether they are a byte order mark
        self._started = False
        self._data: list[bytes] = []
        self._size = 0
        self._type = ""
        self._id: str | None = None
        self._too_much = False

    @property
    def overflow(self) -> bool:
        """True once a limit was passed; nothing more comes out then."""
        return self._lines.overflow or self._too_much

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Takes bytes as they came; returns the events they finish."""
        if not self._started:
            data = self._skip_bom(data)
        if b"\r" in data or self._after_cr:
            data = self._normalise(data)
        events: list[ServerSentEvent] = []
        for line in self._lines.feed(data):
            if self._too_much:
                break
            if not line:
                if self._data or self._type or self._id is not None:
                    self._dispatch(events)
                else:
                    self._skip(line)
            elif line.startswith(b"data: "):
                self._add(line[6:])
            else:
                self._field(line, events)
        return events

    def eof(self) -> list[ServerSentEvent]:
        """The server closed: an event that no blank line completed is discarded, its id included (rule 12)."""
        self._lines.eof()
        self._data.clear()
        return []

    def unfinished(self) -> list[ServerSentEvent]:
        """Returns what `eof` discards, as if it had been completed: it may say what went wrong."""
        rest = self._lines.peek()
        if self.overflow or (rest and any(field.startswith(rest) for field in _FIELDS)):
            return []  # half of a field's name is no line of its own
        return self.feed(b"\n\n")

    def _skip_bom(self, data: bytes) -> bytes:
        data = self._start + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._started = True
        self._start = b""
        return data.removeprefix(_BOM)

    def _normalise(self, data: bytes) -> bytes:
        """Makes every line end an LF. A CR at the end of a read may be half of a CRLF (rule 3)."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data.endswith(b"\r"):
            self._after_cr = True
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _add(self, value: bytes) -> None:
        self._size += len(value) + 1
        if self._size > self._limit:
            self._too_much = True
            self._data.clear()
            self._size = 0
            return
        self._data.append(value)

    def _skip(self, line: bytes) -> None:
        self._skipped += len(line) + 1
        if self._skipped > self._limit:
            self._too_much = True
            self._data.clear()

    def _field(self, line: bytes, events: list[ServerSentEvent]) -> None:
        name, colon, value = line.partition(b":")
        if colon and not name:  # a comment
            self._skip(line)
            return
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add(value)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if value.isdigit() and len(value) < 19:
                self.retry = int(value)
        elif self._lenient:
            self._beside(name, value, line, events)
        else:
            self._skip(line)

    def _beside(self, name: bytes, value: bytes, line: bytes, events: list[ServerSentEvent]) -> None:
        if name == b"error":
            self._type = "error"
            self._add(value)
        else:
            self._skip(line)
            events.append(ServerSentEvent(line, STRAY, self.last_event_id))

    def _dispatch(self, events: list[ServerSentEvent]) -> None:
        if self._id is not None:  # committed even when there is no data (rule 11)
            self.last_event_id = self._id
            self._id = None
        if not self._data and self._lenient and self._type == "error":
            self._data.append(b"")
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(ServerSentEvent(data, self._type or "message", self.last_event_id))
            self._data.clear()
            self._size = 0
        self._type = ""


def encode(data: str | bytes, *, id: str = "", event: str = "") -> bytes:
    """Returns one event as bytes; what a decoder gets out of them is one event with this data.

    Args:
        data: the data; each of its lines becomes one, whichever of CR, LF and CRLF ends it.
        id: the event's id; empty: none.
        event: its type; empty: ``message``.

    Raises:
        ValueError: the id or the type holds CR, LF or NUL, and would be more than one field.
    """
    head = b""
    for name, value in (("id", id), ("event", event)):
        if value:
            if not _FORBIDDEN.isdisjoint(value):
                raise ValueError(f"the {name} of an event cannot hold CR, LF or NUL: {value!r}")
            head += f"{name}: {value}\n".encode("utf-8", "replace")
    body = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if b"\n" in body:
        body = body.replace(b"\n", b"\ndata: ")
    return b"%bdata: %b\n\n" % (head, body)


_FORBIDDEN = frozenset("\r\n\0")


def comment(text: str) -> bytes:
    """Returns a comment, which every reader skips."""
    return b": %b\n\n" % " ".join(text.split()).encode("utf-8", "replace")


def retry(milliseconds: int) -> bytes:
    """Returns what tells a browser how long to wait before it comes back."""
    return b"retry: %d\n" % milliseconds
