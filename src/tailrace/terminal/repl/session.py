"""The conversation: reads a line, does what it says, and goes on until somebody leaves."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from tailrace.client.streams import ChatStream
from tailrace.client.sync import Client
from tailrace.errors import TailraceError
from tailrace.i18n import say
from tailrace.run.reply import Reply
from tailrace.terminal.repl import places, turn
from tailrace.terminal.repl.interrupts import HANGUP, INTERRUPT, TERMINATE, Interrupts, Leave, Stopped
from tailrace.terminal.repl.tree import Tree, write_whole
from tailrace.terminal.sink import OutputClosedError, Sink

__all__ = ["Repl", "Settings"]


@dataclass
class Settings:
    """What the user has set, by options of the command or by ``/set``."""

    model: str
    system: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    format: Any = None
    think: bool | str | None = None
    verbose: bool = False
    raw: bool = False
    hide_thinking: bool = False
    progress: bool = False


class Repl:
    """A conversation on the terminal that standard input and output are.

    Args:
        client: who to ask.
        settings: what was set when it begins.
        report: shows an error.
        parse_option: returns name and typed value of a model option given as ``NAME=VALUE``.

    Attributes:
        tree: the conversation.
        replies: every answer of this session, for ``/stats``.
        draft: what the next line begins with.
        parent: the message that the next question follows, when it is not the last (`draft` is an edited question).
        open: the stream of the answer under way.
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

        self.client = client
        self.settings = settings
        self.report = report
        self.parse_option = parse_option
        self.interrupts = Interrupts()
        self.out = Sink(sys.stdout, self.interrupts.blocked)
        self.err = Sink(sys.stderr, self.interrupts.blocked)
        self.tree = Tree()
        self.replies: list[Reply] = []
        self.draft = ""
        self.parent: tuple[int | None] | None = None
        self.open: ChatStream | None = None
        self.unsaved = False
        self._place: tuple[int | None, dict[str, Any] | None, int | None] = (None, None, None)
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

    # -- turns -------------------------------------------------------------------------------------------------------

    def ask(self, question: str, parent: int | None) -> None:
        """Asks a question that follows the message `parent`."""
        self._turn(parent, {"role": "user", "content": question})

    def ask_again(self, question: int) -> None:
        """Asks the question of number `question` again; its answers are branches."""
        self._turn(question, None)

    def go_on(self, place: int) -> None:
        """Has the model go on from its interrupted answer.

        An answer at the end of the messages is gone on from by Ollama and by the embedded engine; an OpenAI-compatible
        server may begin a new one, so it is asked to in words.
        """
        messages = self.tree.messages(place)
        if self.client.upstream.startswith("openai:"):
            messages.append({"role": "user", "content": say("repl.go_on")})
        self._turn(place, None, messages)

    def _turn(
        self, parent: int | None, question: dict[str, Any] | None, messages: list[dict[str, Any]] | None = None
    ) -> None:
        system = self.settings.system
        sent = [{"role": "system", "content": system}] if system else []
        self._place = (parent, question, parent if messages is not None else None)
        sent += messages if messages is not None else self.tree.messages(parent) if parent is not None else []
        reply = turn.answer(self, sent + ([question] if question is not None else []))
        self._keep(reply)
        ended = reply.outcome
        if self.open is not None and ended is not None and not ended.finished and not self.interrupts.stopped:
            stream, self.open = self.open, None
            stream.wait()  # raises what it is
        self.open = None

    def _keep(self, reply: Reply) -> None:
        """The turn joins the conversation."""
        parent, question, place = self._place
        self.replies.append(reply)
        if place is not None:
            self.tree.extend(place, reply)
            self.unsaved = True
        elif self.tree.keep(parent, question, reply):
            self.unsaved = True

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
