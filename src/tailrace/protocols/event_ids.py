"""Event ids: the number of an event in its run's log, and a part of the run's id that tells it from other runs'.

``17-3fa9c2d1`` is event 17 of the run whose id goes on ``run_3fa9c2d1…``.
"""

from __future__ import annotations

import re

__all__ = ["BadCursorError", "event_id", "parse_cursor", "tag_of"]

_CURSOR = re.compile(r"([0-9]{1,15})(?:-([0-9a-f]{8}))?", re.ASCII)


class BadCursorError(ValueError):
    """A cursor that is none, or one of another run."""


def tag_of(run: str) -> str:
    """Returns the part of a run's id that its events' ids carry."""
    return run.removeprefix("run_")[:8]


def event_id(number: int, tag: str) -> str:
    """Returns the id of an event.

    >>> event_id(17, "3fa9c2d1")
    '17-3fa9c2d1'
    """
    return f"{number}-{tag}"


def parse_cursor(text: str, tag: str) -> int:
    """Returns the number of the last event that a reader has seen; 0 for an empty cursor.

    Args:
        text: an event's id, or a number alone.
        tag: of the run that it is to be an event of.

    Raises:
        BadCursorError: it is neither, or an event of another run.
    """
    text = text.strip(" ")
    if not text:
        return 0
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise BadCursorError("a cursor is the id of an event, such as 17-3fa9c2d1, or its number")
    if found[2] and found[2] != tag:
        raise BadCursorError("this is the id of an event of another run")
    return int(found[1])
