"""Session: what all commands share, and how errors are shown, in one or two lines."""

from __future__ import annotations

import sys
import traceback

from tailrace.cli.stops import Stops
from tailrace.errors import (
    BusyError,
    NotModelServerError,
    ResponseError,
    TailraceError,
    TimedOutError,
)
from tailrace.i18n import say
from tailrace.terminal.escape import one_line
from tailrace.terminal.sink import Sink

__all__ = ["Session"]


class Session:
    """What the commands of one call share.

    Attributes:
        stops: the signals.
        out: standard output.
        err: standard error.
        debug: True to show tracebacks.
        is_embedded: True if the embedded engine is asked: its errors have no HTTP status that means anything to people.
    """

    def __init__(self) -> None:
        self.stops = Stops()
        self.out = Sink(sys.stdout, self.stops.blocked)
        self.err = Sink(sys.stderr, self.stops.blocked)
        self.debug = False
        self.is_embedded = False

    @property
    def on_terminal(self) -> bool:
        """True if somebody can converse: keys come in, and what is drawn is seen."""
        return sys.stdin is not None and sys.stdin.isatty() and self.out.is_terminal

    def report(self, text: str, hint: str = "") -> None:
        """Writes an error: a line, and a second one for what to do."""
        if self.out.is_terminal:
            self.out.end_line()
        self.err.line(say("error.prefix", text=one_line(text)))
        if hint:
            self.err.line(say("hint.prefix", text=one_line(hint)))

    def show_traceback(self) -> None:
        """With ``--debug``, writes where the error that is being handled came from."""
        if self.debug:
            self.err.line(traceback.format_exc().rstrip("\n"))

    def report_error(self, error: TailraceError) -> None:
        """Writes what a `TailraceError` says, and how it left an answer that had begun."""
        self.show_traceback()
        message = str(error)
        if isinstance(error, ResponseError):
            told = error.status_code > 0 and not self.is_embedded
            message = error.error + (f" (HTTP {error.status_code})" if told else "")
        reply = error.reply
        if reply is not None and reply.outcome is not None and (reply.text or reply.thinking or reply.tool_calls):
            message = say("error.broken_off", outcome=reply.outcome.value, message=message)
        self.report(message, hint_for(error))


def hint_for(error: TailraceError) -> str:
    """Returns what to do about an error: our own words where the command line has some, else the error's."""
    told = _about(error.about)
    if told:
        return told
    if isinstance(error, NotModelServerError):
        return say("hint.not_model_server")
    if isinstance(error, TimedOutError):
        return say("hint.timed_out")
    if isinstance(error, BusyError):
        return say("hint.busy")
    return error.hint


def _about(what: str) -> str:
    """Returns what to do, by what an error is about."""
    match what:
        case "ollama":
            return say("hint.connection")
        case "remote":
            return say("hint.remote")
        case "server":
            return say("hint.server")
        case "files":
            return say("hint.files")
        case "name":
            return say("hint.name")
        case "address":
            return say("hint.address")
        case "proxy":
            return say("hint.proxy")
        case "proxy-key":
            return say("hint.proxy_key")
        case "proxy-certificate":
            return say("hint.proxy_certificate")
        case "socks":
            return say("hint.socks")
        case "tls":
            return say("hint.tls")
        case "certificate":
            return say("hint.certificate")
        case "certificate-name":
            return say("hint.certificate_name")
        case "certificate-time":
            return say("hint.certificate_time")
        case "key":
            return say("hint.key")
        case "wrong-key":
            return say("hint.wrong_key")
        case "sign-in":
            return say("hint.sign_in")
        case _:
            return ""
