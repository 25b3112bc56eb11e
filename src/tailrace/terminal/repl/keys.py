"""Reading a line: prompts, key bindings, and messages of several lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.completion import Completer
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import has_focus
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import History
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.shortcuts import CompleteStyle

from tailrace.i18n import say
from tailrace.terminal.repl.interrupts import INTERRUPT, Interrupts, Leave

__all__ = ["QUOTES", "Line", "quiet_keys", "unquoted"]

QUOTES = '"""'
_TAKE_TEXT = ("/set system ", "/system ", "/edit ")  # commands whose argument may have many lines


class Line:
    """Reads what is typed.

    Args:
        history: the lines of before.
        completer: what Tab offers.
        interrupts: the clock of Ctrl-C.
        able: False on a terminal without styles.
        hint: takes the words that an idle Ctrl-C brings.
    """

    def __init__(
        self,
        history: History,
        completer: Completer,
        interrupts: Interrupts,
        *,
        able: bool,
        hint: Callable[[str], object],
    ) -> None:
        self._interrupts = interrupts
        self._hint = hint
        self._able = able
        self._session: PromptSession[str] = PromptSession(
            history=history,
            completer=completer,
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,  # a list in the scrollback: no room is taken from it for a menu
            key_bindings=self._bindings(),
            multiline=True,
            prompt_continuation="... ",
            placeholder=self._placeholder,
            color_depth=None if able else ColorDepth.DEPTH_1_BIT,
            enable_suspend=True,
            tempfile_suffix=".md",
        )

    def read(self, text: str = "") -> str:
        """Returns what was typed.

        Args:
            text: what stands there to begin with.

        Raises:
            EOFError: Ctrl-D.
            Leave: a second Ctrl-C, or a signal.
        """
        app = self._session.app

        def leave(code: int) -> bool:
            """Ends the reading from a signal handler."""
            if app.loop is None or not app.is_running:
                return False

            def exit_() -> None:
                if app.is_running and not app.is_done:
                    app.exit(exception=Leave(code))

            app.loop.call_soon_threadsafe(exit_)
            return True

        with self._interrupts.reading(leave):
            typed = self._session.prompt(">>> ", default=text)
        return typed.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # bytes that are not UTF-8

    def _placeholder(self) -> FormattedText:
        if not self._able or self._session.app.is_done:
            return FormattedText()
        return FormattedText([("fg:ansibrightblack", say("repl.placeholder"))])

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()
        typing = has_focus(DEFAULT_BUFFER)

        @keys.add("enter", filter=typing)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if is_open(buffer.text):
                buffer.insert_text("\n")
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter", filter=typing)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c", filter=typing)
        @keys.add("<sigint>", filter=typing)
        def _(event: KeyPressEvent) -> None:
            if self._interrupts.again():
                event.app.exit(exception=Leave(INTERRUPT))
            elif event.current_buffer.text:
                event.current_buffer.reset()
            else:
                run_in_terminal(lambda: self._hint(say("repl.leave_hint")))

        @keys.add("c-g", filter=typing)
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.open_in_editor(validate_and_handle=False)

        return keys


def _quoted(text: str) -> str | None:
    r"""Returns the part of `text` that its three quotation marks begin, marks included; None if it has no such part."""
    command = next((name for name in _TAKE_TEXT if text.startswith(name)), "")
    rest = text[len(command) :].lstrip()
    return rest if rest.startswith(QUOTES) else None


def is_open(text: str) -> bool:
    """True if what was typed goes on after the end of its line."""
    quoted = _quoted(text)
    return quoted is not None and not (len(quoted) >= 2 * len(QUOTES) and quoted.rstrip().endswith(QUOTES))


def unquoted(text: str) -> str:
    """Returns a text without the three quotation marks around it, and without the line breaks beside them."""
    bare = text.strip()
    if bare.startswith(QUOTES) and bare.endswith(QUOTES) and len(bare) >= 2 * len(QUOTES):
        return bare[len(QUOTES) : -len(QUOTES)].strip("\n")
    return text


@contextmanager
def quiet_keys() -> Iterator[None]:
    """While inside, keys that are typed are not shown amid an answer, but kept for the next line.

    The signals stay: Ctrl-C is one.
    """
    if os.name == "nt":
        yield
        return
    import termios

    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        quiet = termios.tcgetattr(descriptor)
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    except (termios.error, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        try:
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
        except (termios.error, OSError):
            pass  # the terminal has gone
