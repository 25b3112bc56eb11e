"""`tailrace doctor`: one page on whether everything is in order, and what to do where it is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from tailrace.cli.command import Command
from tailrace.cli.kinds import Seconds
from tailrace.cli.session import Session
from tailrace.cli.shell import model_names
from tailrace.i18n import say

if TYPE_CHECKING:
    from tailrace.cli.checks import Finding, Report

__all__ = ["command"]

_COLOURS = {"ok": "\x1b[32m", "note": "\x1b[33m", "problem": "\x1b[31m"}
_HOME = "\r\x1b[K"


@click.command("doctor", cls=Command, help=say("help.doctor"), epilog=say("help.doctor_more"))
@click.option("--url", metavar="URL", help=say("help.doctor_url"))
@click.option("-m", "--model", metavar="NAME", shell_complete=model_names, help=say("help.doctor_model"))
@click.option("--deep", is_flag=True, help=say("help.doctor_deep"))
@click.option("--json", "as_json", is_flag=True, help=say("help.doctor_json"))
@click.option("--timeout", type=Seconds(), metavar="SECONDS", default=30.0, help=say("help.doctor_timeout"))
@click.pass_obj
def command(session: Session, url: str | None, model: str | None, deep: bool, as_json: bool, timeout: float) -> int:
    """Looks, and tells."""
    from tailrace.cli.checks import examine

    if session.err.is_terminal:
        session.err.draw(say("doctor.looking"))
    try:
        report = examine(url, model=model, deep=deep, timeout=timeout)
    finally:
        if session.err.is_terminal:
            session.err.draw(_HOME)
    if as_json:
        _print_json(session, report)
    else:
        _print_page(session, report)
    return 0 if report.ok else 1


def _print_json(session: Session, report: Report) -> None:
    import msgspec

    data = msgspec.json.format(msgspec.json.encode(report), indent=2)
    session.out.write(data.decode() + "\n")


def _print_page(session: Session, report: Report) -> None:
    from tailrace.terminal.escape import one_line

    styled = session.out.is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    marks = {"ok": say("doctor.ok"), "note": say("doctor.note"), "problem": say("doctor.problem")}
    labels = _labels()
    marked = max(map(_columns, marks.values()))
    labelled = max(_columns(labels[finding.name]) for finding in report.checks)
    for finding in report.checks:
        mark = _padded(marks[finding.mark], marked)
        if styled:
            mark = f"{_COLOURS[finding.mark]}{mark}\x1b[0m"
        session.out.draw(f"{mark}  {_padded(labels[finding.name], labelled)}  {one_line(finding.seen)}\n")
        if _has_advice(finding):
            session.out.draw(f"{' ' * (marked + labelled + 4)}→ {one_line(finding.do)}\n")
    session.out.draw((say("doctor.can") if report.ok else say("doctor.cannot")) + "\n")


def _has_advice(finding: Finding) -> bool:
    return bool(finding.do) and finding.mark != "ok"


def _labels() -> dict[str, str]:
    return {
        "upstream": say("doctor.upstream"),
        "stream": say("doctor.stream"),
        "ollama": say("doctor.ollama"),
        "server": say("doctor.server"),
        "engine": say("doctor.engine"),
        "model": say("doctor.model"),
        "models": say("doctor.models"),
        "terminal": say("doctor.screen"),
        "language": say("doctor.words"),
        "program": say("doctor.program"),
        "disk": say("doctor.space"),
        "environment": say("doctor.environment"),
    }


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _columns(text))


def _columns(text: str) -> int:
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
