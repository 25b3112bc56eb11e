"""The loop: reads a line and executes it, until the user quits."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from tailrace.client.sync import Client
from tailrace.errors import TailraceError
from tailrace.i18n import say
from tailrace.terminal.repl import places
from tailrace.terminal.repl.conversation import Conversation
from tailrace.terminal.repl.interrupts import HANGUP, INTERRUPT, TERMINATE, Leave, Stopped
from tailrace.terminal.repl.settings import Settings
from tailrace.terminal.repl.tree import write_whole
from tailrace.terminal.sink import OutputClosedError

__all__ = ["Repl"]


class Repl(Conversation):
    """A conversation on the terminal that standard input and output are, line by line.

    Args:
        client: who to ask.
        settings: what was set when it begins.
        report: shows an error.
        parse_option: returns name and typed value of a model option given as ``NAME=VALUE``.
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        *,
        report: Callable[[TailraceError], object],
        parse_option: Callable[[str], tuple[str, Any]],
    ) -> None:
        from tailrace.terminal.repl.commands import Commands

        super().__init__(client, settings, report=report, parse_option=parse_option)
        self.commands = Commands(self)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Goes on until somebody leaves; returns the exit code."""
        from tailrace.terminal.repl.keys import quiet_keys

        with self.interrupts.listening():
            try:
                with quiet_keys():
                    self._converse()
            except Leave as leave:
                return self._leave(leave.code)
            except OutputClosedError:
                return self._leave(HANGUP)
            except OSError as error:
                if error.errno != errno.EIO:  # what a terminal that has gone says
                    raise
                return self._leave(HANGUP)

    def _converse(self) -> NoReturn:
        line = self.commands.line()
        while True:
            draft, self.draft = self.draft, ""
            try:
                text = line.read(draft)
                self.obey(text)
            except EOFError:
                raise Leave(0 if self._is_there() else HANGUP) from None
            except (Stopped, KeyboardInterrupt):
                self.err.line(say("mark.stopped"))
            except TailraceError as error:
                self.report(error)

    def obey(self, text: str) -> None:
        """Does what a line says."""
        from tailrace.terminal.repl.keys import unquoted

        parent, self.parent = self.parent, None
        if not text.strip():
            return
        if text.startswith("/") and self.commands.obey(text):
            return
        self.ask(unquoted(text), parent[0] if parent is not None else self.tree.at)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _is_there(self) -> bool:
        """False if the terminal has gone."""
        try:
            import termios
        except ImportError:
            return True
        try:
            termios.tcgetattr(sys.stdin.fileno())
        except (termios.error, OSError, ValueError):
            return False
        return True

    def _leave(self, code: int) -> int:
        """Saves what would be lost to somebody who did not choose to leave."""
        stream, self.open = self.open, None
        if stream is not None:
            self._keep(stream.reply)
        if code in (HANGUP, TERMINATE) and self.unsaved and self.tree.at is not None:
            path = places.lost()
            try:
                write_whole(path, self.tree.encoded(self.settings.model, self.settings.system))
                if code == TERMINATE:
                    self.err.line(say("repl.saved", path=path))
            except OSError as error:
                self._try_to_say(say("repl.unsaved", path=path, reason=error.strerror))
        elif code == INTERRUPT:
            self._try_to_say("")
        return code

    def _try_to_say(self, text: str) -> None:
        try:
            self.err.line(text) if text else self.out.end_line()
        except (OSError, OutputClosedError):
            pass
