"""Faults: how all decoders describe an answer that cannot be decoded."""

from __future__ import annotations

import json
from typing import Any

from tailrace.events import Ended, Fault, Outcome, Usage

__all__ = [
    "Surrogates",
    "advice",
    "bad_data",
    "count",
    "error_text",
    "from_error",
    "loads",
    "too_long",
    "truncated",
    "whole",
]

_SHOWN = 200  # bytes of a bad line shown in an error: enough to see what it is, not enough to flood a log


def bad_data(what: str, line: bytes, where: str) -> Ended:
    """The server sent something that its protocol does not have."""
    shown = line[:_SHOWN].decode("utf-8", "replace") + ("…" if len(line) > _SHOWN else "")
    message = f"{what} {where} of the answer: {shown!r}"
    return Ended(Outcome.FAILED, fault=Fault("ProtocolError", message))


def count(value: int | None) -> int:
    """Servers leave zeros out; what no counter can hold was not counted."""
    return value if value is not None and 0 < value < 1 << 63 else 0


def too_long(limit: int) -> Ended:
    """A line that never ends."""
    return Ended(Outcome.FAILED, fault=Fault("ProtocolError", f"a line of the answer is longer than {limit:,} bytes"))


def truncated(missing: str, detail: str = "") -> Ended:
    """The stream stopped without the record that says it is whole."""
    message = f"the server closed the stream without {missing}" + (f" ({detail})" if detail else "")
    return Ended(Outcome.TRUNCATED, fault=Fault("TruncatedError", message), usage=None)


def error_text(error: Any) -> str:
    """The text of an ``error`` member: a string, an object with ``message``, or a string that holds such JSON."""
    try:
        return str(whole(_text(error)))
    except RecursionError:
        return "an error that is nested too deeply to be shown"


def _text(error: Any) -> str:
    if isinstance(error, str):
        # Ollama hands its runner's body on verbatim, so the text may itself be {"error": {"message": …}}.
        if error.lstrip().startswith("{"):
            try:
                inner = json.loads(error)
            except (ValueError, RecursionError):
                return error
            if isinstance(inner, dict) and inner.get("error"):
                return _text(inner["error"])
        return error
    if isinstance(error, dict):
        message = error.get("message")
        if not isinstance(message, str) or not message:
            return json.dumps(error, ensure_ascii=False)
        prompt, context = error.get("n_prompt_tokens"), error.get("n_ctx")
        if isinstance(prompt, int) and isinstance(context, int):  # llama.cpp: what the words of old versions left out
            return f"{message} (the prompt has {prompt} tokens, the context holds {context})"
        return message
    return str(error)


def from_error(error: Any, status_code: Any = None, usage: Usage | None = None) -> Ended:
    """The server said, inside the stream, that it failed; `status_code` is what it sent as such, whatever that is."""
    text = error_text(error)
    code = status_code if type(status_code) is int and 100 <= status_code <= 999 else -1
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


def loads(line: bytes, deltas: frozenset[str] = frozenset(), depth: int = 0) -> tuple[list[Any], int]:
    """Reads one or more JSON values from a line the fast decoder refused, mending what can be mended.

    Tolerated: a byte order mark, blanks, invalid UTF-8 (each bad byte becomes U+FFFD), lone surrogate escapes, several
    values without a line end between them (Ollama appends some errors so).

    Args:
        deltas: names of the strings in which half a character may be left for `Surrogates` to join.
        depth: how many objects deep those are.

    Returns:
        The values, and how many characters had to be replaced.

    Raises:
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
        values.append(value)
        while at < len(text) and text[at] in " \t\r":
            at += 1
    return values, replaced


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
