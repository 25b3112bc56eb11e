"""The prompt: from the arguments, and from standard input when that is not a terminal."""

from __future__ import annotations

import os
import select
import sys

from tailrace.cli.session import Session
from tailrace.errors import RequestError
from tailrace.i18n import say

__all__ = ["read_prompt"]

_PATIENCE = 2.0  # seconds of silence after which we say that we wait for standard input


def read_prompt(session: Session, words: tuple[str, ...]) -> str | None:
    """Returns the prompt, piped text first as `ollama run` does it; None if there is none.

    Raises:
        RequestError: it is not text.
    """
    given = " ".join(words)
    try:
        given.encode()
    except UnicodeEncodeError:  # Python keeps bytes of an argument that are not UTF-8 as lone surrogates
        raise RequestError(say("error.prompt_not_utf8")) from None
    piped = _read_stdin(session)
    text = f"{piped} {given}" if piped and given else piped or given
    return text if text.strip() else None


def _read_stdin(session: Session) -> str:
    stdin = sys.stdin
    if stdin is None or stdin.isatty():
        return ""
    _be_patient(session, stdin.fileno())
    data = stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = f"0x{data[error.start]:02x}"
        raise RequestError(say("error.stdin_not_utf8", byte=byte, offset=error.start)) from error


def _be_patient(session: Session, descriptor: int) -> None:
    """Tells what we wait for if nobody writes: a program that starts us may have left its own standard input to us."""
    if os.name != "nt" and not select.select([descriptor], [], [], _PATIENCE)[0]:
        session.err.line(say("note.stdin"))
