"""One call of the command, from its arguments to its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import click

from tailrace.cli.command import usage_words
from tailrace.cli.root import root
from tailrace.cli.session import Session
from tailrace.cli.stops import Stopped
from tailrace.errors import TailraceError
from tailrace.i18n import say
from tailrace.terminal.sink import OutputClosedError

__all__ = ["run"]

_READER_LEFT = 141  # 128 + SIGPIPE


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
