"""Completion with Tab: commands, their arguments, model names, saved conversations and paths."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document

from tailrace.terminal.repl import places

__all__ = ["CommandCompleter"]


class CommandCompleter(Completer):
    """Completes lines that begin with a slash.

    Args:
        commands: for each command the words that may follow; a word in angle brackets names a kind of thing.
        models: returns the names of the models; called once, on a thread of its own.
        options: the names of model options.
    """

    def __init__(
        self, commands: dict[str, Sequence[str]], models: Callable[[], list[str]], options: Sequence[str]
    ) -> None:
        self._commands = commands
        self._options = options
        self._models: list[str] = []
        self._ask = models
        self._asked = False
        self._paths = PathCompleter(expanduser=True)

    def refresh(self) -> None:
        """Asks for the models' names beside everything else."""
        if not self._asked:
            self._asked = True
            threading.Thread(target=self._fetch, name="tailrace-models", daemon=True).start()

    def _fetch(self) -> None:
        self._models = self._ask()

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yields what may stand at the cursor."""
        before = document.text_before_cursor
        if not before.startswith("/") or "\n" in before:
            return
        *words, part = before.split(" ")
        for kind in self._kinds(words):
            if kind == "<path>":
                yield from self._paths.get_completions(Document(part, len(part)), complete_event)
            else:
                for word in self._words(kind):
                    if word.startswith(part):
                        yield Completion(word, -len(part))

    def _kinds(self, words: list[str]) -> Sequence[str]:
        if not words:
            return list(self._commands)
        if words == ["/set", "parameter"]:
            return ["<option>"]
        if words == ["/set", "format"]:
            return ["json"]
        return self._commands.get(words[0], ()) if len(words) == 1 else ()

    def _words(self, kind: str) -> Sequence[str]:
        if kind == "<model>":
            return self._models
        if kind == "<saved>":
            return places.names()
        return self._options if kind == "<option>" else (kind,)
