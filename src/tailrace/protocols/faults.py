"""Faults: how all decoders describe an answer that cannot be decoded."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from tailrace.events import Ended, Fault, Outcome, Usage
from tailrace.protocols.error_words import error_text

__all__ = [
    "CutError",
    "Surrogates",
    "advice",
    "bad_data",
    "count",
    "figure",
    "from_error",
    "is_cut",
    "loads",
    "shown",
    "too_long",
    "too_much",
    "too_strange",
    "truncated",
    "whole",
]

_VALUES, _LEAST = 100, 16  # values on a line, and the characters that each further one has at least
_SHOWN = 200  # bytes of a bad line shown in an error: enough to see what it is, not enough to flood a log
_skip = msgspec.json.Decoder(msgspec.Raw).decode  # reads a value and makes nothing of it
_HALF_NUMBER = re.compile(r"(\d[eE]|[-+.])$")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")  # in JSON, as an escape


class CutError(ValueError):
    """What came is the beginning of a JSON value, and the rest is missing."""


def shown(data: bytes) -> str:
    """Returns the beginning of bytes that were not understood, as an error shows it."""
    return repr(data[:_SHOWN].decode("utf-8", "replace") + ("…" if len(data) > _SHOWN else ""))


def bad_data(what: str, line: bytes, where: str) -> Ended:
    """The server sent something that its protocol does not have."""
    message = f"{what} {where} of the answer: {shown(line)}"
    return Ended(Outcome.FAILED, fault=Fault("ProtocolError", message))


def figure(value: Any) -> int | None:
    """Returns a figure that a server reports; None where it did not, or where it is none that a counter can hold.

    By the protocols all of them are integers; some servers write floats, or numbers as text. What is merely reported
    must never cost an answer.
    """
    if type(value) is str and len(value) < 40:
        try:
            value = int(value) if value.isdecimal() else float(value)
        except ValueError:
            return None
    if type(value) is float:
        value = int(value) if 0 <= value < 1 << 63 else None  # also not for NaN and infinity
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def count(value: Any) -> int:
    """Returns a figure as a count: servers leave zeros out."""
    return figure(value) or 0


def too_long(limit: int) -> Ended:
    """A line that never ends."""
    return Ended(Outcome.FAILED, fault=Fault("ProtocolError", f"a line of the answer is longer than {limit:,} bytes"))


def too_much(limit: int) -> Ended:
    """Blank lines, comments and the like without end."""
    message = f"more than {limit:,} bytes of the answer hold nothing"
    return Ended(Outcome.FAILED, fault=Fault("ProtocolError", message))


def too_strange(most: int, first: bytes) -> Ended:
    """Something that our protocols do not have, again and again."""
    message = f"more than {most:,} parts of the answer are of no kind that we know, the first of them {shown(first)}"
    return Ended(Outcome.FAILED, fault=Fault("ProtocolError", message))


def truncated(missing: str, detail: str = "") -> Ended:
    """The stream stopped without the record that says it is whole."""
    message = f"the server closed the stream without {missing}" + (f" ({detail})" if detail else "")
    return Ended(Outcome.TRUNCATED, fault=Fault("TruncatedError", message), usage=None)


def from_error(error: Any, status_code: Any = None, usage: Usage | None = None) -> Ended:
    """The server said, inside the stream, that it failed; `status_code` is what it sent as such, whatever that is."""
    text = error_text(error)
    code = status_code if type(status_code) is int and 400 <= status_code <= 599 else -1  # others are no HTTP errors
    return Ended(Outcome.FAILED, fault=Fault("ResponseError", text, code, advice(text)), usage=usage)


def advice(text: str) -> str:
    """What to do about a server's error; empty if its text says it all."""
    if text == "unauthorized":  # what Ollama hands on of ollama.com
        return "sign in with `ollama signin` where Ollama runs, or give a key with OLLAMA_API_KEY"
    return _DIED if any(sign in text for sign in _DEATHS) else ""


_DEATHS = (  # what Ollama says when the process that runs the model crashed or was killed, and its engine before that
    "error was encountered while running the model",
    "has terminated",
    "unexpectedly stopped",
    "out of memory",
    "more system memory",
)
_DIED = (
    "the model's process died, most often for want of memory: try a smaller model or a smaller num_ctx; "
    "the server's log has the cause"
)


def loads(
    line: bytes, deltas: frozenset[str] = frozenset(), depth: int = 0, blanks: str = " \t\r"
) -> tuple[list[Any], int]:
    """Reads one or more JSON values from a line the fast decoder refused, mending what can be mended.

    Tolerated: a byte order mark, blanks, invalid UTF-8 (each bad byte becomes U+FFFD), lone surrogate escapes, several
    values without a line end between them (Ollama appends some errors so).

    Args:
        deltas: names of the strings in which half a character may be left for `Surrogates` to join.
        depth: how many objects deep those are.
        blanks: what may be between two values.

    Returns:
        The values, and how many characters had to be replaced.

    Raises:
        CutError: it is the beginning of JSON.
        ValueError: it is not JSON.
    """
    text = line.decode("utf-8", "replace")
    replaced = text.count("\ufffd") - line.count("\ufffd".encode())
    text = text.removeprefix("\ufeff").strip()
    values: list[Any] = []
    decoder = json.JSONDecoder(parse_constant=_refuse)
    at = 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
            value = whole(value, deltas, depth)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        except json.JSONDecodeError as error:
            if is_cut(_SURROGATE.sub("-", text[at:])):
                raise CutError(str(error)) from None
            raise
        values.append(value)
        if len(values) > _VALUES + at // _LEAST:  # reading them would take seconds
            raise ValueError(f"{len(values)} values in {at} characters")
        while at < len(text) and text[at] in blanks:
            at += 1
    return values, replaced


def is_cut(text: str) -> bool:
    """Returns whether this is the beginning of a JSON value; Python's own decoder does not distinguish that."""
    if _HALF_NUMBER.search(text[-2:]):
        text += "0"  # which is as good as a whole one, in the midst of something
    try:
        _skip(text)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except (ValueError, RecursionError):
        pass
    return False


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def whole(value: Any, deltas: frozenset[str] = frozenset(), depth: int = 0) -> Any:
    """Replaces halves of characters in a JSON value by U+FFFD; the strings named `deltas`, `depth` deep, are spared."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [whole(item, deltas, depth) for item in value]
    if isinstance(value, dict):
        return {
            whole(name): item
            if depth > 0 and name in deltas and isinstance(item, str)
            else whole(item, deltas, depth - 1)
            for name, item in value.items()
        }
    return value


class Surrogates:
    """Joins the two halves of a character that the server put into two deltas as lone surrogate escapes.

    A half that never finds its other half becomes U+FFFD, so that what leaves us can always be encoded.

    Attributes:
        replaced: how many did not.
    """

    __slots__ = ("_high", "replaced")

    def __init__(self) -> None:
        self._high = ""
        self.replaced = 0

    def mend(self, text: str) -> str:
        """Returns `text` with halves joined; a trailing first half is kept for the next call."""
        text = self._high + text
        self._high = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._high = text[-1]
            text = text[:-1]
        mended = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        self.replaced += mended.count("\ufffd") - text.count("\ufffd")
        return mended

    @property
    def waiting(self) -> bool:
        """True while a first half waits for its second."""
        return bool(self._high)

    def flush(self) -> str:
        """Returns what is left at the end of the stream."""
        rest = "\ufffd" if self._high else ""
        self.replaced += len(rest)
        self._high = ""
        return rest
