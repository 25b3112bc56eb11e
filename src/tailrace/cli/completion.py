"""`tailrace completion`: prints the completion script for a shell."""

from __future__ import annotations

import os
from pathlib import PurePath

import click
from click.shell_completion import get_completion_class

from tailrace.cli.command import Command
from tailrace.cli.kinds import OneOf
from tailrace.cli.session import Session
from tailrace.cli.shell import register
from tailrace.i18n import say

__all__ = ["command"]

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_TAILRACE_COMPLETE"


@click.command("completion", cls=Command, help=say("help.completion"), epilog=say("help.completion_more"))
@click.argument("shell", type=OneOf(SHELLS), required=False, metavar="[bash|zsh|fish]")
@click.pass_obj
def command(session: Session, shell: str | None) -> int:
    """Prints the script; the shell is the one of $SHELL if none is named."""
    shell = shell or PurePath(os.environ.get("SHELL", "")).name
    register()
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise click.UsageError(say("usage.which_shell", choices=", ".join(SHELLS)))
    maker = kind(click.get_current_context().find_root().command, {}, "tailrace", VARIABLE)
    session.out.write(maker.source_template % maker.source_vars())
    return 0
