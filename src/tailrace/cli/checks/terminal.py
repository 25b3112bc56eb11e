"""The terminal: what it can display; and the language of the output."""

from __future__ import annotations

import asyncio
import locale
import os
import re
import select
import shutil
import sys
import time
from typing import Any

from tailrace import i18n
from tailrace.cli.checks.finding import Finding
from tailrace.i18n import say

__all__ = ["language", "terminal"]

_REPLY = 0.5  # seconds a terminal has to say where its cursor is
_VARIABLES = ("TAILRACE_LANG", "LC_ALL", "LC_MESSAGES", "LANG")


async def terminal() -> Finding:
    """Streams, size, colours, encoding and the width of Chinese characters."""
    return await asyncio.to_thread(_terminal)


def _terminal() -> Finding:
    tty = {name: _is_terminal(getattr(sys, name)) for name in ("stdin", "stdout", "stderr")}
    columns, rows = shutil.get_terminal_size()
    term = os.environ.get("TERM", "")
    encoding = (getattr(sys.stdout, "encoding", None) or "").lower()
    width = measured_width("中") if tty["stdin"] and tty["stdout"] and term != "dumb" else None
    facts: dict[str, Any] = {
        "tty": tty,
        "columns": columns,
        "rows": rows,
        "term": term,
        "colorterm": os.environ.get("COLORTERM", ""),
        "no_color": bool(os.environ.get("NO_COLOR")),
        "colours": tty["stdout"] and not os.environ.get("NO_COLOR") and term != "dumb",
        "encoding": encoding,
        "utf8": encoding.replace("-", "") == "utf8",
        "cjk_width": width,
        "synchronized_output": None,
    }
    return Finding(name="terminal", **_judged(facts), facts=facts)


def _judged(facts: dict[str, Any]) -> dict[str, Any]:
    if not facts["tty"]["stdout"]:
        where = say("doctor.no_terminal", encoding=facts["encoding"])
    else:
        where = say("doctor.terminal", columns=facts["columns"], rows=facts["rows"], term=facts["term"] or "?")
        colours = say("doctor.colours") if facts["colours"] else say("doctor.no_colours")
        width = facts["cjk_width"]
        wide = say("doctor.cjk_unknown") if width is None else say("doctor.cjk", width=width)
        where = f"{where}, {colours}, {facts['encoding']}, {wide}, {say('doctor.sync_unknown')}"
    if facts["tty"]["stdout"] and not facts["utf8"]:
        return {"mark": "problem", "seen": where, "do": say("doctor.use_utf8")}
    if facts["cjk_width"] not in (None, 2):
        return {"mark": "problem", "seen": where, "do": say("doctor.use_cjk")}
    return {"mark": "ok", "seen": where}


def _is_terminal(stream: Any) -> bool:
    try:
        return stream is not None and bool(stream.isatty())
    except ValueError:  # closed
        return False


def measured_width(text: str) -> int | None:
    """Returns the columns that the terminal moves its cursor by for `text`; None if it does not tell."""
    try:
        import termios
        import tty

        ours, theirs = sys.stdin.fileno(), sys.stdout.fileno()
        if os.tcgetpgrp(ours) != os.getpgrp():
            return None  # in the background the system would stop us for asking
        kept = termios.tcgetattr(ours)
        tty.setcbreak(ours, termios.TCSADRAIN)
        try:
            os.write(theirs, f"\r{text}\x1b[6n".encode())
            return _column(ours)
        finally:
            os.write(theirs, b"\r\x1b[K")
            termios.tcsetattr(ours, termios.TCSADRAIN, kept)
    except (ImportError, OSError, ValueError):  # Windows; or not quite a terminal
        return None
    except Exception as error:
        if type(error).__name__ == "error":  # termios.error, which is no OSError
            return None
        raise


def _column(descriptor: int) -> int | None:
    deadline = time.monotonic() + _REPLY
    reply = b""
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        data = os.read(descriptor, 64)
        reply += data
        if (match := re.search(rb"\x1b\[\d+;(\d+)R", reply)) is not None:
            return int(match[1]) - 1
        if not data:
            break
    return None


async def language() -> Finding:
    """The locale, and the language that was chosen by it."""
    chosen = i18n.language()
    by = next((name for name in _VARIABLES if os.environ.get(name)), "")
    value = os.environ.get(by, "")
    if not by or i18n.language() != ("zh" if value.lower().startswith("zh") else "en"):
        by, value = ("--lang", chosen) if by or chosen == "zh" else ("", "")
    known = _locale_exists()
    facts: dict[str, Any] = {"language": chosen, "by": by, "value": value, "locale_exists": known}
    words = say("doctor.language", name=chosen, by=f"{by}={value}" if by else say("doctor.by_default"))
    if not known:
        named = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or ""
        words = f"{words}; {say('doctor.no_locale', name=named)}"
        return Finding(name="language", mark="note", seen=words, do=say("doctor.get_locale"), facts=facts)
    return Finding(name="language", mark="ok", seen=words, facts=facts)


def _locale_exists() -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return True
