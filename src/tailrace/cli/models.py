"""`tailrace models`: lists, gets and adds models."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from tailrace.cli.command import Command, Group
from tailrace.cli.session import Session
from tailrace.errors import ModelError, ResponseError
from tailrace.i18n import say

__all__ = ["command"]


@click.group("models", cls=Group, invoke_without_command=True, help=say("help.models"))
@click.option("--upstream", metavar="UPSTREAM", help=say("help.upstream"))
@click.pass_context
def command(ctx: click.Context, upstream: str | None) -> int:
    """Lists the models if no other command follows."""
    return _list(ctx.obj, upstream) if ctx.invoked_subcommand is None else 0


@command.command("list", cls=Command, help=say("help.models_list"))
@click.option("--upstream", metavar="UPSTREAM", help=say("help.upstream"))
@click.pass_context
def list_command(ctx: click.Context, upstream: str | None) -> int:
    """Lists the models."""
    assert ctx.parent is not None
    return _list(ctx.obj, upstream or ctx.parent.params["upstream"])


@command.command("get", cls=Command, help=say("help.models_get"))
@click.argument("name", required=False, metavar="[NAME]")
@click.pass_obj
def get_command(session: Session, name: str | None) -> int:
    """Fetches the default model."""
    from tailrace.backends.embedded import models
    from tailrace.cli.upstream import fetch_default, note_english_only
    from tailrace.errors import ModelError

    if name not in (None, models.DEFAULT_MODEL):
        hint = say("hint.get_ollama", model=name)
        raise ModelError(say("error.only_default", model=models.DEFAULT_MODEL, name=name), hint=hint)
    if models.default_path().exists():
        session.err.line(say("note.here_already", model=models.DEFAULT_MODEL))
    else:
        session.err.line(say("note.fetching", model=models.DEFAULT_MODEL))
        fetch_default(session)
    note_english_only(session)
    return 0


@command.command("add", cls=Command, help=say("help.models_add"))
@click.argument("file", type=click.Path(), metavar="FILE")
@click.option("--name", metavar="NAME", help=say("help.add_name"))
@click.pass_obj
def add_command(session: Session, file: str, name: str | None) -> int:
    """Adds a GGUF file, once the engine has shown that it can read it: a truncated one looks whole from outside."""
    from tailrace.backends.embedded import models
    from tailrace.backends.embedded.adding import add_model
    from tailrace.backends.resolve import embedded_installed

    path = Path(file).expanduser().absolute()
    if path.suffix == ".gguf" and embedded_installed():
        models.check(path)
        _load(path)
    model = add_model(file, name)
    session.err.line(say("note.added", name=model.name))
    return 0


def _load(path: Path) -> None:
    from tailrace.cli.upstream import client_for

    try:
        client_for("embedded:").show(str(path))
    except ResponseError as error:
        raise ModelError(error.error, hint=error.hint) from error


def _list(session: Session, upstream: str | None) -> int:
    from tailrace.backends.embedded import models
    from tailrace.cli.upstream import client_for
    from tailrace.terminal.figures import size

    client = client_for(upstream)
    where = client.find_upstream()
    if where.startswith("embedded:"):  # looked up on the disk: no engine needs to start for that
        rows = [
            (
                model.name,
                size(model.size),
                f"{model.source} {model.path}",
                _day(datetime.fromtimestamp(model.modified, UTC)),
            )
            for model in models.list_models()
        ]
    else:
        rows = [
            (entry.model or entry.name or "", size(entry.size) if entry.size else "", where, _day(entry.modified_at))
            for entry in client.list().models
        ]
    if not rows:
        hint = say("hint.get_embedded") if where.startswith("embedded:") else ""
        session.err.line(say("list.none", upstream=where))
        if hint:
            session.err.line(say("hint.prefix", text=hint))
        return 0
    head = (say("list.name"), say("list.size"), say("list.source"), say("list.modified"))
    session.out.write("".join(f"{line}\n" for line in _table([head, *rows])))
    return 0


def _day(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M") if moment is not None else ""


def _table(rows: list[tuple[str, str, str, str]]) -> list[str]:
    widths = [max(_columns(row[place]) for row in rows) for place in range(4)]
    return [
        "   ".join(cell + " " * (width - _columns(cell)) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _columns(text: str) -> int:
    from unicodedata import east_asian_width

    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)
