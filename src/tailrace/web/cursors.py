"""A reader that comes, for the first time or again: from its cursor to what it is to be sent, or to what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from tailrace.errors import EvictedError
from tailrace.protocols.event_ids import BadCursorError, event_id, parse_cursor, tag_of
from tailrace.protocols.event_json import fields_of
from tailrace.protocols.problems import ProblemError, problem_of
from tailrace.run.run import Run
from tailrace.web.source import Source, plain_feed, runs_feed

__all__ = ["WireName", "cursors_of", "evicted", "reading"]

WireName = Literal["plain", "runs", "html"]


def cursors_of(last_event_ids: Sequence[str], after: Sequence[str]) -> Sequence[str]:
    """Returns the cursors that count in a request.

    ``Last-Event-ID`` goes first: an `EventSource` comes back to the address it was made with, whose ``after`` is older.

    Args:
        last_event_ids: the values of the ``Last-Event-ID`` headers.
        after: the values of ``?after=``.
    """
    return [text for text in last_event_ids if text.strip(" ")] or after


def reading(run: Run, cursors: Sequence[str], *, wire: WireName, before: str = "") -> Source | None:
    """Returns what a reader of a run is to be sent; None if nothing more will come, which is a 204.

    A cursor ahead of the log, from a log that was lost, begins with a reset: never with silence.

    Args:
        run: the run.
        cursors: what the request has as a cursor: none or an empty one, an event's id, or its number.
        wire: the tutorial's, or that of ``/runs/{id}/events``, as it is or with its text as HTML.
        before: for HTML, the text that the run goes on from.

    Raises:
        ProblemError: 400: not the id of an event of this run, or several; 410: what comes after it is no longer kept.
    """
    if len(cursors) > 1:
        raise ProblemError(400, "a reader has one cursor, and this request has several")
    try:
        after = parse_cursor(cursors[0] if cursors else "", tag_of(run.id))
    except BadCursorError as error:
        raise problem_of(error) from error
    log = run.log
    if log.sealed and after == log.end:
        return None
    try:
        if after > log.end:
            log.read(0)  # all of it comes again, if all of it is there
        if wire == "html":
            from tailrace.web.rendered import rendered  # needs markdown-it-py, which comes with `serve`

            return rendered(run, after, before)
        return Source(plain_feed(run) if wire == "plain" else runs_feed(run), after)
    except EvictedError as error:
        raise evicted(run) from error


def evicted(run: Run) -> ProblemError:
    """Returns the problem of a reader that comes too late: all that was generated, and where to go on from there."""
    tag = tag_of(run.id)
    reply, last = run.log.so_far()
    told: dict[str, Any] = {
        "text": reply.text,
        "thinking": reply.thinking,
        "tool_calls": [fields_of(call) for call in reply.tool_calls],
    }
    oldest, after = event_id(run.log.first, tag), event_id(last, tag)
    hint = f"take the reply from here, and read on after {after}"
    detail = f"what comes after this event is no longer kept; the first that is, is {oldest}"
    return ProblemError(410, detail, hint=hint, oldest=oldest, after=after, reply=told)
