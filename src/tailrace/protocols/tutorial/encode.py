"""The tutorial's server-sent events: ``data: {"content": …}`` for each piece, ``data: [DONE]`` at the end.

Additions do not disturb clients that know only this: every object has ``content``; waiting, thinking and the ending are
named events, which an `EventSource` listening to ``message`` skips; ids are a field that clients reading line by line
ignore. ``[DONE]`` is sent where a loop over the stream would end normally; where it would raise, an error event is sent
and no ``[DONE]``: a stream that merely stops is never a success.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tailrace.events import Ended, Event, Outcome, Progress, TextDelta, ThinkingDelta
from tailrace.protocols import sse
from tailrace.protocols.event_ids import event_id
from tailrace.protocols.event_json import ending_of, fault_of, fields_of, name_of, text_json

__all__ = ["PlainWire"]

_QUIET = (Outcome.COMPLETE, Outcome.LENGTH, Outcome.CANCELLED)  # a loop over the stream just ends


class PlainWire:
    """Encodes one run's events.

    Args:
        tag: of the run, for the ids.
        metrics: returns the run's times and counts, for the last event.
    """

    __slots__ = ("_metrics", "_tag", "_tag_bytes")

    def __init__(self, tag: str, metrics: Callable[[], Any]) -> None:
        self._tag = tag
        self._tag_bytes = tag.encode()
        self._metrics = metrics

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        """Returns the events as bytes; `after` is the number of the one before the first."""
        tag, out, number = self._tag_bytes, [], after
        for event in events:
            number += 1
            if type(event) is TextDelta:
                out.append(b'id: %d-%b\ndata: {"content":%b}\n\n' % (number, tag, text_json(event.text)))
            else:
                out.append(self._other(event, number))
        return b"".join(out)

    def reset(self) -> bytes:
        """Returns the event that tells a reader to forget what it has."""
        return sse.encode(b'{"content":"","after":0}', event="reset", id=event_id(0, self._tag))

    def lagged(self) -> bytes:
        """Returns the event that tells a reader that it was too slow and is let go; it may come back."""
        return sse.encode(b'{"content":""}', event="lagged")

    def _other(self, event: Event, number: int) -> bytes:
        id = event_id(number, self._tag)
        if isinstance(event, Ended):
            return self._ending(event, number)
        if isinstance(event, ThinkingDelta):
            return sse.encode(_object({"thinking": event.text}), id=id, event="thinking")
        if isinstance(event, Progress):
            return b""
        return sse.encode(_object(fields_of(event)), id=id, event=name_of(event))

    def _ending(self, ended: Ended, number: int) -> bytes:
        id = event_id(number, self._tag)
        out = []
        if ended.outcome not in _QUIET and ended.outcome is not Outcome.ABANDONED:
            # Its id is the one before: a reader cut off here comes back for the rest.
            out.append(sse.encode(_object({"error": fault_of(ended)}), id=event_id(number - 1, self._tag)))
        out.append(sse.encode(_object(ending_of(ended, self._metrics())), id=id, event="ended"))
        if ended.outcome in _QUIET:
            out.append(sse.encode(b"[DONE]", id=id))
        return b"".join(out)


def _object(values: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"content": "", **values})
