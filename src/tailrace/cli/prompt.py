"""The prompt: from the arguments, and from standard input when that is not a terminal."""

from __future__ import annotations

import codecs
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
    return _decoded(stdin.buffer.read(), stdin.encoding)


def _decoded(data: bytes, encoding: str) -> str:
    """Returns piped text: UTF-8, as most programs write it everywhere, or else in the encoding of standard input."""
    encodings = ["utf-8-sig", encoding]
    if _is_doubtful(data, encoding):
        encodings.reverse()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # a file of Notepad's or PowerShell's
        encodings = ["utf-16"]
    failed: UnicodeDecodeError | None = None
    for each in encodings:
        try:
            return data.decode(each)
        except UnicodeDecodeError as error:
            failed = failed or error
        except LookupError:
            continue  # no encoding that Python knows
    assert failed is not None
    byte, own = f"0x{data[failed.start]:02x}", codecs.lookup(encoding).name if _is_known(encoding) else "utf-8"
    if own == "utf-8":
        raise RequestError(say("error.stdin_not_utf8", byte=byte, offset=failed.start)) from failed
    words = say("error.stdin_not_text", encoding=own, byte=byte, offset=failed.start)
    raise RequestError(words) from failed


_WIDE = {"gbk", "gb2312", "gb18030", "big5", "big5hkscs", "cp950", "shift_jis", "cp932", "euc_jp", "euc_kr", "cp949"}


def _is_known(encoding: str) -> bool:
    try:
        codecs.lookup(encoding)
    except LookupError:
        return False
    return True


def _is_doubtful(data: bytes, encoding: str) -> bool:
    """Says whether what could be UTF-8 is more likely text of a Chinese, Japanese or Korean encoding.

    Such a character in UTF-8 has three bytes. So where standard input has an encoding like GBK, text of which every
    character would have two is in that: a few of its characters look like Greek or Cyrillic in UTF-8.
    """
    if not _is_known(encoding) or codecs.lookup(encoding).name not in _WIDE or data.isascii():
        return False
    return not any(byte >= 0xE0 for byte in data)


def _be_patient(session: Session, descriptor: int) -> None:
    """Tells what we wait for if nobody writes: a program that starts us may have left its own standard input to us."""
    if os.name != "nt" and not select.select([descriptor], [], [], _PATIENCE)[0]:
        session.err.line(say("note.stdin"))
