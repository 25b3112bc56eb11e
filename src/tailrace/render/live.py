"""Markdown that grows on a terminal: what is finished is printed once, and only the open tail is drawn again.

Between two frames the cursor waits, hidden, where the tail begins. A terminal that changes its size moves the cursor
with the text it stands in, so that place is right after a resize too, whether the terminal breaks its lines anew or
not; and nothing above it is ever touched. The tail is never taller than the screen, so it can always be reached: of a
longer one the upper part is printed for good as soon as it is sure, and only its end is seen until then.

One case has no remedy. Made narrower, lines take more rows. A terminal that then keeps its last rows rather than the
cursor's (tmux 3.3a, which counts even empty rows below the text) scrolls the first rows of the tail away, and no code
reaches what is in the scrollback: those rows stay above, and the whole tail follows below them. We cannot tell how many
they are, since terminals break lines anew in their own ways, or not at all; so we do not move up to look, which could
only damage what is finished. No text is lost, and after the answer it stands whole.

Each frame is one write. A terminal that knows synchronized output (mode 2026) shows it at once; others ignore the mode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tailrace.render.ansi import STYLES, Renderer
from tailrace.render.blocks import Block, BlockSplitter

__all__ = ["LiveMarkdown"]

_BEGIN, _END = "\x1b[?2026h", "\x1b[?2026l"
_HIDE, _SHOW = "\x1b[?25l", "\x1b[?25h"
# Without wrapping a line that is wider than we think takes one row all the same, and we find the way back.
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"


class LiveMarkdown:
    """Shows Markdown while it comes.

    The caller says when a frame is due: each `feed` draws one, so feed what came together together. `finish` must be
    called however the stream ended, since it gives the cursor back.

    Args:
        write: takes the text of a frame; to be flushed.
        width: columns of the terminal.
        height: its lines.
        styles: for each name of a style the parameters of SGR, see `tailrace.render.ansi.STYLES`.
        hyperlinks: make links such of the terminal (OSC 8).
        synchronized: ask the terminal to show each frame at once.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        width: int,
        height: int,
        *,
        styles: Mapping[str, str] = STYLES,
        hyperlinks: bool = False,
        synchronized: bool = True,
    ) -> None:
        self._write = write
        self._synchronized = synchronized
        self._splitter = BlockSplitter()
        self._renderer = Renderer(1, styles=styles, hyperlinks=hyperlinks, references=self._splitter.references)
        self._footer = ""
        self._drawn: list[str] | None = [""]  # the tail on the screen; None: who knows
        self._begun = False
        self._finished = False
        self._resize(width, height)

    def feed(self, text: str) -> None:
        """Takes more text and draws a frame."""
        self._frame(self._splitter.feed(text))

    def resize(self, width: int, height: int) -> None:
        """Takes note of the terminal's new size and draws a frame; what is finished stays as it was printed."""
        self._resize(width, height)
        self._drawn = None
        if self._begun and not self._finished:
            self._frame([])

    def footer(self, line: str) -> None:
        """Shows a line below the tail until it is replaced; drawn with the next frame.

        Args:
            line: our own words, no wider than the terminal, with their styles; empty: no line.
        """
        self._footer = line

    def finish(self) -> None:
        """Prints what is left, and gives back the cursor, on a line of its own. Further calls do nothing."""
        if self._finished:
            return
        self._finished = True
        self._footer = ""
        if self._begun:
            self._drawn = None  # what was typed meanwhile may stand in it
        self._frame(self._splitter.finish())

    def _resize(self, width: int, height: int) -> None:
        self._renderer.width = max(width, 2)
        self._height = max(height - 1, 1)
        self._renderer.height = max(self._height - 2, 1)

    def _frame(self, blocks: list[Block]) -> None:
        """Prints lines for good, and the tail below them."""
        done = self._renderer.add(blocks)
        tail: list[str] = []
        if not self._finished:
            room = max(self._height - bool(self._footer), 1)
            tail = self._tail()
            while len(tail) > room and (blocks := self._splitter.cut()):
                done += self._renderer.add(blocks)
                tail = self._tail()
            tail = tail[-room:] + [self._footer] * bool(self._footer)
        frame = self._drawing(done, tail)
        if not frame:
            return
        if self._finished:
            frame += _SHOW * self._begun
        elif not self._begun:
            self._begun = True
            frame = _HIDE + frame
        self._write(f"{_BEGIN}{frame}{_END}" if self._synchronized else frame)

    def _tail(self) -> list[str]:
        renderer = self._renderer.copy()
        return renderer.add(self._splitter.open) + renderer.rest()

    def _drawing(self, done: list[str], tail: list[str]) -> str:
        """Returns what makes the screen show the lines for good and the tail, from where the tail begins.

        Lines that stand there already are passed over.
        """
        tail = tail or [""]
        lines = [*done, *tail]
        drawn = self._drawn or []
        if lines == self._drawn and not done:
            return ""
        out = [_CLEAR_BELOW] if self._drawn is None else []
        steps = _Steps(max(len(drawn), 1))
        same = next((at for at, (new, old) in enumerate(zip(lines, drawn, strict=False)) if new != old), None)
        same = min(len(lines), len(drawn)) if same is None else same
        for at in range(same, len(lines)):
            out.append(steps.to(at))
            if at == max(len(done), same):
                out.append(_NO_WRAP)
            if at < len(drawn):
                out.append(_CLEAR_LINE)  # before the text: at the end of a full line it would take a character along
            out.append(lines[at])
        if len(drawn) > len(lines):
            out += [steps.to(len(lines)), _CLEAR_BELOW]
        out += [steps.to(len(done)), _WRAP if _NO_WRAP in out else ""]
        self._drawn = tail
        return "".join(out)


class _Steps:
    """The way of the cursor from line to line, counted from where the tail began.

    Args:
        there: lines that are on the screen already; further ones are made by going there.
    """

    def __init__(self, there: int) -> None:
        self._there = there
        self._at = 0

    def to(self, line: int) -> str:
        """Returns what moves the cursor to the beginning of a line."""
        below = line - self._at
        self._at = line
        if below <= 0:
            return f"\r\x1b[{-below}A" if below else "\r"
        made = max(line + 1 - self._there, 0)
        self._there += made
        down = below - made
        return (f"\x1b[{down}B" if down else "") + "\r\n" * made + ("" if made else "\r")
