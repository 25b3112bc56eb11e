"""What of a record is shown: as a picture, and as a table of Markdown. Nothing is computed here but the words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.picture import Bar, draw
from benchmarks.results import Record

__all__ = ["Column", "View", "markdown", "picture"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A figure of each row.

    Attributes:
        head: what it is called, unit included.
        key: where it is in the row: a figure, or a spread of the rounds.
        form: a format specification.
    """

    head: str
    key: str
    form: str = ",.0f"


@dataclass(frozen=True)
class View:
    """One picture and one table of a benchmark's record.

    Attributes:
        benchmark: whose.
        name: of the file, and of the mark in the docs.
        title: what is shown, in plain words.
        caption: how to read it.
        columns: of the table; the first is drawn.
        label: tells a row's name.
        kind: tells of a row whether it is `ours`, `other` or the `limit`.
        shown: tells whether a row belongs here.
        rows_of: finds the rows in a record whose results are not a list of them.
    """

    benchmark: str
    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    label: Callable[[Row], str]
    kind: Callable[[Row], str] = lambda row: "other"
    shown: Callable[[Row], bool] = lambda row: True
    rows_of: Callable[[Record], Sequence[Row]] = lambda record: record["results"]

    def rows(self, record: Record) -> list[Row]:
        """The rows that belong here."""
        return [row for row in self.rows_of(record) if self.shown(row)]


def picture(view: View, record: Record) -> str:
    """Returns the picture: an SVG."""
    return draw(view.title, view.caption, [_bar(view, row) for row in view.rows(record)], notes(record))


def markdown(view: View, record: Record) -> str:
    """Returns the table, with the median of each figure and the range of what is drawn."""
    lines = [
        "| | " + " | ".join(column.head for column in view.columns) + " |",
        "|---|" + "--:|" * len(view.columns),
    ]
    for row in view.rows(record):
        name = f"**{view.label(row)}**" if view.kind(row) == "ours" else view.label(row)
        cells = [_cell(row, column, ranged=column is view.columns[0]) for column in view.columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def notes(record: Record) -> list[str]:
    """The machine, the versions and the command."""
    machine = record["machine"]
    versions = {**machine["versions"], **record.get("peers", {})}
    load = machine.get("load") or 0.0
    busy = f" (others kept it busy: load {load:.1f})" if load > 2 * machine["cores"] else ""
    return [
        f"{machine['cpu']}, {machine['cores']} cores{busy}; {machine['system']}; {machine['python']}; {record['day']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        record["command"],
    ]


def _bar(view: View, row: Row) -> Bar:
    column = view.columns[0]
    value = row.get(column.key)
    figure = _cell(row, column, ranged=False)
    if value is None:
        return Bar(view.label(row), figure, None, kind=view.kind(row))
    spread = value if isinstance(value, dict) else {"median": value, "min": value, "max": value}
    return Bar(view.label(row), figure, spread["median"], spread["min"], spread["max"], view.kind(row))


def _cell(row: Row, column: Column, *, ranged: bool) -> str:
    value = row.get(column.key)
    if value is None:
        return "–"
    if not isinstance(value, dict):
        return value if isinstance(value, str) else f"{value:{column.form}}"
    middle = f"{value['median']:{column.form}}"
    ends = [f"{value[end]:{column.form}}" for end in ("min", "max")]
    return f"{middle} ({ends[0]} to {ends[1]})" if ranged and ends != [middle, middle] else middle
