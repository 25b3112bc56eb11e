"""Session: one call of the command, from its arguments to its exit code, with every error in a line or two."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from tailrace.cli.root import root, usage_words
from tailrace.cli.stops import Stopped, Stops
from tailrace.errors import (
    BusyError,
    ConnectionError,
    NotModelServerError,
    ResponseError,
    TailraceError,
    TimedOutError,
)
from tailrace.i18n import say
from tailrace.terminal.escape import one_line
from tailrace.terminal.sink import OutputClosedError, Sink

__all__ = ["Session", "run"]

_READER_LEFT = 141  # 128 + SIGPIPE


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
    if isinstance(error, ConnectionError):
        import ssl

        return say("hint.tls") if isinstance(error.__cause__, ssl.SSLError) else say("hint.connection")
    if isinstance(error, NotModelServerError):
        return say("hint.not_model_server")
    if isinstance(error, TimedOutError):
        return say("hint.timed_out")
    if isinstance(error, BusyError):
        return say("hint.busy")
    return error.hint


def run(arguments: Sequence[str]) -> NoReturn:
    """Does what the arguments say, and ends the process."""
    session = Session()
    session.stops.listen()
    session.stops.leave(_run(session, arguments))


def _run(session: Session, arguments: Sequence[str]) -> int:
    try:
        return int(root().main(list(arguments), prog_name="tailrace", standalone_mode=False, obj=session) or 0)
    except SystemExit as left:  # click's completion has answered
        return int(left.code or 0)
    except Stopped:
        session.err.line(say("mark.stopped"))
        return session.stops.code
    except OutputClosedError:
        session.show_traceback()
        return _READER_LEFT
    except click.UsageError as error:
        session.report(*usage_words(error))
        return error.exit_code
    except TailraceError as error:
        session.report_error(error)
        return 1
    except OSError as error:
        session.show_traceback()
        session.report(say("error.write", reason=error.strerror or str(error)))
        return 1
    except Exception as error:
        session.show_traceback()
        session.report(say("error.bug", text=f"{type(error).__name__}: {error}"), say("hint.debug"))
        return 1
