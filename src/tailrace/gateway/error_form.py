"""The form of an error: how each protocol's clients are told what went wrong."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tailrace.protocols.problems import MEDIA_TYPE, Problem, ProblemError

__all__ = ["PROBLEM", "ErrorForm", "text_of"]


class ErrorForm(msgspec.Struct, frozen=True):
    """A protocol's form of errors.

    Attributes:
        media_type: of the response.
        kind: the type of its JSON; `str` where it is plain text.
        encode: returns the body.
    """

    media_type: str
    kind: type
    encode: Callable[[ProblemError], bytes]


def text_of(error: ProblemError) -> str:
    """Returns what happened and what to do next, in one line."""
    problem = error.problem
    return f"{problem.detail}; {problem.hint}" if problem.hint else problem.detail


PROBLEM = ErrorForm(MEDIA_TYPE, Problem, lambda error: error.body)
"""Problem details (RFC 9457): the form of our own endpoints."""
