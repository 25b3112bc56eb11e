"""One picture of a result: bars, the range of the rounds as a whisker, and the median as text.

An SVG of our own, for it is small, sharp at every size, and shows its differences in a repository. Its colours are
those of the page's own light and dark.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Bar", "draw"]

_WIDTH = 760
_MARGIN = 16
_ROW = 26
_LABEL = 250  # the labels' column
_FIGURE = 150  # what the figure behind a bar may take
_LINE = 17
_CHARACTER = 6.3  # the mean width of one at 12 pixels, in a font of a system

_STYLE = """\
  svg { font: 12px system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; }
  .ground { fill: #ffffff; } .text { fill: #1f2328; } .quiet { fill: #59636e; }
  .ours { fill: #0969da; } .other { fill: #8c959f; } .limit { fill: #1a7f37; } .whisker { stroke: #1f2328; }
  .title { font-size: 15px; font-weight: 600; } .own { font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; } .text { fill: #e6edf3; } .quiet { fill: #9198a1; }
    .ours { fill: #4493f8; } .other { fill: #656c76; } .limit { fill: #3fb950; } .whisker { stroke: #e6edf3; }
  }"""


@dataclass(frozen=True)
class Bar:
    """One contestant.

    Attributes:
        label: its name.
        figure: the median as it is to be read, unit included.
        median: in the unit of the whole picture; None where there is nothing to measure.
        low: the least of the rounds.
        high: the most of the rounds.
        kind: `ours`, `other` or `limit`.
    """

    label: str
    figure: str
    median: float | None
    low: float = 0.0
    high: float = 0.0
    kind: str = "other"


def draw(title: str, caption: str, bars: Sequence[Bar], notes: Sequence[str]) -> str:
    """Returns the picture.

    Args:
        title: what is shown, in plain words.
        caption: how to read it: what is better, and what was asked of them all.
        bars: from top to bottom.
        notes: the machine, the versions and the command, a line each; long ones are broken.
    """
    said = _broken(caption)
    small = [line for note in notes for line in _broken(note)]
    top = _MARGIN + 22 + len(said) * _LINE + 8
    bottom = top + len(bars) * _ROW + 10
    height = bottom + len(small) * _LINE + _MARGIN
    longest = max((bar.high for bar in bars if bar.median is not None), default=0.0) or 1.0
    scale = (_WIDTH - 2 * _MARGIN - _LABEL - _FIGURE) / longest
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(_spoken(title, bars))}">',
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}" rx="6"/>',
        _text(_MARGIN, _MARGIN + 14, title, "text title"),
        *(_text(_MARGIN, _MARGIN + 36 + line * _LINE, words, "quiet") for line, words in enumerate(said)),
    ]
    for row, bar in enumerate(bars):
        parts += _bar(bar, top + row * _ROW, scale)
    parts += [_text(_MARGIN, bottom + 12 + line * _LINE, words, "quiet") for line, words in enumerate(small)]
    return "\n".join([*parts, "</svg>", ""])


def _bar(bar: Bar, y: float, scale: float) -> list[str]:
    left, middle = _MARGIN + _LABEL, y + _ROW / 2
    own = "text own" if bar.kind == "ours" else "text"
    parts = [_text(_MARGIN, middle + 4, bar.label, own)]
    if bar.median is None:
        return [*parts, _text(left, middle + 4, bar.figure, "quiet")]
    width, low, high = (round(scale * value, 1) for value in (bar.median, bar.low, bar.high))
    parts.append(f'<rect class="{bar.kind}" x="{left}" y="{y + 5}" width="{max(1.0, width)}" height="{_ROW - 10}"/>')
    if high - low >= 1:
        ends = f"M{left + low} {middle}H{left + high}M{left + low} {middle - 4}v8M{left + high} {middle - 4}v8"
        parts.append(f'<path class="whisker" d="{ends}" fill="none"/>')
    return [*parts, _text(left + max(width, high) + 8, middle + 4, bar.figure, own)]


def _text(x: float, y: float, words: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def _spoken(title: str, bars: Sequence[Bar]) -> str:
    """What a reader hears who cannot see it."""
    return f"{title}. " + "; ".join(f"{bar.label}: {bar.figure}" for bar in bars)


def _broken(words: str) -> list[str]:
    """Lines that fit the picture, broken between words."""
    lines: list[str] = []
    for word in words.split():
        if lines and _width(f"{lines[-1]} {word}") <= _WIDTH - 2 * _MARGIN:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _width(words: str) -> float:
    """About as many pixels as it takes."""
    return sum(_CHARACTER * (2 if unicodedata.east_asian_width(one) in "WF" else 1) for one in words)
