"""`tailrace pull`: makes the upstream download a model."""

from __future__ import annotations

import click

from tailrace.cli.command import Command
from tailrace.cli.session import Session
from tailrace.cli.shell import model_names
from tailrace.i18n import say

__all__ = ["command"]


@click.command("pull", cls=Command, help=say("help.pull"))
@click.argument("model", metavar="MODEL", shell_complete=model_names)
@click.option("--upstream", metavar="UPSTREAM", help=say("help.upstream"))
@click.option("--insecure", is_flag=True, help=say("help.insecure"))
@click.pass_obj
def command(session: Session, model: str, upstream: str | None, insecure: bool) -> int:
    """Fetches a model; what was fetched before an interruption is kept by the upstream."""
    from tailrace.cli.upstream import client_for
    from tailrace.events import Progress
    from tailrace.terminal.progress import ProgressPrinter

    client = client_for(upstream)
    session.is_embedded = client.find_upstream().startswith("embedded:")
    stream = client.pull(model, insecure=insecure, stream=True)
    printer = ProgressPrinter(session.err)
    try:
        with session.stops.over(stream), stream:
            reader = stream.reader()
            while events := reader.read():
                for event in events:
                    if isinstance(event, Progress):
                        printer.show(_words(event), event.completed, event.total)
    finally:
        printer.close()
    if session.stops.code:
        session.err.line(say("mark.stopped") + " " + say("note.pull_kept"))
    reply = stream.wait()
    return session.stops.code if reply.interrupted else 0


def _words(event: object) -> str:
    status = getattr(event, "status", None) or ""
    digest = (getattr(event, "digest", None) or "").removeprefix("sha256:")
    return f"pulling {digest[:12]}" if digest and status.startswith("pulling") else status
