"""Tables in columns: widths from all rows while the table may still be moved, and fixed from then on."""

from __future__ import annotations

from collections.abc import Sequence

from tailrace.render import lines
from tailrace.render.inline import References, Span, spans
from tailrace.render.layout import Unit, text_width, units, width_of, wrap

__all__ = ["Table"]

_BAR = Unit(" │ ", 3, "frame")
_NARROWEST = 4  # columns; one that would be narrower is not made


class Table:
    """A table as far as it has come.

    Args:
        text: its head and its delimiters.
        references: link targets.
        targets: show where links lead.
    """

    def __init__(self, text: str, references: References, *, targets: bool = True) -> None:
        head, _, delimiters = text.partition("\n")
        self._references = references
        self._targets = targets
        self._aligns = lines.aligns(delimiters) or [""]
        self._naturals = [0] * len(self._aligns)  # the columns each would like to have
        self._fixed: tuple[int, ...] | None = None
        self._rows: list[list[list[Unit]]] = []  # that have not been taken
        self._drawn: list[list[list[Unit]]] = []  # as many of them as have been drawn for these widths:
        self._drawn_for: tuple[int, ...] = ()
        self._headless = False  # the head has been taken
        self._add(head, "strong")

    def copy(self) -> Table:
        """Returns one that goes on from here by itself."""
        other = object.__new__(Table)
        other.__dict__.update(self.__dict__)
        other._rows, other._drawn, other._naturals = self._rows.copy(), self._drawn.copy(), self._naturals.copy()
        return other

    def add(self, text: str) -> None:
        """Takes a row."""
        self._add(text, "")

    def lines(self, width: int) -> list[list[Unit]]:
        """Returns the lines of the rows that have not been taken yet."""
        widths = self._fixed or self._widths(width)
        if widths != self._drawn_for:
            self._drawn, self._drawn_for = [], widths
        for at in range(len(self._drawn), len(self._rows)):
            self._drawn.append(self._draw(self._rows[at], widths, head=at == 0 and not self._headless))
        return [line for row in self._drawn for line in row]

    def take(self, width: int) -> list[list[Unit]]:
        """Returns the same, and fixes the widths of the columns: the rows that come have to do with them."""
        out = self.lines(width)
        self._fixed, self._headless = self._drawn_for, True
        self._rows, self._drawn = [], []
        return out

    @property
    def fixed(self) -> bool:
        """Whether the widths of the columns will not change any more."""
        return self._fixed is not None

    def _add(self, text: str, style: str) -> None:
        parts = lines.cells(text)[: len(self._aligns)]
        parts += [""] * (len(self._aligns) - len(parts))
        row = []
        for at, part in enumerate(parts):
            parsed = spans(part, self._references, targets=self._targets)
            cell = units(Span(span.text, f"{style} {span.style}".strip(), span.url) for span in parsed)
            width = max(width_of(line) for line in wrap(cell, 1 << 30))
            self._naturals[at] = max(self._naturals[at], width, 1)
            row.append(cell)
        self._rows.append(row)

    def _widths(self, width: int) -> tuple[int, ...]:
        """Gives each column what it would like to have, or a fair share; one width if that is too little."""
        room = width - _BAR.width * (len(self._naturals) - 1)
        if sum(self._naturals) <= room:
            return tuple(self._naturals)
        widths = [0] * len(self._naturals)
        order = sorted(range(len(widths)), key=self._naturals.__getitem__)
        for place, at in enumerate(order):
            widths[at] = min(self._naturals[at], room // (len(order) - place))
            room -= widths[at]
            if widths[at] < min(self._naturals[at], _NARROWEST):
                return (width,)
        return tuple(widths)

    def _draw(self, row: Sequence[list[Unit]], widths: Sequence[int], *, head: bool) -> list[list[Unit]]:
        if len(widths) < len(row):
            return self._draw_below(row, widths[0])
        columns = [wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        out = []
        for at in range(max(map(len, columns))):
            line: list[Unit] = []
            for number, (column, width) in enumerate(zip(columns, widths, strict=True)):
                if number:
                    line.append(_BAR)
                cell = column[at] if at < len(column) else []
                line += self._aligned(cell, width, self._aligns[number])
            out.append(line)
        if head:
            rule = "─┼─".join("─" * width for width in widths)
            out.append([Unit(rule, text_width(rule), "frame")])
        return out

    def _draw_below(self, row: Sequence[list[Unit]], width: int) -> list[list[Unit]]:
        """Shows a row of more columns than there is room for: one cell below the other."""
        out = [line for cell in row if cell for line in wrap(cell, width)]
        return [*out, [Unit("─" * width, width, "frame")]]

    @staticmethod
    def _aligned(cell: list[Unit], width: int, align: str) -> list[Unit]:
        while cell and cell[-1].text[0] == " ":
            cell = cell[:-1]
        room = max(width - width_of(cell), 0)
        left = room if align == "right" else room // 2 if align == "center" else 0
        padded = [Unit(" " * left, left)] if left else []
        padded += cell
        return [*padded, Unit(" " * (room - left), room - left)] if room > left else padded
