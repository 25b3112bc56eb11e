"""Printing what a console may not be able to show: a character that it lacks becomes ``?``, and nothing is raised."""

from __future__ import annotations

import sys
from typing import TextIO

__all__ = ["put"]


def put(text: str, stream: TextIO | None = None) -> None:
    """Writes text as `print` does, without a line end of its own, and flushes.

    A model says what a console of GBK or cp1252 has no character for; a program must not die of it.

    Args:
        text: what to write.
        stream: where; standard output by default. Without one, as in a windowed program, nothing is written.
    """
    out = sys.stdout if stream is None else stream
    if out is None:
        return
    try:
        out.write(text)
    except UnicodeEncodeError as error:  # raised before anything of it was written
        encoding = getattr(out, "encoding", None) or error.encoding
        out.write(text.encode(encoding, "replace").decode(encoding))
    out.flush()
