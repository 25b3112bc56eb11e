"""Encodes ``/runs/{id}/events``: each event of the log by its own name, its fields as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tailrace.events import Ended, Event, TextDelta
from tailrace.protocols import sse
from tailrace.protocols.event_ids import event_id
from tailrace.protocols.event_json import ending_of, fields_of, name_of, text_json

__all__ = ["RunsWire"]


class RunsWire:
    """Encodes one run's events.

    Args:
        tag: of the run, for the ids.
        metrics: returns the run's times and counts, for the last event.
    """

    def __init__(self, tag: str, metrics: Callable[[], Any]) -> None:
        self._tag = tag
        self._metrics = metrics

    def encode(self, events: Sequence[Event], after: int) -> bytes:
        """Returns the events as bytes; `after` is the number of the one before the first."""
        tag, out, number = self._tag.encode(), [], after
        for event in events:
            number += 1
            if type(event) is TextDelta and not event.logprobs:
                text = text_json(event.text)
                out.append(b'id: %d-%b\nevent: text_delta\ndata: {"text":%b}\n\n' % (number, tag, text))
            else:
                out.append(self.other(event, number))
        return b"".join(out)

    def other(self, event: Event, number: int) -> bytes:
        """Returns an event of any kind."""
        fields = ending_of(event, self._metrics()) if isinstance(event, Ended) else fields_of(event)
        return sse.encode(msgspec.json.encode(fields), id=event_id(number, self._tag), event=name_of(event))

    def reset(self) -> bytes:
        """Returns the event that tells a reader to forget what it has."""
        return sse.encode(b'{"after":0}', event="reset", id=event_id(0, self._tag))

    def lagged(self) -> bytes:
        """Returns the event that tells a reader that it was too slow and is let go; it may come back."""
        return sse.encode(b"{}", event="lagged")
