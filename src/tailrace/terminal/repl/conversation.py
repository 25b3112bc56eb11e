"""The conversation that the session and its commands work on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tailrace.client.sync import Client
from tailrace.errors import TailraceError
from tailrace.run.reply import Reply
from tailrace.terminal.repl.settings import Settings
from tailrace.terminal.repl.tree import Tree
from tailrace.terminal.repl.turn import Answers

__all__ = ["Conversation"]


class Conversation(Answers):
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
    """

    def __init__(
        self,
        client: Client,
        settings: Settings,
        *,
        report: Callable[[TailraceError], object],
        parse_option: Callable[[str], tuple[str, Any]],
    ) -> None:
        super().__init__(client, settings)
        self.report = report
        self.parse_option = parse_option
        self.tree = Tree()
        self.replies: list[Reply] = []
        self.draft = ""
        self.parent: tuple[int | None] | None = None
        self.unsaved = False
        self._place: tuple[int | None, dict[str, Any] | None, int | None] = (None, None, None)

    def ask(self, question: str, parent: int | None) -> None:
        """Asks a question that follows the message `parent`."""
        self._turn(parent, {"role": "user", "content": question})

    def ask_again(self, question: int) -> None:
        """Asks the question of number `question` again; its answers are branches."""
        self._turn(question, None)

    def go_on(self, place: int) -> None:
        """Has the model go on with its answer that did not finish."""
        self._turn(place, None, continued=True)

    def _turn(self, parent: int | None, question: dict[str, Any] | None, *, continued: bool = False) -> None:
        system = self.settings.system
        sent = [{"role": "system", "content": system}] if system else []
        self._place = (parent, question, parent if continued else None)
        sent += self.tree.messages(parent) if parent is not None else []
        reply = self.answer(sent + ([question] if question is not None else []), continued=continued)
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
